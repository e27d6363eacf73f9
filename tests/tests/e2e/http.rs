//! What the HTTP API refuses: problem details that name what was wrong and what is allowed.

use std::time::Duration;

use imlink_tests::api::{Answer, Api};
use imlink_tests::device::{Device, Handling};
use imlink_tests::node::Node;
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::wait::eventually;
use reqwest::Method;

/// `answer` is the problem `name` with `status`, and its detail contains each of `words`.
fn assert_problem(answer: &Answer, status: u16, name: &str, words: &[&str]) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, name), "{}", answer.json());
    let (detail, stated) = (answer.text("detail"), answer.json());
    assert_eq!(stated["status"], status, "{stated}");
    assert!(!answer.text("title").is_empty(), "{stated}");
    for word in words {
        assert!(detail.contains(word), "`{word}` is not in: {detail}");
    }
}

async fn gateway_with_device(settings: &[&str]) -> (Node, Api) {
    let node = Node::gateway(settings).await;
    let api = node.api();
    api.provision("lamp").await;
    (node, api)
}

#[tokio::test]
async fn a_wrong_form_is_400_and_names_the_right_one() {
    let (_node, api) = gateway_with_device(&[]).await;
    let put = api.ask(api.request(Method::PUT, "/v1/devices/a%20b")).await;
    assert_problem(&put, 400, "bad-request", &["a b", "allowed"]);
    let long = api.ask(api.request(Method::PUT, &format!("/v1/devices/{}", "x".repeat(65)))).await;
    assert_problem(&long, 400, "bad-request", &["65", "64"]);
    let wait = api.send("lamp", "led/set", "?wait=soon", *b"1").await;
    assert_problem(&wait, 400, "bad-request", &["soon", "stored", "acked"]);
    let unknown = api.send("lamp", "led/set", "?wiat=acked", *b"1").await;
    assert_problem(&unknown, 400, "bad-request", &["wiat", "wait"]);
    let ttl = api.send("lamp", "led/set", "?ttl=-1", *b"1").await;
    assert_problem(&ttl, 400, "bad-request", &["ttl"]);
    let timeout = api.call("lamp", "echo", "?timeout=99999", *b"1").await;
    assert_problem(&timeout, 400, "bad-request", &["timeout", "3600"]);
    let path = api.send("lamp", "led%20set", "", *b"1").await;
    assert_problem(&path, 400, "bad-request", &["led set"]);
    let id = api.get("/v1/devices/lamp/messages/nonsense").await;
    assert_problem(&id, 400, "bad-request", &["nonsense", "generation-sequence"]);
    let json =
        api.request(Method::POST, "/v1/devices/lamp/messages/led/set").header("content-type", "application/json");
    let json = api.ask(json.body("{")).await;
    assert_problem(&json, 400, "bad-request", &["JSON"]);
    let key = api.posting("/v1/devices/lamp/messages/led/set", *b"1").header("idempotency-key", "x".repeat(65));
    assert_problem(&api.ask(key).await, 400, "bad-request", &["Idempotency-Key", "64"]);
    let position = api.get("/v1/events?position=nonsense").await;
    assert_problem(&position, 400, "bad-request", &[]);
}

