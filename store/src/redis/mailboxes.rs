//! Mailboxes.

use imlink_protocol::id::{Fingerprint, MessageId, TokenId};
use imlink_protocol::limits::PAYLOAD_OVERHEAD;
use redis::Pipeline;

use super::RedisStore;
use super::layout::{self, Reply, device_keys, number};
use super::link::Link;
use super::script::Call;
use crate::mailbox::{Acknowledge, Append, Appended, Cancelled, Page, Read, State, Stored};
use crate::record::tag_of;
use crate::session::Head;
use crate::tries::Earlier;
use crate::{DeviceKey, Error};

/// `State` answers so for a message that it cancelled just now.
const CANCELLED_NOW: u64 = 11;

impl RedisStore {
    pub(crate) async fn append(&self, append: &Append) -> Result<Appended, Error> {
        let tries = &self.shared.tries;
        let link = self.shared.keeper.link().inspect_err(|_| {
            if !append.retry {
                tries.start_over(&append.id);
            }
        })?;
        let age_ms = match tries.send(&append.id, append.retry) {
            Earlier::None => String::new(),
            Earlier::Sent(age_ms) => age_ms.to_string(),
            Earlier::Unknown => FOREVER_MS.to_string(),
        };
        let appended = self.append_once(&link, append, &age_ms).await;
        match appended {
            Err(Error::Away(_)) => {}
            Ok(Appended::InterfaceChanged(_)) => tries.start_over(&append.id),
            _ => tries.end(&append.id),
        }
        appended
    }

    async fn append_once(&self, link: &Link, append: &Append, age_ms: &str) -> Result<Appended, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Append, &device_keys(&append.device).each_ref().map(String::as_str));
        let fingerprint: &[u8] = match &append.fingerprint {
            &Fingerprint::NONE => &[],
            Fingerprint(bytes) => bytes,
        };
        let token: &[u8] = match &append.token {
            &TokenId::NONE => &[],
            TokenId(bytes) => bytes,
        };
        call.arg(&link.lineage)
            .arg(&tag_of(&append.id).to_be_bytes())
            .arg(age_ms)
            .arg(fingerprint)
            .arg(append.ttl_s)
            .arg(append.mailbox_max)
            .arg(PAYLOAD_OVERHEAD)
            .arg(&append.key.0)
            .arg(&*append.payload)
            .arg(token);
        let mut reply = Reply::new(keeper.ask(link, call).await?)?;
        Ok(match reply.number()? {
            0 => {
                let id = MessageId::new(reply.number()?, reply.number()?);
                let expires_ms = reply.number()?;
                Appended::Stored(Stored { id, expires_ms, session: reply.session()? })
            }
            1 => Appended::UnknownDevice,
            2 => Appended::Unknown,
            3 => Appended::Revoked,
            4 => Appended::MailboxFull { waiting: reply.number()? },
            5 => {
                let bytes = reply.bytes()?.try_into();
                Appended::InterfaceChanged(Fingerprint(
                    bytes
                        .map_err(|_| Error::Unusable(format!("the interface of {} has no 16 bytes", append.device)))?,
                ))
            }
            _ => Appended::TooLarge { receive_limit: u32::try_from(reply.number()?).unwrap_or(u32::MAX) },
        })
    }

    pub(crate) async fn read_mailbox(&self, read: &Read) -> Result<Option<Page>, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Read, &device_keys(&read.device).each_ref().map(String::as_str));
        call.arg(number(read.epoch))
            .arg(number(read.after.generation))
            .arg(number(read.after.sequence))
            .arg(read.limit);
        let mut reply = Reply::new(keeper.ask(&keeper.link()?, call).await?)?;
        if reply.number()? != 0 {
            return Ok(None);
        }
        let head = Head { generation: reply.number()?, last: reply.number()?, waiting: reply.number()? };
        let (more, now_ms) = (reply.number()? == 1, reply.number()?);
        Ok(Some(Page { entries: reply.entries()?, head, more, now_ms }))
    }

    pub(crate) async fn acknowledge(&self, acks: &[Acknowledge]) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let link = keeper.link()?;
        let mut pipeline = Pipeline::with_capacity(acks.len());
        for ack in acks {
            let keys = device_keys(&ack.device);
            let mut call = keeper.scripts.call(Call::Acknowledge, &keys.each_ref().map(String::as_str));
            call.arg(&link.lineage)
                .arg(number(ack.epoch))
                .arg(number(ack.upto.generation))
                .arg(number(ack.upto.sequence));
            for (id, code) in &ack.rejected {
                call.arg(number(id.generation)).arg(number(id.sequence)).arg(code.0);
            }
            pipeline.add_command(call);
        }
        keeper.ask_all(&link, &pipeline).await.map(|_| ())
    }

    pub(crate) async fn message_state(&self, device: &DeviceKey, id: MessageId) -> Result<Option<State>, Error> {
        Ok(self.state(device, id, "").await?.map(|(kind, code)| layout::read_state(kind, code)))
    }

    pub(crate) async fn cancel(&self, device: &DeviceKey, id: MessageId) -> Result<Cancelled, Error> {
        Ok(match self.state(device, id, "1").await? {
            None => Cancelled::UnknownDevice,
            Some((CANCELLED_NOW, _)) => Cancelled::Cancelled,
            Some((kind, code)) => Cancelled::TooLate(layout::read_state(kind, code)),
        })
    }

    async fn state(&self, device: &DeviceKey, id: MessageId, cancel: &str) -> Result<Option<(u64, u64)>, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::State, &device_keys(device).each_ref().map(String::as_str));
        call.arg(number(id.generation)).arg(number(id.sequence)).arg(cancel);
        let mut reply = Reply::new(keeper.ask(&keeper.link()?, call).await?)?;
        match reply.number()? {
            NO_DEVICE => Ok(None),
            kind => Ok(Some((kind, reply.number()?))),
        }
    }
}

/// Age of a first try that this process knows nothing of.
const FOREVER_MS: u64 = 1 << 52;
/// `State` answers so when there is no such device.
const NO_DEVICE: u64 = 12;
