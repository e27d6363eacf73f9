//! Who may ask what: generated from the OpenAPI document, so that an endpoint without an entry here fails.

use imlink_protocol::MessageId;
use imlink_protocol::id::TokenId;

use super::*;
use crate::access::Verb;
use crate::http::rules::Rule;

/// How each endpoint is asked in a [`World`]: method and path of the document, headers, body, what a token of another
/// tenant that may do everything there is answered, and the verb it is promised to need.
const SAMPLES: &[Sample] = &[
    ("GET", "/v1/devices", "", "", 200, Verb::Devices),
    ("PUT", "/v1/devices/{id}", JSON, r#"{"proof":"plain"}"#, 201, Verb::Provision),
    ("GET", "/v1/devices/{id}", "", "", 404, Verb::Devices),
    ("DELETE", "/v1/devices/{id}", "", "", 404, Verb::Provision),
    ("PUT", "/v1/devices/{id}/next-key", JSON, NEXT_KEY, 404, Verb::Provision),
    ("POST", "/v1/devices/{id}/revoke", "", "", 404, Verb::Provision),
    ("POST", "/v1/devices/{id}/restore", "", "", 404, Verb::Provision),
    ("GET", "/v1/keys", "", "", 200, Verb::Devices),
    ("POST", "/v1/devices/{id}/messages/{path}", OCTETS, "x", 404, Verb::Send),
    ("GET", "/v1/devices/{id}/messages/{path}", "", "", 404, Verb::State),
    ("DELETE", "/v1/devices/{id}/messages/{path}", "", "", 404, Verb::Cancel),
    ("POST", "/v1/devices/{id}/calls/{path}", OCTETS, "x", 404, Verb::Call),
    ("PUT", "/v1/devices/{id}/blobs/{name}", OCTETS, "x", 404, Verb::Blob),
    ("GET", "/v1/devices/{id}/blobs/{name}", "", "", 404, Verb::Blob),
    ("GET", "/v1/events", "", "", 200, Verb::Events),
    ("POST", "/v1/events/commit", "", "", 400, Verb::Events),
    ("GET", "/v1/tokens", "", "", 200, Verb::Tokens),
    ("POST", "/v1/tokens", JSON, r#"{"allow":["state"]}"#, 201, Verb::Tokens),
    ("GET", "/v1/tokens/{id}", "", "", 404, Verb::Tokens),
    ("DELETE", "/v1/tokens/{id}", "", "", 404, Verb::Tokens),
    ("GET", "/v1/audit", "", "", 200, Verb::Audit),
    ("GET", "/v1/servers", "", "", 403, Verb::Servers),
    ("GET", "/metrics", "", "", 403, Verb::Metrics),
];

/// A public key that a device could have next.
const NEXT_KEY: &str = r#"{"public_key":"0900000000000000000000000000000000000000000000000000000000000000"}"#;

/// A blob of one byte.
const BLOB: &str = "?size=1&sha256=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

/// What needs a token, but no scope.
const ANY_TOKEN: &[(&str, &str)] = &[("GET", "/v1/openapi.json")];
/// What needs no token.
const OPEN: &[(&str, &str)] = &[("GET", "/healthz"), ("GET", "/readyz")];

/// A route whose tenant `-` has a device with a waiting message, a token and an event.
struct World {
    api: Served,
    message: MessageId,
    victim: String,
    position: String,
}

impl World {
    async fn new() -> Self {
        let api = served().await;
        api.provision("lamp-1").await;
        let stored = api.ask("POST /v1/devices/lamp-1/messages/led/set", OCTETS, [1]).await;
        let message = stored.text("id").parse().unwrap();
        let victim = api.ask("POST /v1/tokens", JSON, r#"{"name":"victim","allow":["send"]}"#).await;
        let headers = format!("authorization: Bearer {TOKEN}\r\n");
        let mut stream = open_stream(&api, &headers).await;
        api.publish("lamp-1", 1..2).await;
        let position = frames(&mut stream, 1).await.remove(0).1;
        Self { api, message, victim: victim.text("id"), position }
    }

    /// A new token of `tenant` with these scopes.
    async fn token(&self, tenant: &str, allow: &[String]) -> String {
        let body = serde_json::json!({ "allow": allow }).to_string();
        let made = self.api.ask("POST /v1/tokens", &format!("imlink-tenant: {tenant}\r\n{JSON}"), body).await;
        assert_eq!(made.status, 201, "{}", made.json());
        made.text("token")
    }

    /// The request line of a sample.
    fn request(&self, method: &str, path: &str) -> String {
        let id = if path.starts_with("/v1/tokens") { &self.victim } else { "lamp-1" };
        let last =
            if path.contains("messages") && method != "POST" { self.message.to_string() } else { "led/set".into() };
        let path = path.replace("{id}", id).replace("{path}", &last).replace("{name}", "app-1");
        match path.as_str() {
            "/v1/devices/lamp-1/blobs/app-1" => format!("{method} {path}{}", if method == "PUT" { BLOB } else { "" }),
            "/v1/events/commit" => format!("{method} {path}?group=g&position={}", self.position),
            _ => format!("{method} {path}"),
        }
    }

    /// Asks and reads the answer; of a stream its head only.
    async fn ask(&self, token: &str, (method, path, headers, body, ..): Sample) -> Answer {
        let headers = format!("authorization: Bearer {token}\r\n{headers}");
        let request = self.request(method, path);
        if path != "/v1/events" {
            return ask_as(self.api.address, &request, &headers, body.as_bytes()).await;
        }
        let mut stream = connect(self.api.address, &request, &headers, body.as_bytes()).await;
        let mut bytes = vec![0; 4096];
        let read = stream.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.into() }
    }

    /// Everything of tenant `-` that a request could change.
    async fn state(&self) -> String {
        let lamp = DeviceKey::single("lamp-1").unwrap();
        let store = &self.api.store;
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            store.devices("-", "", 100).await.unwrap(),
            store.identity(&lamp).await.unwrap(),
            store.message_state(&lamp, self.message).await.unwrap(),
            store.tokens("-").await.unwrap(),
            store.committed_events("-", "g").await.unwrap(),
            store.audit("-", None, 1000).await.unwrap().into_iter().map(|(_, record)| record).collect::<Vec<_>>(),
        )
    }

    /// Waits until the audit record of a token that was made is there, so that states can be compared.
    async fn settled(&self) -> String {
        let wait = async {
            loop {
                let tokens = self.api.store.tokens("-").await.unwrap().len();
                let records = self.api.store.audit("-", None, 1000).await.unwrap();
                if records.iter().filter(|(_, record)| record.what == "token-added").count() == tokens {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("audit records are written");
        self.state().await
    }
}

/// A stream of events from now on.
async fn open_stream(api: &Served, headers: &str) -> TcpStream {
    let mut stream = connect(api.address, "GET /v1/events", headers, b"").await;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

type Sample = (&'static str, &'static str, &'static str, &'static str, u16, Verb);

fn rules() -> Vec<(String, String, Rule)> {
    let (_, document) = endpoints().split_for_parts();
    let rules = Rules::of(&serde_json::to_value(openapi::complete(document)).unwrap());
    rules.iter().map(|(method, path, rule)| (method.to_owned(), path.to_owned(), rule)).collect()
}

/// Everything but `verb`; of tenant `-` or another one.
fn all_but(verb: Option<Verb>, is_of_operator: bool) -> Vec<String> {
    let verbs = Verb::ALL.iter().filter(|other| Some(**other) != verb);
    verbs.filter(|other| is_of_operator || !other.is_of_cluster()).map(|verb| verb.name().into()).collect()
}

#[test]
fn every_endpoint_says_who_may_use_it_and_has_an_entry_here() {
    let mut known: Vec<(&str, &str)> = SAMPLES.iter().map(|sample| (sample.0, sample.1)).collect();
    known.extend(ANY_TOKEN.iter().chain(OPEN));
    let rules = rules();
    for (method, path, rule) in &rules {
        let (method, path) = (method.as_str(), path.as_str());
        let expected = match rule {
            Rule::Missing => panic!("{method} {path} does not say who may use it"),
            Rule::Open => OPEN.contains(&(method, path)),
            Rule::AnyToken => ANY_TOKEN.contains(&(method, path)),
            Rule::Verb(verb) => SAMPLES.iter().any(|sample| (sample.0, sample.1, sample.5) == (method, path, *verb)),
        };
        assert!(expected, "{method} {path} is {rule:?} and has no entry in this test");
    }
    assert_eq!(known.len(), rules.len(), "an entry is of no endpoint");
}

#[tokio::test]
async fn without_its_scope_every_endpoint_is_refused_by_name_and_nothing_happens() {
    for (method, path, rule) in rules() {
        let Rule::Verb(verb) = rule else { continue };
        let sample = *SAMPLES.iter().find(|sample| (sample.0, sample.1) == (method.as_str(), path.as_str())).unwrap();
        let world = World::new().await;
        let mut lacking = vec![world.token("-", &all_but(Some(verb), true)).await];
        if path.contains("/devices/{id}") {
            let mut others = all_but(Some(verb), true);
            others.extend([format!("{}:lamp", verb.name()), format!("{}:lamp-10*", verb.name())]);
            lacking.push(world.token("-", &others).await);
        }
        let before = world.settled().await;
        for token in lacking {
            let refused = world.ask(&token, sample).await;
            assert_eq!((refused.status, refused.text("type").as_str()), (403, FORBIDDEN), "{method} {path}");
            let named = format!("scope `{}`", verb.name());
            assert!(refused.text("detail").contains(&named), "{method} {path}: {}", refused.json());
            assert_eq!(world.settled().await, before, "{method} {path} had an effect");
        }
        // With that scope and no other it is done, and a change leaves its record.
        let token = world.token("-", &[verb.name().into()]).await;
        world.settled().await;
        let records = world.api.store.audit("-", None, 1000).await.unwrap().len();
        let done = world.ask(&token, sample).await;
        // One who has only `tokens` cannot give `state`.
        let is_granted = done.status != 403 || path == "/v1/tokens" && method == "POST";
        assert!(is_granted && done.status != 401, "{method} {path}: {} {}", done.status, done.json());
        if matches!(verb, Verb::Provision | Verb::Tokens) && method != "GET" && done.status < 300 {
            let wait = async {
                while world.api.store.audit("-", None, 1000).await.unwrap().len() == records {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let written = tokio::time::timeout(Duration::from_secs(5), wait).await;
            assert!(written.is_ok(), "{method} {path} left no audit record");
            let (_, newest) = world.api.store.audit("-", None, 1).await.unwrap().remove(0);
            let id: TokenId = token[4..20].parse().unwrap();
            assert_eq!(newest.who, id, "{newest:?}");
            assert!(newest.from.starts_with("127.0.0.1:"), "{newest:?}");
            assert!(!format!("{newest:?}").contains(&token[21..]), "a secret in {newest:?}");
        }
    }
}

#[tokio::test]
async fn a_token_of_another_tenant_sees_and_changes_nothing_of_this_one() {
    for (method, path, rule) in rules() {
        let Rule::Verb(_) = rule else { continue };
        let sample = *SAMPLES.iter().find(|sample| (sample.0, sample.1) == (method.as_str(), path.as_str())).unwrap();
        let world = World::new().await;
        let foreign = world.token("acme", &all_but(None, false)).await;
        let before = world.settled().await;
        let answer = world.ask(&foreign, sample).await;
        assert_eq!(answer.status, sample.4, "{method} {path}: {}", answer.json());
        assert_eq!(world.settled().await, before, "{method} {path} had an effect");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let is_own = answer.status >= 400 || (method.as_str(), path.as_str()) == ("PUT", "/v1/devices/{id}");
        assert!(is_own || !text.contains("lamp-1") && !text.contains(&world.victim), "{method} {path} shows {text}");
        // And it cannot ask to act here.
        let here = (sample.0, sample.1, "imlink-tenant: -\r\n", sample.3, 403, sample.5);
        let refused = world.ask(&foreign, here).await;
        assert_eq!((refused.status, refused.text("type").as_str()), (403, FORBIDDEN), "{method} {path}");
        assert_eq!(world.settled().await, before, "{method} {path} had an effect");
    }
}

const PLAIN: &str = r#"{"proof":"plain"}"#;
const FORBIDDEN: &str = "urn:imlink:problem:forbidden";

#[tokio::test]
async fn the_token_of_the_configuration_acts_in_each_tenant_and_they_do_not_meet() {
    let world = World::new().await;
    let api = &world.api;
    let acme = "imlink-tenant: acme\r\n";
    let in_acme = format!("{acme}{JSON}");
    assert_eq!(api.ask("PUT /v1/devices/lamp-1", &in_acme, PLAIN).await.status, 201);
    assert_eq!(api.ask("GET /v1/devices/lamp-1", acme, "").await.json()["mailbox"]["waiting"], 0);
    assert_eq!(api.ask("GET /v1/devices/lamp-1", "", "").await.json()["mailbox"]["waiting"], 1);
    assert_eq!(api.ask("DELETE /v1/devices/lamp-1", acme, "").await.status, 204);
    assert_eq!(api.ask("GET /v1/devices/lamp-1", "", "").await.status, 200);
    let wrong = api.ask("GET /v1/devices", "imlink-tenant: a/b\r\n", "").await;
    assert_eq!((wrong.status, wrong.text("detail").contains("0x2f")), (400, true));
    // The same idempotency key in two tenants is two keys.
    assert_eq!(api.ask("PUT /v1/devices/lamp-1", &in_acme, PLAIN).await.status, 201);
    let post = "POST /v1/devices/lamp-1/messages/led/set";
    let one = api.ask(post, &format!("idempotency-key: k\r\n{OCTETS}"), [1]).await;
    let two = api.ask(post, &format!("{acme}idempotency-key: k\r\n{OCTETS}"), [2]).await;
    assert_eq!((one.status, two.status), (202, 202), "{}", two.json());
    // Events of one are not the other's.
    let headers = format!("authorization: Bearer {TOKEN}\r\n{acme}");
    let mut stream = open_stream(api, &headers).await;
    api.publish("lamp-1", 2..3).await;
    let events = [(7, Key::raw("t"), vec![8].into())].into();
    let device = DeviceKey::new("acme", "lamp-1").unwrap();
    let batch = EventBatch { device, queue: 9, fingerprint: Fingerprint::NONE, events };
    api.store.append_events(&[batch]).await.unwrap();
    assert_eq!(frames(&mut stream, 1).await[0].2["sequence"], 7);
}

#[tokio::test]
async fn what_is_listed_is_what_the_token_may_see() {
    let world = World::new().await;
    world.api.provision("door-1").await;
    let token = world.token("-", &["devices:door-*".into(), "events:door-*".into()]).await;
    let headers = format!("authorization: Bearer {token}\r\n");
    let listed = ask_as(world.api.address, "GET /v1/devices", &headers, b"").await.json();
    assert_eq!(listed["devices"], serde_json::json!(["door-1"]));
    let mut stream = open_stream(&world.api, &headers).await;
    world.api.publish("lamp-1", 2..3).await;
    world.api.publish("door-1", 5..6).await;
    assert_eq!(frames(&mut stream, 1).await[0].2["device"], "door-1");
}

#[tokio::test]
async fn a_revoked_or_expired_token_counts_no_more_and_its_streams_end() {
    let world = World::new().await;
    let token = world.token("-", &["events".into(), "devices".into()]).await;
    let headers = format!("authorization: Bearer {token}\r\n");
    let mut stream = open_stream(&world.api, &headers).await;
    assert_eq!(ask_as(world.api.address, "GET /v1/devices", &headers, b"").await.status, 200);
    let revoked = world.api.ask(&format!("DELETE /v1/tokens/{}", &token[4..20]), "", "").await;
    assert_eq!((revoked.status, revoked.text("state")), (200, "revoked".into()));
    let refused = ask_as(world.api.address, "GET /v1/devices", &headers, b"").await;
    assert_eq!((refused.status, refused.text("detail").contains("revoked")), (401, true), "{}", refused.json());
    let (kind, _, problem) = frames(&mut stream, 1).await.remove(0);
    assert_eq!((kind.as_str(), problem["type"].as_str().unwrap()), ("end", "urn:imlink:problem:unauthorized"));

    let body = r#"{"allow":["devices"],"expires_s":1}"#;
    let brief = world.api.ask("POST /v1/tokens", JSON, body).await.text("token");
    let headers = format!("authorization: Bearer {brief}\r\n");
    let wait = async {
        while ask_as(world.api.address, "GET /v1/devices", &headers, b"").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3), wait).await.expect("it expires after a second");
}

#[tokio::test]
async fn a_revocation_made_elsewhere_counts_here_within_two_seconds() {
    let world = World::new().await;
    let token = world.token("-", &["devices".into()]).await;
    let headers = format!("authorization: Bearer {token}\r\n");
    assert_eq!(ask_as(world.api.address, "GET /v1/devices", &headers, b"").await.status, 200);
    world.api.store.revoke_token("-", token[4..20].parse().unwrap()).await.unwrap();
    let wait = async {
        while ask_as(world.api.address, "GET /v1/devices", &headers, b"").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), wait).await.expect("within 2 s");
}

#[tokio::test]
async fn past_its_rate_a_token_is_told_when_to_come_back() {
    let world = World::new().await;
    let body = r#"{"allow":["devices"],"rate":3}"#;
    let token = world.api.ask("POST /v1/tokens", JSON, body).await.text("token");
    let headers = format!("authorization: Bearer {token}\r\n");
    let mut refused = 0;
    for _ in 0..8 {
        let answer = ask_as(world.api.address, "GET /v1/devices", &headers, b"").await;
        if answer.status == 429 {
            refused += 1;
            assert_eq!(answer.text("type"), "urn:imlink:problem:rate-limited");
            assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
            assert!(answer.text("detail").contains("3 requests a second"), "{}", answer.json());
        }
    }
    assert!(refused >= 3, "{refused} of 8 were refused");
    assert_eq!(world.api.ask("GET /v1/devices", "", "").await.status, 200);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let world = World::new().await;
    let body = r#"{"allow":["tokens","send:lamp-*"],"rate":100,"expires_s":3600}"#;
    let giver = world.api.ask("POST /v1/tokens", JSON, body).await.text("token");
    let headers = format!("authorization: Bearer {giver}\r\n{JSON}");
    for (body, status, word) in [
        (r#"{"allow":["send:lamp-1"],"rate":100,"expires_s":60}"#, 201, ""),
        (r#"{"allow":["send"],"rate":1,"expires_s":60}"#, 403, "`send`"),
        (r#"{"allow":["call"],"rate":1,"expires_s":60}"#, 403, "`call`"),
        (r#"{"allow":["send:lamp-1"],"rate":101,"expires_s":60}"#, 403, "100 requests"),
        (r#"{"allow":["send:lamp-1"],"expires_s":60}"#, 403, "100 requests"),
        (r#"{"allow":["send:lamp-1"],"rate":1}"#, 403, "expires before"),
        (r#"{"allow":[],"rate":1,"expires_s":60}"#, 422, "1 to 32"),
        (r#"{"allow":["fly"],"rate":1,"expires_s":60}"#, 422, "send, call"),
    ] {
        let answer = ask_as(world.api.address, "POST /v1/tokens", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.json());
        assert!(answer.text("detail").contains(word), "{body}: {}", answer.json());
    }
    let acme = format!("imlink-tenant: acme\r\n{JSON}");
    let refused = world.api.ask("POST /v1/tokens", &acme, r#"{"allow":["metrics"]}"#).await;
    assert_eq!((refused.status, refused.text("detail").contains("metrics")), (400, true));
}

#[tokio::test]
async fn secrets_are_told_once_and_then_nowhere() {
    let world = World::new().await;
    let token = world.token("-", &["send".into(), "metrics".into()]).await;
    let secret = &token[21..];
    world.settled().await;
    let id = &token[4..20];
    for path in ["/v1/tokens", &format!("/v1/tokens/{id}"), "/v1/audit", "/metrics", "/v1/openapi.json"] {
        let answer = world.api.ask(&format!("GET {path}"), "", "").await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && !text.contains(secret) && !text.contains(TOKEN), "{path}: {text}");
    }
    let stored = format!("{:?}", world.api.store.tokens("-").await.unwrap());
    assert!(stored.contains(id) && !stored.contains(secret) && !stored.contains("secret_hash"), "{stored}");
    // One that is close to it is refused without a hint of which part was wrong.
    let last = if token.ends_with('0') { '1' } else { '0' };
    let near = format!("{}{last}", &token[..token.len() - 1]);
    let other = token.replacen(id, "0123456789abcdef", 1);
    let mut told = Vec::new();
    for wrong in [near, other] {
        let answer =
            ask_as(world.api.address, "GET /metrics", &format!("authorization: Bearer {wrong}\r\n"), b"").await;
        assert_eq!(answer.status, 401);
        told.push(answer.text("detail"));
    }
    assert_eq!(told[0], told[1]);
}
