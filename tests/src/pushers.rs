//! Backends that push all at once: over HTTP and over the backend link, to all routes, with faults around them.
//!
//! Each pusher sends one message after the other, so that the ids of its messages to one device must grow. When its route
//! is gone it goes on at the next one. A pusher with keys repeats what has no clear answer until it has one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imlink_backend_client::{Client, Error, Failure, Message, State, Wait};
use imlink_protocol::MessageId;

use crate::api::Api;
use crate::fleet::{Fleet, PATH, PAYLOAD_MAX};
use crate::ledger::{Hash, Sent, Told};
use crate::node::{Node, TOKEN};

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(8);
/// Longest time for a whole load.
const END: Duration = Duration::from_secs(120);
/// How long a pusher with keys repeats what stays unclear: after a store was away, nobody may know any more.
const REPEAT: Duration = Duration::from_secs(10);
/// Pause before a refused pusher asks again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is pushed.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Messages in all.
    pub messages: usize,
    /// Devices they go to.
    pub devices: usize,
    /// Pushers, half of them over HTTP.
    pub pushers: usize,
    /// Number of the first pusher; two loads in one ledger have different ones.
    pub first: u32,
}

/// A running load.
pub struct Pushers {
    tasks: Vec<tokio::task::JoinHandle<Vec<Sent>>>,
    progress: Arc<Progress>,
}

/// How far they are, and what holds them up.
#[derive(Default)]
struct Progress {
    done: AtomicUsize,
    troubles: Mutex<BTreeMap<u32, String>>,
}

impl Progress {
    fn trouble(&self, pusher: u32, what: String) {
        self.troubles.lock().expect("no holder panics").insert(pusher, what);
    }

