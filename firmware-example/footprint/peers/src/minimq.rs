//! The device by minimq.

use core::task::Waker;

use minimq::{Buffers, ConfigBuilder, ConnectEvent, Publication, QoS, Session, SubscriptionOptions, TopicFilter};
use static_cell::ConstStaticCell;

use crate::board;
use crate::link::{self, Link, Records};

/// The clock that minimq asks; the device polls in rounds, so that nothing needs to be woken.
struct Time;

impl embassy_time_driver::Driver for Time {
    fn now(&self) -> u64 {
        board::now()
    }

    fn schedule_wake(&self, _: u64, _: &Waker) {}
}

embassy_time_driver::time_driver_impl!(static TIME: Time = Time);

pub(crate) async fn device() {
    static RECORDS: ConstStaticCell<Records> = ConstStaticCell::new(Records::new());
    static RECEIVED: ConstStaticCell<[u8; 512]> = ConstStaticCell::new([0; 512]);
    // An event until it is acknowledged, and one packet that is being written.
    static SENT: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);
    let records = RECORDS.take();
    let config = ConfigBuilder::new(Buffers::new(RECEIVED.take(), SENT.take()))
        .keepalive_interval(300)
        .session_expiry_interval(u32::MAX);
    let Ok(config) = config.client_id("lamp-1") else { return };
    #[cfg(not(feature = "psk"))]
    let Ok(config) = config.auth("lamp-1", &[1; 32]) else { return };
    let mut session = Session::new(config);
    let mut is_published = false;
    loop {
        if let Some(link) = link::open(records).await {
            attached(&mut session, link, &mut is_published).await;
        }
        board::sleep_until(board::now() + 5000).await;
    }
}

/// One connection; returns when it is lost.
async fn attached(session: &mut Session<'_>, link: Link<'_>, is_published: &mut bool) -> Option<()> {
    let mut connection = session.connect(link).await.ok()?;
    if connection.connect_event() == ConnectEvent::Connected {
        let options = SubscriptionOptions::default().maximum_qos(QoS::AtLeastOnce);
        connection.subscribe(&[TopicFilter::new("lamp-1/led/set").options(options)], &[]).await.ok()?;
        *is_published = false;
    }
    if !*is_published {
        // Kept and sent again by the session until it is acknowledged.
        let temperature = 21.5f32.to_le_bytes();
        let event = Publication::bytes("lamp-1/temperature", &temperature).qos(QoS::AtLeastOnce);
        connection.publish(event).await.ok()?;
        *is_published = true;
    }
    loop {
        // Acknowledged when the next one is asked for, whatever is done with it.
        let command = connection.recv().await.ok()?;
        if let ("lamp-1/led/set", [on @ (0 | 1)]) = (command.topic(), command.payload()) {
            board::led(*on == 1);
        }
    }
}
