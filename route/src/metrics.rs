//! What a route counts, as Prometheus sees it. All names begin with `imlink_route_`.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One label, `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: &'static str,
}

/// One label, `outcome`, of logins.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    outcome: Login,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Login {
    /// Sent to an IM-server.
    Redirected,
    /// Told why not.
    Rejected,
    /// Newer ones needed its place before it proved anything.
    CrowdedOut,
    /// Gone, or silent, before its `Hello` was whole.
    Lost,
}

/// The counters of one route; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Messages stored.
    pub(crate) stored: Counter,
    /// Hints sent to IM-servers.
    pub(crate) delivers: Counter,
    /// Messages acknowledged while a backend waited.
    pub(crate) acked: Counter,
    /// Calls sent to IM-servers.
    pub(crate) calls: Counter,
    /// Appends tried again because the store did not answer.
    pub(crate) append_retries: Counter,
    /// Look-ups of a waiting message's state.
    pub(crate) state_lookups: Counter,
    /// Events handed to subscribers.
    pub(crate) events: Counter,
    /// Bytes of blobs passed on, either way.
    pub(crate) blob_bytes: Counter,
    /// Transfers of blobs open now.
    pub(crate) blobs: Gauge,
    /// From a send with `wait=acked` to its answer.
    pub(crate) send_seconds: Histogram,
    /// From a call to its answer.
    pub(crate) call_seconds: Histogram,
    /// Requests in flight.
    pub(crate) in_flight: Gauge,
    /// Linked IM-servers.
    pub(crate) servers: Gauge,
    /// Backend links.
    pub(crate) backends: Gauge,
    /// Event subscriptions.
    pub(crate) subscriptions: Gauge,
    /// Devices remembered.
    pub(crate) devices_cached: Gauge,
    /// Connections to the login ports that proved nothing yet.
    pub(crate) half_open: Gauge,
    failures: Family<Reason, Counter>,
    rejects: Family<Reason, Counter>,
    links_ended: Family<Reason, Counter>,
    logins: Family<Outcome, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        Self {
            stored: Counter::default(),
            delivers: Counter::default(),
            acked: Counter::default(),
            calls: Counter::default(),
            append_retries: Counter::default(),
            state_lookups: Counter::default(),
            events: Counter::default(),
            blob_bytes: Counter::default(),
            blobs: Gauge::default(),
            send_seconds: seconds(),
            call_seconds: seconds(),
            in_flight: Gauge::default(),
            servers: Gauge::default(),
            backends: Gauge::default(),
            subscriptions: Gauge::default(),
            devices_cached: Gauge::default(),
            half_open: Gauge::default(),
            failures: Family::default(),
            rejects: Family::default(),
            links_ended: Family::default(),
            logins: Family::default(),
        }
    }

    /// A request of a backend failed.
    pub(crate) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Reason { reason }).inc();
    }

    /// A device was refused at login.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejects.get_or_create(&Reason { reason }).inc();
    }

    /// A link of a node or backend ended otherwise than in good order.
    pub(crate) fn link_ended(&self, reason: &'static str) {
        self.links_ended.get_or_create(&Reason { reason }).inc();
    }

    /// A login ended.
    pub(crate) fn login(&self, outcome: Login) {
        self.logins.get_or_create(&Outcome { outcome }).inc();
    }

    /// Enters everything in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("imlink_route");
        let counters = [
            ("stored", "Messages stored", &self.stored),
            ("delivers", "Hints sent to IM-servers", &self.delivers),
            ("acked", "Messages acknowledged while a backend waited", &self.acked),
            ("calls", "Calls sent to IM-servers", &self.calls),
            ("append_retries", "Appends tried again because the store did not answer", &self.append_retries),
            ("state_lookups", "Look-ups of the state of a message somebody waits for", &self.state_lookups),
            ("events", "Events handed to subscribers", &self.events),
            ("blob_bytes", "Bytes of blobs passed on", &self.blob_bytes),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let gauges = [
            ("requests_in_flight", "Requests of backends in flight", &self.in_flight),
            ("servers", "Linked IM-servers", &self.servers),
            ("backend_links", "Backend links", &self.backends),
            ("subscriptions", "Event subscriptions", &self.subscriptions),
            ("blobs", "Transfers of blobs open", &self.blobs),
            ("devices_cached", "Devices whose session is remembered", &self.devices_cached),
            ("half_open", "Devices logging in that proved nothing yet", &self.half_open),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "send_seconds",
            "From a send that waits for its ack to the answer",
            self.send_seconds.clone(),
        );
        registry.register("call_seconds", "From a call to its answer", self.call_seconds.clone());
        registry.register("failures", "Requests of backends that failed, by failure", self.failures.clone());
        registry.register("rejects", "Devices refused at login, by code", self.rejects.clone());
        registry.register("links_ended", "Links cut, by reason", self.links_ended.clone());
        registry.register("logins", "Logins of devices, by outcome", self.logins.clone());
    }
}

/// Upper bounds of the histograms, in seconds.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0, 60.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_carries_the_prefix() {
        let metrics = Metrics::new();
        metrics.failed("offline");
        metrics.login(Login::Redirected);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("imlink_route_"), "{line}");
        }
        assert!(text.contains("imlink_route_failures_total{reason=\"offline\"} 1"), "{text}");
    }
}
