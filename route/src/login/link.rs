//! The link of a device that logs in: a few frames, and no more than half a KiB of buffer.

use std::time::Duration;

use imlink_protocol::ToDevice;
use imlink_protocol::device::LinkKind;
use imlink_protocol::frame::{self, LENGTH_LEN_MAX};
use imlink_protocol::limits::HELLO_FRAME_LEN_MAX;
use imlink_protocol::message::RejectCode;
use imlink_protocol::seal::{self, Records, ToStranger};
use imlink_seal::{Answered, Fast};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::End;

pub(super) struct Link {
    stream: TcpStream,
    buffer: [u8; HELLO_FRAME_LEN_MAX + LENGTH_LEN_MAX],
    filled: usize,
    state: State,
    /// The body of the first frame.
    first: Option<Vec<u8>>,
}

enum State {
    Plain,
    /// The handshake is not done.
    Unsealed,
    Sealed(Records<Fast>),
}

impl Link {
    pub(super) fn new(stream: TcpStream, kind: LinkKind) -> Self {
        let state = match kind {
            LinkKind::Plain => State::Plain,
            LinkKind::Sealed => State::Unsealed,
        };
        Self { stream, buffer: [0; HELLO_FRAME_LEN_MAX + LENGTH_LEN_MAX], filled: 0, state, first: None }
    }

    /// Frames of a login are few and answered one by one: none waits for another.
    pub(super) fn prepare(&self) -> Result<(), End> {
        self.stream.set_nodelay(true).map_err(|_| End::Untold)
    }

    /// The peer speaks as on a plain link: it is told so in its own words.
    pub(super) fn speak_plain(&mut self) {
        self.state = State::Plain;
    }

    /// The body of the first frame of the handshake.
    pub(super) async fn greeting(&mut self) -> Result<Vec<u8>, End> {
        loop {
            let taken = seal::take(self.came(), HELLO_FRAME_LEN_MAX).map_err(|_| RejectCode::Malformed)?;
            let taken = taken.map(|(body, len)| (body.to_vec(), len));
            if let Some((body, len)) = taken {
                self.forget(len);
                return Ok(body);
            }
            self.read().await?;
        }
    }

    /// Answers the handshake; from here on everything is a record.
    pub(super) async fn seal(&mut self, answered: Answered) -> Result<(), End> {
        self.stream.write_all(&answered.frame).await.map_err(|_| End::Untold)?;
        self.state = State::Sealed(answered.records);
        Ok(())
    }

    /// Reads the first frame that means something; on a sealed link it proves who sent it. Nothing may follow it
    /// before its answer.
    pub(super) async fn hear(&mut self) -> Result<(), End> {
        loop {
            let filled = self.filled;
            let came = self.buffer.get_mut(..filled).unwrap_or_default();
            let body = match &mut self.state {
                State::Sealed(records) => {
                    let opened = records.opener.open(came, HELLO_FRAME_LEN_MAX).map_err(|_| RejectCode::Malformed)?;
                    opened.map(|opened| (came.get(opened.start..opened.end).unwrap_or_default(), opened.len))
                }
                State::Plain | State::Unsealed => {
                    let frame = frame::split(came, HELLO_FRAME_LEN_MAX).map_err(|_| RejectCode::Malformed)?;
                    frame.map(|frame| (frame.body, frame.len))
                }
            };
            match body {
                Some((_, len)) if len < filled => return Err(RejectCode::Order.into()),
                Some((body, _)) => {
                    self.first = Some(body.to_vec());
                    return Ok(());
                }
                None => self.read().await?,
            }
        }
    }

    /// What [`hear`](Self::hear) read.
    pub(super) fn first_frame(&self) -> &[u8] {
        self.first.as_deref().unwrap_or_default()
    }

    /// Sends the last frame of a connection and lets the device read it: a socket closed with unread bytes
    /// would take the frame back.
    pub(super) async fn say(&mut self, message: &ToDevice<'_>) {
        let mut out = [0; HELLO_FRAME_LEN_MAX];
        let written = match (&mut self.state, message) {
            (State::Plain, _) => frame::encode(message, &mut out),
            (State::Sealed(records), _) => records.sealer.encode(message, &mut out),
            (State::Unsealed, ToDevice::Reject { code, retry_after_s }) => {
                ToStranger::Refuse { code: *code, retry_after_s: *retry_after_s }.encode(&mut out)
            }
            // Nothing else is said to somebody who proved nothing.
            (State::Unsealed, _) => return,
        };
        let Ok(len) = written else { return };
        let farewell = async {
            self.stream.write_all(out.get(..len).unwrap_or_default()).await?;
            self.stream.shutdown().await?;
            let mut rest = [0; 256];
            for _ in 0..LINGER_READS_MAX {
                if self.stream.read(&mut rest).await? == 0 {
                    break;
                }
            }
            std::io::Result::Ok(())
        };
        // Whether the device was still there does not matter.
        let _ = tokio::time::timeout(LINGER_MAX, farewell).await;
    }

    fn came(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    fn forget(&mut self, len: usize) {
        self.buffer.copy_within(len.min(self.filled)..self.filled, 0);
        self.filled = self.filled.saturating_sub(len);
    }

    async fn read(&mut self) -> Result<(), End> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        match self.stream.read(room).await {
            Ok(0) | Err(_) => Err(End::Untold),
            Ok(len) => {
                self.filled += len;
                Ok(())
            }
        }
    }
}

/// How long, and for how many reads, a connection stays after its last frame.
const LINGER_MAX: Duration = Duration::from_secs(1);
const LINGER_READS_MAX: u32 = 64;
