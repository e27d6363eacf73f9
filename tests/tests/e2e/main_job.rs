//! The main job on a gateway: a backend pushes a command, a device carries it out, the backend knows.

use std::time::{Duration, Instant};

use imlink_device_client::Code;
use imlink_protocol::message::{FromDevice, GoAwayReason, Hello, ToDevice};
use imlink_tests::api::Api;
use imlink_tests::device::{Device, FAILURE, Handling};
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::wait::eventually;
use imlink_tests::wire::{Wire, hello};

const SOON: Duration = Duration::from_secs(5);

async fn lamp(node: &Node) -> (Api, Device) {
    let api = node.api();
    api.provision("lamp").await;
    let device = Device::start("lamp", &[node.devices()]);
    device.attached(1).await;
    (api, device)
}

/// The same with its link in the hands of the test.
pub(crate) async fn lamp_behind_proxy(node: &Node) -> (Api, Proxy, Device) {
    let api = node.api();
    api.provision("lamp").await;
    let proxy = Proxy::start(node.devices()).await;
    let device = Device::start("lamp", &[proxy.address()]);
    device.attached(1).await;
    (api, proxy, device)
}

async fn reaches(api: &Api, id: &str, state: &str) {
    eventually(&format!("{id} is {state}"), SOON, async || (api.state("lamp", id).await == state).then_some(())).await;
}

#[tokio::test]
async fn a_command_is_carried_out_and_the_backend_knows() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let acked = api.send("lamp", "led/set", "?wait=acked", *b"on").await;
    assert_eq!((acked.status, acked.text("state").as_str()), (200, "acked"), "{acked:?}");
    let got = device.got();
    assert_eq!((got.len(), got[0].path, &got[0].payload[..], got[0].redelivered), (1, "led/set", &b"on"[..], false));
    assert_eq!(got[0].id.to_string(), acked.text("id"));
    let stored = api.send("lamp", "led/set", "", *b"off").await;
    assert_eq!(stored.status, 202, "{stored:?}");
    assert!(["waiting", "sent", "acked"].contains(&stored.text("state").as_str()), "{stored:?}");
    reaches(&api, &stored.text("id"), "acked").await;
}

#[tokio::test]
async fn an_idle_device_gets_a_message_at_once() {
    let node = Node::gateway(&[]).await;
    let (api, _device) = lamp(&node).await;
    let mut times: Vec<_> = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"on").await.text("state"), "acked");
        times.push(began.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(50), "half of the pushes took longer than {:?}", times[10]);
}

#[tokio::test]
async fn messages_wait_for_an_offline_device_and_come_in_order() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let mut ids = Vec::new();
    for number in 0..50u8 {
        let sent = api.send("lamp", if number % 2 == 0 { "led/set" } else { "bulk/put" }, "", [number]).await;
        assert_eq!((sent.status, sent.text("state").as_str()), (202, "waiting"));
        ids.push(sent.text("id"));
    }
    let device = Device::start("lamp", &[node.devices()]);
    let got = device.has_got(50).await;
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert_eq!(got.iter().map(|got| got.id.to_string()).collect::<Vec<_>>(), ids);
    assert!(got.iter().all(|got| !got.redelivered));
    reaches(&api, &ids[49], "acked").await;
}

#[tokio::test]
async fn a_message_whose_time_ran_out_is_expired_and_never_delivered() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let short = api.send("lamp", "led/set", "?ttl=1", *b"late").await.text("id");
    let long = api.send("lamp", "led/set", "?ttl=600", *b"fine").await.text("id");
    reaches(&api, &short, "expired").await;
    let stated = api.get(&format!("/v1/devices/lamp/messages/{short}")).await.json();
    assert_eq!(stated["may_have_run"], false, "{stated}");
    let device = Device::start("lamp", &[node.devices()]);
    reaches(&api, &long, "acked").await;
    assert_eq!(device.got().iter().map(|got| got.payload.clone()).collect::<Vec<_>>(), [b"fine"]);
    assert_eq!(api.state("lamp", &short).await, "expired");
}

