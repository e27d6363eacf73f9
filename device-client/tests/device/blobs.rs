//! Transfers, against a server of a few lines.

use std::cell::RefCell;
use std::rc::Rc;

use imlink_device_client::NoopRawMutex;
use imlink_device_client::blob::{Blob, BlobKind, BlobSink, BlobSource, BlobState, Kept, Refusal, StorageError};
use imlink_protocol::blob::{Ack, Action, Chunk, Done, Kind, Open, Outcome};
use imlink_protocol::message::{FromDevice, ToDevice};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::peer::{Peer, Server};
use crate::wire::bytes;
use crate::{lamp, state};

const BUFFER: usize = 512;

/// Flash in memory; clones are the same flash.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Vec<u8>>>);

impl BlobSink for Memory {
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal> {
        if blob.size > 4000 { Err(Refusal::TooLarge { max: 4000 }) } else { Ok(self.0.borrow().len() as u32) }
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError> {
        assert_eq!(offset as usize, self.0.borrow().len());
        self.0.borrow_mut().extend(bytes);
        Ok(())
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        let at = offset as usize;
        bytes.copy_from_slice(self.0.borrow().get(at..at + bytes.len()).ok_or(StorageError)?);
        Ok(())
    }

    async fn finish(&mut self, _: &Blob) -> Result<Kept, StorageError> {
        Ok(Kept::Stored)
    }

    async fn abort(&mut self, _: &Blob) {
        self.0.borrow_mut().clear();
    }
}

impl BlobSource for Memory {
    async fn find(&mut self, name: &str) -> Option<(BlobKind, u32)> {
        (name == "log").then(|| (Kind::File, self.0.borrow().len() as u32))
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        BlobSink::read(self, offset, bytes).await
    }
}

fn open(transfer: u32, content: &[u8]) -> ToDevice<'static> {
    let (size, sha256) = (content.len() as u32, Sha256::digest(content).into());
    let (action, kind) = (Action::Give, Kind::File);
    ToDevice::BlobOpen(Open { transfer, action, kind, name: "app", size, sha256, signature: &[] })
}

fn ack(transfer: u32, offset: u32, limit: u32) -> FromDevice<'static> {
    FromDevice::BlobAck(Ack { transfer, offset, limit })
}

async fn chunk(peer: &mut Peer, transfer: u32, offset: usize, bytes: &[u8]) {
    peer.send(&ToDevice::BlobChunk(Chunk { transfer, offset: offset as u32, bytes })).await;
}

/// Runs a device with `memory` beside `test`, with a server that has welcomed it.
macro_rules! taking_part {
    ($memory:expr, $peer:ident, $test:block) => {{
        let server = Server::bind().await;
        let (mut state, routes) = (state(), [server.address()]);
        let blobs = BlobState::<NoopRawMutex, BUFFER>::new();
        let (mut runner, mut blobs) = lamp(&mut state, &routes).runner.with_blobs(&blobs);
        let (mut sink, mut source) = ($memory.clone(), $memory.clone());
        tokio::select! {
            ended = runner.run() => panic!("the device stopped: {ended:?}"),
            _ = blobs.run(&mut sink, &mut source) => unreachable!(),
            () = async {
                let mut $peer = server.welcome(1, 0).await;
                $peer.expect(ack(0, 0, BUFFER as u32)).await;
                $test
            } => {}
        }
    }};
}

#[tokio::test]
async fn a_blob_is_taken_within_the_buffer_and_told_when_its_hash_was_checked() {
    let memory = Memory::default();
    let content: Vec<u8> = (0..1300u32).map(|at| at as u8).collect();
    taking_part!(memory, peer, {
        peer.send(&open(1, &content)).await;
        for (offset, limit) in [(0, 512), (512, 1024), (1024, 1300)] {
            peer.expect(ack(1, offset, limit)).await;
            let (from, to) = (offset as usize, limit as usize);
            chunk(&mut peer, 1, from, &content[from..from + 200]).await;
            chunk(&mut peer, 1, from + 200, &content[from + 200..to]).await;
        }
        peer.expect(FromDevice::BlobDone(Done { transfer: 1, outcome: Outcome::Stored, detail: 0 })).await;
    });
    assert_eq!(*memory.0.borrow(), content);
}

#[tokio::test]
async fn a_wrong_hash_a_size_beyond_the_storage_and_an_unknown_name_are_refused() {
    let memory = Memory::default();
    taking_part!(memory, peer, {
        peer.send(&open(1, b"this")).await;
        peer.expect(ack(1, 0, 4)).await;
        chunk(&mut peer, 1, 0, b"that").await;
        peer.expect(FromDevice::BlobDone(Done { transfer: 1, outcome: Outcome::Hash, detail: 0 })).await;
        peer.send(&open(2, &[0; 4001])).await;
        peer.expect(FromDevice::BlobDone(Done { transfer: 2, outcome: Outcome::TooLarge, detail: 4000 })).await;
        peer.send(&wanted(3, "nothing")).await;
        peer.expect(FromDevice::BlobDone(Done { transfer: 3, outcome: Outcome::NotFound, detail: 0 })).await;
        peer.send(&open(4, b"same link")).await;
        peer.expect(ack(4, 0, 9)).await;
    });
    assert_eq!(memory.0.borrow().len(), 0, "the wrong bytes are gone");
}

fn wanted(transfer: u32, name: &str) -> ToDevice<'_> {
    let (action, kind) = (Action::Want, Kind::File);
    ToDevice::BlobOpen(Open { transfer, action, kind, name, size: 0, sha256: [0; 32], signature: &[] })
}

#[tokio::test]
async fn a_sign_of_life_that_is_asked_for_goes_before_chunks_that_may_go() {
    let memory = Memory::default();
    memory.0.borrow_mut().extend((0..1000u32).map(|at| at as u8));
    taking_part!(memory, peer, {
        peer.send(&wanted(1, "log")).await;
        let opened = peer.recv().await;
        assert!(opened.starts_with("BlobOpen") && opened.contains("size: 1000"), "{opened}");
        let mut next = 0;
        for limit in [300, 600, 1000u32] {
            // Both come at once: what may go first is older, and goes last.
            let both = [bytes(&ToDevice::BlobAck(Ack { transfer: 1, offset: next, limit })), bytes(&ToDevice::Probe)];
            peer.stream.write_all(&both.concat()).await.unwrap();
            assert!(peer.recv().await.starts_with("Ping"));
            while next < limit {
                next = peer
                    .look(|frame| {
                        let FromDevice::BlobChunk(chunk) = frame else { panic!("{frame:?}") };
                        assert_eq!(chunk.offset, next);
                        let is_right = chunk.bytes.iter().zip(next..).all(|(byte, at)| *byte == at as u8);
                        assert!(is_right, "at {next}");
                        next + chunk.bytes.len() as u32
                    })
                    .await;
            }
        }
        peer.send(&ToDevice::BlobDone(Done { transfer: 1, outcome: Outcome::Stored, detail: 0 })).await;
        peer.send(&wanted(2, "log")).await;
        assert!(peer.recv().await.starts_with("BlobOpen"), "and once more");
    });
}
