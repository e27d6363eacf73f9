//! The public keys of a device: the current one, and the next one while a change is under way.

use crate::session::{NextKey, Promoted, Proof};

/// Boxed, since a plain device has neither and most others have one.
#[derive(Debug, Default)]
pub(super) struct Keys {
    current: Option<Box<[u8; 32]>>,
    /// Only beside a current one.
    next: Option<Box<[u8; 32]>>,
}

impl Keys {
    pub(super) fn new(proof: Proof) -> Self {
        match proof {
            Proof::Plain => Self::default(),
            Proof::Keys { current, next } => Self { current: Some(Box::new(current)), next: next.map(Box::new) },
        }
    }

    pub(super) fn set_next(&mut self, key: &[u8; 32]) -> NextKey {
        match &self.current {
            None => NextKey::Plain,
            Some(current) if **current == *key => NextKey::Current,
            Some(_) => {
                self.next = Some(Box::new(*key));
                NextKey::Set
            }
        }
    }

    pub(super) fn promote(&mut self, key: &[u8; 32]) -> Promoted {
        if self.current.as_deref() == Some(key) {
            return Promoted::Current;
        }
        match self.next.take_if(|next| **next == *key) {
            Some(next) => {
                self.current = Some(next);
                Promoted::Promoted
            }
            None => Promoted::OtherKey,
        }
    }

    pub(super) fn proof(&self) -> Proof {
        match &self.current {
            None => Proof::Plain,
            Some(current) => Proof::Keys { current: **current, next: self.next.as_deref().copied() },
        }
    }
}