#[tokio::test]
async fn waiting_for_an_ack_ends_when_its_time_is_over() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let began = Instant::now();
    let answer = api.send("lamp", "led/set", "?wait=acked&timeout=1", *b"x").await;
    assert_eq!((answer.status, answer.text("state").as_str()), (202, "waiting"), "{answer:?}");
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&began.elapsed()));
}

#[tokio::test]
async fn a_cancelled_message_is_not_delivered() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let [first, second, third] = [
        api.send("lamp", "led/set", "", *b"1").await.text("id"),
        api.send("lamp", "led/set", "", *b"2").await.text("id"),
        api.send("lamp", "led/set", "", *b"3").await.text("id"),
    ];
    let cancelled = api.delete(&format!("/v1/devices/lamp/messages/{second}")).await;
    assert_eq!((cancelled.status, cancelled.text("state").as_str()), (200, "cancelled"));
    let device = Device::start("lamp", &[node.devices()]);
    reaches(&api, &third, "acked").await;
    let got: Vec<_> = device.got().into_iter().map(|got| got.payload).collect();
    assert_eq!(got, [b"1", b"3"]);
    assert_eq!(api.state("lamp", &first).await, "acked");
    assert_eq!(api.state("lamp", &second).await, "cancelled");
}

#[tokio::test]
async fn a_message_in_a_handler_is_sent_not_acked_and_cannot_be_cancelled() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    device.handle(Handling::Hold);
    let id = api.send("lamp", "led/set", "", *b"x").await.text("id");
    device.has_got(1).await;
    assert_eq!(api.state("lamp", &id).await, "sent");
    let cancel = api.delete(&format!("/v1/devices/lamp/messages/{id}")).await;
    assert_eq!((cancel.status, cancel.problem().as_str()), (409, "conflict"), "{cancel:?}");
    device.handle(Handling::Ack);
    reaches(&api, &id, "acked").await;
    assert_eq!(device.got().len(), 1);
}

#[tokio::test]
async fn a_refused_message_is_rejected_with_its_code_and_the_next_one_goes_on() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    device.handle(Handling::Reject(Code(321)));
    let refused = api.send("lamp", "led/set", "?wait=acked", *b"bad").await;
    assert_eq!((refused.status, refused.text("state").as_str()), (200, "rejected"), "{refused:?}");
    assert_eq!(refused.json()["code"], 321);
    device.handle(Handling::Ack);
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"good").await.text("state"), "acked");
    assert_eq!(api.state("lamp", &refused.text("id")).await, "rejected");
}

#[tokio::test]
async fn a_hung_up_client_cancels_nothing() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let request = api.posting("/v1/devices/lamp/messages/led/set?wait=acked&timeout=30", *b"x");
    let hung_up = api.try_ask(request.timeout(Duration::from_millis(300))).await;
    assert!(hung_up.is_err(), "{hung_up:?}");
    let device = Device::start("lamp", &[node.devices()]);
    assert_eq!(device.has_got(1).await[0].payload, b"x");
}

#[tokio::test]
async fn a_call_is_answered_by_the_device_or_fails_by_name() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let ok = api.call("lamp", "echo", "", *b"ping").await;
    assert_eq!((ok.status, &ok.body[..]), (200, &b"ping"[..]));
    let failed = api.call("lamp", "fail", "", *b"x").await;
    assert_eq!((failed.status, failed.problem().as_str()), (502, "device-error"), "{failed:?}");
    assert_eq!((failed.json()["code"].clone(), failed.json()["may_have_run"].clone()), (FAILURE.0.into(), true.into()));
    let began = Instant::now();
    let late = api.call("lamp", "slow", "?timeout=1", *b"x").await;
    assert_eq!((late.status, late.problem().as_str()), (504, "deadline"), "{late:?}");
    assert_eq!(late.json()["may_have_run"], true);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let unknown = api.call("lamp", "ecko", "", *b"x").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown-path"), "{unknown:?}");
    drop(device);
    eventually("the lamp is offline", SOON, async || (!api.is_online("lamp").await).then_some(())).await;
    let offline = api.call("lamp", "echo", "", *b"x").await;
    assert_eq!((offline.status, offline.problem().as_str()), (404, "offline"), "{offline:?}");
    assert_eq!(offline.json()["may_have_run"], false);
}

