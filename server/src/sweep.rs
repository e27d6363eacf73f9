//! What happens by the clock: deadlines, retries, drain. One coarse sweep, no timer per connection.
//!
//! Every 250 ms a quarter of the slab is looked at, so each connection is seen once a second.

use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::Instant;
use imlink_protocol::id::Fingerprint;
use imlink_protocol::message::{GoAwayReason, RejectCode};
use imlink_protocol::serving::Overdue;
use slab::Slab;

use crate::config::Limits;
use crate::conn::{Conn, ConnId, Phase};
use crate::metrics::Metrics;
use crate::reactor::{End, Reactor};

const INTERVAL: Duration = Duration::from_millis(250);
/// The slab is looked at in this many parts.
const PARTS: usize = 4;
/// Hints may still be under way when a link is lost: heads are compared at once and again after this.
const SECOND_CHECK: Duration = Duration::from_secs(2);
/// Interfaces kept for a store that is away.
const INTERFACES_MAX: usize = 256;

pub(crate) struct Sweep {
    next: Instant,
    part: usize,
    is_admitting: bool,
    accept_rate: u32,
    accepts: u32,
    accepts_until: Instant,
    drain: Option<Drain>,
    drain_time: Duration,
    /// Slab index at which the comparison of all heads goes on.
    heads_from: Option<usize>,
    heads_again: Option<Instant>,
    interfaces: Vec<((String, Fingerprint), Bytes)>,
    shown: Shown,
}

/// This thread's part of the gauges, as last shown.
#[derive(Default)]
struct Shown {
    half_open: i64,
    attaching: i64,
    queued: i64,
    events: i64,
}

struct Drain {
    since: Instant,
    reason: GoAwayReason,
    total: usize,
    left: usize,
}

impl Sweep {
    pub(crate) fn new(now: Instant, limits: &Limits) -> Self {
        Self {
            next: now,
            part: 0,
            is_admitting: true,
            accept_rate: limits.accept_rate,
            accepts: 0,
            accepts_until: now,
            drain: None,
            drain_time: limits.drain,
            heads_from: None,
            heads_again: None,
            interfaces: Vec::new(),
            shown: Shown::default(),
        }
    }

    /// Longest wait for readiness.
    pub(crate) fn interval(&self) -> Duration {
        INTERVAL
    }

    /// Whether one more connection may be taken in this second.
    pub(crate) fn take_accept(&mut self, now: Instant) -> bool {
        if now >= self.accepts_until {
            self.accepts_until = now.after(Duration::from_secs(1));
            self.accepts = 0;
        }
        self.accepts += 1;
        self.accepts <= self.accept_rate
    }

    pub(crate) fn is_admitting(&self) -> bool {
        self.is_admitting && self.drain.is_none()
    }

    pub(crate) fn set_admitting(&mut self, is_admitting: bool) {
        self.is_admitting = is_admitting;
        if is_admitting && self.drain.as_ref().is_some_and(|drain| drain.reason == GoAwayReason::Cut) {
            self.drain = None;
        }
    }

    pub(crate) fn start_drain(&mut self, now: Instant, reason: GoAwayReason) {
        if self.drain.as_ref().is_some_and(|drain| drain.reason == GoAwayReason::Draining) {
            // A shutdown goes on as it began.
            return;
        }
        self.drain = Some(Drain { since: now, reason, total: 0, left: 0 });
    }

    /// Hints may be lost: every mailbox is compared with the store.
    pub(crate) fn check_all_heads(&mut self, now: Instant) {
        // A round under way goes on to its end, so that links that come and go do not keep it from there.
        self.heads_from.get_or_insert(0);
        self.heads_again = Some(now.after(SECOND_CHECK));
    }

    /// The next devices whose heads are to be compared, if such a round is under way.
    pub(crate) fn next_heads(&mut self, conns: &Slab<Conn>, count: usize, heads: &mut Vec<ConnId>) {
        let Some(from) = self.heads_from else { return };
        let mut index = from;
        while index < conns.capacity() && heads.len() < count {
            if let Some(conn) = conns.get(index)
                && let Phase::Attached(_) = conn.phase
            {
                heads.push(ConnId { index: index as u32, serial: conn.serial });
            }
            index += 1;
        }
        self.heads_from = (index < conns.capacity()).then_some(index);
    }

    pub(crate) fn put_interface_later(&mut self, scope: (String, Fingerprint), interface: Bytes) {
        if self.interfaces.len() < INTERFACES_MAX {
            self.interfaces.push((scope, interface));
        }
    }

    pub(crate) fn take_interfaces(&mut self) -> Vec<((String, Fingerprint), Bytes)> {
        std::mem::take(&mut self.interfaces)
    }
}

