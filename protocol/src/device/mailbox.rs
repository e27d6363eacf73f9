//! Which messages are new, what is acknowledged, in which generation.

use heapless::Vec;

use super::error::SessionError;
use crate::id::{Cursor, MessageId};
use crate::limits::NUMBER_MAX;
use crate::message::{Code, FromDevice};

/// The device's end of its mailbox.
///
/// ```text
/// handled · · · cursor │ kept by the caller · · · received │ never seen
///                      │ the first one may be in its handler
/// ```
///
/// **Invariant:** a handler gets a message once, and ids only grow. Acknowledged over a connection is only
/// what came over it: of the rest, the cursor in `Hello` speaks.
///
/// With a new session all but the message in its handler is forgotten and comes again: the store may have
/// lost it, or a backend taken it back, and another one may have its number.
///
/// A refusal (`Nack`) may be lost with its connection, and a cursor behind it would say "handled". So
/// `Hello` states a cursor before the oldest refusal that is not confirmed; when the message comes again
/// it is refused again, when a later one comes the refusal has arrived. A `Pong` confirms as well.
#[derive(Debug)]
pub(super) struct Mailbox {
    cursor: Cursor,
    received: Cursor,
    /// The last message received before the generation of `received` began.
    previous: Cursor,
    /// Generation of what comes in, and of the acknowledgements that go out.
    receiving: u64,
    sending: u64,
    /// Highest message that came over this connection, and highest one acknowledged over it.
    seen: Cursor,
    acked: Cursor,
    is_ack_due: bool,
    switch: Option<Switch>,
    nacks: Vec<Nack, NACKS_MAX>,
    running: Option<MessageId>,
}

/// A change of generation that waits until the messages before it are handled. There is one at most: the
/// server makes one only when nothing is in flight.
#[derive(Clone, Copy, Debug)]
struct Switch {
    generation: u64,
    after: Cursor,
}

#[derive(Clone, Copy, Debug)]
struct Nack {
    id: MessageId,
    code: Code,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Due,
    Sent,
    /// A `Ping` followed it.
    Pinged,
}

/// Too many refusals are unconfirmed; wait for the connection or the next `Pong`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NacksFull;