#[tokio::test]
async fn many_calls_are_in_flight_at_once_and_answers_find_their_callers() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let calls: Vec<_> = (0..40u8)
        .map(|number| {
            let api = api.clone();
            tokio::spawn(async move {
                loop {
                    let answer = api.call("lamp", "echo", "", [number; 9]).await;
                    // More than the device takes at once: come back.
                    if answer.status != 429 {
                        return (number, answer);
                    }
                }
            })
        })
        .collect();
    for call in calls {
        let (number, answer) = call.await.unwrap();
        assert_eq!((answer.status, answer.body), (200, vec![number; 9]));
    }
    let mut ran = device.calls();
    ran.sort();
    assert_eq!(ran, (0..40u8).map(|number| vec![number; 9]).collect::<Vec<_>>(), "each call ran once");
}

#[tokio::test]
async fn a_call_whose_session_ends_is_told_that_it_may_have_run() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let calling = tokio::spawn({
        let api = api.clone();
        async move { api.call("lamp", "slow", "?timeout=20", *b"x").await }
    });
    eventually("the call runs", SOON, async || (!device.calls().is_empty()).then_some(())).await;
    drop(device);
    let answer = calling.await.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (502, "disconnected"), "{answer:?}");
    assert_eq!(answer.json()["may_have_run"], true);
}

