//! Random operations on one mailbox against an oracle that keeps everything. A failure prints the smallest
//! sequence of operations that shows it.

use imlink_protocol::id::{Cursor, MessageId};
use imlink_protocol::message::Code;
use imlink_store::limits::{OFFERS_MAX, RECENT_MAX};
use imlink_store::mailbox::{Append, Appended, Cancelled, Read, State};
use imlink_store::session::{Attach, Attached, Proof};
use imlink_store::{DeviceKey, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::behaviours;
use crate::scene::*;

behaviours!(any_operations_in_any_order_leave_what_the_oracle_says);

/// One operation; numbers choose a message by its place, modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Op {
    Append,
    Retry(usize),
    Attach { window: u32, cursor: Option<usize> },
    AttachAgain,
    Detach,
    Acknowledge(usize),
    Reject { at: usize, upto: Option<usize> },
    Cancel(usize),
    Read { after: Option<usize>, limit: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..40usize;
    prop_oneof![
        6 => Just(Op::Append),
        2 => at.clone().prop_map(Op::Retry),
        3 => (1..6u32, proptest::option::of(at.clone())).prop_map(|(window, cursor)| Op::Attach { window, cursor }),
        1 => Just(Op::AttachAgain),
        1 => Just(Op::Detach),
        3 => at.clone().prop_map(Op::Acknowledge),
        2 => (at.clone(), proptest::option::of(at.clone())).prop_map(|(at, upto)| Op::Reject { at, upto }),
        2 => at.clone().prop_map(Op::Cancel),
        2 => (proptest::option::of(at), 1..6u32).prop_map(|(after, limit)| Op::Read { after, limit }),
    ]
}

/// Everything that ever was, in the simplest form.
struct Oracle {
    device: DeviceKey,
    ids: Vec<MessageId>,
    /// How each message ended; `None` while it waits.
    ends: Vec<Option<State>>,
    /// How many messages, from the first, may have reached the device.
    offered: usize,
    session: Option<u64>,
    attempt: u32,
    window: u32,
    /// The head last offered by an attach, and how often.
    head: (usize, u8),
}

impl Oracle {
    fn new(device: DeviceKey) -> Self {
        let (ids, ends) = (Vec::new(), Vec::new());
        Self { device, ids, ends, offered: 0, session: None, attempt: 0, window: 1, head: (usize::MAX, 0) }
    }

    fn place(&self, at: usize) -> Option<usize> {
        at.checked_rem(self.ids.len())
    }

    fn id(&self, at: Option<usize>) -> Cursor {
        at.and_then(|at| self.place(at)).map_or(Cursor::default(), |place| self.ids[place])
    }

    fn append(&self, number: usize, retry: bool) -> Append {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&(number as u64).to_be_bytes());
        Append { id, retry, ..message(&self.device, number as u8) }
    }

    fn waiting(&self) -> Vec<usize> {
        (0..self.ids.len()).filter(|place| self.ends[*place].is_none()).collect()
    }

    fn end(&mut self, place: usize, how: State) {
        self.ends[place].get_or_insert(how);
    }

    fn trim(&mut self, upto: Cursor) {
        for place in 0..self.ids.len() {
            if self.ids[place] <= upto {
                self.end(place, State::Acked);
            }
        }
    }

    fn state(&self, place: usize) -> State {
        let open = if place < self.offered { State::Sent } else { State::Waiting };
        self.ends[place].unwrap_or(open)
    }

    /// What a page behind `after` has; it counts as offered.
    fn page(&mut self, after: Cursor, limit: u32) -> Vec<MessageId> {
        let behind = self.waiting().into_iter().filter(|place| self.ids[*place] > after);
        let page: Vec<usize> = behind.take(limit as usize).collect();
        self.offered = page.last().map_or(self.offered, |last| self.offered.max(last + 1));
        page.into_iter().map(|place| self.ids[place]).collect()
    }

    fn count_offer(&mut self) {
        while let Some(head) = self.waiting().first().copied() {
            if self.head.0 != head {
                self.head = (head, 0);
            }
            if self.head.1 < OFFERS_MAX {
                self.head.1 += 1;
                return;
            }
            self.end(head, State::Failed);
        }
    }
}

