//! Messages, calls and events of a device that is well treated.

use imlink_device_client::tokio::{TokioRng, TokioStack};
use imlink_device_client::{Code, Config, Error, MessageId, Resume, StateName};
use imlink_protocol::message::{Flags, FromDevice, GoAwayReason, RejectCode, ToDevice, Welcome};

use crate::peer::{Server, message};
use crate::wire::welcome;
use crate::{ECHO, LAMP, RAW, SET, TICK, beside, lamp, state};

const EVENT: fn(u64, &'static [u8]) -> FromDevice<'static> =
    |sequence, payload| FromDevice::Event { sequence, key: TICK, payload };

#[tokio::test]
async fn a_message_is_acknowledged_when_its_handler_is_done_and_not_before() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        peer.send(&message(1, SET, &[1])).await;
        peer.send(&message(5, RAW, b"five")).await;
        let first = device.messages.next().await;
        assert_eq!((first.id().sequence, first.decode::<bool>()), (1, Some(true)));
        peer.send(&ToDevice::Probe).await;
        peer.expect(FromDevice::Busy).await;
        first.ack().await;
        peer.expect(FromDevice::Ack { sequence: 1 }).await;
        drop(device.messages.next().await);
        let again = device.messages.next().await;
        assert_eq!(again.id().sequence, 5, "a message that was dropped comes again");
        assert_eq!(again.payload(<[u8]>::to_vec), b"five");
        again.reject(Code(300)).await;
        peer.expect(FromDevice::Nack { sequence: 5, code: Code(300) }).await;
    });
}

#[tokio::test]
async fn a_message_of_an_unknown_key_is_refused_unseen_and_in_order() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        peer.send(&message(1, ECHO, b"")).await;
        peer.send(&message(2, RAW, b"")).await;
        let next = device.messages.next().await;
        assert_eq!(next.id().sequence, 2);
        peer.expect(FromDevice::Nack { sequence: 1, code: Code::UNKNOWN_PATH }).await;
    });
}

#[tokio::test]
async fn what_was_not_acknowledged_is_not_handled_twice_after_a_reconnect() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        peer.send(&message(1, RAW, b"1")).await;
        peer.send(&message(2, RAW, b"2")).await;
        let first = device.messages.next().await;
        drop(peer);
        let mut peer = server.welcome(2, 0).await;
        first.ack().await;
        let again =
            |sequence| ToDevice::Message { sequence, key: RAW, expiry_ms: 0, flags: Flags::REDELIVERED, payload: b"" };
        peer.send(&again(1)).await;
        peer.expect(FromDevice::Ack { sequence: 1 }).await;
        peer.send(&again(2)).await;
        let second = device.messages.next().await;
        assert_eq!((second.id().sequence, second.is_redelivered()), (2, true));
        second.ack().await;
        peer.expect(FromDevice::Ack { sequence: 2 }).await;
        peer.send(&message(3, RAW, b"3")).await;
        assert_eq!(device.messages.next().await.id().sequence, 3);
    });
}

#[tokio::test]
async fn calls_are_answered_in_any_order_and_each_gets_an_answer() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let call = |request, key, payload| ToDevice::Call { request, key, deadline_ms: 60_000, payload };
    let reply = |request, status, payload| FromDevice::Reply { request, status, payload };
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        for request in 1..=3 {
            peer.send(&call(request, ECHO, &[7])).await;
        }
        let calls = device.client.calls();
        let (first, second, third) = (calls.next().await, calls.next().await, calls.next().await);
        second.reply(b"two").await.unwrap();
        peer.expect(reply(2, Code::OK, b"two")).await;
        assert_eq!(first.payload(<[u8]>::to_vec), Some(vec![7]));
        first.fail(Code(400)).await.unwrap();
        peer.expect(reply(1, Code(400), b"")).await;
        drop(third);
        peer.expect(reply(3, Code::DEVICE_ERROR, b"")).await;
        peer.send(&call(4, SET, b"")).await;
        peer.expect(reply(4, Code::UNKNOWN_PATH, b"")).await;
        peer.send(&call(5, ECHO, &[0; 200])).await;
        peer.expect(reply(5, Code::TOO_LARGE, b"")).await;
        let late = ToDevice::Call { request: 6, key: ECHO, deadline_ms: 0, payload: b"" };
        peer.send(&late).await;
        peer.expect(reply(6, Code::DEADLINE, b"")).await;
    });
}

