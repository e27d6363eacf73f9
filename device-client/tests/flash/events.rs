//! Events in flash, over power that fails at any write and servers that come and go.

use std::time::Duration;

use imlink_device_client::flash::{FlashQueue, KeptEvents, OpenError};
use imlink_device_client::tokio::{TokioClock, TokioRng};
use imlink_device_client::{Client, Config, ConfigError, Key, NoopRawMutex, Overflow, PublishError, Shared, State};
use tokio::task::LocalSet;

use crate::RANGE;
use crate::gateway::{Gateway, Mood};
use crate::nor::{Nor, PAGE, SIZE};

/// A buffer that bounds payloads to 96 bytes.
pub(crate) type Queue = FlashQueue<Nor, 128>;
pub(crate) type Events<'a> = KeptEvents<'a, Shared<NoopRawMutex, TokioClock>, NoopRawMutex, Nor, 128>;
pub(crate) type Lamp<'a> = Client<'a, Shared<NoopRawMutex, TokioClock>>;

const KEY: Key = Key([1, 2, 3, 4]);
/// Longer than the longest back-off.
const PATIENCE: Duration = Duration::from_secs(1000);

pub(crate) async fn open(nor: &Nor) -> Result<Queue, OpenError> {
    Queue::open(nor.clone(), RANGE, &mut TokioRng).await
}

/// One power-on of a device that has `queue`: from its first instruction until `life` is over.
pub(crate) async fn power_on<R>(
    gateway: &Gateway,
    queue: Queue,
    overflow: Overflow,
    life: impl AsyncFnOnce(&Events<'_>, Lamp<'_>) -> R,
) -> R {
    let routes = ["127.0.0.1:1"];
    let config = Config { events: Some(queue.start()), overflow, ..Config::plain("lamp-1", &routes) };
    let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
    let mut device = imlink_device_client::new(&mut state, config, gateway.clone(), TokioRng).unwrap();
    let events = device.client.kept_in(queue).unwrap();
    tokio::select! {
        ended = device.runner.run() => panic!("the device stopped: {ended:?}"),
        never = events.run() => match never {},
        result = life(&events, device.client) => result,
    }
}

async fn stored(gateway: &Gateway, count: usize) {
    let all = async {
        while gateway.count() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, all).await;
    done.unwrap_or_else(|_| panic!("{} of {count} events came", gateway.count()));
}

