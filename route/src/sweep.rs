//! The sweep: one task looks after everything that waits, so that no request needs a timer of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use imlink_protocol::link::backend::State;

use crate::call;
use crate::core::{Core, poll_now};
use crate::kick;
use crate::outgoing::Outgoing;
use crate::push::{look_after, settle};

/// Sweeps while anything waits, until the route stops.
pub(crate) async fn sweep(core: Arc<Core>) {
    let looking_up = Arc::new(AtomicUsize::new(0));
    let mut stopped = pin!(core.stopped.cancelled());
    loop {
        let pause = async {
            if is_idle(&core) {
                core.waiters.some.notified().await;
            }
            tokio::time::sleep(PERIOD).await;
        };
        tokio::select! {
            () = pause => {}
            () = stopped.as_mut() => return,
        }
        once(&core, &looking_up);
    }
}

fn is_idle(core: &Core) -> bool {
    core.waiters.len() == 0 && core.calls.is_empty() && core.kicks.is_empty() && core.lookups.is_empty()
}

fn once(core: &Arc<Core>, looking_up: &Arc<AtomicUsize>) {
    let now = Instant::now();
    let mut out = Outgoing::default();
    core.lookups.sweep(now, &mut out);

    let swept = core.calls.sweep(now);
    call::end_over(core, swept.over, now, &mut out);
    for (number, device, seat) in swept.to_check {
        core.tasks.spawn(call::check(core.clone(), number, device, seat));
    }
    kick::sweep(core, now);

    let room = core.config.limits.state_lookups_max.saturating_sub(looking_up.load(Ordering::Relaxed));
    let visit_all = core.has_abandoned.swap(false, Ordering::Relaxed);
    let mut due = Vec::new();
    core.waiters.due(now, visit_all, room, &mut due, |waiter| {
        settle(core, waiter, State::Unknown, now, &mut out);
    });
    out.flush();
    for one in due {
        if core.is_immediate && poll_now(pin!(look_after(core, &one.device, one.id))).is_some() {
            continue;
        }
        looking_up.fetch_add(1, Ordering::Relaxed);
        let (core, looking_up) = (core.clone(), looking_up.clone());
        core.clone().tasks.spawn(async move {
            look_after(&core, &one.device, one.id).await;
            looking_up.fetch_sub(1, Ordering::Relaxed);
        });
    }
    core.metrics.in_flight.set(i64::try_from(core.in_flight()).unwrap_or(i64::MAX));
}

/// How late a deadline may be noticed.
const PERIOD: Duration = Duration::from_millis(20);