#[tokio::test]
async fn an_event_is_kept_until_it_is_stored_and_sent_again_under_its_number() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    for word in [b"a", b"b", b"c"] {
        client.publish(TICK, word).unwrap();
    }
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        peer.expect(EVENT(1, b"a")).await;
        peer.expect(EVENT(2, b"b")).await;
        peer.expect(EVENT(3, b"c")).await;
        peer.send(&ToDevice::EventAck { sequence: 1 }).await;
        client.wait_for(|_, events| events.stored == 1).await;
        drop(peer);
        let mut peer = server.welcome(2, 2).await;
        peer.expect(EVENT(3, b"c")).await;
        peer.send(&ToDevice::EventAck { sequence: 3 }).await;
        client.wait_for(|_, events| events.stored == 3).await;
        assert_eq!(client.event_counts().published, 3);
    });
}

#[tokio::test]
async fn a_full_event_queue_refuses_the_newest_or_drops_the_oldest_and_counts() {
    use imlink_device_client::tokio::{TokioRng, TokioStack};
    use imlink_device_client::{Config, Overflow};
    let routes = ["127.0.0.1:1"];
    for (overflow, published) in [(Overflow::RefuseNewest, 2), (Overflow::DropOldest, 4)] {
        let mut state = state();
        let config = Config { overflow, ..Config::plain("lamp-1", &routes) };
        let device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng).unwrap();
        let taken = (0..4).filter(|_| device.client.publish(TICK, &[0; 80]).is_ok()).count();
        assert_eq!(taken, published, "{overflow:?}");
        assert_eq!(device.client.event_counts().dropped, 2, "{overflow:?}");
        assert!(device.client.publish(TICK, &[0; 300]).is_err());
    }
}

#[tokio::test]
async fn the_interface_is_told_in_chunks() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    beside!(device, async {
        let mut peer = server.accept().await;
        let fingerprint = peer.look(|frame| match frame {
            FromDevice::Hello(hello) => hello.fingerprint,
            other => panic!("{other:?}"),
        });
        assert_eq!(fingerprint.await, LAMP.fingerprint());
        peer.send(&welcome(1, 0)).await;
        let mut told = Vec::new();
        while told.len() < LAMP.bytes().len() {
            peer.send(&ToDevice::Describe { offset: told.len() as u32 }).await;
            peer.look(|frame| match *frame {
                FromDevice::Interface { offset, chunk, .. } => {
                    assert_eq!(offset as usize, told.len());
                    told.extend_from_slice(chunk);
                }
                ref other => panic!("{other:?}"),
            })
            .await;
        }
        assert_eq!(told, LAMP.bytes());
    });
}

/// Of a plain link: no key, and a ticket.
fn grant(ticket: &str) -> Vec<u8> {
    [&[0; 32], ticket.as_bytes()].concat()
}

#[tokio::test]
async fn the_time_is_that_of_the_server_and_goes_on_without_it() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    beside!(device, async {
        assert_eq!(client.time_ms(), None);
        let mut peer = server.accept().await;
        peer.recv().await;
        let ToDevice::Welcome(told) = welcome(1, 0) else { unreachable!() };
        peer.send(&ToDevice::Welcome(Welcome { time_ms: 1_790_000_000_000, ..told })).await;
        client.wait_for(|link, _| link.is_attached()).await;
        peer.send(&ToDevice::Reject { code: RejectCode::Overloaded, retry_after_s: 60 }).await;
        client.wait_for(|link, _| !link.is_attached()).await;
        let time = client.time_ms().unwrap();
        assert!((1_790_000_000_000..1_790_000_010_000).contains(&time), "{time}");
    });
}

