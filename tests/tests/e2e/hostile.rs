//! A net of robots: many hostile connections to a sealed port, from many addresses.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use imlink_tests::sealed::connect_from;
use tokio::io::AsyncWriteExt;

/// Hostile connections of an attack.
pub(crate) const STRANGERS: usize = 20_000;
/// Of them held open at a time: a process may have about 20,000 files.
const HELD: usize = 8_000;
/// Strangers a second; together with the devices more than one core does.
const PACE: u64 = 1_500;
/// Default of `server.half_open_max`, for one I/O thread, and of `route.half_open_max`.
const HALF_OPEN_MAX: u64 = 4_096;
/// Bytes of a node for each connection that has proved nothing: its place, its first frame, its handshake.
const STRANGER_BYTES_MAX: u64 = 4 * 1024;
/// An answer may take this long however quiet the run was: the machine does other things too.
const FLOOR: Duration = Duration::from_millis(25);

/// One of 127.0.0.0/8: every /24 has few of them, as a net of robots does.
pub(crate) fn source(number: usize) -> SocketAddrV4 {
    let [_, a, b, c] = (number as u32).wrapping_mul(2_654_435_761).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1 | a, b, 1 | c), 0)
}

/// An attack that goes on in a thread of its own, so that what is measured is the node.
pub(crate) struct Attack {
    made: Arc<AtomicUsize>,
    is_done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Attack {
    /// Silence, garbage, first messages cut short, and `logins`, whole and again and again: each of those has the
    /// node do its Diffie–Hellman.
    pub(crate) fn start(address: SocketAddr, logins: Vec<Vec<u8>>) -> Self {
        let (made, is_done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, done) = (made.clone(), is_done.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(attack(address, &logins, &counted));
            done.store(true, Ordering::Release);
        });
        Self { made, is_done, thread }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    /// How many connections it made.
    pub(crate) fn end(self) -> usize {
        self.thread.join().expect("the attack goes through");
        let made = self.made.load(Ordering::Relaxed);
        assert!(made >= STRANGERS * 99 / 100, "only {made} strangers came through");
        made
    }
}

async fn attack(address: SocketAddr, logins: &[Vec<u8>], made: &AtomicUsize) {
    let garbage = [0xff; 200];
    let mut held = VecDeque::new();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut number = 0;
    while number < STRANGERS {
        tick.tick().await;
        for _ in 0..PACE / 100 {
            number += 1;
            let Some(mut stream) = connect_from(source(number), address).await else { continue };
            let login = &logins[number % logins.len()];
            let bytes: &[u8] = match number % 4 {
                0 => &[],
                1 => &garbage,
                2 => &login[..login.len() - 1],
                _ => login,
            };
            // The node may have closed it already.
            let _ = stream.write_all(bytes).await;
            made.fetch_add(1, Ordering::Relaxed);
            held.push_back(stream);
            if held.len() > HELD {
                held.pop_front();
            }
        }
    }
}

/// What an attack did to a node and to those whom it serves.
pub(crate) struct Effect {
    /// Strangers that came.
    pub(crate) made: usize,
    /// How long what was measured took before the attack, and during it.
    pub(crate) quiet: Vec<Duration>,
    pub(crate) flooded: Vec<Duration>,
    /// Bytes that the node grew by.
    pub(crate) grown: u64,
}

impl Effect {
    /// Prints what it did to each `what`, and holds it to its bounds; `flooded_min` make a p99.
    pub(crate) fn judge(mut self, what: &str, flooded_min: usize) {
        let (quiet_p99, flooded_p99) = (p99(&mut self.quiet), p99(&mut self.flooded));
        let (quiet, flooded, grown) = (self.quiet.len(), self.flooded.len(), self.grown);
        println!(
            "{} strangers; p99 of a {what} {quiet_p99:?} quiet ({quiet} of them), {flooded_p99:?} flooded ({flooded}); memory \
             {grown} bytes more, {} a stranger that may stay",
            self.made,
            grown / HALF_OPEN_MAX
        );
        assert!(flooded >= flooded_min, "too few for a p99 of a {what}");
        assert!(is_bounded(flooded_p99, quiet_p99), "p99 {flooded_p99:?}, quiet {quiet_p99:?}");
        assert!(grown <= HALF_OPEN_MAX * STRANGER_BYTES_MAX, "strangers cost {grown} bytes");
    }
}

fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// The p99 of a flooded run is at most twice that of a quiet one.
fn is_bounded(flooded: Duration, quiet: Duration) -> bool {
    flooded <= (2 * quiet).max(FLOOR)
}