/// Does one operation to both and compares the answers.
async fn step(store: &Store, oracle: &mut Oracle, op: Op) {
    let device = oracle.device.clone();
    match op {
        Op::Append => {
            let append = oracle.append(oracle.ids.len(), false);
            let Ok(Appended::Stored(stored)) = store.append(&append).await else { panic!("is stored") };
            assert_eq!(stored.id.sequence, oracle.ids.len() as u64 + 1);
            assert_eq!(stored.session.map(|session| session.epoch), oracle.session);
            oracle.ids.push(stored.id);
            oracle.ends.push(None);
            if oracle.session.is_some() {
                oracle.offered = oracle.ids.len();
            }
        }
        Op::Retry(at) => {
            let Some(place) = oracle.place(at) else { return };
            let answer = store.append(&oracle.append(place, true)).await.expect("store");
            if place + RECENT_MAX < oracle.ids.len() {
                return assert_eq!(answer, Appended::Unknown);
            }
            let Appended::Stored(stored) = answer else { panic!("{answer:?}") };
            assert_eq!(stored.id, oracle.ids[place]);
            if oracle.session.is_some() {
                oracle.offered = oracle.offered.max(place + 1);
            }
        }
        Op::Attach { window, cursor } => {
            oracle.attempt += 1;
            oracle.window = window;
            attach_both(store, oracle, oracle.id(cursor), false).await;
        }
        Op::AttachAgain => {
            if oracle.session.is_some() {
                attach_both(store, oracle, Cursor::default(), true).await;
            }
        }
        Op::Detach => {
            let Some(epoch) = oracle.session.take() else { return };
            assert!(store.detach(&device, hello(&device).server_incarnation, epoch).await.expect("store"));
        }
        Op::Acknowledge(at) => {
            let upto = oracle.id(Some(at));
            acknowledge(store, &device, oracle.session.unwrap_or(1), upto).await;
            oracle.trim(upto);
        }
        Op::Reject { at, upto } => {
            let Some(place) = oracle.place(at) else { return };
            let (id, upto, code) = (oracle.ids[place], oracle.id(upto), Code(300));
            reject(store, &device, oracle.session.unwrap_or(1), upto, &[(id, code)]).await;
            oracle.end(place, State::Rejected { code });
            oracle.trim(upto);
        }
        Op::Cancel(at) => {
            let Some(place) = oracle.place(at) else { return };
            let expected = match oracle.state(place) {
                State::Waiting => Cancelled::Cancelled,
                state => Cancelled::TooLate(state),
            };
            assert_eq!(store.cancel(&device, oracle.ids[place]).await.expect("store"), expected);
            if expected == Cancelled::Cancelled {
                oracle.end(place, State::Cancelled);
            }
        }
        Op::Read { after, limit } => {
            let Some(epoch) = oracle.session else { return };
            let after = oracle.id(after);
            let read = Read { device, epoch, after, limit };
            let page = store.read_mailbox(&read).await.expect("store").expect("it is the session");
            let behind = oracle.waiting().iter().filter(|place| oracle.ids[**place] > after).count();
            assert_eq!(page.more, behind > limit as usize);
            let ids: Vec<_> = page.entries.iter().map(|entry| entry.id).collect();
            assert_eq!(ids, oracle.page(after, limit));
        }
    }
}

async fn attach_both(store: &Store, oracle: &mut Oracle, cursor: Cursor, is_again: bool) {
    let (attempt, window) = (oracle.attempt, oracle.window);
    let asked = Attach { attempt, window, cursor, ..hello(&oracle.device) };
    let Ok(Attached::Session(new)) = store.attach(&asked).await else { panic!("is attached") };
    if !is_again {
        assert_eq!(new.replaced.map(|session| session.epoch), oracle.session);
        oracle.session = Some(new.epoch);
        oracle.trim(cursor);
        oracle.count_offer();
    }
    assert_eq!(Some(new.epoch), oracle.session);
    assert_eq!(new.offered.sequence, oracle.offered as u64);
    assert_eq!(new.last, oracle.ids.len() as u64);
    assert_eq!(new.more, oracle.waiting().len() > window as usize);
    let ids: Vec<_> = new.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, oracle.page(Cursor::default(), window));
}

async fn run(store: &Store, device: DeviceKey, ops: &[Op]) {
    store.provision(&device, Proof::Plain).await.expect("store");
    let mut oracle = Oracle::new(device);
    for op in ops {
        step(store, &mut oracle, *op).await;
        for place in 0..oracle.ids.len() {
            let now = state(store, &oracle.device, oracle.ids[place]).await;
            assert_eq!(now, oracle.state(place), "message {place} after {op:?}");
        }
        let head = store.heads(std::slice::from_ref(&oracle.device)).await.expect("store")[0];
        assert_eq!((head.last, head.waiting), (oracle.ids.len() as u64, oracle.waiting().len() as u64));
    }
}

async fn any_operations_in_any_order_leave_what_the_oracle_says(store: Store) {
    let cases = if store.kind() == "memory" { 400 } else { 60 };
    let runtime = tokio::runtime::Handle::current();
    let ran = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let count = std::cell::Cell::new(0);
        runner.run(&proptest::collection::vec(op(), 1..60), |ops| {
            count.set(count.get() + 1);
            let device = DeviceKey::single(&format!("d{}", count.get())).expect("is a device id");
            runtime.block_on(run(&store, device, &ops));
            Ok(())
        })
    });
    match ran.await.expect("joined") {
        Ok(()) => {}
        Err(TestError::Fail(why, ops)) => panic!("{why}\nreplay: {ops:?}"),
        Err(other) => panic!("{other}"),
    }
}
