//! The device by rust-mqtt.

use core::num::NonZero;

use embassy_futures::select::{Either, select};
use rust_mqtt::buffer::BumpBuffer;
use rust_mqtt::client::Client;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{AckOptions, ConnectOptions, PublicationOptions, SubscriptionOptions, TopicReference};
use rust_mqtt::config::{KeepAlive, SessionExpiryInterval};
use rust_mqtt::session::Session;
use rust_mqtt::types::{IdentifiedQoS, MqttBinary, MqttString, PacketIdentifier, ReasonCode, TopicFilter, TopicName};
use static_cell::ConstStaticCell;

use crate::board;
use crate::link::{self, Link, Records};

/// The window: commands that are on their way at once, events that are.
const WINDOW: usize = 8;
const KEEP_ALIVE_S: u16 = 300;

type Kept = Session<1, WINDOW, WINDOW, 0, 0>;
type Mqtt<'a> = Client<'a, 'a, Link<'a>, BumpBuffer<'a>, 1, WINDOW, WINDOW, 0, 0, 0, 0>;

/// The event, published again until it is acknowledged.
enum Temperature {
    Measured,
    Published(PacketIdentifier),
    Stored,
}

pub(crate) async fn device() {
    static RECORDS: ConstStaticCell<Records> = ConstStaticCell::new(Records::new());
    static PACKET: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
    let (records, packet) = (RECORDS.take(), PACKET.take());
    let mut session = Kept::default();
    let mut event = Temperature::Measured;
    loop {
        if let Some(link) = link::open(records).await {
            let mut buffer = BumpBuffer::new(packet);
            let mut client = Mqtt::with_session(session.clone(), &mut buffer);
            attached(&mut client, link, &mut event).await;
            session = client.session().clone();
        }
        board::sleep_until(board::now() + 5000).await;
    }
}

/// One connection; returns when it is lost.
async fn attached<'a>(client: &mut Mqtt<'a>, link: Link<'a>, event: &mut Temperature) -> Option<()> {
    client.ack_manually_when(&|_| true);
    let mut options = ConnectOptions::new()
        .keep_alive(KeepAlive::Seconds(NonZero::new(KEEP_ALIVE_S)?))
        .session_expiry_interval(SessionExpiryInterval::NeverEnd)
        .maximum_packet_size(NonZero::new(512)?);
    if cfg!(not(feature = "psk")) {
        options = options.user_name(MqttString::from_str("lamp-1").ok()?);
        options = options.password(MqttBinary::from_slice(&[1; 32]).ok()?);
    }
    let is_resumed = client.connect(link, &options, MqttString::from_str("lamp-1").ok()).await.ok()?.session_present;
    reset(client);
    if !is_resumed {
        let filter = TopicFilter::new(MqttString::from_str("lamp-1/led/set").ok()?)?;
        client.subscribe(filter, &SubscriptionOptions::new().at_least_once()).await.ok()?;
        // What the broker knew of the event it has forgotten.
        *event = Temperature::Measured;
    }
    let topic = TopicName::new(MqttString::from_str("lamp-1/temperature").ok()?)?;
    let temperature = 21.5f32.to_le_bytes();
    let publication = PublicationOptions::new(TopicReference::Name(topic)).at_least_once();
    match event {
        Temperature::Measured => {
            let id = client.publish(&publication, temperature.as_slice().into()).await.ok()??;
            *event = Temperature::Published(id);
        }
        Temperature::Published(id) => {
            client.republish(*id, &publication, temperature.as_slice().into()).await.ok()?;
        }
        Temperature::Stored => {}
    }
    let mut ping_at = board::now() + u64::from(KEEP_ALIVE_S) * 1000;
    loop {
        let header = match select(client.poll_header(), board::sleep_until(ping_at)).await {
            Either::First(header) => header.ok()?,
            Either::Second(()) => {
                client.ping().await.ok()?;
                ping_at = board::now() + u64::from(KEEP_ALIVE_S) * 1000;
                continue;
            }
        };
        let mut command = None;
        match client.poll_body(header).await.ok()? {
            Event::Publish(publish) => {
                let known = publish.topic.name().is_some_and(|name| name.as_ref().as_str() == "lamp-1/led/set");
                let done = match publish.message.as_bytes() {
                    [on @ (0 | 1)] if known => {
                        board::led(*on == 1);
                        ReasonCode::Success
                    }
                    _ => ReasonCode::PayloadFormatInvalid,
                };
                if let IdentifiedQoS::AtLeastOnce(id) = publish.identified_qos {
                    command = Some((id, done));
                }
            }
            Event::PublishAcknowledged(ack) => match event {
                Temperature::Published(id) if *id == ack.packet_identifier => *event = Temperature::Stored,
                _ => {}
            },
            _ => {}
        }
        reset(client);
        if let Some((id, done)) = command {
            client.manual_acknowledge(id, done, &AckOptions::new()).await.ok()?;
        }
    }
}

fn reset(client: &mut Mqtt<'_>) {
    // SAFETY: what the last packet gave is dropped.
    unsafe { client.buffer_mut().reset() };
}
