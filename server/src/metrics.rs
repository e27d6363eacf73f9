//! What an IM-server counts, under `imlink_server_*`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of one IM-server; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Devices attached now.
    pub attached: Gauge,
    /// Connections that have not shown a `Hello` yet (`half_open_max` for each I/O thread).
    pub half_open: Gauge,
    /// Devices whose session is being opened in the store (`half_open_max` for each I/O thread).
    pub attaching: Gauge,
    /// Messages, calls and store operations that wait, as load reports tell it to routes.
    pub queued: Gauge,
    /// Bytes of events on their way to the store (`events_waiting_max` for each I/O thread).
    pub events_waiting_bytes: Gauge,
    /// Routes linked now.
    pub routes: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Sessions opened.
    pub attaches: Counter,
    /// Connections ended, by reason.
    pub closed: Family<Reason, Counter>,
    /// Handshakes of sealed links, by what became of them.
    pub handshakes: Family<Reason, Counter>,
    /// Messages sent to devices, resends included.
    pub messages: Counter,
    /// Messages acknowledged by devices.
    pub acked: Counter,
    /// Messages rejected by devices or refused here, by reason.
    pub rejected: Family<Reason, Counter>,
    /// Calls sent to devices.
    pub calls: Counter,
    /// Events stored.
    pub events: Counter,
    /// Newer tickets given to devices that stay attached.
    pub tickets_renewed: Counter,
    /// Sign-of-life questions sent.
    pub probes: Counter,
    /// Store operations that failed and are tried again, by operation.
    pub store_retries: Family<Reason, Counter>,
    /// Sessions of one identity that replaced one another too often.
    pub contested: Counter,
    /// Bytes read from devices.
    pub bytes_in: Counter,
    /// Bytes written to devices.
    pub bytes_out: Counter,
}

/// Label of a counted thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    /// Its name.
    pub reason: &'static str,
}

impl Metrics {
    /// Moves a gauge that all I/O threads share by what this thread's part changed since `shown`.
    pub(crate) fn show(gauge: &Gauge, shown: &mut i64, part: usize) {
        let part = i64::try_from(part).unwrap_or(i64::MAX);
        gauge.inc_by(part - *shown);
        *shown = part;
    }

    /// Counts one end of a connection.
    pub(crate) fn count_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts what became of one handshake.
    pub(crate) fn count_handshake(&self, reason: &'static str) {
        self.handshakes.get_or_create(&Reason { reason }).inc();
    }

    /// Counts one store operation that is tried again.
    pub(crate) fn count_retry(&self, reason: &'static str) {
        self.store_retries.get_or_create(&Reason { reason }).inc();
    }

    /// Counts one refused message.
    pub(crate) fn count_rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    /// Registers everything under `imlink_server_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("imlink_server");
        registry.register("connections", "Connections open now", self.connections.clone());
        registry.register("attached", "Devices attached now", self.attached.clone());
        registry.register("half_open", "Connections without a Hello yet", self.half_open.clone());
        registry.register("attaching", "Devices whose session is being opened", self.attaching.clone());
        registry.register("queued", "Messages, calls and store operations that wait", self.queued.clone());
        registry.register(
            "events_waiting_bytes",
            "Bytes of events on their way to the store",
            self.events_waiting_bytes.clone(),
        );
        registry.register("routes", "Routes linked now", self.routes.clone());
        registry.register("accepted", "Connections accepted", self.accepted.clone());
        registry.register("attaches", "Sessions opened", self.attaches.clone());
        registry.register("closed", "Connections ended, by reason", self.closed.clone());
        registry.register("handshakes", "Handshakes of sealed links, by outcome", self.handshakes.clone());
        let renewed = "Newer tickets given to devices that stay attached";
        registry.register("tickets_renewed", renewed, self.tickets_renewed.clone());
        registry.register("messages", "Messages sent to devices", self.messages.clone());
        registry.register("acked", "Messages acknowledged by devices", self.acked.clone());
        registry.register("rejected", "Messages rejected, by reason", self.rejected.clone());
        registry.register("calls", "Calls sent to devices", self.calls.clone());
        registry.register("events", "Events stored", self.events.clone());
        registry.register("probes", "Sign-of-life questions sent", self.probes.clone());
        registry.register("store_retries", "Store operations tried again", self.store_retries.clone());
        registry.register("contested", "Identities used by two devices at once", self.contested.clone());
        registry.register("bytes_in", "Bytes read from devices", self.bytes_in.clone());
        registry.register("bytes_out", "Bytes written to devices", self.bytes_out.clone());
    }
}
