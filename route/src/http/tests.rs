mod access;

use std::net::SocketAddr;
use std::time::Duration;

use imlink_protocol::Key;
use imlink_protocol::id::Fingerprint;
use imlink_protocol::key_pair::{LoginKeys, PrivateKey, Psk};
use imlink_store::event::EventBatch;
use imlink_store::{DeviceKey, Store};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Config, Running};

const TOKEN: &str = "token-of-the-tests-0123";
const OCTETS: &str = "content-type: application/octet-stream\r\n";
const JSON: &str = "content-type: application/json\r\n";
const PLAIN: &str = "{\"proof\":\"plain\"}";

/// A body with the public key of a device's `n`th private key.
fn key_body(n: u8) -> String {
    format!("{{\"public_key\":\"{}\"}}", PrivateKey::new([n; 32]).public())
}

/// A route on the memory store with its API on a real listener.
struct Served {
    running: Running,
    store: Store,
    address: SocketAddr,
    shutdown: CancellationToken,
}

async fn served() -> Served {
    let store = Store::memory(imlink_store::Config::default());
    let config = Config {
        http_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        backend_listen: None,
        node_listen: None,
        device_listen: None,
        keys: Some(Arc::new(LoginKeys { current: PrivateKey::new([1; 32]), next: PrivateKey::new([2; 32]) })),
        fleet_psks: [("-".to_owned(), Psk::new([0xab; 32]))].into(),
        device_address: Some("gateway.example:7000".into()),
        token: TOKEN.into(),
        cluster_secret: "secret-of-the-tests-0123".into(),
        ..Config::default()
    };
    let shutdown = CancellationToken::new();
    let running = crate::start(config, store.clone(), Registry::default(), shutdown.clone()).await.unwrap();
    let address = running.http.unwrap();
    Served { running, store, address, shutdown }
}

/// An answer: status, head in lower case, body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn text(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_default().to_owned()
    }
}

async fn connect(address: SocketAddr, request: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let len = body.len();
    let head = format!("{request} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    stream
}

async fn ask_as(address: SocketAddr, request: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = connect(address, request, headers, body).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..split]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[split + 4..].to_vec() }
}

impl Served {
    async fn ask(&self, request: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
        let headers = format!("authorization: Bearer {TOKEN}\r\n{headers}");
        ask_as(self.address, request, &headers, body.as_ref()).await
    }

    async fn provision(&self, device: &str) {
        assert_eq!(self.ask(&format!("PUT /v1/devices/{device}"), JSON, PLAIN).await.status, 201);
    }

