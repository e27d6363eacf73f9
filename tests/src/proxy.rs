//! A TCP proxy that misbehaves when told to.
//!
//! ```text
//! client ──▶ proxy ──▶ upstream        every chunk passes as the present Fault says
//!        ◀──       ◀──
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Each chunk passes this much later.
    Delay(Duration),
    /// Bytes wait until the fault is over; new connections too.
    Hold,
    /// Bytes of the upstream wait until the fault is over; those of clients pass.
    HoldAnswers,
    /// Bytes are swallowed; nobody is told.
    BlackHole,
    /// One bit of every chunk is wrong.
    Flip,
    /// New connections are closed at once.
    Refuse,
    /// What a NAT does: a connection on which nothing passed for this long is forgotten, and what is sent on it is
    /// swallowed.
    Forget(Duration),
}

/// A running proxy; its connections end with it.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    fault: watch::Sender<Fault>,
    cut: watch::Sender<u64>,
    passed: AtomicU64,
    connections: AtomicU64,
    recorded: Mutex<Vec<Vec<u8>>>,
    answers: Mutex<VecDeque<Vec<u8>>>,
}

/// What a NAT knows of a connection.
struct Path {
    began: Instant,
    /// When something passed last, in milliseconds since then; [`FORGOTTEN`] for ever.
    moved: AtomicU64,
}

const FORGOTTEN: u64 = u64::MAX;

impl Path {
    fn new() -> Self {
        Self { began: Instant::now(), moved: AtomicU64::new(0) }
    }

    /// Something is sent; whether it passes.
    fn handle_sent(&self, forget: Option<Duration>) -> bool {
        let moved = self.moved.load(Ordering::Relaxed);
        let now = self.began.elapsed().as_millis() as u64;
        let is_known = moved != FORGOTTEN && forget.is_none_or(|after| u128::from(now - moved) < after.as_millis());
        self.moved.store(if is_known { now } else { FORGOTTEN }, Ordering::Relaxed);
        is_known
    }
}

/// Most bytes of a client's that are recorded, per connection.
const RECORDED_MAX: usize = 1024 * 1024;

impl Proxy {
    /// Starts a proxy to `upstream` on a free port of loopback.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            upstream,
            fault: watch::Sender::new(Fault::None),
            cut: watch::Sender::new(0),
            passed: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            recorded: Mutex::default(),
            answers: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on bytes and connections meet `fault`.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Closes every connection there is.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// The next connection, or the one behind those that were asked for before, does not reach the upstream: its
    /// first bytes are answered by `bytes` and its end.
    pub fn answer_next(&self, bytes: impl Into<Vec<u8>>) {
        self.shared.answers.lock().expect("no holder of this lock panics").push_back(bytes.into());
    }

    /// Bytes that passed, both ways.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What clients said so far, one entry a connection, each up to 1 MiB.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.recorded.lock().expect("no holder of this lock panics").clone()
    }
}

impl Shared {
    /// A place for what a client says.
    fn begin_record(&self) -> usize {
        let mut recorded = self.recorded.lock().expect("no holder of this lock panics");
        recorded.push(Vec::new());
        recorded.len() - 1
    }

    fn record(&self, number: usize, bytes: &[u8]) {
        let mut recorded = self.recorded.lock().expect("no holder of this lock panics");
        if let Some(said) = recorded.get_mut(number) {
            let room = RECORDED_MAX.saturating_sub(said.len()).min(bytes.len());
            said.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if *shared.fault.borrow() == Fault::Refuse {
            continue;
        }
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(connection(client, shared.clone()));
    }
}

async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cut = shared.cut.subscribe();
    let answer = shared.answers.lock().expect("no holder of this lock panics").pop_front();
    if let Some(answer) = answer {
        let number = shared.begin_record();
        let mut chunk = vec![0; 1024];
        if let Ok(len) = client.read(&mut chunk).await {
            shared.record(number, chunk.get(..len).unwrap_or_default());
            // Whether the client still listens is its own affair.
            let _ = client.write_all(&answer).await;
        }
        return;
    }
    let Ok(upstream) = TcpStream::connect(shared.upstream).await else { return };
    let number = shared.begin_record();
    // Without it, small frames would wait for one another in the proxy.
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    let path = Path::new();
    tokio::select! {
        _ = cut.changed() => {}
        _ = async { tokio::join!(
            pass(from_client, to_upstream, &shared, &path, Some(number)),
            pass(from_upstream, to_client, &shared, &path, None),
        ) } => {}
    }
}