    fn answered(&self, pusher: u32) {
        self.troubles.lock().expect("no holder panics").remove(&pusher);
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pushers {
    /// Starts pushing at `routes`.
    pub async fn start(load: Load, routes: &[Node]) -> Self {
        let progress = Arc::new(Progress::default());
        let links: Vec<SocketAddr> = routes.iter().map(Node::backends).collect();
        let apis: Vec<Api> = routes.iter().map(Node::api).collect();
        let clients = clients(&links).await;
        let each = load.messages.div_ceil(load.pushers);
        let tasks = (0..load.pushers).map(|index| {
            let at = index / 4;
            let way = if index % 2 == 0 { Way::Http(apis.clone(), at) } else { Way::Link(clients.clone(), at) };
            let pusher = Pusher { load, number: load.first + index as u32, way, is_keyed: index / 2 % 2 == 1 };
            tokio::spawn(pusher.push(each, progress.clone()))
        });
        Self { tasks: tasks.collect(), progress }
    }

    /// Messages that have come to an answer, whatever it is.
    pub fn answered(&self) -> usize {
        self.progress.done.load(Ordering::Relaxed)
    }

    /// Waits for the last answer.
    ///
    /// # Panics
    /// When it takes longer than two minutes, with what holds the pushers up.
    pub async fn end(self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let deadline = tokio::time::Instant::now() + END;
        for task in self.tasks {
            let Ok(ended) = tokio::time::timeout_at(deadline, task).await else {
                let troubles = self.progress.troubles.lock().expect("no holder panics").clone();
                panic!("pushers still push after {END:?}: {troubles:#?}");
            };
            sent.extend(ended.expect("a pusher does not panic"));
        }
        sent
    }
}

/// One client for each route, so that the route it speaks to is known.
async fn clients(links: &[SocketAddr]) -> Vec<Client> {
    let mut clients = Vec::new();
    for link in links {
        clients.push(Client::connect(&link.to_string(), TOKEN, "pusher").await.expect("a link to every route"));
    }
    clients
}

enum Way {
    Http(Vec<Api>, usize),
    Link(Vec<Client>, usize),
}

/// What came of one attempt.
enum Came {
    Told(Told),
    /// Nothing was stored for sure, and why; it can be sent again.
    Nothing(String),
    /// Nobody knows, and why.
    Unclear(String),
}

struct Pusher {
    load: Load,
    number: u32,
    way: Way,
    is_keyed: bool,
}

impl Pusher {
    async fn push(mut self, count: usize, progress: Arc<Progress>) -> Vec<Sent> {
        let mut all = Vec::with_capacity(count);
        for step in 0..count {
            // Pushers meet at devices: each walks over all of them from a place of its own.
            let device = Fleet::device((self.number as usize * 31 + step * 7) % self.load.devices);
            let payload = payload(self.number, step as u32);
            let key = format!("k-{}-{step}", self.number);
            let wait = if step % 2 == 0 { Wait::Acked } else { Wait::Stored };
            let began = Instant::now();
            let told = loop {
                match self.attempt(&device, &payload, &key, wait).await {
                    Came::Told(told) => break told,
                    Came::Unclear(_) if !self.is_keyed || began.elapsed() > REPEAT => break Told::Unclear,
                    Came::Nothing(why) | Came::Unclear(why) => {
                        progress.trouble(self.number, format!("{device} {key}: {why}"));
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                self.turn();
            };
            let (client, hash) = (self.number, Hash::of(&payload));
            all.push(Sent { client, device, path: PATH.into(), hash, told, told_ms: now_ms() });
            progress.answered(self.number);
        }
        all
    }

    /// On to the next route.
    fn turn(&mut self) {
        match &mut self.way {
            Way::Http(_, at) | Way::Link(_, at) => *at += 1,
        }
    }

    async fn attempt(&self, device: &str, payload: &[u8], key: &str, wait: Wait) -> Came {
        match &self.way {
            Way::Http(apis, at) => self.over_http(&apis[at % apis.len()], device, payload, key, wait).await,
            Way::Link(clients, at) => {
                let message = Message { wait, ..Message::new(device, PATH, payload) }.timeout(ANSWER);
                let message = if self.is_keyed { message.idempotency_key(key) } else { message };
                over_link(&clients[at % clients.len()], &message).await
            }
        }
    }

    async fn over_http(&self, api: &Api, device: &str, payload: &[u8], key: &str, wait: Wait) -> Came {
        let wait = if wait == Wait::Acked { "acked" } else { "stored" };
        let path = format!("/v1/devices/{device}/messages/{PATH}?wait={wait}&timeout={}", ANSWER.as_secs());
        let mut request = api.posting(&path, payload);
        if self.is_keyed {
            request = request.header("idempotency-key", key);
        }
        let answer = match api.try_ask(request).await {
            Ok(answer) => answer,
            Err(why) if why.is_connect() => return Came::Nothing(format!("{why:?}")),
            Err(why) => return Came::Unclear(format!("{why:?}")),
        };
        match (answer.status, answer.problem().as_str()) {
            (200 | 202, _) => match (answer.text("id").parse(), answer.text("state").as_str()) {
                (Ok(id), "acked") => Came::Told(Told::Acked(id)),
                (Ok(id), _) => Came::Told(Told::Stored(id)),
                (Err(_), _) => panic!("no id in {answer:?}"),
            },
            (503, "store-away" | "draining") | (429, _) => Came::Nothing(answer.json().to_string()),
            (503 | 500, _) => Came::Unclear(answer.json().to_string()),
            _ => panic!("{device}: {} {}", answer.status, answer.json()),
        }
    }
}

async fn over_link(client: &Client, message: &Message<'_>) -> Came {
    match client.send(message).await {
        Ok(sent) if sent.state == State::Acked => Came::Told(Told::Acked(sent.id)),
        Ok(sent) => Came::Told(Told::Stored(sent.id)),
        Err(error) if error.may_be_done() => Came::Unclear(error.to_string()),
        Err(error) if is_undone(&error) => Came::Nothing(error.to_string()),
        Err(error) => panic!("{}: {error}", message.device),
    }
}

/// Whether nothing was stored, and trying again is right.
fn is_undone(error: &Error) -> bool {
    let again = |failure| matches!(failure, Failure::StoreAway | Failure::Draining | Failure::Overloaded);
    matches!(error, Error::NotConnected | Error::Full { .. }) || error.failure().is_some_and(again)
}

/// A payload like no other: who, which, and 0 … 1,900 bytes behind.
fn payload(pusher: u32, step: u32) -> Vec<u8> {
    let mut payload = [pusher.to_le_bytes(), step.to_le_bytes()].concat();
    // Mostly small ones, sometimes one that nearly fills the device's frame.
    let len = match step % 16 {
        0 => PAYLOAD_MAX,
        1..4 => 400 + (step as usize * 37) % 600,
        _ => 8 + (step as usize * 13) % 100,
    };
    payload.resize(len.max(8), step as u8);
    payload
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

/// Waits until every message of `sent` that was stored is `acked`, asking `route`; returns each id with its last states.
///
/// # Panics
/// When that takes longer than `within`.
pub async fn states(route: &Node, sent: &[Sent], within: Duration) -> Vec<((String, MessageId), Vec<String>)> {
    let client = Client::connect(&route.backends().to_string(), TOKEN, "auditor").await.expect("a link");
    let deadline = Instant::now() + within;
    let mut states = Vec::new();
    for sent in sent {
        let Some(id) = sent.told.id() else { continue };
        let mut seen: Vec<String> = Vec::new();
        loop {
            let state = client.state(&sent.device, id).await;
            let name = state.map_or_else(|why| why.to_string(), name);
            if seen.last() != Some(&name) {
                seen.push(name.clone());
            }
            if name == "acked" || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        states.push(((sent.device.clone(), id), seen));
    }
    states
}

fn name(state: State) -> String {
    match state {
        State::Acked => "acked".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}