impl Reactor {
    /// Looks at the clock.
    pub(crate) fn sweep(&mut self) {
        if self.now < self.sweep.next {
            return;
        }
        self.sweep.next = self.now.after(INTERVAL);
        if self.sweep.heads_from.is_none() && self.sweep.heads_again.is_some_and(|due| due <= self.now) {
            self.sweep.heads_again = None;
            self.sweep.heads_from = Some(0);
        }
        self.forget_strangers();
        self.retry_sessions();
        self.retry_kicks();
        self.retry_interfaces();
        let part = self.sweep.part;
        self.sweep.part = (part + 1) % PARTS;
        let mut waiting = self.batches.waiting() + self.inbox.waiting();
        for index in (part..self.conns.capacity()).step_by(PARTS) {
            waiting += self.look_at(index as u32);
        }
        self.report_queued(waiting);
        self.drain_some();
    }

    /// One connection's deadlines; returns the work that waits for it.
    fn look_at(&mut self, index: u32) -> usize {
        let now = self.now;
        let limits = self.shared.config.limits;
        let Some(conn) = self.conns.get_mut(index as usize) else { return 0 };
        let id = ConnId { index, serial: conn.serial };
        let is_stale = !conn.input.is_empty() && now.since(conn.partial_since) >= limits.partial_frame;
        match &mut conn.phase {
            Phase::Greeting { since } | Phase::Shaking { since, .. } | Phase::Hello { since, .. }
                if now.since(*since) >= limits.hello_deadline =>
            {
                self.close(index, End::Reject(RejectCode::Malformed, 0));
            }
            Phase::Closing { until } if now >= *until => {
                self.take_out(index);
            }
            Phase::Attached(_) if is_stale => self.close(index, End::GoAway(GoAwayReason::Malformed, 0)),
            Phase::Attached(device) if device.is_old(now) && device.is_quiet() && conn.out.is_sealed() => {
                // New keys for a link that lasted long.
                self.close(index, End::GoAway(GoAwayReason::Renew, 0));
            }
            Phase::Attached(device) => {
                let waiting = usize::from(device.session.is_waiting()) + device.calls.len();
                let overdue = device.session.handle_timeout(now, &mut conn.out);
                let is_read_due = std::mem::take(&mut device.is_read_due);
                let is_renewal_due = now >= device.renewal;
                match overdue {
                    Overdue::Nothing(_) => {}
                    Overdue::Probe => {
                        self.shared.metrics.probes.inc();
                        self.mark(index);
                    }
                    Overdue::Silent => self.close(index, End::GoAway(GoAwayReason::Silent, 0)),
                    Overdue::Stuck => self.close(index, End::GoAway(GoAwayReason::Slow, 0)),
                }
                self.expire_calls(id);
                if is_read_due {
                    self.read_on(index);
                }
                if is_renewal_due {
                    self.renew_ticket(index);
                }
                return waiting;
            }
            Phase::Greeting { .. }
            | Phase::Shaking { .. }
            | Phase::Hello { .. }
            | Phase::Attaching(_)
            | Phase::Closing { .. } => {}
        }
        0
    }

    /// This thread's part of the queued work, seen by quarters and thus about four times as much in all; and
    /// what else waits here, for the gauges.
    fn report_queued(&mut self, waiting: usize) {
        if let Some(queued) = self.shared.queued.get(self.index) {
            queued.store(waiting * PARTS, std::sync::atomic::Ordering::Relaxed);
        }
        let (metrics, shown) = (&self.shared.metrics, &mut self.sweep.shown);
        Metrics::show(&metrics.queued, &mut shown.queued, waiting * PARTS);
        Metrics::show(&metrics.half_open, &mut shown.half_open, self.half_open);
        Metrics::show(&metrics.attaching, &mut shown.attaching, self.attaching);
        Metrics::show(&metrics.events_waiting_bytes, &mut shown.events, self.batches.events.bytes());
    }

    /// Sends away as many devices as are due by now, evenly over the drain time.
    fn drain_some(&mut self) {
        let Some(drain) = &mut self.sweep.drain else { return };
        let attached = |(_, conn): &(usize, &Conn)| matches!(conn.phase, Phase::Attached(_) | Phase::Attaching(_));
        let held = self.conns.iter().filter(attached).count();
        drain.total = drain.total.max(held + drain.left);
        let passed = self.now.since(drain.since).as_millis() as usize;
        // Half of the time, so that the last ones can still finish what they do.
        let time = (self.sweep.drain_time.as_millis() as usize / 2).max(1);
        let due = (drain.total * passed.min(time)).div_ceil(time);
        let is_late = passed >= time;
        let may_go = |(_, conn): &(usize, &Conn)| match &conn.phase {
            Phase::Attached(device) => is_late || (device.calls.is_empty() && device.session.in_flight() == 0),
            Phase::Attaching(_) => true,
            _ => false,
        };
        let count = due.saturating_sub(drain.left);
        let some: Vec<u32> = self.conns.iter().filter(may_go).take(count).map(|(index, _)| index as u32).collect();
        drain.left += some.len();
        let reason = drain.reason;
        for index in some {
            let is_attached = self.conns.get_mut(index as usize).is_some_and(|conn| conn.device().is_some());
            let end = if is_attached { End::GoAway(reason, 0) } else { End::Reject(RejectCode::NoServer, 1) };
            self.close(index, end);
        }
    }
}
