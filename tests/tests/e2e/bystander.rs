//! Somebody who behaves, on the process that a test torments.

use std::net::SocketAddr;

use imlink_backend_client::{Client, Message, State};
use imlink_tests::api::Api;
use imlink_tests::device::Device;
use imlink_tests::node::TOKEN;

/// A device and a backend that must not notice anything.
pub(crate) struct Bystander {
    device: Device,
    backend: Client,
    api: Api,
}

impl Bystander {
    /// Attaches both and makes sure that they reach one another.
    pub(crate) async fn attach(api: &Api, devices: SocketAddr, backends: SocketAddr) -> Self {
        api.provision("bystander").await;
        let device = Device::start("bystander", &[devices]);
        device.attached(1).await;
        let backend = Client::connect(&backends.to_string(), TOKEN, "bystander").await.expect("a link");
        let bystander = Self { device, backend, api: api.clone() };
        bystander.is_undisturbed().await;
        bystander
    }

    /// Both still have their first connection, and reach one another.
    pub(crate) async fn is_undisturbed(&self) {
        let message = Message::new("bystander", "led/set", b"1").acked();
        let sent = self.backend.send(&message).await.expect("an ack over the link");
        assert_eq!(sent.state, State::Acked);
        let answer = self.api.call("bystander", "echo", "", *b"over HTTP").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"over HTTP"[..]), "{answer:?}");
        assert_eq!(self.device.link().map(|link| link.sessions), Some(1), "the bystander lost its session");
    }
}