/// Passes bytes one way until either side ends; the other way may go on.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, path: &Path, record: Option<usize>) {
    let mut fault = shared.fault.subscribe();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let Ok(len @ 1..) = from.read(&mut chunk).await else { return };
        let Some(bytes) = chunk.get_mut(..len) else { return };
        if let Some(number) = record {
            shared.record(number, bytes);
        }
        let now = *fault.borrow_and_update();
        let forget = if let Fault::Forget(after) = now { Some(after) } else { None };
        if !path.handle_sent(forget) {
            continue;
        }
        match now {
            Fault::None | Fault::Refuse | Fault::Forget(_) => {}
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Hold => {
                let over = fault.wait_for(|fault| *fault != Fault::Hold).await;
                if over.is_err() {
                    return;
                }
            }
            Fault::HoldAnswers if record.is_some() => {}
            Fault::HoldAnswers => {
                if fault.wait_for(|fault| *fault != Fault::HoldAnswers).await.is_err() {
                    return;
                }
            }
            Fault::BlackHole => continue,
            Fault::Flip => bytes.iter_mut().skip(len / 2).take(1).for_each(|byte| *byte ^= 1),
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
        shared.passed.fetch_add(len as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, within: Duration) -> Option<[u8; 5]> {
        stream.write_all(b"hello").await.ok()?;
        let mut answer = [0; 5];
        tokio::time::timeout(within, stream.read_exact(&mut answer)).await.ok()?.ok()?;
        Some(answer)
    }

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn each_fault_does_what_it_says() {
        let proxy = Proxy::start(echo().await).await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, LONG).await.as_ref(), Some(b"hello"));
        proxy.set(Fault::BlackHole);
        assert_eq!(ask(&mut stream, SHORT).await, None);
        proxy.set(Fault::Flip);
        // Flipped on the way there and, where the chunk is the same, back: two wrongs make a right.
        assert!(ask(&mut stream, LONG).await.is_some());
        proxy.set(Fault::Hold);
        assert_eq!(ask(&mut stream, SHORT).await, None);
        proxy.set(Fault::None);
        let mut held = [0; 5];
        stream.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"hello");
        proxy.set(Fault::HoldAnswers);
        assert_eq!(ask(&mut stream, SHORT).await, None);
        assert_eq!(proxy.recorded()[0].len(), 5 * 5, "what the client says is taken");
        proxy.set(Fault::None);
        stream.read_exact(&mut held).await.unwrap();
        assert_eq!(&held, b"hello");
        proxy.set(Fault::Forget(Duration::from_secs(3600)));
        assert!(ask(&mut stream, LONG).await.is_some());
        proxy.set(Fault::Forget(Duration::ZERO));
        assert_eq!(ask(&mut stream, SHORT).await, None);
        proxy.set(Fault::None);
        assert_eq!(ask(&mut stream, SHORT).await, None, "forgotten for ever");
        proxy.cut();
        assert_eq!(ask(&mut stream, LONG).await, None);
        proxy.set(Fault::None);
        proxy.answer_next(*b"liar!");
        let mut lied_to = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut lied_to, LONG).await.as_ref(), Some(b"liar!"));
        proxy.set(Fault::Refuse);
        let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut refused, LONG).await, None);
        assert_eq!(proxy.connections(), 2);
    }
}