    async fn publish(&self, device: &str, sequences: std::ops::Range<u64>) {
        let events = sequences.map(|sequence| (sequence, Key::raw("t"), vec![7].into())).collect();
        let device = DeviceKey::single(device).unwrap();
        let batch = EventBatch { device, queue: 9, fingerprint: Fingerprint::NONE, events };
        self.store.append_events(&[batch]).await.unwrap();
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_that_names_what_was_wrong() {
    let api = served().await;
    api.provision("lamp-1").await;
    let long = "x".repeat(61_441);
    let small_order = format!("{{\"public_key\":\"{}\"}}", "0".repeat(64));
    let table: [(&str, &str, &str, u16, &str, &str); 31] = [
        ("GET /v1/devices/nobody", "", "", 404, "unknown-device", "nobody"),
        ("GET /v1/devices/a%20b", "", "", 400, "bad-request", "0x20"),
        ("GET /v1/devices/%ff", "", "", 400, "bad-request", "UTF-8"),
        ("GET /v1/devices?limit=0", "", "", 400, "bad-request", "1 to 1000"),
        ("GET /v1/devices?limt=5", "", "", 400, "bad-request", "after, limit"),
        ("PATCH /v1/devices/lamp-1", "", "", 405, "method-not-allowed", "PUT,GET,HEAD,DELETE"),
        ("GET /v2/devices", "", "", 404, "not-found", "/v2/devices"),
        ("PUT /v1/devices/lamp-2", JSON, "{\"proof\":\"none\"}", 422, "unprocessable", "plain"),
        ("PUT /v1/devices/lamp-2", JSON, "{\"prof\":\"plain\"}", 422, "unprocessable", "prof"),
        ("PUT /v1/devices/lamp-2", "", "", 422, "unprocessable", "public_key"),
        ("PUT /v1/devices/lamp-2", JSON, "{\"revoked\":true}", 422, "unprocessable", "proof"),
        ("PUT /v1/devices/lamp-2", JSON, "{\"public_key\":\"12\"}", 422, "unprocessable", "64 hexadecimal digits"),
        ("PUT /v1/devices/lamp-2", JSON, "{\"proof\":\"plain\",\"public_key\":\"12\"}", 422, "unprocessable", "no key"),
        ("PUT /v1/devices/lamp-2", JSON, &small_order, 422, "unprocessable", "small order"),
        ("PUT /v1/devices/lamp-1/next-key", "", "", 422, "unprocessable", "public_key"),
        ("PUT /v1/devices/lamp-1/next-key", JSON, &key_body(7), 409, "conflict", "plain"),
        ("PUT /v1/devices/nobody/next-key", JSON, &key_body(7), 404, "unknown-device", "nobody"),
        ("POST /v1/devices/nobody/revoke", "", "", 404, "unknown-device", "nobody"),
        ("PUT /v1/devices/lamp-2", JSON, "{", 400, "bad-request", "JSON"),
        ("PUT /v1/devices/lamp-2", OCTETS, "x", 415, "unsupported-media-type", "application/json"),
        ("POST /v1/devices/lamp-1/messages/led/set?wait=done", OCTETS, "", 400, "bad-request", "stored, acked"),
        ("POST /v1/devices/lamp-1/messages/led/set?ttl=-1", OCTETS, "", 400, "bad-request", "ttl=-1"),
        ("POST /v1/devices/lamp-1/messages/led/set?timeout=1e9", OCTETS, "", 400, "bad-request", "3600"),
        ("POST /v1/devices/lamp-1/messages/l%20d", OCTETS, "", 400, "bad-request", "0x20"),
        ("POST /v1/devices/lamp-1/messages/a", "content-type: text/csv\r\n", "x", 415, "unsupported-media-type", "csv"),
        ("POST /v1/devices/lamp-1/messages/a", OCTETS, &long, 413, "too-large", "61440"),
        ("POST /v1/devices/lamp-1/messages/a", "idempotency-key: a b\r\n", "", 400, "bad-request", "visible ASCII"),
        ("GET /v1/devices/lamp-1/messages/7", "", "", 400, "bad-request", "generation-sequence"),
        ("POST /v1/devices/lamp-1/calls/led/get", OCTETS, "", 404, "offline", "not attached"),
        ("GET /v1/events", "last-event-id: ?\r\n", "", 400, "bad-request", "position"),
        ("POST /v1/events/commit?group=g", "", "", 400, "bad-request", "`position` is missing"),
    ];
    for (request, headers, body, status, name, word) in table {
        let answer = api.ask(request, headers, body).await;
        let problem = answer.json();
        assert_eq!(answer.status, status, "{request}: {problem}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{request}: {}", answer.head);
        assert_eq!(answer.text("type"), format!("urn:imlink:problem:{name}"), "{request}: {problem}");
        assert!(answer.text("detail").contains(word), "{request}: {problem}");
        assert_eq!(problem["status"], status, "{request}");
    }
}

#[tokio::test]
async fn nothing_but_health_is_told_without_the_token() {
    let api = served().await;
    for path in ["/healthz", "/readyz"] {
        assert!(matches!(ask_as(api.address, &format!("GET {path}"), "", b"").await.status, 200 | 503), "{path}");
    }
    let open = ["/healthz", "/readyz"];
    for (path, _) in PROMISED.iter().filter(|(path, _)| !open.contains(path)).chain(&[("/nothing", &[][..])]) {
        for header in ["", "authorization: Basic x\r\n", "authorization: Bearer token-of-the-tests-0124\r\n"] {
            let answer = ask_as(api.address, &format!("GET {path}"), header, b"").await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{path}: {}", answer.head);
        }
    }
}

#[tokio::test]
async fn a_device_is_provisioned_with_its_key_and_given_the_next_one() {
    let api = served().await;
    let key = |n: u8| PrivateKey::new([n; 32]).public().to_string();
    let made = api.ask("PUT /v1/devices/lamp-1", JSON, key_body(5)).await;
    assert_eq!((made.status, made.text("proof"), made.text("public_key")), (201, "public-key".into(), key(5)));
    assert_eq!(made.json()["next_public_key"], Value::Null);
    let again = api.ask("PUT /v1/devices/lamp-1", JSON, key_body(5)).await;
    assert_eq!((again.status, again.json()), (200, made.json()), "repeating it is harmless");
    let next = api.ask("PUT /v1/devices/lamp-1/next-key", JSON, key_body(6)).await;
    assert_eq!((next.status, next.text("public_key"), next.text("next_public_key")), (200, key(5), key(6)));
    let device = DeviceKey::single("lamp-1").unwrap();
    let proof = api.store.identity(&device).await.unwrap().unwrap().proof;
    let bytes = |n: u8| PrivateKey::new([n; 32]).public().0;
    assert_eq!(proof, Ok(imlink_store::session::Proof::Keys { current: bytes(5), next: Some(bytes(6)) }));
}

#[tokio::test]
async fn a_revocation_is_lifted_by_restoring_and_not_by_provisioning_again() {
    let api = served().await;
    api.provision("lamp-1").await;
    let send = "POST /v1/devices/lamp-1/messages/led/set";
    assert_eq!(api.ask(send, OCTETS, [1]).await.status, 202);
    let revoked = api.ask("POST /v1/devices/lamp-1/revoke", "", "").await;
    assert_eq!((revoked.status, &revoked.json()["revoked"]), (200, &Value::Bool(true)));
    assert_eq!(api.ask(send, OCTETS, [1]).await.status, 403);
    let again = api.ask("PUT /v1/devices/lamp-1", JSON, key_body(5)).await;
    assert_eq!((again.status, &again.json()["revoked"]), (200, &Value::Bool(true)));
    assert_eq!(api.ask(send, OCTETS, [1]).await.status, 403);
    let restored = api.ask("POST /v1/devices/lamp-1/restore", "", "").await;
    assert_eq!((restored.status, &restored.json()["revoked"]), (200, &Value::Bool(false)));
    assert_eq!(api.ask(send, OCTETS, [1]).await.status, 202);
    for (wish, revoked) in [("true", true), ("false", false)] {
        let body = format!("{{\"proof\":\"plain\",\"revoked\":{wish}}}");
        assert_eq!(api.ask("PUT /v1/devices/lamp-1", JSON, body).await.json()["revoked"], revoked);
    }
}

#[tokio::test]
async fn what_devices_are_flashed_with_is_told_without_a_secret() {
    let api = served().await;
    let shown = api.ask("GET /v1/keys", "", "").await;
    let public = |n: u8| PrivateKey::new([n; 32]).public().to_string();
    assert_eq!((shown.status, shown.text("current"), shown.text("next")), (200, public(1), public(2)));
    assert_eq!(shown.json()["addresses"], serde_json::json!(["gateway.example:7000"]));
    assert_eq!(shown.json()["fleet_psk"], true);
    let text = String::from_utf8(shown.body).unwrap();
    assert!(!text.contains("abab") && !text.contains(&"01".repeat(32)), "{text}");
}

#[tokio::test]
async fn a_message_is_stored_shown_and_taken_back() {
    let api = served().await;
    api.provision("lamp-1").await;
    let body = br#"{"payload_base64":"AQ=="}"#;
    let stored = api.ask("POST /v1/devices/lamp-1/messages/led/set?ttl=60", JSON, body).await;
    assert_eq!((stored.status, stored.text("state")), (202, "waiting".into()));
    let path = format!("/v1/devices/lamp-1/messages/{}", stored.text("id"));
    assert!(stored.head.contains(&format!("location: {path}")), "{}", stored.head);
    assert_eq!(api.ask(&format!("GET {path}"), "", "").await.text("state"), "waiting");
    assert_eq!(api.ask("GET /v1/devices/lamp-1", "", "").await.json()["mailbox"]["waiting"], 1);
    assert_eq!(api.ask(&format!("DELETE {path}"), "", "").await.text("state"), "cancelled");
    let again = api.ask(&format!("DELETE {path}"), "", "").await;
    assert_eq!((again.status, again.text("state")), (409, "cancelled".into()));
    assert_eq!(api.ask("DELETE /v1/devices/lamp-1", "", "").await.status, 204);
    assert_eq!(api.ask(&format!("GET {path}"), "", "").await.status, 404);
}

#[tokio::test]
async fn the_same_idempotency_key_gives_the_first_message_again() {
    let api = served().await;
    api.provision("lamp-1").await;
    let headers = format!("idempotency-key: order-7\r\n{OCTETS}");
    let post = "POST /v1/devices/lamp-1/messages/led/set";
    let first = api.ask(post, &headers, [1]).await;
    let second = api.ask(post, &headers, [1]).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.text("id"), second.text("id"));
    let other = api.ask(post, &headers, [2]).await;
    assert_eq!((other.status, other.text("type")), (409, "urn:imlink:problem:conflict".into()));
    assert_eq!(api.ask("GET /v1/devices/lamp-1", "", "").await.json()["mailbox"]["waiting"], 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let api = served().await;
    api.provision("lamp-1").await;
    let headers = format!("authorization: Bearer {TOKEN}\r\n{OCTETS}");
    let post = "POST /v1/devices/lamp-1/messages/led/set?wait=acked&timeout=60";
    let stream = connect(api.address, post, &headers, &[1]).await;
    let waiting = async || api.ask("GET /v1/devices/lamp-1", "", "").await.json()["mailbox"]["waiting"] == 1;
    tokio::time::timeout(Duration::from_secs(5), async { while !waiting().await {} }).await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(waiting().await);
}

/// Reads from `stream` until `count` whole server-sent events of kind `event` or `end` came.
async fn frames(stream: &mut TcpStream, count: usize) -> Vec<(String, String, Value)> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let found: Vec<_> = text
            .split("\n\n")
            .filter_map(|block| {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let (kind, data) = (field("event: ")?, field("data: ")?);
                let data = serde_json::from_str(data).ok()?;
                (kind != "open").then(|| (kind.to_owned(), field("id: ").unwrap_or_default().to_owned(), data))
            })
            .collect();
        if found.len() >= count {
            return found;
        }
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await;
        let read = read.expect("an event within 5 s").unwrap();
        assert!(read > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn events_come_once_resume_where_they_stopped_and_end_with_a_reason() {
    let api = served().await;
    api.provision("lamp-1").await;
    let headers = format!("authorization: Bearer {TOKEN}\r\n");
    let mut stream = connect(api.address, "GET /v1/events?devices=lamp-*", &headers, b"").await;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    api.publish("lamp-1", 1..4).await;
    let seen = frames(&mut stream, 3).await;
    assert_eq!(seen.iter().map(|(_, _, data)| data["sequence"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(seen[0].2["payload_base64"], "Bw==");
    drop(stream);

    let resume = format!("{headers}last-event-id: {}\r\n", seen[1].1);
    let mut stream = connect(api.address, "GET /v1/events", &resume, b"").await;
    assert_eq!(frames(&mut stream, 1).await[0].2["sequence"], 3);

    let commit = format!("POST /v1/events/commit?group=billing&position={}", seen[0].1);
    assert_eq!(api.ask(&commit, "", "").await.status, 204);
    let mut group = connect(api.address, "GET /v1/events?group=billing", &headers, b"").await;
    assert_eq!(frames(&mut group, 1).await[0].2["sequence"], 2);

    api.shutdown.cancel();
    let (kind, _, problem) = frames(&mut stream, 1).await.remove(0);
    assert_eq!((kind.as_str(), problem["type"].as_str().unwrap()), ("end", "urn:imlink:problem:draining"));
    tokio::time::timeout(Duration::from_secs(10), api.running.finished()).await.unwrap();
}

#[tokio::test]
async fn past_the_limit_of_requests_the_newest_is_refused_with_a_time() {
    let api = served().await;
    let route = api.running.route.clone();
    let (router, _) = router(route, Registry::default(), 0, CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let headers = format!("authorization: Bearer {TOKEN}\r\n");
    let answer = ask_as(address, "GET /v1/servers", &headers, b"").await;
    assert_eq!((answer.status, answer.text("type")), (429, "urn:imlink:problem:overloaded".into()));
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(answer.json()["retry_after_ms"], 1000);
    assert_eq!(ask_as(address, "GET /healthz", "", b"").await.status, 200);
}

#[tokio::test]
async fn metrics_and_servers_are_shown() {
    let api = served().await;
    let servers = api.ask("GET /v1/servers", "", "").await.json();
    assert_eq!(servers["route"], "route-1");
    let metrics = api.ask("GET /metrics", "", "").await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("imlink_http_answers_total{status=\"200\"} 1"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let document = api.ask("GET /v1/openapi.json", "", "").await.json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn an_address_that_others_could_reach_is_refused() {
    for (address, is_allowed) in [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("10.0.0.1:1", false)]
    {
        assert_eq!(check_loopback(address.parse().unwrap()).is_ok(), is_allowed, "{address}");
    }
}

/// The endpoints that backends are promised.
const PROMISED: &[(&str, &[&str])] = &[
    ("/v1/devices", &["get"]),
    ("/v1/devices/{id}", &["put", "get", "delete"]),
    ("/v1/devices/{id}/next-key", &["put"]),
    ("/v1/devices/{id}/revoke", &["post"]),
    ("/v1/devices/{id}/restore", &["post"]),
    ("/v1/keys", &["get"]),
    ("/v1/devices/{id}/messages/{path}", &["post", "get", "delete"]),
    ("/v1/devices/{id}/calls/{path}", &["post"]),
    ("/v1/devices/{id}/blobs/{name}", &["put", "get"]),
    ("/v1/events", &["get"]),
    ("/v1/events/commit", &["post"]),
    ("/v1/tokens", &["get", "post"]),
    ("/v1/tokens/{id}", &["get", "delete"]),
    ("/v1/audit", &["get"]),
    ("/v1/servers", &["get"]),
    ("/v1/openapi.json", &["get"]),
    ("/healthz", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
];

#[test]
fn the_openapi_document_has_every_endpoint_with_its_refusals() {
    let (_, document) = endpoints().split_for_parts();
    let json = serde_json::to_value(openapi::complete(document)).unwrap();
    let paths = json["paths"].as_object().unwrap();
    assert_eq!(paths.len(), PROMISED.len(), "{:?}", paths.keys());
    for (path, methods) in PROMISED {
        let item = paths[*path].as_object().unwrap();
        assert_eq!(item.len(), methods.len(), "{path}");
        for method in *methods {
            let operation = &item[*method];
            assert!(operation["summary"].is_string(), "{method} {path}");
            if path.starts_with("/v1") {
                for status in ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429", "503", "504"] {
                    let content = &operation["responses"][status]["content"][PROBLEM_TYPE];
                    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
                }
            }
        }
    }
    assert!(json["components"]["schemas"]["More"]["properties"]["retry_after_ms"].is_object());
    assert_eq!(json["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}
