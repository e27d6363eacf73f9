//! Twenty thousand hostile connections at the sealed port, while devices do their work.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imlink_backend_client::{Client, Message, State};
use imlink_tests::node::{Node, TOKEN};
use imlink_tests::sealed::{Flashed, claim, connect_from};
use tokio::io::AsyncWriteExt;

/// Hostile connections.
const STRANGERS: usize = 20_000;
/// Of them held open at a time: a process may have about 20,000 files.
const HELD: usize = 8_000;
/// Strangers a second; together with the devices more than one core does.
const PACE: u64 = 1_500;
/// Devices that do their work meanwhile.
const DEVICES: usize = 16;
/// Default of `server.half_open_max`, for the one I/O thread there is.
const HALF_OPEN_MAX: u64 = 4_096;
/// Bytes of the server for each connection that has proved nothing: its slot, its first frame, its handshake.
const STRANGER_BYTES_MAX: u64 = 4 * 1024;
/// A push may take this long however quiet the run was: the machine does other things too.
const FLOOR: Duration = Duration::from_millis(25);

/// A way to be hostile.
#[derive(Clone)]
struct Weapons {
    /// First messages of devices that exist: each costs the server its Diffie–Hellman.
    logins: Arc<Vec<Vec<u8>>>,
    garbage: Arc<Vec<u8>>,
}

/// One of 127.0.0.0/8: every /24 has few of them, as a net of robots does.
fn source(number: usize) -> SocketAddrV4 {
    let [_, a, b, c] = (number as u32).wrapping_mul(2_654_435_761).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 1 | a, b, 1 | c), 0)
}

async fn attack(address: SocketAddr, weapons: Weapons, made: Arc<AtomicUsize>) {
    let mut held = std::collections::VecDeque::new();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let mut number = 0;
    while number < STRANGERS {
        tick.tick().await;
        for _ in 0..PACE / 100 {
            number += 1;
            let Some(mut stream) = connect_from(source(number), address).await else { continue };
            let login = &weapons.logins[number % weapons.logins.len()];
            let bytes: &[u8] = match number % 4 {
                0 => &[],
                1 => &weapons.garbage,
                2 => &login[..login.len() - 1],
                _ => login,
            };
            // The server may have closed it already.
            let _ = stream.write_all(bytes).await;
            made.fetch_add(1, Ordering::Relaxed);
            held.push_back(stream);
            if held.len() > HELD {
                held.pop_front();
            }
        }
    }
}

/// Latencies of pushes to all devices in turn, one every 3 ms, until `is_over`.
async fn push_until(backend: &Client, is_over: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(3));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !is_over(latencies.len()) {
        tick.tick().await;
        let device = format!("lamp-{}", latencies.len() % DEVICES);
        let began = Instant::now();
        let sent = backend.send(&Message::new(&device, "led/set", b"0123456789abcdef").acked()).await;
        assert_eq!(sent.expect("an ack").state, State::Acked);
        latencies.push(began.elapsed());
    }
    latencies
}

fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

#[tokio::test]
async fn twenty_thousand_hostile_connections_disturb_no_attached_device() {
    let node = Node::gateway(&["io_threads=1"]).await;
    let api = node.api();
    let mut served = Vec::new();
    let mut logins = Vec::new();
    for number in 0..DEVICES {
        let flashed = Flashed::provision(&api, &format!("lamp-{number}")).await;
        let session = flashed.attach(node.devices(), claim(7, 1)).await;
        served.push(tokio::spawn(session.link.acknowledge()));
        // Of another boot: nothing speaks against them before they are answered.
        logins.extend((2..=64).map(|attempt| flashed.login(claim(8, attempt)).frame));
    }
    let backend = Client::connect(&node.backends().to_string(), TOKEN, "tests").await.expect("a link");
    push_until(&backend, |count| count >= 200).await;
    let mut quiet = push_until(&backend, |count| count >= 1_500).await;
    let before = node.process().memory();
    let weapons = Weapons { logins: Arc::new(logins), garbage: Arc::new(vec![0xff; 200]) };
    let (made, is_done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (address, counted, done) = (node.devices(), made.clone(), is_done.clone());
    // Threads of its own, so that what is measured is the server.
    let attacker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(attack(address, weapons, counted));
        done.store(true, Ordering::Release);
    });
    let peak = Arc::new(AtomicUsize::new(0));
    let mut flooded = push_until(&backend, |count| {
        if count % 50 == 0 {
            peak.fetch_max(node.process().memory() as usize, Ordering::Relaxed);
        }
        is_done.load(Ordering::Acquire)
    })
    .await;
    attacker.join().expect("the attack goes through");
    let (quiet_p99, flooded_p99) = (p99(&mut quiet), p99(&mut flooded));
    let grown = (peak.load(Ordering::Relaxed) as u64).saturating_sub(before);
    let made = made.load(Ordering::Relaxed);
    println!(
        "{made} strangers; p99 of a push {quiet_p99:?} quiet ({} pushes), {flooded_p99:?} flooded ({} pushes); memory \
         {grown} bytes more, {} a stranger that may stay",
        quiet.len(),
        flooded.len(),
        grown / HALF_OPEN_MAX
    );
    for reason in ["answered", "attempt-open", "attempt-over", "pool-full"] {
        println!("{reason}: {}", api.metric("imlink_server_handshakes_total", &format!("reason=\"{reason}\"")).await);
    }
    println!("crowded out: {}", api.metric("imlink_server_closed_total", "reason=\"crowded-out\"").await);
    assert!(made >= STRANGERS * 99 / 100, "only {made} strangers came through");
    assert!(flooded.len() >= 500, "too few pushes for a p99");
    assert!(flooded_p99 <= (2 * quiet_p99).max(FLOOR), "p99 {flooded_p99:?}, quiet {quiet_p99:?}");
    assert!(grown <= HALF_OPEN_MAX * STRANGER_BYTES_MAX, "strangers cost {grown} bytes");
    assert!(served.iter().all(|device| !device.is_finished()), "a device lost its link");
    assert_eq!(api.metric("imlink_server_attached", "").await, DEVICES as f64);
    assert_eq!(api.metric("imlink_server_attaches_total", "").await, DEVICES as f64);
    assert!(!node.log().contains("panicked"));
}
