//! Servers that misbehave, boards that fail.

use std::time::{Duration, Instant};

use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Config, Error, Fault, NoopRawMutex, Rng, RngError, State};
use imlink_protocol::FrameError;
use imlink_protocol::device::SessionError;
use imlink_protocol::message::{FromDevice, RejectCode, ToDevice};
use tokio::io::AsyncWriteExt;

use crate::peer::{Server, message};
use crate::wire::{bytes, welcome};
use crate::{RAW, beside, lamp, state};

#[tokio::test]
async fn frames_that_come_byte_by_byte_are_taken() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.accept().await;
        peer.recv().await;
        let mut all = bytes(&welcome(1, 0));
        all.extend(bytes(&message(1, RAW, b"slowly")));
        for byte in all {
            peer.stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(device.messages.next().await.payload(<[u8]>::to_vec), b"slowly");
    });
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_the_connection_with_a_typed_error() {
    let mut broken = bytes(&ToDevice::Probe);
    *broken.last_mut().unwrap() ^= 1;
    let table: [(Vec<u8>, Error); 5] = [
        (vec![0xff, 0xff, 0xff, 0xff], Error::Frame(FrameError::Length)),
        (broken, Error::Frame(FrameError::Check)),
        (bytes(&message(1, RAW, &[0; 600])), Error::Frame(FrameError::TooLong { len: 614, max: 509 })),
        (vec![2, 1, 2], Error::Frame(FrameError::TooShort { len: 2, min: 5 })),
        (bytes(&welcome(9, 0)), Error::Session(order("Welcome"))),
    ];
    for (bytes, expected) in table {
        let (server, mut state) = (Server::bind().await, state());
        let routes = [server.address()];
        let mut device = lamp(&mut state, &routes);
        let client = device.client;
        beside!(device, async {
            let mut peer = server.welcome(1, 0).await;
            peer.stream.write_all(&bytes).await.unwrap();
            peer.closed().await;
            client.wait_for(|link, _| link.last_error.is_some()).await;
        });
        let error = client.link().last_error.unwrap();
        assert_eq!((error, error.fault()), (expected, Fault::Peer));
    }
}

fn order(frame: &'static str) -> SessionError {
    SessionError::Order { state: imlink_device_client::StateName::Attached, frame }
}

#[tokio::test]
async fn a_refusal_is_shown_with_whose_fault_it_is() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    beside!(device, async {
        let mut peer = server.accept().await;
        peer.recv().await;
        peer.send(&ToDevice::Reject { code: RejectCode::UnknownDevice, retry_after_s: 60 }).await;
        peer.closed().await;
        client.wait_for(|link, _| link.last_error.is_some()).await;
    });
    let error = client.link().last_error.unwrap();
    assert_eq!((error, error.fault()), (Error::Rejected(RejectCode::UnknownDevice), Fault::Configuration));
}

#[tokio::test]
async fn a_full_inbox_stops_reading_but_not_the_signs_of_life_and_loses_nothing() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        for sequence in 1..=8 {
            peer.send(&message(sequence, RAW, &[sequence as u8; 400])).await;
        }
        peer.send(&ToDevice::Probe).await;
        let began = Instant::now();
        peer.expect(FromDevice::Ping { next_ms: 300_000 }).await;
        assert!(began.elapsed() > Duration::from_secs(3), "the probe was not read");
        for sequence in 1..=8 {
            let message = device.messages.next().await;
            assert_eq!(message.payload(<[u8]>::to_vec), [sequence as u8; 400]);
            message.ack().await;
            peer.expect(FromDevice::Ack { sequence }).await;
        }
    });
}

struct Broken(u32);

impl Rng for Broken {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        bytes.fill(7);
        self.0 = self.0.checked_sub(1).ok_or(RngError)?;
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_source_of_randomness_stops_the_device() {
    let routes = ["127.0.0.1:1"];
    let config = Config::plain("lamp-1", &routes);
    let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
    let failed = imlink_device_client::new(&mut state, config, TokioStack::default(), Broken(1)).err();
    assert_eq!(failed, Some(Error::Rng));
    let mut device = imlink_device_client::new(&mut state, config, TokioStack::default(), Broken(2)).unwrap();
    assert_eq!(device.runner.run().await, Err(Error::Rng));
    assert_eq!(Error::Rng.fault(), Fault::Resource);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_by_name() {
    for (device, routes, words) in [
        ("lamp/1", &["127.0.0.1:1"][..], "device id has byte 0x2f at 4"),
        (
            "lamp-1",
            &["127.0.0.1:1", "127.0.0.256:1"],
            "route 1 is not HOST:PORT, as 192.168.1.10:7000 or im.example.com:7000",
        ),
        ("lamp-1", &[], "no route or gateway is given, at least one is needed"),
    ] {
        let mut state = state();
        let config = Config::plain(device, routes);
        let error = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng).err().unwrap();
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(error.fault(), Fault::Configuration);
    }
}