fn numbers(gateway: &Gateway) -> Vec<u64> {
    gateway.stored().iter().map(|(_, number, _)| *number).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_published_while_the_server_was_away_arrives_after_power_losses_once_and_in_order() {
    let (nor, gateway) = (Nor::new(0xff), Gateway::new());
    let local = LocalSet::new();
    local
        .run_until(async {
            gateway.set(Mood::Away);
            // Far more than the 192 bytes of the State hold.
            for boot in 0..3u8 {
                let queue = open(&nor).await.unwrap();
                power_on(&gateway, queue, Overflow::RefuseNewest, async |events, _| {
                    for count in 0..20u8 {
                        let number = events.publish(KEY, &[boot, count]).await;
                        assert_eq!(number, Ok(u64::from(boot) * 20 + u64::from(count) + 1));
                    }
                })
                .await;
            }
            gateway.set(Mood::Well);
            let queue = open(&nor).await.unwrap();
            power_on(&gateway, queue, Overflow::RefuseNewest, async |events, client| {
                assert_eq!(events.publish(KEY, &[3, 0]).await, Ok(61));
                stored(&gateway, 61).await;
                let acknowledged = client.wait_for(|_, counts| counts.stored == 61);
                tokio::time::timeout(PATIENCE, acknowledged).await.expect("all are acknowledged");
            })
            .await;
        })
        .await;
    let expected: Vec<_> = (0..61u8).map(|count| vec![count / 20, count % 20]).collect();
    let stored = gateway.stored();
    assert_eq!(stored.iter().map(|(_, _, payload)| payload.clone()).collect::<Vec<_>>(), expected);
    assert_eq!(numbers(&gateway), (1..=61).collect::<Vec<_>>());
    assert!(stored.iter().all(|(queue, ..)| *queue == stored[0].0), "it is one queue");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_sent_and_not_acknowledged_when_power_failed_is_stored_once() {
    let (nor, gateway) = (Nor::new(0xff), Gateway::new());
    let local = LocalSet::new();
    local
        .run_until(async {
            gateway.set(Mood::Mute);
            let queue = open(&nor).await.unwrap();
            power_on(&gateway, queue, Overflow::RefuseNewest, async |events, client| {
                for count in 0..12u8 {
                    events.publish(KEY, &[count]).await.unwrap();
                }
                stored(&gateway, 8).await;
                assert_eq!(client.event_counts().stored, 0, "no acknowledgement came");
            })
            .await;
            gateway.set(Mood::Well);
            let queue = open(&nor).await.unwrap();
            power_on(&gateway, queue, Overflow::RefuseNewest, async |_, _| stored(&gateway, 12).await).await;
        })
        .await;
    assert_eq!(numbers(&gateway), (1..=12).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_the_newest_or_drops_the_oldest_page_and_counts() {
    for overflow in [Overflow::RefuseNewest, Overflow::DropOldest] {
        let (nor, gateway) = (Nor::new(0xff), Gateway::new());
        let local = LocalSet::new();
        let (kept, counts) = local
            .run_until(async {
                gateway.set(Mood::Away);
                let queue = open(&nor).await.unwrap();
                power_on(&gateway, queue, overflow, async |events, client| {
                    let mut kept = Vec::new();
                    for count in 0..300u16 {
                        match events.publish(KEY, &count.to_le_bytes()).await {
                            Ok(_) => kept.push(count),
                            Err(error) => assert_eq!(error, PublishError::Full),
                        }
                    }
                    let counts = client.event_counts();
                    gateway.set(Mood::Well);
                    stored(&gateway, counts.published as usize - lost(overflow, counts.dropped)).await;
                    assert_eq!(events.failures().await, 0);
                    (kept, counts)
                })
                .await
            })
            .await;
        let came: Vec<u16> = gateway.stored().iter().map(|(.., p)| u16::from_le_bytes([p[0], p[1]])).collect();
        assert!(counts.dropped > 100, "{counts:?}");
        match overflow {
            Overflow::RefuseNewest => {
                assert_eq!((counts.published, counts.dropped), (kept.len() as u32, 300 - kept.len() as u32));
                assert!(kept.len() > SIZE / 32 * 9 / 10, "{} events fit {SIZE} bytes", kept.len());
                assert_eq!(came, kept);
                assert_eq!(numbers(&gateway), (1..=kept.len() as u64).collect::<Vec<_>>(), "no gap");
            }
            Overflow::DropOldest => {
                assert_eq!(counts.published, 300);
                let (old, new) = came.split_at(came.iter().zip(0..).take_while(|(came, count)| *came == count).count());
                // What was on its way to be sent stays; of the rest the newest, less than a page short of all that fits.
                assert!(old.len() >= 8 && new.len() > (SIZE - PAGE) / 32 * 9 / 10, "{} and {}", old.len(), new.len());
                assert_eq!(new, (300 - new.len() as u16..300).collect::<Vec<_>>());
                assert_eq!(came.len(), 300 - counts.dropped as usize);
            }
        }
    }
}

/// How many of those published are lost.
fn lost(overflow: Overflow, dropped: u32) -> usize {
    if overflow == Overflow::DropOldest { dropped as usize } else { 0 }
}

#[tokio::test(start_paused = true)]
async fn an_event_costs_one_record_and_a_page_is_erased_once_when_it_is_filled() {
    let (nor, gateway) = (Nor::new(0xff), Gateway::new());
    let local = LocalSet::new();
    local
        .run_until(async {
            let queue = open(&nor).await.unwrap();
            power_on(&gateway, queue, Overflow::RefuseNewest, async |events, client| {
                for count in 0..1000u32 {
                    events.publish(KEY, &[0; 8]).await.unwrap();
                    client.wait_for(|_, counts| counts.stored == count + 1).await;
                }
            })
            .await;
        })
        .await;
    // 8 bytes in front, 17 and the payload, to whole words: 36.
    let pages = 1000 * 36 / PAGE;
    assert!((pages..=pages + pages / 8).contains(&nor.erased()), "{} pages were erased, {pages} filled", nor.erased());
}

#[tokio::test]
async fn what_cannot_work_is_refused_by_name() {
    let nor = Nor::new(0x5a);
    for range in [0..PAGE as u32, 1..SIZE as u32, SIZE as u32..0] {
        let opened = Queue::open(nor.clone(), range, &mut TokioRng).await;
        assert_eq!(opened.err(), Some(OpenError::Flash(imlink_device_client::flash::FlashError::Range)));
    }
    let routes = ["127.0.0.1:1"];
    let (queue, other) = (open(&nor).await.unwrap(), open(&nor).await.unwrap());
    let config = Config { events: Some(queue.start()), ..Config::plain("lamp-1", &routes) };
    let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
    let device = imlink_device_client::new(&mut state, config, Gateway::new(), TokioRng).unwrap();
    let refused = device.client.kept_in::<NoopRawMutex, _, 128>(other);
    assert_eq!(refused.err(), Some(ConfigError::EventQueue));
    assert_eq!(device.client.publish(KEY, b""), Err(PublishError::InFlash));
    let events: Events<'_> = device.client.kept_in(queue).unwrap();
    assert_eq!(events.publish(KEY, &[0; 97]).await, Err(PublishError::TooLarge { max: 96 }));
    assert_eq!(events.publish(KEY, &[0; 96]).await, Ok(1));
    nor.fail_after(0);
    let failed = events.publish(KEY, b"").await;
    assert!(matches!(failed, Err(PublishError::Flash(_))), "{failed:?}");
    assert_eq!(events.failures().await, 1);
}
