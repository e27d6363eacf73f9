//! One simulated device: the real client in one task.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use embassy_futures::select::{select, select4};
use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Calls, Client, Link, Messages, NoopRawMutex, Shared, State, interface};
use imlink_protocol::key_pair::{Psk, PublicKey};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Speaks};
use crate::ledger::Ledger;
use crate::live::Live;
use crate::pace::Pace;

interface! {
    /// What simulated devices speak, all raw bytes.
    pub INTERFACE {
        Message LED = "led/set";
        Message CMD = "cmd";
        Call ECHO = "echo";
        Event TELEMETRY = "telemetry";
    }
}

/// Largest frame a simulated device takes.
const FRAME: usize = 2048;
/// Largest write; events and replies fit.
const OUT: usize = 1024;
/// Calls that wait, and replies.
const CALLS: usize = 256;
/// Events that wait.
const EVENTS: usize = 1024;
/// Largest payload of an event, in bytes.
pub const PAYLOAD_MAX: usize = OUT - 35;

type Memory = Shared<NoopRawMutex, TokioClock, FRAME, CALLS, EVENTS>;

const _: () = assert!(size_of::<State<NoopRawMutex, TokioClock, FRAME, OUT, FRAME, CALLS, EVENTS>>() <= 8192);

/// Connections from one address to one server: Linux has about 28,000 ports for it.
const DEVICES_PER_SOURCE: u32 = 20_000;
/// Longest time to leave in good order.
const LEAVING_MAX: Duration = Duration::from_secs(5);

/// What all devices of a thread share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
    pub(crate) live: std::sync::Arc<Live>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) clock: TokioClock,
}

/// What the parts of one device share.
struct Own<'a> {
    context: &'a Context,
    id: &'a str,
    published: RefCell<VecDeque<Instant>>,
    seen: Cell<Seen>,
}

/// What was counted already.
#[derive(Clone, Copy, Default)]
struct Seen {
    link: Option<Link>,
    stored: u32,
}

/// Runs device `index` until shutdown.
pub(crate) async fn run(context: Rc<Context>, index: u32) {
    let config = &context.config;
    let id = config.device_id(index);
    let texts: Vec<String> = config.routes.iter().map(SocketAddr::to_string).collect();
    let mut routes: Vec<&str> = texts.iter().map(String::as_str).collect();
    let turn = index as usize % routes.len();
    routes.rotate_left(turn);
    let proof = config
        .keys
        .as_ref()
        .map(|keys| (keys.private_key(&id), keys.route_keys.map(|PublicKey(key)| key), keys.psk.clone()));
    let device_config = imlink_device_client::Config {
        tenant: &config.tenant,
        window: config.window,
        interface: match config.speaks {
            Speaks::Interface => INTERFACE,
            Speaks::Anything => imlink_device_client::Interface::NONE,
        },
        keys: proof.as_ref().map(|(private_key, route_keys, psk)| imlink_device_client::Keys {
            private_key: private_key.bytes(),
            route_keys,
            psk: psk.as_ref().map(Psk::bytes),
        }),
        ..imlink_device_client::Config::plain(&id, &routes)
    };
    let mut state = State::<NoopRawMutex, _, FRAME, OUT, FRAME, CALLS, EVENTS>::new(context.clock);
    let stack = TokioStack { source: source(&config.routes, config.first.saturating_add(index)) };
    let mut device = match imlink_device_client::new(&mut state, device_config, stack, TokioRng) {
        Ok(device) => device,
        Err(error) => return context.live.handle_error(error.to_string()),
    };
    let own = Own { context: &context, id: &id, published: RefCell::default(), seen: Cell::default() };
    let client = device.client;
    let runner = async {
        if let Err(error) = device.runner.run().await {
            context.live.handle_error(error.to_string());
        }
    };
    let work =
        select4(runner, own.handle_messages(&mut device.messages), own.handle_calls(client.calls()), own.act(client));
    select(work, own.watch(client)).await;
    own.look(client);
}

