//! The typed paths of the firmware through the HTTP API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imlink_firmware_interface::{Add, Counter, Settings, Status};
use imlink_protocol::MessageId;
use imlink_tests::api::{Answer, Api};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a backend does with one board.
pub struct Backend {
    /// The API.
    pub api: Api,
    device: String,
}

impl Backend {
    /// The backend of the device `device`.
    pub fn new(api: Api, device: &str) -> Self {
        Self { api, device: device.into() }
    }

    /// Sends `value`; `query` is such as `?wait=acked`.
    pub async fn send<T: Serialize>(&self, path: &str, query: &str, value: &T) -> Answer {
        self.api.send(&self.device, path, query, encode(value)).await
    }

    /// Sends `value` and waits for its handler.
    ///
    /// # Panics
    /// When it is not acknowledged.
    pub async fn do_now<T: Serialize>(&self, path: &str, value: &T) {
        let answer = self.send(path, "?wait=acked&timeout=20", value).await;
        assert_eq!(answer.text("state"), "acked", "{path}: {answer:?}");
    }

    /// Sends an [`Add`]; its id.
    ///
    /// # Panics
    /// When it is not stored.
    pub async fn add(&self, number: u32, work_ms: u16) -> MessageId {
        let answer = self.send("counter/add", "", &Add { number, work_ms }).await;
        answer.text("id").parse().unwrap_or_else(|_| panic!("not stored: {answer:?}"))
    }

    /// Calls `path` without a payload; the reply.
    ///
    /// # Panics
    /// When there is none.
    pub async fn call<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.api.call(&self.device, path, "?timeout=20", []).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        postcard::from_bytes(&answer.body).unwrap_or_else(|why| panic!("{path}: {why}: {answer:?}"))
    }

    /// What the board counted.
    pub async fn counter(&self) -> Counter {
        self.call("counter/get").await
    }

    /// How the board is.
    pub async fn status(&self) -> Status {
        self.call("status/get").await
    }

    /// Changes the settings.
    pub async fn set(&self, settings: Settings) {
        self.do_now("settings/set", &settings).await;
    }

    /// State of a message, as a word.
    pub async fn state(&self, id: MessageId) -> String {
        self.api.state(&self.device, &id.to_string()).await
    }

    /// All that is told about the message `id`.
    pub async fn message(&self, id: MessageId) -> Value {
        self.api.get(&format!("/v1/devices/{}/messages/{id}", self.device)).await.json()
    }
}

/// The payload of `value`.
///
/// # Panics
/// When it is longer than 256 bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = [0; 256];
    postcard::to_slice(value, &mut bytes).expect("payloads of the firmware are short").to_vec()
}

/// The payload of an event as the stream of events tells it.
///
/// # Panics
/// When it is not of type `T`.
pub fn payload<T: DeserializeOwned>(event: &Value) -> T {
    let payload = STANDARD.decode(event["payload_base64"].as_str().unwrap_or_default()).expect("base64");
    postcard::from_bytes(&payload).expect("a payload of the interface's type")
}