#[tokio::test]
async fn a_route_sends_the_device_to_its_server_and_it_comes_back_there() {
    let (route, server, mut state) = (Server::bind().await, Server::bind().await, state());
    let routes = [route.address()];
    let mut device = lamp(&mut state, &routes);
    let ticket_of = |frame: &FromDevice<'_>| match frame {
        FromDevice::Hello(hello) => hello.ticket.to_vec(),
        other => panic!("{other:?}"),
    };
    beside!(device, async {
        let mut peer = route.accept().await;
        assert_eq!(peer.look(ticket_of).await, b"");
        peer.send(&ToDevice::Redirect { address: server.address(), grant: &grant("one") }).await;
        let mut peer = server.accept().await;
        assert_eq!(peer.look(ticket_of).await, b"one");
        peer.send(&welcome(1, 0)).await;
        peer.send(&ToDevice::Grant { grant: &grant("two") }).await;
        peer.send(&ToDevice::Probe).await;
        peer.recv().await;
        drop(peer);
        let mut peer = server.accept().await;
        assert_eq!(peer.look(ticket_of).await, b"two", "straight back, with the newer ticket");
        peer.send(&welcome(2, 0)).await;
        peer.send(&ToDevice::GoAway { reason: GoAwayReason::Draining, reconnect_after_s: 0 }).await;
        peer.expect(FromDevice::Bye).await;
        let mut peer = route.accept().await;
        assert_eq!(peer.look(ticket_of).await, b"", "a server that drains is forgotten");
    });
}

#[tokio::test]
async fn a_device_that_is_stopped_says_bye() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    let (ended, ()) = tokio::join!(device.runner.run(), async {
        let mut peer = server.welcome(1, 0).await;
        client.wait_for(|link, _| link.is_attached()).await;
        client.stop();
        peer.expect(FromDevice::Bye).await;
        peer.closed().await;
    });
    assert_eq!(ended, Ok(()));
    assert_eq!(client.link().state, StateName::Detached);
}

#[tokio::test]
async fn a_device_that_kept_what_it_started_marks_no_message_behind_it() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let resume = Resume { done: MessageId::new(1, 2), started: MessageId::new(1, 3) };
    let config = Config { interface: LAMP, resume, ..Config::plain("lamp-1", &routes) };
    let mut device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng).unwrap();
    beside!(device, async {
        let mut peer = server.welcome(1, 0).await;
        // The server marks what it offered before: here all of them.
        for sequence in 3..=5 {
            let flags = Flags::REDELIVERED;
            peer.send(&ToDevice::Message { sequence, key: RAW, expiry_ms: 0, flags, payload: b"x" }).await;
        }
        let mut marked = Vec::new();
        for _ in 3..=5 {
            let message = device.messages.next().await;
            marked.push((message.id().sequence, message.is_redelivered()));
            message.ack().await;
        }
        assert_eq!(marked, [(3, true), (4, false), (5, false)]);
    });
}

#[tokio::test]
async fn a_run_that_is_dropped_closes_its_connection_and_the_next_one_connects_again() {
    let (server, mut state) = (Server::bind().await, state());
    let routes = [server.address()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    let mut first = beside!(device, async {
        let peer = server.welcome(1, 0).await;
        client.wait_for(|link, _| link.is_attached()).await;
        peer
    });
    first.closed().await;
    beside!(device, async {
        let _peer = server.welcome(2, 0).await;
        client.wait_for(|link, _| link.is_attached() && link.sessions == 2).await;
    });
}

#[tokio::test]
async fn routes_and_servers_may_be_names_and_one_that_is_not_found_costs_a_try() {
    let (route, server, mut state) = (Server::bind_localhost().await, Server::bind_localhost().await, state());
    let (unknown, known) = ("nobody.invalid:7000", format!("localhost:{}", route.port()));
    let routes = [unknown, known.as_str()];
    let mut device = lamp(&mut state, &routes);
    let client = device.client;
    beside!(device, async {
        let mut peer = route.accept().await;
        assert_eq!(client.link().last_error, Some(Error::Lookup));
        peer.recv().await;
        let address = format!("localhost:{}", server.port());
        peer.send(&ToDevice::Redirect { address: &address, grant: &grant("one") }).await;
        let _peer = server.welcome(1, 0).await;
        client.wait_for(|link, _| link.is_attached()).await;
    });
}
