//! Servers that lie over sealed links: without the route's key, and with it.

use std::time::{Duration, Instant};

use imlink_firmware_interface::TEXT_SHOW;
use imlink_firmware_tests::backend::Backend;
use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::thief::Thief;
use imlink_protocol::message::{Flags, FromDevice, RejectCode, ToDevice};
use imlink_protocol::seal::{FromStranger, REFUSE_LEN_MAX, ToStranger};
use imlink_tests::node::Node;
use imlink_tests::wire::framed;

use crate::DEVICE;

/// The waits between a board's tries double: they pass fast, and the handshakes, which it computes, do not.
const SPEED: &str = "speed=50";
const PATIENCE: &str = "patience_ms=2000";

/// What the board says of a handshake that does not open, and of a record.
const CHANGED: &str = "the handshake does not open";
const WRONG_TAG: &str = "frame check does not fit";
const NO_MESSAGE: &str = "frame body is not a message";
const NO_LENGTH: &str = "not a minimal varint";

fn text(sequence: u64, payload: &[u8]) -> ToDevice<'_> {
    ToDevice::Message { sequence, key: TEXT_SHOW, expiry_ms: 0, flags: Flags::NONE, payload }
}

fn board(thief: &Thief) -> Board {
    Board::start(Setup::new(DEVICE, &[thief.address()]).with(SPEED).with(PATIENCE))
}

