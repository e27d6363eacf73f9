//! A session against a server, an application and a clock that do anything.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::{PROFILE, at, call, message, session};
use crate::device::{Event, Session, StateName, Transmit};
use crate::id::MessageId;
use crate::message::{Code, FromDevice, GoAwayReason, RejectCode, ToDevice, Welcome};
use crate::time::Instant;

/// What a random server, application and clock do.
#[derive(Clone, Debug)]
enum Move {
    Frame(Frame),
    Wait(u16),
    Connect,
    Drop,
    Start,
    Stop,
    Handle,
    Refuse,
    Reply,
    Publish,
    Leave,
}

#[derive(Clone, Debug)]
enum Frame {
    Welcome { epoch: u64, generation: u64, position: u64, window: u8 },
    Redirect,
    Reject(u32),
    Pong(u64),
    Probe,
    Message(u64),
    Generation(u64),
    Call(u32, u64),
    Cancel(u32),
    EventAck(u64),
    Describe(u32),
    Grant(Vec<u8>),
    GoAway(u32),
}

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        4 => (1u64..30, 0u64..4, 0u64..3, any::<u8>()).prop_map(|(epoch, generation, position, window)| {
            Frame::Welcome { epoch, generation, position, window }
        }),
        1 => Just(Frame::Redirect),
        1 => any::<u32>().prop_map(Frame::Reject),
        2 => any::<u64>().prop_map(Frame::Pong),
        2 => Just(Frame::Probe),
        12 => (0u64..12).prop_map(Frame::Message),
        1 => any::<u64>().prop_map(Frame::Message),
        2 => (0u64..5).prop_map(Frame::Generation),
        3 => (0u32..20, any::<u64>()).prop_map(|(request, deadline)| Frame::Call(request, deadline)),
        1 => (0u32..20).prop_map(Frame::Cancel),
        3 => (0u64..6).prop_map(Frame::EventAck),
        1 => any::<u32>().prop_map(Frame::Describe),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Frame::Grant),
        1 => any::<u32>().prop_map(Frame::GoAway),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => frames().prop_map(Move::Frame),
        2 => any::<u16>().prop_map(Move::Wait),
        6 => Just(Move::Connect),
        1 => Just(Move::Drop),
        4 => Just(Move::Start),
        1 => Just(Move::Stop),
        6 => Just(Move::Handle),
        1 => Just(Move::Refuse),
        2 => Just(Move::Reply),
        2 => Just(Move::Publish),
        1 => Just(Move::Leave),
    ]
}

fn to_device(frame: &Frame) -> ToDevice<'_> {
    match *frame {
        Frame::Welcome { epoch, generation, position, window } => ToDevice::Welcome(Welcome {
            epoch,
            generation,
            heartbeat_s: window.into(),
            frame_limit: 4096,
            event_window: window,
            event_position: position,
            time_ms: 0,
            grant: b"t",
        }),
        Frame::Redirect => ToDevice::Redirect { address: "10.0.0.1:1", grant: b"t" },
        Frame::Reject(retry_after_s) => ToDevice::Reject { code: RejectCode::Ticket, retry_after_s },
        Frame::Pong(now_ms) => ToDevice::Pong { now_ms },
        Frame::Probe => ToDevice::Probe,
        Frame::Message(sequence) => message(sequence),
        Frame::Generation(generation) => ToDevice::Generation { generation },
        Frame::Call(request, deadline) => call(request, deadline),
        Frame::Cancel(request) => ToDevice::Cancel { request },
        Frame::EventAck(sequence) => ToDevice::EventAck { sequence },
        Frame::Describe(offset) => ToDevice::Describe { offset },
        Frame::Grant(ref grant) => ToDevice::Grant { grant },
        Frame::GoAway(reconnect_after_s) => ToDevice::GoAway { reason: GoAwayReason::Draining, reconnect_after_s },
    }
}

/// What a device's caller keeps, and what must hold whatever the server does.
#[derive(Default)]
struct Keeper {
    kept: Vec<MessageId>,
    /// The last one whose handler was done with it.
    done: MessageId,
    refused: Vec<MessageId>,
    calls: Vec<u32>,
    events: usize,
    generation: u64,
}

