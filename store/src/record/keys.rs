//! The public keys of a device: the current one, and the next one while a change is under way.

use crate::session::{NextKey, Promoted, Proof};

/// The next one is boxed for its own, so that a device without one costs no more than its current key.
#[derive(Debug)]
struct Generations {
    current: [u8; 32],
    next: Option<Box<[u8; 32]>>,
}

/// Nothing for a plain device.
#[derive(Debug)]
pub(super) struct Keys(Option<Box<Generations>>);

impl Keys {
    pub(super) fn new(proof: Proof) -> Self {
        Self(match proof {
            Proof::Plain => None,
            Proof::Keys { current, next } => Some(Box::new(Generations { current, next: next.map(Box::new) })),
        })
    }

    pub(super) fn set_next(&mut self, key: &[u8; 32]) -> NextKey {
        match &mut self.0 {
            None => NextKey::Plain,
            Some(keys) if keys.current == *key => NextKey::Current,
            Some(keys) => {
                keys.next = Some(Box::new(*key));
                NextKey::Set
            }
        }
    }

    pub(super) fn promote(&mut self, key: &[u8; 32]) -> Promoted {
        match &mut self.0 {
            Some(keys) if keys.current == *key => Promoted::Current,
            Some(keys) if keys.next.as_deref() == Some(key) => {
                (keys.current, keys.next) = (*key, None);
                Promoted::Promoted
            }
            _ => Promoted::OtherKey,
        }
    }

    /// Whether `other` has another current key.
    pub(super) fn is_other(&self, other: &Self) -> bool {
        let current = |keys: &Self| keys.0.as_ref().map(|keys| keys.current);
        current(self) != current(other)
    }

    pub(super) fn proof(&self) -> Proof {
        match &self.0 {
            None => Proof::Plain,
            Some(keys) => Proof::Keys { current: keys.current, next: keys.next.as_deref().copied() },
        }
    }
}
