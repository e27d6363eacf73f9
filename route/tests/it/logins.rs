//! Devices logging in: redirected with a ticket, or told why not.

use std::time::{Duration, SystemTime};

use imlink_protocol::limits::TICKET_LEN_MAX;
use imlink_protocol::link::node::Load;
use imlink_protocol::message::{Hello, RejectCode};
use imlink_protocol::ticket::{self, TicketKey};
use imlink_protocol::{Cursor, Fingerprint, FromDevice, ToDevice, VERSION, frame};
use imlink_route::Limits;
use imlink_store::DeviceKey;
use imlink_store::session::Proof;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Node, Setup};

fn hello(device: &str) -> Hello<'_> {
    Hello {
        version: VERSION,
        tenant: "-",
        device,
        incarnation: 1,
        attempt: 1,
        epoch: 0,
        cursor: Cursor::new(0, 0),
        receive_limit: 4096,
        window: 8,
        fingerprint: Fingerprint::NONE,
        event_queue: 0,
        ticket: &[],
    }
}

fn framed(hello: Hello<'_>) -> Vec<u8> {
    let mut out = [0; 600];
    let len = frame::encode(&FromDevice::Hello(hello), &mut out).unwrap();
    out[..len].to_vec()
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Redirect(String, Vec<u8>),
    Reject(RejectCode, u32),
    Closed,
}

async fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    read.expect("no answer for 5 s").unwrap();
    if bytes.is_empty() {
        return Answer::Closed;
    }
    let frame = frame::split(&bytes, 4096).unwrap().unwrap();
    match frame::decode::<ToDevice<'_>>(frame.body).unwrap() {
        ToDevice::Redirect { address, grant } => Answer::Redirect(address.into(), grant.into()),
        ToDevice::Reject { code, retry_after_s } => Answer::Reject(code, retry_after_s),
        other => panic!("{other:?}"),
    }
}

