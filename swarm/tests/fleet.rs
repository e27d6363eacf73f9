//! Fleets against a server of a few lines, over real sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imlink_protocol::frame;
use imlink_protocol::message::{Flags, FromDevice, ToDevice, Welcome};
use imlink_swarm::{Config, Ledger, Live, Report, Swarm, payload_hash};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// Welcomes every device, sends it `messages` messages and a call, and stores its events.
async fn serve(messages: u64) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (epochs, acked) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let counter = acked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let epoch = epochs.fetch_add(1, Relaxed) + 1;
            tokio::spawn(attend(stream, epoch, messages, counter.clone()));
        }
    });
    (address, acked)
}

async fn attend(mut stream: TcpStream, epoch: u64, messages: u64, acked: Arc<AtomicU64>) {
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    let mut position = 0;
    while stream.read_buf(&mut bytes).await.is_ok_and(|len| len > 0) {
        while let Some(whole) = frame::split(&bytes, 4096).unwrap() {
            let len = whole.len;
            match frame::decode(whole.body).unwrap() {
                FromDevice::Hello(hello) => {
                    position = hello.cursor.sequence;
                    put(&mut out, &welcome(epoch));
                    for sequence in position + 1..=messages {
                        let key = imlink_swarm::CMD;
                        put(
                            &mut out,
                            &ToDevice::Message { sequence, key, expiry_ms: 0, flags: Flags::NONE, payload: b"go" },
                        );
                    }
                    let key = imlink_swarm::ECHO;
                    put(&mut out, &ToDevice::Call { request: 1, key, deadline_ms: 60_000, payload: b"hello" });
                }
                FromDevice::Ack { sequence } => {
                    acked.fetch_add(sequence - position, Relaxed);
                    position = sequence;
                }
                FromDevice::Event { sequence, .. } => put(&mut out, &ToDevice::EventAck { sequence }),
                FromDevice::Reply { payload, .. } => assert_eq!(payload, b"hello"),
                FromDevice::Bye => return,
                other => panic!("{other:?}"),
            }
            bytes.drain(..len);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

fn welcome(epoch: u64) -> ToDevice<'static> {
    ToDevice::Welcome(Welcome {
        epoch,
        generation: 1,
        heartbeat_s: 300,
        frame_limit: 4096,
        event_window: 8,
        event_position: 0,
        time_ms: 0,
        grant: b"",
    })
}

fn put(out: &mut Vec<u8>, message: &ToDevice<'_>) {
    let mut bytes = [0; 512];
    let len = frame::encode(message, &mut bytes).unwrap();
    out.extend_from_slice(&bytes[..len]);
}

/// Runs a fleet until `is_done`, then stops it.
async fn run(swarm: Swarm, is_done: impl Fn(&Live) -> bool) -> Report {
    let (live, shutdown) = (swarm.live(), CancellationToken::new());
    let running = tokio::spawn(swarm.run(shutdown.clone()));
    tokio::time::timeout(DEADLINE, async {
        while !is_done(&live) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not done in time: {:?}", live.snapshot()));
    shutdown.cancel();
    running.await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_handles_every_message_once_and_the_ledger_has_a_line_for_each() {
    let (address, acked) = serve(5).await;
    let config = Config { routes: vec![address], devices: 200, connect_rate: 2000.0, threads: 2, ..Config::default() };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let ledger = Ledger::callback(move |handled| {
        assert_eq!((handled.len, handled.hash), (2, payload_hash(b"go")));
        sink.lock().unwrap().push((handled.device.to_owned(), handled.id.sequence));
    });
    let swarm = Swarm::new(config).unwrap().with_ledger(ledger);
    let report =
        run(swarm, |live| live.is_attached(200) && live.snapshot().calls == 200 && acked.load(Relaxed) == 1000).await;
    assert_eq!((report.messages, report.calls, report.sessions, report.failures), (1000, 200, 200, 0));
    assert!(report.all_attached_s.is_some_and(|s| s > 0.0));
    let mut lines = lines.lock().unwrap().clone();
    assert!(lines.iter().filter(|(device, _)| device == "sim-7").map(|(_, sequence)| *sequence).eq(1..=5));
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_flow_at_the_rate_asked_for_and_are_measured() {
    let (address, _) = serve(0).await;
    let config = Config { routes: vec![address], devices: 20, event_rate: 500.0, event_size: 32, ..Config::default() };
    let report = run(Swarm::new(config).unwrap(), |live| live.snapshot().events_stored >= 300).await;
    assert_eq!((report.events_dropped, report.failures), (0, 0));
    assert!(report.event_latency.p99_ms > 0.0 && report.event_latency.max_ms < 5000.0, "{:?}", report.event_latency);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_makes_devices_come_back_without_handling_anything_twice() {
    let (address, _) = serve(3).await;
    let config = Config { routes: vec![address], devices: 30, churn: 60.0, ..Config::default() };
    let report = run(Swarm::new(config).unwrap(), |live| live.snapshot().sessions >= 60).await;
    assert_eq!((report.messages, report.failures), (90, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_shows_in_the_report() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = Config { routes: vec![address], devices: 3, ..Config::default() };
    let report = run(Swarm::new(config).unwrap(), |live| live.snapshot().failures >= 3).await;
    assert_eq!(report.errors.get("the network says: ConnectionRefused").copied().map(|count| count >= 3), Some(true));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
