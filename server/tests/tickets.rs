//! The tickets that a server gives, across a change of its keys of the day.

#[allow(dead_code, unreachable_pub, reason = "each test program uses its own part of it")]
mod support;

use std::time::Duration;

use imlink_protocol::limits::TICKET_LEN_MAX;
use imlink_protocol::link::node::{Registered, ToServer};
use imlink_protocol::message::{FromDevice, Hello, RejectCode, ToDevice};
use imlink_protocol::ticket::{self, KEY_LEN, TicketKey};
use imlink_server::Limits;
use support::{Peer, Rig, hello};

/// What the server says to a device that shows this ticket: a grant, or why not.
async fn shown(rig: &Rig, attempt: u32, ticket: &[u8]) -> (Peer, Result<Vec<u8>, RejectCode>) {
    let mut peer = Peer::connect(rig.address).await;
    peer.write(&FromDevice::Hello(Hello { ticket, ..hello("lamp", 1, attempt) })).await;
    let answer = peer.read(|message| match message {
        ToDevice::Welcome(welcome) => Ok(welcome.grant.to_vec()),
        ToDevice::Reject { code, .. } => Err(*code),
        other => panic!("neither welcome nor refused: {other:?}"),
    });
    let answer = answer.await;
    (peer, answer)
}

#[tokio::test]
async fn a_newer_ticket_is_made_under_the_key_of_the_new_day_and_the_older_one_is_good_until_it_ends() {
    let rig = Rig::new(Limits { ticket_life: Duration::from_secs(10), ..Limits::default() }).await;
    rig.provision("lamp").await;
    // The server comes with keys 1 of today and 2 of yesterday.
    let (mut peer, first) = shown(&rig, 1, &[]).await;
    let first = first.expect("welcome");
    let today = Registered { route: "r", day: 2, ticket_key_today: [3; 32], ticket_key_yesterday: [1; 32] };
    rig.route.sender.send(&ToServer::Registered(today)).unwrap();
    let newer = peer.read(|message| match message {
        ToDevice::Grant { grant } => grant.to_vec(),
        other => panic!("no grant: {other:?}"),
    });
    let newer = newer.await;
    let mut room = [0; TICKET_LEN_MAX];
    let opened = ticket::open(&newer[KEY_LEN..], &[(2, TicketKey([3; 32]))], 0, &mut room);
    assert!(opened.is_ok(), "{opened:?}");
    let (_, again) = shown(&rig, 2, &first[KEY_LEN..]).await;
    assert!(again.is_ok(), "{again:?}");
    let (_, again) = shown(&rig, 3, &newer[KEY_LEN..]).await;
    assert!(again.is_ok(), "{again:?}");
    let over = Registered { route: "r", day: 3, ticket_key_today: [4; 32], ticket_key_yesterday: [3; 32] };
    rig.route.sender.send(&ToServer::Registered(over)).unwrap();
    let mut attempt = 3;
    loop {
        attempt += 1;
        match shown(&rig, attempt, &first[KEY_LEN..]).await.1 {
            Ok(_) => tokio::task::yield_now().await,
            Err(code) => break assert_eq!(code, RejectCode::Ticket),
        }
    }
}