#[tokio::test]
async fn without_the_right_token_everything_but_health_is_401() {
    let (_node, api) = gateway_with_device(&[]).await;
    for token in ["", "wrong", "token-of-the-tests-012345678"] {
        let stranger = api.with_token(token);
        for path in ["/v1/devices", "/v1/devices/lamp", "/v1/servers", "/v1/events", "/metrics", "/nowhere"] {
            let answer = stranger.get(path).await;
            assert_problem(&answer, 401, "unauthorized", &[]);
            assert!(answer.headers.contains_key("www-authenticate"), "{path}");
        }
        assert_eq!(stranger.get("/healthz").await.status, 200);
        assert_eq!(stranger.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn a_revoked_device_is_403_for_sends_and_calls() {
    let (_node, api) = gateway_with_device(&[]).await;
    let revoked = api.revoke("lamp").await;
    assert!(matches!(revoked.status, 200 | 204), "{revoked:?}");
    assert_problem(&api.send("lamp", "led/set", "", *b"1").await, 403, "revoked", &["lamp"]);
    assert_problem(&api.call("lamp", "echo", "", *b"1").await, 403, "revoked", &["lamp"]);
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let (node, api) = gateway_with_device(&[]).await;
    assert_problem(&api.get("/v1/nowhere").await, 404, "not-found", &["/v1/nowhere"]);
    assert_problem(&api.get("/v1/devices/nobody").await, 404, "unknown-device", &["nobody"]);
    assert_problem(&api.send("nobody", "led/set", "", *b"1").await, 404, "unknown-device", &["nobody"]);
    assert_problem(&api.call("nobody", "echo", "", *b"1").await, 404, "unknown-device", &["nobody"]);
    assert_problem(&api.delete("/v1/devices/nobody").await, 404, "unknown-device", &["nobody"]);
    assert_problem(&api.call("lamp", "echo", "", *b"1").await, 404, "offline", &["lamp"]);
    let device = Device::start("lamp", &[node.devices()]);
    device.attached(1).await;
    eventually("the gateway knows the interface", Duration::from_secs(5), async || {
        api.get("/v1/devices/lamp").await.json()["paths"].is_array().then_some(())
    })
    .await;
    let send = api.send("lamp", "led/sett", "", *b"1").await;
    assert_problem(&send, 404, "unknown-path", &["led/sett"]);
    let allowed = send.json()["allowed"].to_string() + &send.text("detail");
    assert!(allowed.contains("led/set") && allowed.contains("bulk/put"), "{}", send.json());
    assert_problem(&api.call("lamp", "led/set", "", *b"1").await, 404, "unknown-path", &["led/set"]);
    let method = api.ask(api.request(Method::PATCH, "/v1/devices/lamp")).await;
    assert_problem(&method, 405, "method-not-allowed", &["PATCH", "GET"]);
    assert!(method.headers.contains_key("allow"));
}

#[tokio::test]
async fn what_contradicts_is_409() {
    let (node, api) = gateway_with_device(&[]).await;
    let keyed =
        |body: &'static [u8]| api.posting("/v1/devices/lamp/messages/led/set", body).header("idempotency-key", "k-1");
    let first = api.ask(keyed(b"on")).await;
    assert_eq!(first.status, 202, "{first:?}");
    let again = api.ask(keyed(b"on")).await;
    assert_eq!(again.text("id"), first.text("id"), "the same key and body give the same message");
    assert_problem(&api.ask(keyed(b"off")).await, 409, "conflict", &["k-1"]);
    let device = Device::start("lamp", &[node.devices()]);
    device.has_got(1).await;
    let path = format!("/v1/devices/lamp/messages/{}", first.text("id"));
    eventually("acked", Duration::from_secs(5), async || (api.get(&path).await.text("state") == "acked").then_some(()))
        .await;
    let cancel = api.delete(&path).await;
    assert_problem(&cancel, 409, "conflict", &[]);
    assert_eq!(cancel.text("state"), "acked", "{}", cancel.json());
    assert_eq!(device.got().len(), 1, "the same key was delivered twice");
}

#[tokio::test]
async fn what_is_too_large_is_413_and_names_the_limit() {
    let (node, api) = gateway_with_device(&[]).await;
    let over_route = api.send("lamp", "led/set", "", vec![0; 61_441]).await;
    assert_problem(&over_route, 413, "too-large", &["61440"]);
    let device = Device::start("lamp", &[node.devices()]);
    device.attached(1).await;
    let over_device = api.send("lamp", "led/set", "", vec![0; 5000]).await;
    assert_problem(&over_device, 413, "too-large", &["5000", "at most"]);
    assert_problem(&api.call("lamp", "echo", "", vec![0; 5000]).await, 413, "too-large", &["at most"]);
    assert_eq!(device.got(), []);
}

#[tokio::test]
async fn another_content_type_is_415_and_a_wrong_form_422() {
    let (_node, api) = gateway_with_device(&[]).await;
    let with = |kind: &'static str, body: &'static str| {
        api.request(Method::POST, "/v1/devices/lamp/messages/led/set").header("content-type", kind).body(body)
    };
    let form = api.ask(with("application/x-www-form-urlencoded", "a=b")).await;
    assert_problem(&form, 415, "unsupported-media-type", &["application/octet-stream", "application/json"]);
    for wrong in [r#"{"payload":"AA=="}"#, r#"{"payload_base64":7}"#, r#"{"payload_base64":"A"}"#, "[]"] {
        assert_problem(&api.ask(with("application/json", wrong)).await, 422, "unprocessable", &[]);
    }
    let right = api.ask(with("application/json", r#"{"payload_base64":"AQ=="}"#)).await;
    assert_eq!(right.status, 202, "{right:?}");
}

#[tokio::test]
async fn a_full_mailbox_is_429_and_keeps_what_it_took() {
    let (node, api) = gateway_with_device(&["route.mailbox_max=3"]).await;
    for number in 0..3u8 {
        assert_eq!(api.send("lamp", "led/set", "", [number]).await.status, 202);
    }
    let full = api.send("lamp", "led/set", "", *b"x").await;
    assert_problem(&full, 429, "mailbox-full", &["3"]);
    assert!(full.headers.contains_key("retry-after"));
    let device = Device::start("lamp", &[node.devices()]);
    let got = device.has_got(3).await;
    assert_eq!(got.iter().map(|got| got.payload[0]).collect::<Vec<_>>(), [0, 1, 2]);
    eventually("room again", Duration::from_secs(5), async || {
        (api.send("lamp", "led/set", "", *b"y").await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn too_many_calls_to_one_device_are_429_busy() {
    let (node, api) = gateway_with_device(&[]).await;
    let device = Device::start("lamp", &[node.devices()]);
    device.handle(Handling::Ack);
    device.attached(1).await;
    let calls: Vec<_> = (0..24)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.call("lamp", "slow", "?timeout=9", *b"x").await })
        })
        .collect();
    let mut busy = 0;
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status {
            429 => {
                assert_problem(&answer, 429, "busy", &[]);
                assert_eq!(answer.json()["may_have_run"], false);
                busy += 1;
            }
            504 => assert_problem(&answer, 504, "deadline", &[]),
            status => assert_eq!(status, 200, "{answer:?}"),
        }
    }
    assert!(busy >= 8, "only {busy} of 24 calls were refused, 16 may be in flight");
}

#[tokio::test]
async fn without_its_store_a_gateway_says_503_and_when_to_come_back() {
    let mut redis = Redis::start(Keep::Everything).await;
    let store = format!("store={}", redis.url());
    let (node, api) = gateway_with_device(&[&store]).await;
    let device = Device::start("lamp", &[node.devices()]);
    device.attached(1).await;
    assert_eq!(api.call("lamp", "echo", "", *b"before").await.status, 200);
    redis.kill();
    let away = api.send("lamp", "led/set", "?timeout=3", *b"1").await;
    assert_eq!(away.status, 503, "{away:?}");
    assert!(["store-away", "may-be-stored"].contains(&away.problem().as_str()), "{}", away.json());
    assert!(away.headers.contains_key("retry-after"), "{away:?}");
    // Calls go on by what the route remembers, and the device stays.
    let call = api.call("lamp", "echo", "", *b"meanwhile").await;
    assert_eq!((call.status, &call.body[..]), (200, &b"meanwhile"[..]), "{call:?}");
    redis.restart().await;
    let back = std::time::Instant::now();
    eventually("a send after the store is back", Duration::from_secs(10), async || {
        (api.send("lamp", "led/set", "?wait=acked&timeout=3", *b"2").await.text("state") == "acked").then_some(())
    })
    .await;
    assert!(back.elapsed() < Duration::from_secs(3), "first send only after {:?}", back.elapsed());
    assert_eq!(device.link().map(|link| link.sessions), Some(1), "the device was sent away");
}

#[tokio::test]
async fn every_metric_of_a_gateway_is_documented() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LIMITS.md")).unwrap();
    let (_node, api) = gateway_with_device(&[]).await;
    // Some appear with their first count only.
    assert_eq!(api.call("lamp", "echo", "", *b"x").await.status, 404);
    let metrics = api.get("/metrics").await;
    let text = String::from_utf8(metrics.body).unwrap();
    let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(kinds.len() > 30, "{text}");
    for (name, kind) in kinds {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(document.contains(&format!("`{name}`")) || document.contains(&format!("`{name}{{")), "{name}");
    }
}