/// Where to connect from: one address of the loopback network for each 20,000 devices.
fn source(routes: &[SocketAddr], number: u32) -> Option<IpAddr> {
    let is_local = routes.iter().all(|route| route.is_ipv4() && route.ip().is_loopback());
    let block = u8::try_from(number / DEVICES_PER_SOURCE % 250).unwrap_or_default();
    (is_local && block > 0).then(|| IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + block)))
}

impl Own<'_> {
    async fn handle_messages(&self, messages: &mut Messages<'_, Memory>) {
        let live = &self.context.live;
        loop {
            let message = messages.next().await;
            self.handler_time().await;
            if self.context.ledger.is_kept() {
                let (id, is_redelivered) = (message.id(), message.is_redelivered());
                message.payload(|payload| self.context.ledger.record(self.id, id, is_redelivered, payload));
            }
            live.messages.fetch_add(1, Relaxed);
            live.redelivered.fetch_add(u64::from(message.is_redelivered()), Relaxed);
            message.ack().await;
        }
    }

    async fn handle_calls(&self, calls: Calls<'_, Memory>) {
        loop {
            let call = calls.next().await;
            self.handler_time().await;
            let mut reply = [0; CALLS];
            let len = call.payload(|payload| {
                let len = payload.len().min(reply.len());
                reply[..len].copy_from_slice(&payload[..len]);
                len
            });
            if call.reply(&reply[..len.unwrap_or_default()]).await.is_ok() {
                self.context.live.calls.fetch_add(1, Relaxed);
            }
        }
    }

    async fn handler_time(&self) {
        if self.context.config.handler_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.context.config.handler_ms)).await;
        }
    }

    /// Publishes and reconnects at its pace until shutdown, then leaves.
    async fn act(&self, client: Client<'_, Memory>) {
        let config = &self.context.config;
        let mut events = Pace::new(config.event_rate, config.devices, random());
        let mut churn = Pace::new(config.churn, config.devices, random());
        let payload = vec![0x2a; config.event_size];
        loop {
            let next = [events.next(), churn.next()].into_iter().flatten().min();
            let pause = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                () = self.context.shutdown.cancelled() => break,
            }
            let now = Instant::now();
            if events.take(now) {
                self.publish(client, &payload, now);
            }
            if churn.take(now) {
                client.reconnect();
            }
        }
        // The runner ends when the device has left, and this task with it.
        client.stop();
        tokio::time::sleep(LEAVING_MAX).await;
    }

    fn publish(&self, client: Client<'_, Memory>, payload: &[u8], now: Instant) {
        let live = &self.context.live;
        if client.publish(TELEMETRY, payload).is_ok() {
            self.published.borrow_mut().push_back(now);
            live.events_published.fetch_add(1, Relaxed);
        } else {
            live.events_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Counts what happens to the link and to events.
    async fn watch(&self, client: Client<'_, Memory>) {
        loop {
            let seen = self.seen.get();
            client.wait_for(|link, events| Some(*link) != seen.link || events.stored != seen.stored).await;
            self.look(client);
        }
    }

    fn look(&self, client: Client<'_, Memory>) {
        let live = &self.context.live;
        let (link, stored) = (client.link(), client.event_counts().stored);
        let before = self.seen.replace(Seen { link: Some(link), stored });
        let epoch = |link: Link| link.is_attached().then_some(link.epoch);
        let (was, is) = (before.link.and_then(epoch), epoch(link));
        if was.is_some() && was != is {
            live.attached.fetch_sub(1, Relaxed);
        }
        if is.is_some() && was != is {
            live.handle_attached(self.context.config.devices.into());
        }
        let failures = before.link.map_or(0, |link| link.failures);
        if let Some(error) = link.last_error.filter(|_| link.failures != failures) {
            live.handle_error(error.to_string());
        }
        let now = Instant::now();
        let mut published = self.published.borrow_mut();
        let count = (stored.wrapping_sub(before.stored) as usize).min(published.len());
        published.drain(..count).for_each(|at| live.handle_event_stored(now - at));
        live.events_stored.fetch_add(count as u64, Relaxed);
    }
}

/// From 0 to 1.
fn random() -> f64 {
    use imlink_device_client::Rng as _;
    let mut bytes = [0; 4];
    // Without randomness the devices act in step, which is no fault of the system under test.
    let _ = TokioRng.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}
