//! Events: from a position on, once each, to any number of subscribers.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::link::backend::Failure;
use imlink_protocol::{Fingerprint, Key};
use imlink_route::Limits;
use imlink_route::request::{Event, Subscription};
use imlink_store::DeviceKey;
use imlink_store::event::EventBatch;

use crate::support::{Setup, until};

async fn publish(setup: &Setup, device: &str, sequences: std::ops::RangeInclusive<u64>) {
    let key = DeviceKey::single(device).unwrap();
    let payload = |sequence: u64| Bytes::from(sequence.to_string());
    let batch = EventBatch {
        device: key,
        queue: 1,
        fingerprint: Fingerprint::NONE,
        events: sequences.map(|one| (one, Key::raw("button"), payload(one))).collect(),
    };
    setup.store.append_events(&[batch]).await.unwrap();
}

fn all() -> Subscription {
    Subscription { tenant: "-".into(), ..Subscription::default() }
}

async fn take(events: &mut imlink_route::Events, count: usize) -> Vec<Event> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
        taken.push(next.expect("no event for 5 s").unwrap());
    }
    taken
}

fn sequences(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence).collect()
}

#[tokio::test]
async fn every_subscriber_gets_what_happens_from_now_on() {
    let setup = Setup::start().await;
    for device in ["lamp", "door"] {
        setup.device(device).await;
    }
    publish(&setup, "lamp", 1..=3).await;
    let mut one = setup.route().events(all()).await.unwrap();
    let mut two = setup.route().events(all()).await.unwrap();
    publish(&setup, "lamp", 4..=6).await;
    for events in [&mut one, &mut two] {
        let taken = take(events, 3).await;
        assert_eq!(sequences(&taken), [4, 5, 6]);
        assert_eq!((taken[0].device.as_str(), &taken[0].payload[..]), ("lamp", &b"4"[..]));
    }
}

#[tokio::test]
async fn a_subscriber_resumes_behind_its_position_even_far_behind() {
    let setup = Setup::with(Limits { events_kept_max: 10, ..Limits::default() }).await;
    setup.device("lamp").await;
    let mut events = setup.route().events(all()).await.unwrap();
    publish(&setup, "lamp", 1..=5).await;
    let position = take(&mut events, 3).await.pop().unwrap().position;
    publish(&setup, "lamp", 6..=600).await;
    drop(events);
    let resumed = Subscription { position: Some(position), ..all() };
    let mut events = setup.route().events(resumed).await.unwrap();
    let taken = take(&mut events, 597).await;
    assert_eq!(sequences(&taken), (4..=600).collect::<Vec<_>>());
    publish(&setup, "lamp", 601..=602).await;
    assert_eq!(sequences(&take(&mut events, 2).await), [601, 602]);
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    let setup = Setup::start().await;
    setup.device("lamp").await;
    let group = || Subscription { group: Some("billing".into()), ..all() };
    let mut events = setup.route().events(group()).await.unwrap();
    publish(&setup, "lamp", 1..=4).await;
    let taken = take(&mut events, 4).await;
    drop(events);
    let mut events = setup.route().events(group()).await.unwrap();
    assert_eq!(sequences(&take(&mut events, 4).await), [1, 2, 3, 4], "nothing was committed yet");
    setup.route().commit("-", "billing", &taken[2].position).await.unwrap();
    let mut events = setup.route().events(group()).await.unwrap();
    assert_eq!(sequences(&take(&mut events, 1).await), [4]);
}

#[tokio::test]
async fn a_filter_leaves_other_devices_out() {
    let setup = Setup::start().await;
    for device in ["lamp-1", "lamp-2", "door-1"] {
        setup.device(device).await;
    }
    let lamps = Subscription { devices: Some("lamp-*".into()), ..all() };
    let mut events = setup.route().events(lamps).await.unwrap();
    publish(&setup, "door-1", 1..=1).await;
    publish(&setup, "lamp-2", 1..=1).await;
    assert_eq!(take(&mut events, 1).await[0].device, "lamp-2");
}

#[tokio::test]
async fn wrong_positions_groups_and_too_many_subscribers_are_refused() {
    let setup = Setup::with(Limits { subscriptions_max: 1, ..Limits::default() }).await;
    let refused = async |subscription| setup.route().events(subscription).await.err().unwrap().failure;
    let position = Subscription { position: Some("17".into()), ..all() };
    assert_eq!(refused(position).await, Failure::BadRequest);
    let group = Subscription { group: Some("a b".into()), ..all() };
    assert_eq!(refused(group).await, Failure::BadRequest);
    let one = setup.route().events(all()).await.unwrap();
    assert_eq!(refused(all()).await, Failure::Overloaded);
    drop(one);
    setup.route().events(all()).await.unwrap();
}

#[tokio::test]
async fn a_client_resumes_its_events_over_the_link_and_commits_them() {
    let setup = Setup::start().await;
    setup.device("lamp").await;
    let client = setup.client().await;
    let mut events = client.events("billing", "").await.unwrap();
    // The subscription is entered when its group is in the store.
    until(async || {
        let committed = setup.store.committed_events("-", "billing").await.unwrap();
        committed.iter().all(|position| position.n > 0 || position.ms > 0)
    })
    .await;
    publish(&setup, "lamp", 1..=9000).await;
    for sequence in 1..=9000 {
        let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
        assert_eq!(event.sequence, sequence);
    }
    let before = setup.store.committed_events("-", "billing").await.unwrap();
    events.commit().unwrap();
    until(async || setup.store.committed_events("-", "billing").await.unwrap() != before).await;
    drop(events);
    let mut events = client.events("billing", "").await.unwrap();
    publish(&setup, "lamp", 9001..=9001).await;
    let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap();
    assert_eq!(event.sequence, 9001);
}