/// `bytes` with a bit of byte `at` changed, counted from the end when it is below 0.
fn changed(mut bytes: Vec<u8>, at: isize) -> Vec<u8> {
    let index = if at < 0 { bytes.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    bytes[index] ^= 0x40;
    bytes
}

/// Waits for the end of the `number`th connection, which has to be because of `why`: it is no lie that it fell for, and no
/// silence.
async fn ended(board: &Board, number: usize, why: &str) {
    board.logged("connection ended", number).await;
    let log = board.log();
    let line = log.lines().filter(|line| line.contains("connection ended")).nth(number - 1).unwrap_or_default();
    assert!(line.contains(why), "it should end because of {why:?}: {log}");
}

/// From now on the board's route is a gateway that tells the truth: the board goes in and does as it is told.
async fn serves_an_honest_gateway(thief: Thief, mut board: Board, attached_before: usize) {
    assert!(board.is_running());
    assert_eq!(board.count("panicked"), 0, "{}", board.log());
    assert_eq!(board.count("text of"), 0, "no lie reached a handler");
    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    tokio::spawn(thief.turn_honest(node.devices()));
    board.attached(attached_before + 1).await;
    Backend::new(node.api(), DEVICE).do_now("text/show", b"hello").await;
    board.logged("text of 5 bytes", 1).await;
}

#[tokio::test]
async fn wrong_answers_to_a_login_cost_the_connection_and_nothing_else() {
    let thief = Thief::bind().await;
    let board = board(&thief);
    let mut first = thief.accept().await;
    let earlier = thief.answer(&first).frame.to_vec();
    first.write(&changed(earlier.clone(), -1)).await;
    first.closed().await;
    ended(&board, 1, CHANGED).await;
    let lies = [
        ("an earlier answer", CHANGED),
        ("a changed key", CHANGED),
        ("its own words", NO_MESSAGE),
        ("no curve's key", CHANGED),
        ("more than an answer", NO_MESSAGE),
        ("a claim of 2 MB", "frame of 2097151 bytes"),
        ("garbage", NO_LENGTH),
        ("a plain welcome", "as on a plain link"),
        ("half an answer", CHANGED),
    ];
    for (number, (lie, why)) in (2..).zip(lies) {
        println!("{lie}");
        let mut caller = thief.accept().await;
        assert!(matches!(caller.said(), FromStranger::Login(_)), "{lie}: it has no ticket");
        let right = thief.answer(&caller).frame.to_vec();
        let bytes = match lie {
            "an earlier answer" => earlier.clone(),
            "a changed key" => changed(right, 8),
            "its own words" => caller.first.clone(),
            "no curve's key" => answer(&[0; 48]),
            "more than an answer" => [right.as_slice(), &[1, 2, 3]].concat(),
            "a claim of 2 MB" => vec![0xff, 0xff, 0x7f],
            "garbage" => vec![0xff; 300],
            "a plain welcome" => framed(&ToDevice::Welcome(imlink_firmware_tests::liar::welcome(1))),
            _ => answer(&right[3..30]),
        };
        caller.write(&bytes).await;
        caller.closed().await;
        ended(&board, number, why).await;
    }
    serves_an_honest_gateway(thief, board, 0).await;
}

/// A frame of the handshake's answer with any bytes.
fn answer(noise: &[u8]) -> Vec<u8> {
    let mut out = [0; 128];
    let len = ToStranger::Answer { noise }.encode(&mut out).expect("a short answer");
    out[..len].to_vec()
}

#[tokio::test]
async fn records_that_lie_cost_the_connection_and_nothing_else() {
    let thief = Thief::bind().await;
    let board = board(&thief);
    let mut first = thief.welcome(1).await;
    let earlier = first.record(&text(1, b"x"));
    first.write(&changed(earlier.clone(), -1)).await;
    first.closed().await;
    ended(&board, 1, WRONG_TAG).await;
    let lies = [
        ("a changed byte", WRONG_TAG),
        ("a changed length", WRONG_TAG),
        ("a record of another connection", WRONG_TAG),
        ("the same record twice", WRONG_TAG),
        ("the second before the first", WRONG_TAG),
        ("its own record", WRONG_TAG),
        ("a frame without a seal", "at least 17 are needed"),
        ("a claim of 2 MB", "frame of 2097151 bytes"),
        ("garbage", NO_LENGTH),
        ("a record larger than the board takes", "frame of 2026 bytes"),
        ("a kind that does not exist", NO_MESSAGE),
        ("events acknowledged that never were", "event 1099511627776 is acknowledged"),
        ("a generation that goes back", "generation 0 is not between"),
        ("a second welcome", "Welcome is not allowed while attached"),
    ];
    for (number, (lie, why)) in (2..).zip(lies) {
        println!("{lie}");
        let mut victim = thief.welcome(number as u64).await;
        let pong = ToDevice::Pong { now_ms: 1 };
        let bytes = match lie {
            "a changed byte" => changed(victim.record(&text(1, b"x")), 6),
            "a changed length" => changed(victim.record(&text(1, &[7; 100])), 0),
            "a record of another connection" => earlier.clone(),
            "the same record twice" => victim.record(&pong).repeat(2),
            "the second before the first" => {
                let first = victim.record(&pong);
                [victim.record(&pong), first].concat()
            }
            "its own record" => victim.hello.clone(),
            "a frame without a seal" => framed(&text(1, b"x")),
            "a claim of 2 MB" => vec![0xff, 0xff, 0x7f],
            "garbage" => vec![0xff; 300],
            "a record larger than the board takes" => victim.record(&text(1, &[7; 2000])),
            "a kind that does not exist" => victim.record(&(200u8, 1u8)),
            "events acknowledged that never were" => victim.record(&ToDevice::EventAck { sequence: 1 << 40 }),
            "a generation that goes back" => victim.record(&ToDevice::Generation { generation: 0 }),
            _ => victim.record(&ToDevice::Welcome(imlink_firmware_tests::liar::welcome(99))),
        };
        victim.write(&bytes).await;
        victim.closed().await;
        ended(&board, number, why).await;
    }
    serves_an_honest_gateway(thief, board, 1 + lies.len()).await;
}

#[tokio::test]
async fn a_flood_of_records_is_taken_as_fast_as_it_is_handled_and_in_order() {
    let thief = Thief::bind().await;
    let mut board = Board::start(Setup::new(DEVICE, &[thief.address()]));
    let mut victim = thief.welcome(1).await;
    // More than the window allows, and more than its inbox holds, without waiting for an answer.
    let mut flood = Vec::new();
    for sequence in 1..=400 {
        flood.extend(victim.record(&text(sequence, &[b'a'; 100])));
    }
    victim.write(&flood).await;
    let mut acked = 0;
    while acked < 400 {
        acked = victim.look(|frame| if let FromDevice::Ack { sequence } = frame { *sequence } else { acked }).await;
    }
    assert_eq!(board.count("text of 100 bytes"), 400);
    assert!(board.is_running());
}

#[tokio::test]
async fn redirects_in_a_circle_by_a_stolen_key_end_in_a_wait() {
    let thief = Thief::bind().await;
    let mut board = Board::start(Setup::new(DEVICE, &[thief.address()]));
    let address = format!("10.0.2.2:{}", thief.address().port());
    let began = Instant::now();
    let (mut logins, mut attaches) = (0, 0);
    // A board that obeyed every one would be here hundreds of times.
    while began.elapsed() < Duration::from_secs(8) {
        let next = tokio::time::timeout(Duration::from_secs(9), thief.accept()).await;
        let Ok(caller) = next else { break };
        match caller.said() {
            FromStranger::Login(_) => logins += 1,
            FromStranger::Attach { .. } => attaches += 1,
        }
        let answered = thief.answer(&caller);
        let mut victim = caller.seal(answered).await;
        victim.say(&ToDevice::Redirect { address: &address, grant: &thief.grant(DEVICE) }).await;
        victim.closed().await;
    }
    println!("{logins} logins, {attaches} attaches by a ticket");
    assert!(attaches >= 1, "it goes where it is sent");
    assert!((2..=40).contains(&(logins + attaches)), "{logins} and {attaches} in {:?}", began.elapsed());
    assert!(board.is_running());
    serves_an_honest_gateway(thief, board, 0).await;
}

#[tokio::test]
async fn a_refusal_without_proof_is_believed_for_a_minute() {
    let thief = Thief::bind().await;
    // A minute of the board's is 1.2 s.
    let board = board(&thief);
    let mut caller = thief.accept().await;
    let mut refusal = [0; REFUSE_LEN_MAX];
    let forged = ToStranger::Refuse { code: RejectCode::Revoked, retry_after_s: u32::MAX };
    let len = forged.encode(&mut refusal).expect("a refusal");
    caller.write(&refusal[..len]).await;
    caller.closed().await;
    let told = Instant::now();
    drop(thief.accept().await);
    let waited = told.elapsed().as_secs_f64() * 50.0;
    println!("it waited {waited:.0} s of its time");
    assert!((50.0..300.0).contains(&waited), "{waited} s");
    serves_an_honest_gateway(thief, board, 0).await;
}