impl Mailbox {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            received: cursor,
            previous: Cursor::default(),
            receiving: cursor.generation,
            sending: cursor.generation,
            seen: cursor,
            acked: cursor,
            is_ack_due: false,
            switch: None,
            nacks: Vec::new(),
            running: None,
        }
    }

    /// `Hello` states the cursor returned.
    pub(super) fn handle_hello(&mut self) -> Cursor {
        let stated = self.nacks.first().map_or(self.cursor, |nack| before(nack.id).min(self.cursor));
        (self.seen, self.acked) = (stated, stated);
        self.nacks.iter_mut().for_each(|nack| nack.progress = Progress::Due);
        stated
    }

    /// Whether a session may begin in `generation`.
    pub(super) fn check_welcome(&self, generation: u64) -> Result<(), SessionError> {
        if generation < self.cursor.generation || generation > NUMBER_MAX {
            return Err(SessionError::Generation { given: generation, known: self.cursor.generation });
        }
        Ok(())
    }

    /// The session is open and its stream is in `generation`, which was checked. Of what is kept, only the message in
    /// its handler stays.
    pub(super) fn handle_welcome(&mut self, generation: u64) {
        self.nacks.retain(|nack| nack.id.generation >= generation);
        (self.receiving, self.sending) = (generation, generation);
        self.previous = self.cursor;
        self.received = self.running.unwrap_or(self.cursor);
        self.is_ack_due = false;
        self.switch = None;
    }

    /// A message came; its id when it is to be handed over, `None` when it was before.
    pub(super) fn handle_message(&mut self, sequence: u64) -> Result<Option<MessageId>, SessionError> {
        if sequence == 0 || sequence > NUMBER_MAX {
            return Err(SessionError::Sequence { given: sequence });
        }
        let id = MessageId::new(self.receiving, sequence);
        let seen = self.seen;
        self.nacks.retain(|nack| nack.id >= id || nack.id <= seen);
        self.seen = seen.max(id);
        if id <= self.cursor {
            self.is_ack_due = true;
            if let Some(nack) = self.nacks.iter_mut().find(|nack| nack.id == id) {
                nack.progress = Progress::Due;
            }
            return Ok(None);
        }
        if id <= self.received {
            return Ok(None);
        }
        if self.received.generation < id.generation {
            self.previous = self.received;
        }
        self.received = id;
        Ok(Some(id))
    }

    pub(super) fn handle_generation(&mut self, generation: u64) -> Result<(), SessionError> {
        let known = self.receiving.max(self.cursor.generation);
        if generation < known || generation > NUMBER_MAX {
            return Err(SessionError::Generation { given: generation, known });
        }
        let after = if self.received.generation >= generation { self.previous } else { self.received };
        if self.switch.replace(Switch { generation, after }).is_some() {
            return Err(SessionError::Generations);
        }
        self.receiving = generation;
        Ok(())
    }

    /// Refusals sent before the last `Ping` have arrived.
    pub(super) fn handle_pong(&mut self) {
        self.nacks.retain(|nack| nack.progress != Progress::Pinged);
    }

    pub(super) fn handle_ping_sent(&mut self) {
        let seen = self.seen;
        for nack in &mut self.nacks {
            if nack.progress == Progress::Sent || nack.id > seen {
                nack.progress = Progress::Pinged;
            }
        }
    }

    /// The handler of the first message kept is at work, or none is.
    pub(super) fn set_running(&mut self, running: Option<MessageId>) {
        self.running = running;
    }

    /// The first message kept is handled.
    pub(super) fn finish(&mut self, id: MessageId) {
        debug_assert!(
            id > self.cursor && id <= self.received,
            "{id} is not between {} and {}",
            self.cursor,
            self.received
        );
        self.running = None;
        self.cursor = self.cursor.max(id.min(self.received));
    }

    /// The first message kept is refused for good.
    pub(super) fn reject(&mut self, id: MessageId, code: Code) -> Result<(), NacksFull> {
        self.nacks.push(Nack { id, code, progress: Progress::Due }).map_err(|_| NacksFull)?;
        self.finish(id);
        Ok(())
    }

    /// The next frame that is due.
    pub(super) fn poll(&mut self) -> Option<FromDevice<'static>> {
        let (sending, seen) = (self.sending, self.seen);
        let is_due =
            |nack: &&mut Nack| nack.progress == Progress::Due && nack.id.generation == sending && nack.id <= seen;
        if let Some(nack) = self.nacks.iter_mut().find(is_due) {
            nack.progress = Progress::Sent;
            self.acked = self.acked.max(nack.id);
            return Some(FromDevice::Nack { sequence: nack.id.sequence, code: nack.code });
        }
        if let Some(switch) = self.switch
            && self.cursor >= switch.after
        {
            return Some(self.poll_switch(switch));
        }
        let target = self.ackable();
        if target.generation == self.sending && (target > self.acked || self.is_ack_due) {
            self.is_ack_due = false;
            self.acked = self.acked.max(target);
            return Some(FromDevice::Ack { sequence: target.sequence });
        }
        None
    }

    fn poll_switch(&mut self, switch: Switch) -> FromDevice<'static> {
        if switch.after.generation == self.sending && switch.after > self.acked && switch.after <= self.seen {
            self.acked = switch.after;
            return FromDevice::Ack { sequence: switch.after.sequence };
        }
        self.switch = None;
        self.sending = switch.generation;
        self.is_ack_due = false;
        FromDevice::Generation { generation: switch.generation }
    }

    /// How far may be acknowledged: what is handled and came over this connection, before any refusal
    /// that was not sent over it.
    fn ackable(&self) -> Cursor {
        let target = self.cursor.min(self.seen);
        let refusal = self.nacks.iter().find(|nack| nack.progress == Progress::Due && nack.id <= target);
        refusal.map_or(target, |nack| before(nack.id))
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub(super) fn is_duplicate(&self, sequence: u64) -> bool {
        MessageId::new(self.receiving, sequence) <= self.received
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

const fn before(id: MessageId) -> Cursor {
    MessageId::new(id.generation, id.sequence.saturating_sub(1))
}

/// Refusals not confirmed; more wait for the next `Pong`.
const NACKS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn id(generation: u64, sequence: u64) -> MessageId {
        MessageId::new(generation, sequence)
    }

    fn sent(mailbox: &mut Mailbox) -> String {
        let mut all = std::vec::Vec::new();
        while let Some(frame) = mailbox.poll() {
            all.push(match frame {
                FromDevice::Ack { sequence } => std::format!("a{sequence}"),
                FromDevice::Nack { sequence, .. } => std::format!("n{sequence}"),
                FromDevice::Generation { generation } => std::format!("g{generation}"),
                other => std::format!("{other:?}"),
            });
        }
        all.join(" ")
    }

    fn welcomed(generation: u64, cursor: Cursor) -> Mailbox {
        let mut mailbox = Mailbox::new(cursor);
        mailbox.handle_hello();
        mailbox.handle_welcome(generation);
        mailbox
    }

    #[test]
    fn a_message_is_handed_over_once_and_its_repetition_acknowledged_again() {
        let mut mailbox = welcomed(1, id(1, 4));
        assert_eq!(mailbox.handle_message(4), Ok(None));
        assert_eq!(sent(&mut mailbox), "a4");
        assert_eq!(mailbox.handle_message(7), Ok(Some(id(1, 7))));
        assert_eq!(mailbox.handle_message(7), Ok(None), "it is in its handler");
        assert_eq!(sent(&mut mailbox), "");
        mailbox.finish(id(1, 7));
        assert_eq!(sent(&mut mailbox), "a7");
        assert_eq!(mailbox.handle_message(7), Ok(None));
        assert_eq!(sent(&mut mailbox), "a7");
        assert!(mailbox.handle_message(0).is_err());
    }

    #[test]
    fn with_a_new_session_only_the_message_in_its_handler_stays() {
        let mut mailbox = welcomed(1, id(1, 0));
        (1..=4).for_each(|sequence| assert!(mailbox.handle_message(sequence).unwrap().is_some()));
        mailbox.finish(id(1, 1));
        assert_eq!(mailbox.handle_hello(), id(1, 1));
        mailbox.finish(id(1, 2));
        mailbox.set_running(Some(id(1, 3)));
        mailbox.handle_welcome(1);
        assert_eq!(sent(&mut mailbox), "", "the server did not send 2 yet");
        assert_eq!(mailbox.handle_message(2), Ok(None));
        assert_eq!(sent(&mut mailbox), "a2");
        assert_eq!(mailbox.handle_message(3), Ok(None), "it is in its handler");
        assert_eq!(mailbox.handle_message(4), Ok(Some(id(1, 4))), "it comes again");
        mailbox.finish(id(1, 3));
        assert_eq!(sent(&mut mailbox), "a3");
    }

    #[test]
    fn a_generation_is_answered_behind_the_acks_of_the_older_one() {
        let mut mailbox = welcomed(1, id(1, 0));
        mailbox.handle_message(1).unwrap();
        mailbox.handle_generation(9).unwrap();
        mailbox.handle_message(1).unwrap();
        assert_eq!(sent(&mut mailbox), "", "message 1-1 is not handled");
        mailbox.finish(id(1, 1));
        mailbox.finish(id(9, 1));
        assert_eq!(sent(&mut mailbox), "a1 g9 a1");
        mailbox.handle_generation(10).unwrap();
        assert_eq!(sent(&mut mailbox), "g10");
        assert!(mailbox.handle_generation(9).is_err());
    }

    #[test]
    fn acks_of_an_older_generation_are_not_sent_into_a_newer_one() {
        let mut mailbox = welcomed(1, id(1, 0));
        mailbox.handle_message(5).unwrap();
        mailbox.set_running(Some(id(1, 5)));
        mailbox.handle_hello();
        mailbox.handle_welcome(2);
        mailbox.finish(id(1, 5));
        assert_eq!(sent(&mut mailbox), "");
        assert_eq!(mailbox.handle_message(5), Ok(Some(id(2, 5))), "another message");
        assert!(mailbox.check_welcome(0).is_err());
        // A cursor in such a generation would be refused everywhere, for ever.
        assert!(mailbox.check_welcome(NUMBER_MAX + 1).is_err());
        assert!(mailbox.check_welcome(NUMBER_MAX).is_ok());
    }

    #[test]
    fn a_lost_refusal_is_given_again_and_never_becomes_an_ack() {
        let mut mailbox = welcomed(1, id(1, 0));
        mailbox.handle_message(1).unwrap();
        mailbox.handle_message(2).unwrap();
        mailbox.reject(id(1, 1), Code(300)).unwrap();
        mailbox.finish(id(1, 2));
        assert_eq!(mailbox.handle_hello(), id(1, 0));
        mailbox.handle_welcome(1);
        assert_eq!(sent(&mut mailbox), "");
        assert_eq!(mailbox.handle_message(1), Ok(None));
        assert_eq!(mailbox.handle_message(2), Ok(None));
        assert_eq!(sent(&mut mailbox), "n1 a2");
        mailbox.handle_ping_sent();
        mailbox.handle_pong();
        assert_eq!(mailbox.handle_hello(), id(1, 2), "confirmed by Pong");
    }

    #[test]
    fn a_later_message_confirms_the_refusal_of_the_last_connection() {
        let mut mailbox = welcomed(1, id(1, 0));
        mailbox.handle_message(1).unwrap();
        mailbox.reject(id(1, 1), Code(300)).unwrap();
        assert_eq!(sent(&mut mailbox), "n1");
        mailbox.handle_hello();
        mailbox.handle_welcome(1);
        assert_eq!(mailbox.handle_message(2), Ok(Some(id(1, 2))));
        mailbox.finish(id(1, 2));
        assert_eq!(sent(&mut mailbox), "a2");
    }

    #[test]
    fn refusals_without_a_connection_are_limited() {
        let mut mailbox = welcomed(1, id(1, 0));
        (1..=5).for_each(|sequence| assert!(mailbox.handle_message(sequence).unwrap().is_some()));
        (1..=3).for_each(|sequence| mailbox.reject(id(1, sequence), Code(300)).unwrap());
        assert_eq!(mailbox.reject(id(1, 4), Code(300)), Err(NacksFull));
    }
}
