//! A link over any stream of bytes, such as TLS over TCP.
//!
//! The stream is not split in halves that own a socket each, as a plain one is: one task carries both ways.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use imlink_protocol::frame;
use imlink_protocol::limits::LINK_FRAME_LEN_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::outbox::{Outbox, read_buffer};
use crate::{Link, Receiver, Sender};

/// Bytes that may wait to be received before the stream is read no further.
const INBOX_LEN_MAX: usize = 1024 * 1024;
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// How long the peer of a closed link may take what is in the outbox.
const LINGER: Duration = Duration::from_secs(10);

/// A link over `stream`; spawns what carries it on the current runtime.
pub fn over_stream(stream: impl AsyncRead + AsyncWrite + Send + 'static, outbox_len_max: usize) -> Link {
    let (read, write) = tokio::io::split(stream);
    let outbox = Arc::new(Outbox::new(outbox_len_max));
    // Frames are cut by the receiver; the limit stands here.
    let inbox = Arc::new(Outbox::new(usize::MAX));
    tokio::spawn(write_to(outbox.clone(), write));
    tokio::spawn(read_from(inbox.clone(), read));
    Link { receiver: Receiver::within(inbox, outbox.clone()), sender: Sender { outbox } }
}

async fn write_to(outbox: Arc<Outbox>, mut stream: impl AsyncWrite + Unpin) {
    let write = async {
        while let Some(frames) = outbox.take().await {
            let written = async {
                stream.write_all(&frames).await?;
                stream.flush().await
            };
            if written.await.is_err() {
                outbox.close();
                return;
            }
        }
        // The peer reads the end of the stream; whether it is still there to do so does not matter.
        let _ = stream.shutdown().await;
    };
    tokio::select! {
        () = write => {}
        () = async {
            outbox.closed().await;
            tokio::time::sleep(LINGER).await;
        } => {}
    }
}

async fn read_from(inbox: Arc<Outbox>, mut stream: impl AsyncRead + Unpin) {
    let mut buffer = read_buffer();
    loop {
        let read = tokio::select! {
            read = stream.read_buf(&mut buffer) => read,
            () = inbox.closed() => return,
        };
        // What is cut within a frame is lost either way.
        if !matches!(read, Ok(1..)) || !pass_on(&inbox, &mut buffer) {
            break;
        }
        while inbox.waiting() > INBOX_LEN_MAX && !inbox.is_closed() {
            tokio::time::sleep(FULL_PAUSE).await;
        }
        buffer.reserve(16 * 1024);
    }
    inbox.close();
}

/// Gives whole frames to the receiver; false when nothing can follow.
fn pass_on(inbox: &Outbox, buffer: &mut BytesMut) -> bool {
    let mut whole = 0;
    let is_good = loop {
        match frame::whole_len(buffer.get(whole..).unwrap_or_default(), LINK_FRAME_LEN_MAX) {
            Ok(Some(len)) => whole += len,
            Ok(None) => break true,
            // The receiver finds what is wrong with it.
            Err(_) => {
                whole = buffer.len();
                break false;
            }
        }
    };
    (whole == 0 || inbox.put_encoded(&buffer.split_to(whole)).is_ok()) && is_good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LinkError, encode_onto};

    #[tokio::test]
    async fn frames_come_whole_however_the_stream_cuts_them_and_the_end_is_told() {
        let (here, mut there) = tokio::io::duplex(7);
        let mut link = over_stream(here, 1024 * 1024);
        let mut bytes = Vec::new();
        for number in 0..50u32 {
            encode_onto(&(number, "some text"), &mut bytes).unwrap();
        }
        let writing = tokio::spawn(async move {
            there.write_all(&bytes).await.unwrap();
            there
        });
        let mut seen = Vec::new();
        while seen.len() < 50 {
            let batch = link.receiver.receive().await.unwrap().unwrap();
            for body in batch.frames() {
                seen.push(frame::decode::<(u32, &str)>(body.unwrap()).unwrap().0);
            }
        }
        assert_eq!(seen, (0..50).collect::<Vec<_>>());
        let mut there = writing.await.unwrap();
        link.sender.send(&(7u32, "back")).unwrap();
        let mut head = [0; 4];
        there.read_exact(&mut head).await.unwrap();
        drop(there);
        assert!(matches!(link.receiver.receive().await, Ok(None)));
    }

    #[tokio::test]
    async fn what_is_not_a_frame_is_an_error_and_the_link_ends() {
        let (here, mut there) = tokio::io::duplex(1024);
        let mut link = over_stream(here, 1024 * 1024);
        there.write_all(&[0xff; 16]).await.unwrap();
        let batch = link.receiver.receive().await.unwrap().unwrap();
        assert!(matches!(batch.frames().next(), Some(Err(LinkError::Frame(_)))));
        assert!(matches!(link.receiver.receive().await, Ok(None)));
    }

    #[tokio::test]
    async fn a_receiver_that_is_dropped_lets_the_stream_go() {
        let (here, mut there) = tokio::io::duplex(1024);
        drop(over_stream(here, 1024));
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), there.read_to_end(&mut rest)).await.unwrap().unwrap();
    }
}