impl Keeper {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Message { id, .. } => {
                assert!(
                    self.done.max(self.kept.last().copied().unwrap_or_default()) < id,
                    "{id} after {:?}",
                    self.done
                );
                self.kept.push(id);
            }
            Event::Call { request, .. } => self.calls.push(request),
            Event::Cancelled { request } => self.calls.retain(|kept| *kept != request),
            Event::Attached { stored, keep, .. } => {
                self.events -= stored as usize;
                self.kept.truncate(keep);
            }
            Event::Stored(stored) => self.events -= stored as usize,
            #[cfg(feature = "blob")]
            Event::Blob(_) => {}
            Event::Ended(_) => {}
        }
    }

    /// What goes out never says more than is true.
    fn check(&self, transmit: &Transmit<'_>) {
        let is_open = |id: &MessageId| self.kept.contains(id);
        match transmit {
            Transmit::Frame(FromDevice::Ack { sequence }) => {
                let upto = MessageId::new(self.generation, *sequence);
                assert!(!self.kept.iter().any(|id| id.generation == upto.generation && *id <= upto), "{upto} is open");
            }
            Transmit::Frame(FromDevice::Hello(hello)) => {
                assert!(!self.kept.iter().any(|id| *id <= hello.cursor));
                assert!(hello.ticket.len() <= 256);
            }
            Transmit::Frame(FromDevice::Nack { sequence, .. }) => {
                let id = MessageId::new(self.generation, *sequence);
                assert!(self.refused.contains(&id) && !is_open(&id));
            }
            Transmit::Event { index, .. } => assert!(*index < self.events),
            _ => {}
        }
    }

    fn send_all(&mut self, session: &mut Session, now: Instant) {
        for _ in 0..1000 {
            let Some(transmit) = session.poll_transmit(now, &PROFILE) else {
                return;
            };
            self.check(&transmit);
            match transmit {
                Transmit::Frame(FromDevice::Generation { generation }) => self.generation = generation,
                Transmit::Frame(_) => {}
                Transmit::Reply => session.handle_reply_sent(),
                Transmit::Event { .. } => session.handle_event_sent(now),
                Transmit::Interface { .. } => session.handle_interface_sent(),
            }
        }
        panic!("it never stops sending");
    }
}

proptest! {
    #[test]
    fn whatever_a_server_does_messages_are_handed_over_once_and_nothing_is_acknowledged_before_it_is_handled(
        moves in prop::collection::vec(moves(), 1..120)
    ) {
        let mut session = session();
        let mut keeper = Keeper::default();
        let mut now = at(1);
        for step in &moves {
            match step {
                Move::Frame(frame) if session.has_room() => {
                    let frame = to_device(frame);
                    if let Ok(Some(event)) = session.handle_frame(now, &frame) {
                        if let (Event::Attached { .. }, ToDevice::Welcome(welcome)) = (&event, &frame) {
                            keeper.generation = welcome.generation;
                        }
                        keeper.take(event);
                    }
                }
                Move::Wait(ms) => {
                    now = now.after(core::time::Duration::from_millis(u64::from(*ms) * 10));
                    let _ = session.handle_timeout(now);
                }
                Move::Connect if session.state() == StateName::Detached => {
                    session.handle_connecting(now);
                    session.handle_connected(now);
                    keeper.calls.clear();
                }
                Move::Drop => { session.handle_disconnected(now, 7); }
                Move::Start if !keeper.kept.is_empty() => session.start_message(now, keeper.kept[0]),
                Move::Stop => session.stop_message(),
                Move::Handle if !keeper.kept.is_empty() => {
                    keeper.done = keeper.kept.remove(0);
                    session.finish_message(keeper.done);
                }
                Move::Refuse if !keeper.kept.is_empty() => {
                    let id = keeper.kept[0];
                    if session.reject_message(id, Code(300)).is_ok() {
                        keeper.refused.push(id);
                        keeper.done = keeper.kept.remove(0);
                    }
                }
                Move::Reply => {
                    if let Some(request) = keeper.calls.pop()
 && session.start_call(now, request).is_ok() {
                            prop_assert!(session.finish_call(request));
                            prop_assert!(!session.finish_call(request));
}
                }
                Move::Publish => { session.add_event(); keeper.events += 1; }
                Move::Leave => session.leave(now),
                Move::Frame(_) | Move::Connect | Move::Start | Move::Handle | Move::Refuse => {}
            }
            keeper.send_all(&mut session, now);
            if session.is_ended() {
                session.handle_disconnected(now, 7);
            }
            prop_assert_eq!(session.cursor(), keeper.done);
        }
    }
}
