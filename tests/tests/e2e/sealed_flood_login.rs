//! Twenty thousand hostile connections at a route's login port, while devices go on logging in.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use imlink_tests::cluster::Cluster;
use imlink_tests::sealed::{Flashed, claim};
use imlink_tests::wait::eventually;

use crate::hostile::{Attack, Effect};
use crate::sealed::view;
use crate::sealed_keys::redirected;

/// Devices that log in meanwhile.
const DEVICES: usize = 16;

/// Devices that log in by turns, each with its next connection.
struct Comers {
    flashed: Vec<Flashed>,
    route: SocketAddr,
    logins: usize,
}

impl Comers {
    /// Times from connecting to `Redirect`, of a login every 8 ms, until `is_over`.
    async fn log_in_until(&mut self, mut is_over: impl FnMut(usize) -> bool) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_millis(8));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !is_over(times.len()) {
            tick.tick().await;
            let flashed = &self.flashed[self.logins % DEVICES];
            self.logins += 1;
            let began = Instant::now();
            redirected(flashed, self.route, claim(7, self.logins as u32)).await;
            times.push(began.elapsed());
        }
        times
    }
}

#[tokio::test]
async fn twenty_thousand_hostile_connections_keep_no_device_from_logging_in() {
    let cluster = Cluster::start(1, 1, &[]).await;
    let route = &cluster.routes[0];
    let api = route.api();
    let mut comers = Comers { flashed: Vec::new(), route: route.devices(), logins: 0 };
    let mut recorded = Vec::new();
    for number in 0..DEVICES {
        let flashed = Flashed::provision(&api, &format!("lamp-{number}")).await;
        // Of another boot: nothing speaks against them before they are answered.
        recorded.extend((2..=64).map(|attempt| flashed.login(claim(8, attempt)).frame));
        comers.flashed.push(flashed);
    }
    let before = view(&api, "lamp-0").await;
    comers.log_in_until(|count| count >= 100).await;
    let quiet = comers.log_in_until(|count| count >= 600).await;
    let memory = route.process().memory();
    let attack = Attack::start(route.devices(), recorded);
    let mut peak = memory;
    let flooded = comers
        .log_in_until(|count| {
            if count % 20 == 0 {
                peak = peak.max(route.process().memory());
            }
            attack.is_done()
        })
        .await;
    let effect = Effect { made: attack.end(), quiet, flooded, grown: peak.saturating_sub(memory) };
    for reason in ["malformed", "attempt-open", "overloaded", "untold", "address", "crowded-out"] {
        println!("{reason}: {}", api.metric("imlink_route_rejects_total", &format!("reason=\"{reason}\"")).await);
    }
    effect.judge("login", 300);
    let redirected = api.metric("imlink_route_logins_total", "outcome=\"Redirected\"").await;
    assert_eq!(redirected, comers.logins as f64, "nobody else came in");
    assert_eq!(view(&api, "lamp-0").await, before, "and nothing changed");
    eventually("the last stranger is gone", Duration::from_secs(15), async || {
        (api.metric("imlink_route_half_open", "").await == 0.0).then_some(())
    })
    .await;
    assert!(!route.log().contains("panicked"));
}
