//! What the HTTP API counts.

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label of a count of answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

/// Counters of the HTTP API; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    answers: Family<Status, Counter>,
    /// Connections open.
    pub(super) connections: Gauge,
    /// Connections refused for lack of room.
    pub(super) connections_refused: Counter,
}

impl Metrics {
    /// Metrics that are part of `registry`.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("imlink_http_answers", "Answers of the HTTP API, by status", metrics.answers.clone());
        registry.register(
            "imlink_http_connections",
            "Connections of the HTTP API that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "imlink_http_connections_refused",
            "Connections of the HTTP API refused for lack of room",
            metrics.connections_refused.clone(),
        );
        metrics
    }

    /// Counts one answer.
    pub(super) fn count(&self, status: StatusCode) {
        let label = Status { status: status.as_u16() };
        self.answers.get_or_create(&label).inc();
    }
}