async fn log_in(setup: &Setup, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(setup.running.plain.unwrap()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    answer(&mut stream).await
}

async fn rejected(setup: &Setup, bytes: &[u8]) -> RejectCode {
    match log_in(setup, bytes).await {
        Answer::Reject(code, _) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_device_is_sent_to_a_server_with_a_ticket_that_is_good_there() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    node.known(&setup).await;
    let device = setup.device("lamp").await;
    setup.attach(&device, &node, Fingerprint::NONE).await;
    let Answer::Redirect(address, bytes) = log_in(&setup, &framed(hello("lamp"))).await else { panic!() };
    assert_eq!(address, node.address());
    let (day, key) = node.keys.lock().unwrap().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut room = [0; TICKET_LEN_MAX];
    let (none, bytes) = bytes.split_at(ticket::KEY_LEN);
    assert_eq!(none, [0; ticket::KEY_LEN], "no key on a plain link");
    let (ticket, _) = ticket::open(bytes, &[(day, TicketKey(key))], now, &mut room).unwrap();
    assert!(ticket.is_plain);
    assert_eq!((ticket.tenant, ticket.device, ticket.epoch_floor), ("-", "lamp", node.epoch("lamp")));
    assert!(bytes.len() <= 120, "{}", bytes.len());
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_taken() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    node.known(&setup).await;
    setup.device("lamp").await;
    let mut stream = TcpStream::connect(setup.running.plain.unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in framed(hello("lamp")) {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(matches!(answer(&mut stream).await, Answer::Redirect(..)));
}

#[tokio::test]
async fn who_may_not_log_in_is_told_why() {
    let setup = Setup::start().await;
    assert_eq!(rejected(&setup, &framed(hello("nobody"))).await, RejectCode::UnknownDevice);
    assert_eq!(rejected(&setup, &framed(hello("no body"))).await, RejectCode::UnknownDevice);
    setup.device("lamp").await;
    assert_eq!(rejected(&setup, &framed(hello("lamp"))).await, RejectCode::NoServer);
    let keyed = DeviceKey::single("keyed").unwrap();
    setup.store.provision(&keyed, Proof::key([1; 32])).await.unwrap();
    assert_eq!(rejected(&setup, &framed(hello("keyed"))).await, RejectCode::Unsealed);
    setup.route().revoke("-", "lamp").await.unwrap();
    assert_eq!(rejected(&setup, &framed(hello("lamp"))).await, RejectCode::Revoked);
}

#[tokio::test]
async fn a_draining_server_gets_no_device() {
    let setup = Setup::start().await;
    let (one, two) = (Node::start(&setup, "im-1").await, Node::start(&setup, "im-2").await);
    one.load(Load { draining: true, ..Load::default() });
    crate::support::until(async || setup.route().servers()[0].load.draining).await;
    two.known(&setup).await;
    setup.device("lamp").await;
    for _ in 0..10 {
        let Answer::Redirect(address, _) = log_in(&setup, &framed(hello("lamp"))).await else { panic!() };
        assert_eq!(address, two.address());
    }
}

#[tokio::test]
async fn bytes_that_are_no_hello_are_refused_by_type_and_disturb_nobody() {
    let setup = Setup::start().await;
    let node = Node::start(&setup, "im-1").await;
    node.known(&setup).await;
    setup.device("lamp").await;
    let good = framed(hello("lamp"));

    let mut wrong_check = good.clone();
    *wrong_check.last_mut().unwrap() ^= 1;
    assert_eq!(rejected(&setup, &wrong_check).await, RejectCode::Malformed);
    assert_eq!(rejected(&setup, &[0xff; 64]).await, RejectCode::Malformed);
    assert_eq!(
        rejected(&setup, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4).as_slice()).await,
        RejectCode::Malformed
    );
    assert_eq!(rejected(&setup, &[0x80, 0x08]).await, RejectCode::Malformed);
    let version = framed(Hello { version: 9, ..hello("lamp") });
    assert_eq!(rejected(&setup, &version).await, RejectCode::Version);
    let mut out = [0; 64];
    let len = frame::encode(&FromDevice::Ping { next_ms: 1000 }, &mut out).unwrap();
    assert_eq!(rejected(&setup, &out[..len]).await, RejectCode::Order);
    assert_eq!(rejected(&setup, &good.repeat(2)).await, RejectCode::Order);

    let mut cut = TcpStream::connect(setup.running.plain.unwrap()).await.unwrap();
    cut.write_all(&good[..10]).await.unwrap();
    cut.shutdown().await.unwrap();
    assert_eq!(answer(&mut cut).await, Answer::Closed);
    assert!(matches!(log_in(&setup, &good).await, Answer::Redirect(..)));
}

#[tokio::test]
async fn whoever_is_silent_longest_makes_room_and_is_told_when_to_come_back() {
    let limits = Limits { half_open_max: 2, overload_retry_s: 9, ..Limits::default() };
    let setup = Setup::with(limits).await;
    let node = Node::start(&setup, "im-1").await;
    node.known(&setup).await;
    setup.device("lamp").await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(setup.running.plain.unwrap()).await.unwrap());
    }
    assert_eq!(answer(&mut silent[0]).await, Answer::Reject(RejectCode::Overloaded, 9));
    // There is no room but that of the next one.
    assert!(matches!(log_in(&setup, &framed(hello("lamp"))).await, Answer::Redirect(..)));
    assert_eq!(answer(&mut silent[1]).await, Answer::Reject(RejectCode::Overloaded, 9));
    // The device left its place: the last one still has its own.
    silent[2].write_all(&framed(hello("lamp"))).await.unwrap();
    assert!(matches!(answer(&mut silent[2]).await, Answer::Redirect(..)));
}

#[tokio::test]
async fn past_the_logins_of_a_second_a_device_is_told_when_to_come_back() {
    let limits = Limits { logins_per_s: 1, overload_retry_s: 9, ..Limits::default() };
    let setup = Setup::with(limits).await;
    let node = Node::start(&setup, "im-1").await;
    node.known(&setup).await;
    setup.device("lamp").await;
    // What says nothing of a device takes nobody's turn.
    for _ in 0..20 {
        assert_eq!(rejected(&setup, &[0xff; 64]).await, RejectCode::Malformed);
    }
    assert!(matches!(log_in(&setup, &framed(hello("lamp"))).await, Answer::Redirect(..)));
    let refused = log_in(&setup, &framed(hello("lamp"))).await;
    assert_eq!(refused, Answer::Reject(RejectCode::Overloaded, 9));
    crate::support::until(async || matches!(log_in(&setup, &framed(hello("lamp"))).await, Answer::Redirect(..))).await;
}