#[tokio::test]
async fn events_are_counted_once_and_can_be_resumed() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let proxy = Proxy::start(node.devices()).await;
    let mut stream = api.events("", None).await;
    let open = stream.next().await.expect("an opening");
    assert_eq!(open.kind, "open");
    let device = Device::start("lamp", &[proxy.address()]);
    device.attached(1).await;
    for number in 0..5u8 {
        device.publish([number]);
    }
    let mut events = Vec::new();
    for _ in 0..5 {
        events.push(stream.next().await.expect("an event"));
    }
    eventually("the device knows", SOON, async || (device.events_stored() == 5).then_some(())).await;
    // Swallowed acknowledgements make the device send again; the store takes each once.
    proxy.set(Fault::BlackHole);
    device.publish([5]);
    device.publish([6]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.set(Fault::None);
    proxy.cut();
    for _ in 0..2 {
        events.push(stream.next().await.expect("an event"));
    }
    device.publish([7]);
    events.push(stream.next().await.expect("an event"));
    let payload =
        |event: &imlink_tests::api::Event| event.data["payload_base64"].as_str().unwrap_or_default().to_owned();
    let payloads: Vec<_> = events.iter().map(payload).collect();
    assert_eq!(payloads, ["AA==", "AQ==", "Ag==", "Aw==", "BA==", "BQ==", "Bg==", "Bw=="]);
    assert!(events.iter().all(|event| event.data["path"] == "button" && event.data["device"] == "lamp"), "{events:?}");
    // Resuming behind the third brings the rest, all of it and nothing else.
    let mut again = api.events("", Some(&events[2].position)).await;
    assert_eq!(again.next().await.map(|event| event.kind), Some("open".into()));
    for expected in &payloads[3..] {
        assert_eq!(again.next().await.as_ref().map(payload).as_ref(), Some(expected));
    }
    let mut whole = api.events("", Some(&open.position)).await;
    whole.next().await;
    for expected in &payloads {
        assert_eq!(whole.next().await.as_ref().map(payload).as_ref(), Some(expected));
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let mut stream = api.events("?group=billing", None).await;
    stream.next().await;
    device.publish(*b"a");
    device.publish(*b"b");
    let first = stream.next().await.expect("an event");
    stream.next().await.expect("an event");
    let commit = api.post(&format!("/v1/events/commit?group=billing&position={}", first.position), []).await;
    assert_eq!(commit.status, 204, "{commit:?}");
    drop(stream);
    let mut again = api.events("?group=billing", None).await;
    again.next().await;
    assert_eq!(again.next().await.unwrap().data["payload_base64"], "Yg==");
}

#[tokio::test]
async fn a_removed_device_is_cut_within_two_seconds_and_stays_out() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision_plain("lamp").await;
    let (mut wire, _) = Wire::attach(node.plain(), hello("lamp")).await;
    let began = Instant::now();
    assert_eq!(api.delete("/v1/devices/lamp").await.status, 204);
    let words = wire.last_words(Duration::from_secs(2)).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    let told = words.last().map(imlink_tests::wire::Body::read::<ToDevice<'_>>);
    assert!(matches!(told, Some(ToDevice::GoAway { reason: GoAwayReason::Revoked, .. })), "{told:?}");
    let (_, answer) = Wire::attach(node.plain(), Hello { attempt: 2, ..hello("lamp") }).await;
    assert!(matches!(answer.read(), ToDevice::Reject { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_revoked_device_is_cut_within_two_seconds_and_stays_out() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    let began = Instant::now();
    api.revoke("lamp").await;
    eventually("the session is closed", Duration::from_secs(2), async || {
        device.link().filter(|link| !link.is_attached())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!api.is_online("lamp").await);
    // Restored, it may come back.
    drop(device);
    assert_eq!(api.restore("lamp").await.status, 200);
    let device = Device::start("lamp", &[node.devices()]);
    device.attached(1).await;
}

#[tokio::test]
async fn a_newer_attachment_wins_and_the_older_is_told() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision_plain("lamp").await;
    let (mut old, welcome) = Wire::attach(node.plain(), hello("lamp")).await;
    let ToDevice::Welcome(first) = welcome.read() else { panic!("{welcome:?}") };
    let first_epoch = first.epoch;
    let (mut new, welcome) =
        Wire::attach(node.plain(), Hello { attempt: 2, epoch: first_epoch, ..hello("lamp") }).await;
    let ToDevice::Welcome(second) = welcome.read() else { panic!("{welcome:?}") };
    assert!(second.epoch > first_epoch);
    let words = old.last_words(SOON).await;
    let told = words.last().map(imlink_tests::wire::Body::read::<ToDevice<'_>>);
    assert!(matches!(told, Some(ToDevice::GoAway { reason: GoAwayReason::Replaced, .. })), "{told:?}");
    // A late attach of the older attempt does not beat the newer session.
    let (_, late) = Wire::attach(node.plain(), hello("lamp")).await;
    assert!(matches!(late.read(), ToDevice::Reject { .. }), "{late:?}");
    let sent = api.send("lamp", "led/set", "", *b"x").await;
    let message = new.next().await.expect("the message");
    assert!(matches!(message.read(), ToDevice::Message { sequence: 1, payload: b"x", .. }), "{message:?}");
    new.send(&FromDevice::Ack { sequence: 1 }).await;
    reaches(&api, &sent.text("id"), "acked").await;
}

#[tokio::test]
async fn two_devices_with_one_identity_are_slowed_counted_and_reported() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision("lamp").await;
    let twins = [Device::start("lamp", &[node.devices()]), Device::start("lamp", &[node.devices()])];
    eventually("the contest is counted", Duration::from_secs(40), async || {
        (api.metric("imlink_server_contested_total", "").await > 0.0).then_some(())
    })
    .await;
    assert!(node.log().contains("one identity"), "the log does not say it");
    let attaches = api.metric("imlink_server_attaches_total", "").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let more = api.metric("imlink_server_attaches_total", "").await - attaches;
    assert!(more <= 5.0, "{more} attaches in 5 s");
    assert!(twins.iter().filter_map(Device::link).any(|link| link.is_attached()), "neither is attached");
}

#[tokio::test]
async fn a_power_loss_with_a_kept_cursor_repeats_at_most_the_started_message() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    for number in 0..3u8 {
        assert_eq!(api.send("lamp", "led/set", "?wait=acked", [number]).await.text("state"), "acked");
    }
    device.handle(Handling::Hold);
    for number in 3..6u8 {
        api.send("lamp", "led/set", "", [number]).await;
    }
    device.has_got(4).await;
    let kept = device.power_off();
    let device = Device::resume("lamp", &[node.devices()], kept);
    let got = device.has_got(3).await;
    assert_eq!(got.iter().map(|got| (got.payload[0], got.redelivered)).take(1).collect::<Vec<_>>(), [(3, true)]);
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [3, 4, 5]);
}

#[tokio::test]
async fn a_power_loss_without_a_cursor_repeats_only_the_unacknowledged_and_marks_them() {
    let node = Node::gateway(&[]).await;
    let (api, device) = lamp(&node).await;
    for number in 0..3u8 {
        assert_eq!(api.send("lamp", "led/set", "?wait=acked", [number]).await.text("state"), "acked");
    }
    device.handle(Handling::Hold);
    for number in 3..5u8 {
        api.send("lamp", "led/set", "", [number]).await;
    }
    device.has_got(1 + 3).await;
    drop(device);
    let device = Device::start("lamp", &[node.devices()]);
    let got = device.has_got(2).await;
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [3, 4]);
    assert!(got[0].redelivered, "{got:?}");
}

#[tokio::test]
async fn a_link_that_swallows_everything_is_noticed_and_nothing_is_lost() {
    let node = Node::gateway(&[]).await;
    let (api, proxy, device) = lamp_behind_proxy(&node).await;
    proxy.set(Fault::BlackHole);
    let ids: Vec<_> = {
        let mut ids = Vec::new();
        for number in 0..3u8 {
            ids.push(api.send("lamp", "led/set", "", [number]).await.text("id"));
        }
        ids
    };
    // Ack time-out 5 s, probe 5 s: the gateway gives the link up by itself.
    eventually("the dead link is dropped", Duration::from_secs(15), async || {
        (!api.is_online("lamp").await).then_some(())
    })
    .await;
    proxy.set(Fault::None);
    proxy.cut();
    let got = device.has_got(3).await;
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [0, 1, 2]);
    for id in ids {
        reaches(&api, &id, "acked").await;
    }
}

