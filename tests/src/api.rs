//! The HTTP API as a backend sees it.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::device::private_key;
use crate::wait::eventually;

/// Longest wait of the client itself; requests of the tests end sooner.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A client of one gateway or route.
#[derive(Clone)]
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Api {
    /// A client for the API at `address` with `token`.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        // A client wants to know who would do TLS; that it was told before does not matter.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(CLIENT_TIMEOUT).no_proxy().build();
        Self {
            base: format!("http://{address}"),
            token: token.into(),
            client: client.expect("a client without TLS needs nothing"),
        }
    }

    /// The same API with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }

    /// A request with this client's token, to be completed by the test.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends `request`.
    pub async fn try_ask(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Answer { status, headers, body })
    }

    /// Sends `request`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&self, request: RequestBuilder) -> Answer {
        self.try_ask(request).await.unwrap_or_else(|why| panic!("no answer: {why:?}"))
    }

    /// `GET path`, which may fail.
    pub async fn try_get(&self, path: &str) -> reqwest::Result<Answer> {
        self.try_ask(self.request(Method::GET, path)).await
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(self.request(Method::GET, path)).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(self.request(Method::DELETE, path)).await
    }

    /// `POST path` with a raw payload.
    pub async fn post(&self, path: &str, payload: impl Into<Vec<u8>>) -> Answer {
        self.ask(self.posting(path, payload)).await
    }

    /// The request of [`post`](Self::post).
    pub fn posting(&self, path: &str, payload: impl Into<Vec<u8>>) -> RequestBuilder {
        let octets = (HeaderName::from_static("content-type"), HeaderValue::from_static("application/octet-stream"));
        self.request(Method::POST, path).header(octets.0, octets.1).body(payload.into())
    }

    /// Provisions a device with its key; again while the store is slow.
    pub async fn provision(&self, device: &str) {
        let key = private_key(device).public().to_string();
        self.provision_as(device, &serde_json::json!({ "public_key": key })).await;
    }

    /// Provisions a device without a key.
    pub async fn provision_plain(&self, device: &str) {
        self.provision_as(device, &serde_json::json!({ "proof": "plain" })).await;
    }

    async fn provision_as(&self, device: &str, body: &Value) {
        eventually(&format!("{device} provisioned"), Duration::from_secs(20), async || {
            let request = self.request(Method::PUT, &format!("/v1/devices/{device}"));
            let answer = self.ask(request.json(body)).await;
            assert!(matches!(answer.status, 200 | 201 | 503), "{answer:?}");
            (answer.status != 503).then_some(())
        })
        .await;
    }

    /// Revokes a device.
    pub async fn revoke(&self, device: &str) -> Answer {
        self.ask(self.request(Method::POST, &format!("/v1/devices/{device}/revoke"))).await
    }

    /// Restores a revoked device.
    pub async fn restore(&self, device: &str) -> Answer {
        self.ask(self.request(Method::POST, &format!("/v1/devices/{device}/restore"))).await
    }

    /// Sends a message; `query` is such as `?wait=acked`, or empty.
    pub async fn send(&self, device: &str, path: &str, query: &str, payload: impl Into<Vec<u8>>) -> Answer {
        self.post(&format!("/v1/devices/{device}/messages/{path}{query}"), payload).await
    }

    /// Calls a device.
    pub async fn call(&self, device: &str, path: &str, query: &str, payload: impl Into<Vec<u8>>) -> Answer {
        self.post(&format!("/v1/devices/{device}/calls/{path}{query}"), payload).await
    }

    /// The state of a message, as a word.
    pub async fn state(&self, device: &str, message: &str) -> String {
        self.get(&format!("/v1/devices/{device}/messages/{message}")).await.text("state")
    }

    /// Whether a device is attached.
    pub async fn is_online(&self, device: &str) -> bool {
        let answer = self.get(&format!("/v1/devices/{device}")).await;
        answer.json().get("online").and_then(Value::as_bool).unwrap_or_default()
    }

    /// Names and connections of the IM-servers.
    pub async fn servers(&self) -> Vec<(String, u64)> {
        let list = self.get("/v1/servers").await.json();
        let servers = list.get("servers").and_then(Value::as_array).cloned().unwrap_or_default();
        let server = |server: &Value| {
            let name = server.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            (name, server.get("connections").and_then(Value::as_u64).unwrap_or_default())
        };
        servers.iter().map(server).collect()
    }

    /// Sum of the samples of metric `name` whose labels contain `labels` (such as `reason="bad-check"`).
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.lines().filter_map(|line| sample(line, name, labels)).sum()
    }

    /// The same of a gauge; 0 when there is no answer.
    pub async fn gauge(&self, name: &str) -> f64 {
        let Ok(answer) = self.try_get("/metrics").await else { return 0.0 };
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.lines().filter_map(|line| sample(line, name, "")).sum()
    }

    /// The event stream; `query` is such as `?group=billing`, or empty.
    pub async fn events(&self, query: &str, last: Option<&str>) -> Events {
        let mut request = self.request(Method::GET, &format!("/v1/events{query}")).timeout(Duration::from_secs(600));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        Events { response, text: String::new() }
    }
}

fn sample(line: &str, name: &str, labels: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (found, value) = rest.rsplit_once(' ')?;
    let is_name = found.is_empty() || found.starts_with('{');
    (is_name && found.contains(labels)).then(|| value.parse().ok())?
}

impl Answer {
    /// The body as JSON, null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The text of a field, empty when there is none.
    pub fn text(&self, field: &str) -> String {
        self.json().get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The failure's name of a problem, empty when it is not one.
    pub fn problem(&self) -> String {
        let is_problem = self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
        let kind = if is_problem { self.text("type") } else { String::new() };
        kind.strip_prefix("urn:imlink:problem:").unwrap_or_default().to_owned()
    }
}

/// A stream of server-sent events.
pub struct Events {
    response: reqwest::Response,
    text: String,
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `open`, `event` or `end`.
    pub kind: String,
    /// Where to resume.
    pub position: String,
    /// What it says.
    pub data: Value,
}

impl Events {
    /// The next event (comments are skipped), `None` when the stream ended.
    ///
    /// # Panics
    /// When none comes within 20 s.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (parse(block), rest.to_owned());
                self.text = rest;
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            let chunk = chunk.expect("an event within 20 s").ok().flatten()?;
            self.text.push_str(&String::from_utf8_lossy(&chunk).replace('\r', ""));
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    Some(Event {
        kind: field("event").unwrap_or("message").into(),
        position: field("id").unwrap_or_default().into(),
        data: serde_json::from_str(data).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name_and_label() {
        assert_eq!(sample("a_total 3", "a_total", ""), Some(3.0));
        assert_eq!(sample("a_total{reason=\"x\"} 2", "a_total", "reason=\"x\""), Some(2.0));
        assert_eq!(sample("a_total{reason=\"x\"} 2", "a_total", "reason=\"y\""), None);
        assert_eq!(sample("a_total_more 3", "a_total", ""), None);
    }

    #[test]
    fn an_event_is_read_from_its_lines() {
        let event = parse("event: event\nid: 7-1\ndata: {\"sequence\":4}").unwrap();
        assert_eq!((event.kind.as_str(), event.position.as_str()), ("event", "7-1"));
        assert_eq!(event.data["sequence"], 4);
        assert_eq!(parse(": keep alive"), None);
    }
}
