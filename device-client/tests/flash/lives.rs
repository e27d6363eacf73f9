//! Lives of a device: events published over power that fails anywhere, beside a gateway of any mood.
//!
//! Each life is drawn from a seed; a failure names it. `LIFE=SEED cargo nextest run -p imlink-device-client lives` replays it.

use std::time::Duration;

use imlink_device_client::{Key, Overflow, PublishError};
use tokio::task::LocalSet;

use crate::events::{Events, open, power_on};
use crate::gateway::{Gateway, Mood};
use crate::nor::{Nor, PAGE};

/// Lives of one run: about two seconds.
const LIVES: u64 = 300;
/// Most events in the 192 bytes of the State.
const STATE_HOLDS: usize = 192 / 13;
const KEY: Key = Key([1, 2, 3, 4]);

/// splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn mood(&mut self) -> Mood {
        [Mood::Well, Mood::Away, Mood::Away, Mood::Mute, Mood::Abrupt][self.below(5) as usize]
    }
}

/// What became of the events published so far.
#[derive(Default)]
struct Ledger {
    published: u32,
    /// (number, event) of those that were said to be kept.
    kept: Vec<(u64, u32)>,
    dropped: u32,
    power_losses: usize,
}

impl Ledger {
    /// Publishes events until the power fails or enough are.
    async fn publish(&mut self, draw: &mut Draw, events: &Events<'_>, gateway: &Gateway, nor: &Nor) {
        for _ in 0..draw.below(80) {
            let event = self.published;
            self.published += 1;
            let mut payload = event.to_le_bytes().to_vec();
            payload.resize(4 + draw.below(60) as usize, event as u8);
            let publish = events.publish(KEY, &payload);
            let told = if draw.below(8) == 0 {
                // Dropped after some words of flash.
                nor.set_slow(true);
                let told = tokio::select! {
                    biased;
                    told = publish => Some(told),
                    () = yields(draw.below(30)) => None,
                };
                nor.set_slow(false);
                told
            } else {
                Some(publish.await)
            };
            match told {
                Some(Ok(number)) => self.kept.push((number, event)),
                Some(Err(PublishError::Full | PublishError::Flash(_))) | None => {}
                Some(Err(error)) => panic!("{error:?}"),
            }
            if nor.has_failed() {
                return;
            }
            match draw.below(10) {
                0 => gateway.set(draw.mood()),
                1 => tokio::time::sleep(Duration::from_millis(draw.below(20_000))).await,
                2 => yields(draw.below(20)).await,
                _ => {}
            }
        }
        // Acknowledgements on their way, notes in flash.
        tokio::time::sleep(Duration::from_millis(draw.below(2000))).await;
    }

    /// Each that was kept was stored once, under its number, in the order of all.
    fn check(&self, gateway: &Gateway, overflow: Overflow) {
        let stored = gateway.stored();
        let came = stored.iter().map(|(queue, number, payload)| {
            let event = u32::from_le_bytes(payload[..4].try_into().unwrap());
            assert!(payload[4..].iter().all(|byte| *byte == event as u8), "event {event} is damaged");
            (*queue, *number, event)
        });
        let came: Vec<_> = came.collect();
        for pair in came.windows(2) {
            assert!(pair[0].1 < pair[1].1 && pair[0].2 < pair[1].2, "{:?} came before {:?}", pair[0], pair[1]);
            // A queue is new only when nothing was ever kept.
            assert_eq!(pair[0].0, pair[1].0, "the queue is another");
        }
        let lost = self.kept.iter().filter(|(number, event)| {
            let found = came.binary_search_by_key(number, |(_, number, _)| *number);
            assert!(
                found.is_err() || found.is_ok_and(|at| came[at].2 == *event),
                "number {number} is of another event"
            );
            found.is_err()
        });
        let lost = lost.count();
        if overflow == Overflow::RefuseNewest {
            assert_eq!(lost, 0, "events that were kept never came");
        } else {
            // Of a page that was dropped, those that were to be sent next are not counted; nor is anything when power
            // fails at that moment.
            let most = self.dropped as usize + self.power_losses * (STATE_HOLDS + PAGE / 28);
            assert!(lost <= most, "{lost} are lost, {} were counted as dropped", self.dropped);
        }
    }
}

async fn yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

async fn live(seed: u64) {
    let mut draw = Draw(seed);
    let (nor, gateway) = (Nor::new([0xff, 0x00, 0x5a][draw.below(3) as usize]), Gateway::new());
    let overflow = if draw.below(4) == 0 { Overflow::DropOldest } else { Overflow::RefuseNewest };
    let mut ledger = Ledger::default();
    for _ in 0..draw.below(12) {
        nor.power_on();
        if draw.below(5) > 0 {
            let words = [8, 60, 900][draw.below(3) as usize];
            nor.tear_after(draw.below(words) as usize, draw.below(u64::MAX));
        }
        gateway.set(draw.mood());
        // Opening writes nothing.
        let queue = open(&nor).await.unwrap();
        power_on(&gateway, queue, overflow, async |events, client| {
            ledger.publish(&mut draw, events, &gateway, &nor).await;
            ledger.dropped += client.event_counts().dropped;
        })
        .await;
        ledger.power_losses += 1;
    }
    nor.power_on();
    gateway.set(Mood::Well);
    let queue = open(&nor).await.unwrap();
    power_on(&gateway, queue, overflow, async |events, client| {
        // Behind all that is still there, once there is room for it.
        let event = ledger.published.to_le_bytes();
        let number = loop {
            match events.publish(KEY, &event).await {
                Ok(number) => break number,
                Err(error) => assert_eq!(error, PublishError::Full),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        ledger.dropped += client.event_counts().dropped;
        let last = async {
            while gateway.stored().last().is_none_or(|(_, last, _)| *last < number) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1000), last).await.expect("the last event never came");
    })
    .await;
    ledger.check(&gateway, overflow);
}

#[tokio::test(start_paused = true)]
async fn no_event_that_was_kept_is_lost_or_doubled_or_out_of_order_wherever_power_fails() {
    let only = std::env::var("LIFE").ok().map(|seed| seed.parse().expect("LIFE is a number"));
    for seed in only.map_or(0..LIVES, |seed| seed..seed + 1) {
        println!("LIFE={seed}");
        LocalSet::new().run_until(live(seed)).await;
    }
}
