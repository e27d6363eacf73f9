//! Floor: a bare relay on tokio, a task and a channel for each connection; no session, no queue limit,
//! no store. Speaks `wire::raw`. What a server built that way cannot go below.
//!
//! Usage: `floor-tokio PORT`
#![forbid(unsafe_code)]

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, RwLock};

use imlink_bench::wire::raw::{ACK, BACKEND, Frame, HELLO, PUSH, UPACK, UPLINK, put_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let listener = listen(port)?;
    let peers = Arc::new(Peers::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let peers = Arc::clone(&peers);
        tokio::spawn(async move {
            if let Err(error) = serve(stream, &peers).await
                && error.kind() != io::ErrorKind::ConnectionReset
            {
                eprintln!("floor-tokio: {error}");
            }
        });
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(BACKLOG)
}

type Outbox = UnboundedSender<Vec<u8>>;

#[derive(Default)]
struct Peers {
    devices: RwLock<Vec<Option<Outbox>>>,
    backend: RwLock<Option<Outbox>>,
}

impl Peers {
    /// Acts on one frame from a connection whose own channel is `own`; what is owed at once goes to `out`.
    fn handle(&self, frame: Frame<'_>, own: &Outbox, out: &mut Vec<u8>) {
        match frame.kind {
            HELLO => {
                let Some(device) = frame.device() else { return };
                let mut devices = self.devices.write().expect("no holder panics");
                if devices.len() <= device {
                    devices.resize(device + 1, None);
                }
                if let Some(slot) = devices.get_mut(device) {
                    *slot = Some(own.clone());
                }
                out.extend_from_slice(frame.whole);
            }
            BACKEND => {
                *self.backend.write().expect("no holder panics") = Some(own.clone());
                out.extend_from_slice(frame.whole);
            }
            PUSH => {
                let devices = self.devices.read().expect("no holder panics");
                let device = frame.device().and_then(|device| devices.get(device));
                if let Some(Some(outbox)) = device {
                    let _ = outbox.send(frame.whole.to_vec());
                }
            }
            ACK | UPLINK => {
                if let Some(outbox) = &*self.backend.read().expect("no holder panics") {
                    let _ = outbox.send(frame.whole.to_vec());
                }
                if frame.kind == UPLINK {
                    put_frame(out, UPACK, &[]);
                }
            }
            _ => {}
        }
    }
}

async fn serve(mut stream: TcpStream, peers: &Peers) -> io::Result<()> {
    let (own, mut inbox) = unbounded_channel();
    let mut unparsed = Vec::new();
    loop {
        let out = tokio::select! {
            Some(first) = inbox.recv() => gather(first, &mut inbox),
            ready = stream.readable() => {
                ready?;
                match read(&stream, &mut unparsed, |frame, out| peers.handle(frame, &own, out)) {
                    Ok(Some(out)) => out,
                    Ok(None) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error),
                }
            }
        };
        stream.write_all(&out).await?;
    }
}

/// Everything that waits in the channel, for one write.
fn gather(first: Vec<u8>, inbox: &mut UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    let mut out = first;
    while out.len() < READ_LEN
        && let Ok(more) = inbox.try_recv()
    {
        out.extend_from_slice(&more);
    }
    out
}

/// One read into the thread's shared buffer and all whole frames in it; `None` at the end of the stream.
fn read(
    stream: &TcpStream,
    unparsed: &mut Vec<u8>,
    mut handle: impl FnMut(Frame<'_>, &mut Vec<u8>),
) -> io::Result<Option<Vec<u8>>> {
    BUFFER.with_borrow_mut(|buffer| {
        let length = stream.try_read(buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let fresh = buffer.get(..length).unwrap_or_default();
        let joined;
        let mut rest = if unparsed.is_empty() {
            fresh
        } else {
            unparsed.extend_from_slice(fresh);
            joined = std::mem::take(unparsed);
            &joined
        };
        let mut out = Vec::new();
        while let Some(frame) = Frame::first(rest) {
            handle(frame, &mut out);
            rest = rest.get(frame.whole.len()..).unwrap_or_default();
        }
        unparsed.extend_from_slice(rest);
        Ok(Some(out))
    })
}

thread_local! {
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; READ_LEN]);
}

const READ_LEN: usize = 65_536;
const BACKLOG: u32 = 65_535;
