//! Servers that lie.

use std::time::{Duration, Instant};

use imlink_firmware_interface::TEXT_SHOW;
use imlink_firmware_tests::board::{Board, Setup};
use imlink_firmware_tests::liar::Liar;
use imlink_protocol::message::{Flags, FromDevice, RejectCode, ToDevice};
use imlink_tests::wire::framed;

use crate::DEVICE;

fn text(sequence: u64, payload: &[u8]) -> ToDevice<'_> {
    ToDevice::Message { sequence, key: TEXT_SHOW, expiry_ms: 0, flags: Flags::NONE, payload }
}

/// A valid frame whose check is wrong.
fn with_wrong_check(message: &ToDevice<'_>) -> Vec<u8> {
    let mut bytes = framed(message);
    if let Some(last) = bytes.last_mut() {
        *last ^= 0x40;
    }
    bytes
}

#[tokio::test]
async fn bytes_that_are_no_frames_cost_the_connection_and_nothing_else() {
    let liar = Liar::bind().await;
    // The waits between its tries double.
    let mut board = Board::start(Setup::plain(DEVICE, &[liar.address()]).with("speed=20"));
    let lies: [(&str, Vec<u8>); 7] = [
        ("garbage", vec![0xff; 300]),
        ("a wrong check", with_wrong_check(&text(1, b"x"))),
        ("a claim of 2 MB", vec![0xff, 0xff, 0x7f]),
        ("a frame larger than the board takes", framed(&text(1, &[7; 2000]))),
        ("a kind that does not exist", framed(&(200u8, 1u8))),
        ("an acknowledgement of events never sent", framed(&ToDevice::EventAck { sequence: 1 << 40 })),
        ("a generation that goes back", framed(&ToDevice::Generation { generation: 0 })),
    ];
    for (epoch, (what, lie)) in (1..).zip(&lies) {
        println!("{what}");
        let mut victim = liar.welcome(epoch).await;
        victim.write(lie).await;
        victim.closed().await;
        assert!(board.is_running(), "{what}");
    }
    // It still does what it should.
    let mut victim = liar.welcome(100).await;
    victim.say(&text(1, b"hello")).await;
    board.logged("text of 5 bytes", 1).await;
    assert_eq!(board.count("panicked"), 0);
    assert_eq!(board.count("text of"), 1, "no lie reached a handler");
}

#[tokio::test]
async fn a_flood_is_taken_as_fast_as_it_is_handled_and_in_order() {
    let liar = Liar::bind().await;
    let mut board = Board::start(Setup::plain(DEVICE, &[liar.address()]));
    let mut victim = liar.welcome(1).await;
    // More than the window allows, and more than its inbox holds, without waiting for an answer.
    let flood: Vec<u8> = (1..=400).flat_map(|sequence| framed(&text(sequence, &[b'a'; 100]))).collect();
    victim.write(&flood).await;
    let mut acked = 0;
    while acked < 400 {
        acked = victim.look(|frame| if let FromDevice::Ack { sequence } = frame { *sequence } else { acked }).await;
    }
    assert_eq!(board.count("text of 100 bytes"), 400);
    assert!(board.is_running());
}

#[tokio::test]
async fn redirects_in_a_circle_end_in_a_wait() {
    let liar = Liar::bind().await;
    let mut board = Board::start(Setup::plain(DEVICE, &[liar.address()]));
    let address = format!("10.0.2.2:{}", liar.address().port());
    let began = Instant::now();
    let mut accepted = 0;
    // A board that obeyed every one would be here hundreds of times.
    while began.elapsed() < Duration::from_secs(8) {
        let next = tokio::time::timeout(Duration::from_secs(9), liar.accept()).await;
        let Ok(mut victim) = next else { break };
        accepted += 1;
        victim.say(&ToDevice::Redirect { address: &address, grant: b"round" }).await;
        victim.closed().await;
    }
    println!("{accepted} connections");
    assert!((2..=40).contains(&accepted), "{accepted} connections in {:?}", began.elapsed());
    assert!(board.is_running());
}

#[tokio::test]
async fn an_address_that_is_none_is_no_trap() {
    let liar = Liar::bind().await;
    let mut board = Board::start(Setup::plain(DEVICE, &[liar.address()]));
    let mut victim = liar.accept().await;
    victim.say(&ToDevice::Redirect { address: "no address at all", grant: b"" }).await;
    victim.closed().await;
    // Back to the route, after a wait.
    let mut victim = liar.accept().await;
    victim.say(&ToDevice::Reject { code: RejectCode::Overloaded, retry_after_s: 0 }).await;
    liar.accept().await;
    assert!(board.is_running());
}

#[tokio::test]
async fn a_delay_of_a_century_is_believed_for_an_hour() {
    // An hour of the board's is 7.2 s.
    let liar = Liar::bind().await;
    let mut board = Board::start(Setup::plain(DEVICE, &[liar.address()]).with("speed=500"));
    let mut victim = liar.accept().await;
    victim.say(&ToDevice::Reject { code: RejectCode::Overloaded, retry_after_s: u32::MAX }).await;
    let told = Instant::now();
    liar.accept().await;
    let waited = told.elapsed().as_secs_f64() * 500.0;
    println!("it waited {waited:.0} s of its time");
    assert!((3500.0..5000.0).contains(&waited), "{waited} s");
    assert!(board.is_running());
}
