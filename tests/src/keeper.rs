//! A device that takes part in transfers: the real client, its files in a folder, and a gate in front of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use imlink_device_client::blob::{Blob, BlobSink, BlobState, Files, Kept, Refusal, StorageError};
use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Config, Keys, NoopRawMutex, State};
use imlink_protocol::key_pair::PrivateKey;
use tokio::sync::{mpsc, watch};

use crate::device::{TESTED, private_key};
use crate::node::ROUTE_KEYS;
use crate::wait::eventually;

/// Largest blob that a [`Keeper`] keeps, in bytes.
pub const KEPT_MAX: u32 = 1_000_000;
/// Bytes that it writes at once.
pub const BUFFER: usize = 4096;
/// Longest wait for something that it is to do.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A running device with a folder of files. Dropping it cuts its power; the folder stays with the test.
pub struct Keeper {
    folder: PathBuf,
    gate: watch::Sender<u32>,
    written: Arc<AtomicU32>,
    messages: Arc<AtomicU32>,
    off: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    /// A device that logs in at `route`, keeps its files in `folder`, and takes images signed by `key`.
    pub fn start(id: &str, route: SocketAddr, folder: &Path, key: Option<[u8; 32]>) -> Self {
        let (gate, opened) = watch::channel(u32::MAX);
        let (off, is_off) = mpsc::channel(1);
        let (written, messages) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sink = Gated { files: Files::new(folder, KEPT_MAX), gate: opened, written: written.clone() };
        let (name, source, handled) = (id.to_owned(), Files::new(folder, 0), messages.clone());
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(live(&name, route, key, sink, source, handled, is_off));
        };
        let thread = std::thread::Builder::new().name(id.into()).spawn(run).expect("a thread");
        Self { folder: folder.into(), gate, written, messages, off: Some(off), thread: Some(thread) }
    }

    /// From now on nothing is written behind byte `offset`.
    pub fn hold_behind(&self, offset: u32) {
        self.gate.send_replace(offset);
    }

    /// Waits until it has written up to byte `offset`.
    pub async fn has_written(&self, offset: u32) {
        let what = format!("{offset} bytes written, {} are", self.written.load(Ordering::Relaxed));
        eventually(&what, PATIENCE, async || (self.written.load(Ordering::Relaxed) >= offset).then_some(())).await;
    }

    /// Messages that it handled.
    pub fn messages(&self) -> u32 {
        self.messages.load(Ordering::Relaxed)
    }

    /// What it keeps as `name`.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.folder.join(name)).ok()
    }
}

impl Keeper {
    /// Cuts its power: what was not written is lost.
    pub fn power_off(&mut self) {
        self.off = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the device panicked");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.power_off();
    }
}

async fn live(
    id: &str,
    route: SocketAddr,
    key: Option<[u8; 32]>,
    mut sink: Gated,
    mut source: Files,
    handled: Arc<AtomicU32>,
    mut off: mpsc::Receiver<()>,
) {
    let mut state = State::<NoopRawMutex, _, 1024, 1024, 4096>::new(TokioClock::new());
    let blobs = BlobState::<NoopRawMutex, BUFFER>::new();
    let (private_key, route_keys) = (private_key(id), ROUTE_KEYS.map(|key| PrivateKey::new(key).public().0));
    let keys = Keys { private_key: private_key.bytes(), route_keys: &route_keys, psk: None };
    let route = route.to_string();
    let routes = [route.as_str()];
    let config = Config { interface: TESTED, ..Config::new(id, &routes, keys) };
    let device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng);
    let imlink_device_client::Device { runner, messages, .. } = device.expect("a valid configuration");
    let pinned: Vec<[u8; 32]> = key.into_iter().collect();
    let (mut runner, blobs) = runner.with_blobs(&blobs);
    let mut blobs = blobs.with_keys(&pinned);
    let mut messages = messages;
    let handle = messages.for_each(async |_| {
        handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    tokio::select! {
        _ = runner.run() => {}
        _ = handle => {}
        _ = blobs.run(&mut sink, &mut source) => {}
        _ = off.recv() => {}
    }
}

/// Files that are written no further than allowed.
struct Gated {
    files: Files,
    gate: watch::Receiver<u32>,
    written: Arc<AtomicU32>,
}

impl BlobSink for Gated {
    async fn begin(&mut self, blob: &Blob) -> Result<u32, Refusal> {
        let offset = self.files.begin(blob).await?;
        self.written.store(offset, Ordering::Relaxed);
        Ok(offset)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), StorageError> {
        let end = offset + bytes.len() as u32;
        let opened = self.gate.wait_for(|gate| *gate >= end).await.map(|_| ());
        opened.map_err(|_| StorageError)?;
        self.files.write(offset, bytes).await?;
        self.written.store(end, Ordering::Relaxed);
        Ok(())
    }

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), StorageError> {
        BlobSink::read(&mut self.files, offset, bytes).await
    }

    async fn finish(&mut self, blob: &Blob) -> Result<Kept, StorageError> {
        self.files.finish(blob).await
    }

    async fn abort(&mut self, blob: &Blob) {
        self.files.abort(blob).await;
    }
}