#[tokio::test]
async fn corrupted_bytes_end_the_connection_and_lose_nothing() {
    let node = Node::gateway(&[]).await;
    let (api, proxy, device) = lamp_behind_proxy(&node).await;
    proxy.set(Fault::Flip);
    let id = api.send("lamp", "led/set", "", *b"precious").await.text("id");
    eventually("the link breaks", SOON, async || device.link().filter(|link| !link.is_attached())).await;
    proxy.set(Fault::None);
    reaches(&api, &id, "acked").await;
    assert_eq!(device.got().iter().map(|got| got.payload.clone()).collect::<Vec<_>>(), [b"precious"]);
}

#[tokio::test]
async fn a_killed_gateway_comes_back_with_everything_that_its_store_kept() {
    let redis = Redis::start(Keep::Everything).await;
    let mut node = Node::gateway(&[&format!("store={}", redis.url())]).await;
    let (api, device) = lamp(&node).await;
    assert_eq!(api.send("lamp", "led/set", "?wait=acked", *b"before").await.text("state"), "acked");
    device.handle(Handling::Hold);
    let held = api.send("lamp", "led/set", "", *b"held").await.text("id");
    let waiting = api.send("lamp", "led/set", "", *b"waiting").await.text("id");
    device.has_got(2).await;
    node.kill();
    device.handle(Handling::Ack);
    node.restart().await;
    device.attached(2).await;
    reaches(&api, &held, "acked").await;
    reaches(&api, &waiting, "acked").await;
    let got: Vec<_> = device.got().into_iter().map(|got| got.payload).collect();
    assert_eq!(got, [&b"before"[..], b"held", b"waiting"], "each once, in order");
}
