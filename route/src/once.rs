//! Idempotency keys: the same text again within 24 h gives the first message again.
//!
//! The key's first use is written down before the append, its message after it. The append's own id comes
//! from the key, so that a use whose route died in between finds its message again, if it was stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use imlink_protocol::id::MessageId;
use imlink_protocol::link::backend::{Failure, State, Wait};
use imlink_store::{DeviceKey, Idempotent};
use sha2::{Digest, Sha256};

use crate::core::{Core, store_failed};
use crate::lookups::{Request, submit};
use crate::outgoing::Outgoing;
use crate::push::{Push, look_after};
use crate::request::{Failed, Sent};
use crate::waiters::Waiter;

/// Longest idempotency key, in bytes.
pub(crate) const KEY_LEN_MAX: usize = 64;

/// A client's idempotency key in use.
pub(crate) struct Once {
    tenant: String,
    key: String,
}

impl Once {
    /// The key, if it has its form.
    pub(crate) fn new(tenant: &str, key: &str) -> Result<Self, Failed> {
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            let why = format!("the idempotency key has {} bytes, 1 to {KEY_LEN_MAX} are allowed", key.len());
            return Err(Failed::new(Failure::BadRequest, why));
        }
        Ok(Self { tenant: tenant.into(), key: key.into() })
    }

    /// Sends `push` unless this key already did.
    pub(crate) async fn send(self, core: Arc<Core>, device: String, mut push: Push) {
        let hash = body_hash(&device, &push);
        let asked = core.store.idempotent(&self.tenant, &self.key, hash);
        let mut out = Outgoing::default();
        match tokio::time::timeout_at(push.deadline.into(), asked).await {
            Ok(Ok(Idempotent::Done(answer))) => self.again(&core, &device, &answer, push).await,
            Ok(Ok(Idempotent::Conflict)) => {
                let why = format!(
                    "the idempotency key {:?} was used within 24 h for another device, path, lifetime or payload: \
                     use a new key for a new message",
                    self.key
                );
                push.asker.fail(Failed::new(Failure::Conflict, why), &mut out);
            }
            Ok(Ok(used @ (Idempotent::New | Idempotent::Pending))) => {
                push.id = self.append_id(&device);
                push.is_retry = matches!(used, Idempotent::Pending);
                let tenant = self.tenant.clone();
                push.once = Some(Box::new(self));
                submit(&core, &tenant, &device, Request::Push(push), Instant::now(), &mut out);
            }
            Ok(Err(error)) => push.asker.fail(store_failed(&error), &mut out),
            Err(_) => {
                let why = "the store did not answer by the deadline; nothing was stored: try again";
                push.asker.fail(Failed::later(Failure::StoreAway, RETRY, why), &mut out);
            }
        }
    }

    /// Writes down which message this key made.
    pub(crate) fn done(self, core: &Arc<Core>, id: MessageId) {
        let shared = core.clone();
        core.tasks.spawn(async move {
            let answer = encode(id);
            for _ in 0..DONE_TRIES {
                if shared.store.idempotent_done(&self.tenant, &self.key, &answer).await.is_ok() {
                    return;
                }
                tokio::time::sleep(RETRY).await;
            }
            tracing::warn!(id = %id, "the message of an idempotency key could not be written down");
        });
    }

    /// The first answer again; with `wait=acked`, what became of that message.
    async fn again(self, core: &Arc<Core>, device: &str, answer: &[u8], push: Push) {
        let mut out = Outgoing::default();
        let (Some(id), Ok(device)) = (decode(answer), DeviceKey::new(&self.tenant, device)) else {
            let why = "what the store has for this idempotency key cannot be read: use a new key";
            return push.asker.fail(Failed::new(Failure::Internal, why), &mut out);
        };
        if push.wait == Wait::Stored {
            return push.asker.sent(Sent { id, state: State::Waiting }, &mut out);
        }
        let waiter = Waiter::new(device.clone(), id, None, push.asker, push.asked, push.deadline);
        core.waiters.insert(waiter);
        look_after(core, &device, id).await;
    }

    fn append_id(&self, device: &str) -> [u8; 16] {
        let digest = hash(&[b"append", self.tenant.as_bytes(), device.as_bytes(), self.key.as_bytes()]);
        digest.first_chunk().copied().unwrap_or_default()
    }
}

/// What must be equal for the same key to mean the same message.
fn body_hash(device: &str, push: &Push) -> [u8; 32] {
    hash(&[device.as_bytes(), push.path.as_str().as_bytes(), &push.ttl_s.to_le_bytes(), &push.payload])
}

/// SHA-256 over parts, each with its length in front.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().into()
}

fn encode(id: MessageId) -> [u8; 16] {
    let mut answer = [0; 16];
    let (generation, sequence) = answer.split_at_mut(8);
    generation.copy_from_slice(&id.generation.to_le_bytes());
    sequence.copy_from_slice(&id.sequence.to_le_bytes());
    answer
}

fn decode(answer: &[u8]) -> Option<MessageId> {
    let (generation, sequence) = answer.split_first_chunk::<8>()?;
    let sequence = sequence.try_into().ok()?;
    Some(MessageId::new(u64::from_le_bytes(*generation), u64::from_le_bytes(sequence)))
}

/// Pause between tries, and retry-after.
const RETRY: Duration = Duration::from_secs(1);
const DONE_TRIES: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_and_a_cut_one_does_not() {
        let id = MessageId::new(1_764_000_000_000, 9);
        assert_eq!(decode(&encode(id)), Some(id));
        assert_eq!(decode(&encode(id)[..15]), None);
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    }
}
