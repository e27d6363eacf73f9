//! Identities and sessions.

use imlink_protocol::id::Epoch;
use redis::{Pipeline, Value};

use super::RedisStore;
use super::layout::{self, Fields, Reply, device_keys, number};
use super::script::Call;
use crate::event::shard_of;
use crate::record_key::RecordKey;
use crate::session::{
    Attach, Attached, Forged, Head, Identity, NewSession, NextKey, Promoted, Proof, Provisioned, Reassert, Reasserted,
    Session,
};
use crate::{DeviceKey, Error};
use imlink_protocol::id::{Cursor, Fingerprint};

impl RedisStore {
    pub(crate) async fn provision(&self, device: &DeviceKey, proof: Proof) -> Result<Provisioned, Error> {
        let keeper = &self.shared.keeper;
        let (current, next): (&[u8], &[u8]) = match &proof {
            Proof::Plain => (&[], &[]),
            Proof::Keys { current, next } => (current, next.as_ref().map_or(&[], |next| next)),
        };
        let mut pipeline = Pipeline::with_capacity(2);
        // The name first: one without a device is passed over, a device without a name would not be listed.
        pipeline.cmd("ZADD").arg(layout::names_key(device.tenant())).arg(0).arg(device.device());
        let mut call = keeper.scripts.call(Call::Provision, &device_keys(device).each_ref().map(String::as_str));
        call.arg(current).arg(next).arg(self.record_mac(device, current));
        call.arg(if next.is_empty() { Vec::new() } else { self.record_mac(device, next) });
        pipeline.add_command(call);
        let answers = keeper.ask_all(&keeper.link()?, &pipeline).await?;
        let mut reply = Reply::new(answers.into_iter().nth(1).unwrap_or(Value::Nil))?;
        Ok(match reply.number()? {
            0 => Provisioned::Created,
            _ => Provisioned::Updated { ended: reply.session()? },
        })
    }

    pub(crate) async fn identity(&self, device: &DeviceKey) -> Result<Option<Identity>, Error> {
        let keeper = &self.shared.keeper;
        let [hash, ..] = device_keys(device);
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(hash).arg(&["i", "s", "a", "m", "n"]);
        let mut reply = Reply::new(keeper.ask(&keeper.link()?, cmd).await?)?;
        let Some(identity) = reply.maybe_bytes()? else { return Ok(None) };
        let (session, seat, mailbox) = (reply.maybe_bytes()?, reply.maybe_bytes()?, reply.maybe_bytes()?);
        let next_key = reply.maybe_bytes()?;
        let unreadable = || Error::Unusable(format!("device {device} is in no form this version knows"));
        let record_keys = &keeper.config.record_keys;
        let mut read = read_identity(device, record_keys, &identity, next_key.as_deref()).ok_or_else(unreadable)?;
        if let Some(session) = session {
            read_session_fields(&session, &mut read).ok_or_else(unreadable)?;
        }
        read.session = seat.and_then(|seat| layout::read_session(&seat, read.epoch));
        if let Some(mailbox) = mailbox {
            read.mailbox = layout::read_head(&mailbox).ok_or_else(unreadable)?;
        }
        Ok(Some(read))
    }

    pub(crate) async fn revoke(&self, device: &DeviceKey) -> Result<Option<Option<Session>>, Error> {
        let keeper = &self.shared.keeper;
        let call = keeper.scripts.call(Call::Revoke, &device_keys(device).each_ref().map(String::as_str));
        read_ended(keeper.ask(&keeper.link()?, call).await?)
    }

    pub(crate) async fn restore(&self, device: &DeviceKey) -> Result<Option<bool>, Error> {
        match self.change_keys(Call::Restore, device, &[]).await? {
            0 => Ok(Some(false)),
            1 => Ok(Some(true)),
            _ => Ok(None),
        }
    }

    pub(crate) async fn set_next_key(&self, device: &DeviceKey, key: &[u8; 32]) -> Result<NextKey, Error> {
        Ok(match self.change_keys(Call::NextKey, device, key).await? {
            0 => NextKey::Set,
            1 => NextKey::Current,
            2 => NextKey::Plain,
            _ => NextKey::UnknownDevice,
        })
    }

    pub(crate) async fn promote_key(&self, device: &DeviceKey, key: &[u8; 32]) -> Result<Promoted, Error> {
        Ok(match self.change_keys(Call::PromoteKey, device, key).await? {
            0 => Promoted::Promoted,
            1 => Promoted::Current,
            2 => Promoted::OtherKey,
            3 => Promoted::Revoked,
            _ => Promoted::UnknownDevice,
        })
    }

    /// Calls one of the scripts that change who a device is; its answer is a number.
    async fn change_keys(&self, call: Call, device: &DeviceKey, key: &[u8]) -> Result<u64, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(call, &device_keys(device).each_ref().map(String::as_str));
        call.arg(key).arg(if key.is_empty() { Vec::new() } else { self.record_mac(device, key) });
        layout::number_of(Some(keeper.ask(&keeper.link()?, call).await?))
    }

    /// What says that a route wrote this key; empty where that is not known.
    fn record_mac(&self, device: &DeviceKey, key: &[u8]) -> Vec<u8> {
        let current = self.shared.keeper.config.record_keys.first();
        current.map(|current| current.mac(device, key).to_vec()).unwrap_or_default()
    }

    pub(crate) async fn remove(&self, device: &DeviceKey) -> Result<Option<Option<Session>>, Error> {
        let keeper = &self.shared.keeper;
        let mut pipeline = Pipeline::with_capacity(3);
        pipeline.add_command(keeper.scripts.call(Call::Remove, &device_keys(device).each_ref().map(String::as_str)));
        pipeline.cmd("ZREM").arg(layout::names_key(device.tenant())).arg(device.device());
        pipeline.cmd("HDEL").arg(layout::queues_key(device.tenant(), shard_of(device))).arg(device.as_str());
        let mut answers = keeper.ask_all(&keeper.link()?, &pipeline).await?.into_iter();
        read_ended(answers.next().unwrap_or(Value::Nil))
    }

    pub(crate) async fn devices(&self, tenant: &str, after: &str, limit: usize) -> Result<Vec<DeviceKey>, Error> {
        let keeper = &self.shared.keeper;
        let start = if after.is_empty() { "-".to_owned() } else { format!("({after}") };
        let mut cmd = redis::cmd("ZRANGEBYLEX");
        cmd.arg(layout::names_key(tenant)).arg(start).arg("+").arg("LIMIT").arg(0).arg(limit);
        let names: Vec<String> = redis::from_redis_value(keeper.ask(&keeper.link()?, cmd).await?)
            .map_err(|error| Error::Unusable(error.to_string()))?;
        let parsed = names.iter().map(|name| DeviceKey::new(tenant, name));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| Error::Unusable(format!("a device of tenant {tenant}: {error}")))
    }

    pub(crate) async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        let keeper = &self.shared.keeper;
        let link = keeper.link()?;
        let mut call = keeper.scripts.call(Call::Attach, &device_keys(&attach.device).each_ref().map(String::as_str));
        call.arg(&link.lineage)
            .arg(&attach.server)
            .arg(&attach.server_incarnation.to_be_bytes())
            .arg(&attach.incarnation.to_be_bytes())
            .arg(attach.attempt)
            .arg(number(attach.epoch_floor))
            .arg(number(attach.cursor.generation))
            .arg(number(attach.cursor.sequence))
            .arg(&attach.fingerprint.0)
            .arg(attach.receive_limit)
            .arg(attach.window)
            .arg(&attach.key.0);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(call);
        pipeline
            .cmd("HGET")
            .arg(layout::queues_key(attach.device.tenant(), shard_of(&attach.device)))
            .arg(attach.device.as_str());
        let mut answers = keeper.ask_all(&link, &pipeline).await?.into_iter();
        let mut reply = Reply::new(answers.next().unwrap_or(Value::Nil))?;
        Ok(match reply.number()? {
            0 => {
                let mut new = read_new_session(&mut reply)?;
                new.event_position = read_event_position(answers.next(), attach.event_queue);
                Attached::Session(Box::new(new))
            }
            1 => Attached::UnknownDevice,
            2 => Attached::Revoked,
            3 => Attached::Stale,
            5 => Attached::OtherKey,
            _ => Attached::Cursor,
        })
    }

    pub(crate) async fn detach(
        &self,
        device: &DeviceKey,
        server_incarnation: u64,
        epoch: Epoch,
    ) -> Result<bool, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Detach, &device_keys(device).each_ref().map(String::as_str));
        call.arg(&server_incarnation.to_be_bytes()).arg(number(epoch));
        let answer = keeper.ask(&keeper.link()?, call).await?;
        Ok(layout::number_of(Some(answer))? == 1)
    }

    pub(crate) async fn reassert(&self, sessions: &[Reassert]) -> Result<Vec<Reasserted>, Error> {
        let keeper = &self.shared.keeper;
        let link = keeper.link()?;
        let mut pipeline = Pipeline::with_capacity(sessions.len());
        for mine in sessions {
            let keys = device_keys(&mine.device);
            let mut call = keeper.scripts.call(Call::Reassert, &keys.each_ref().map(String::as_str));
            call.arg(&link.lineage)
                .arg(&mine.server)
                .arg(&mine.server_incarnation.to_be_bytes())
                .arg(number(mine.epoch))
                .arg(&mine.incarnation.to_be_bytes())
                .arg(mine.attempt)
                .arg(&mine.fingerprint.0)
                .arg(mine.receive_limit)
                .arg(number(mine.sent.generation))
                .arg(number(mine.sent.sequence))
                .arg(&mine.key.0);
            pipeline.add_command(call);
        }
        let answers = keeper.ask_all(&link, &pipeline).await?;
        answers.into_iter().map(read_reasserted).collect()
    }

    pub(crate) async fn heads(&self, devices: &[DeviceKey]) -> Result<Vec<Head>, Error> {
        let keeper = &self.shared.keeper;
        let mut pipeline = Pipeline::with_capacity(devices.len());
        for device in devices {
            let [hash, ..] = device_keys(device);
            pipeline.cmd("HGET").arg(hash).arg("m");
        }
        let answers = keeper.ask_all(&keeper.link()?, &pipeline).await?;
        let heads = answers.into_iter().map(|answer| match answer {
            Value::Nil => Ok(Head::default()),
            Value::BulkString(mailbox) => {
                layout::read_head(&mailbox).ok_or_else(|| layout::unexpected(&Value::BulkString(mailbox)))
            }
            other => Err(layout::unexpected(&other)),
        });
        heads.collect()
    }
}

fn read_ended(answer: Value) -> Result<Option<Option<Session>>, Error> {
    let mut reply = Reply::new(answer)?;
    match reply.number()? {
        0 => reply.session().map(Some),
        _ => Ok(None),
    }
}

fn read_new_session(reply: &mut Reply) -> Result<NewSession, Error> {
    let (epoch, generation) = (reply.number()?, reply.number()?);
    let replaced = reply.session()?;
    let offered = Cursor::new(reply.number()?, reply.number()?);
    let (last, more, now_ms) = (reply.number()?, reply.number()? == 1, reply.number()?);
    let entries = reply.entries()?;
    Ok(NewSession { epoch, generation, replaced, offered, last, entries, more, event_position: 0, now_ms })
}

fn read_reasserted(answer: Value) -> Result<Reasserted, Error> {
    let mut reply = Reply::new(answer)?;
    if reply.number()? != 0 {
        return Ok(Reasserted::Lost);
    }
    let head = Head { generation: reply.number()?, last: reply.number()?, waiting: reply.number()? };
    Ok(Reasserted::Held { head, replaced: reply.session()? })
}

fn read_identity(device: &DeviceKey, keys: &[RecordKey], bytes: &[u8], next: Option<&[u8]>) -> Option<Identity> {
    let mut fields = Fields(bytes);
    let revoked = fields.int::<1>()? == 1;
    let created_ms = fields.int::<7>()?;
    let is_genuine =
        |key: &[u8], mac: &[u8]| keys.is_empty() || keys.iter().any(|record_key| record_key.fits(device, key, mac));
    let proof = match (fields.0.split_first_chunk::<32>(), fields.0) {
        (Some((current, mac)), _) => {
            let next = next.map(|next| next.split_first_chunk::<32>()).map(|next| next.ok_or(())).transpose().ok()?;
            let is_next_genuine = next.is_none_or(|(next, mac)| is_genuine(next, mac));
            let proof = Proof::Keys { current: *current, next: next.map(|(next, _)| *next) };
            (is_genuine(current, mac) && is_next_genuine).then_some(proof)
        }
        (None, [] | [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]) => {
            is_genuine(&[], fields.0).then_some(Proof::Plain)
        }
        (None, _) => return None,
    };
    let proof = proof.ok_or(Forged);
    Some(Identity {
        proof,
        revoked,
        fingerprint: Fingerprint::NONE,
        receive_limit: 0,
        session: None,
        epoch: 0,
        created_ms,
        seen_ms: 0,
        mailbox: Head::default(),
    })
}

fn read_session_fields(bytes: &[u8], identity: &mut Identity) -> Option<()> {
    let mut fields = Fields(bytes);
    identity.epoch = fields.int::<7>()?;
    fields.array::<12>()?;
    identity.fingerprint = Fingerprint(fields.array()?);
    identity.receive_limit = u32::try_from(fields.int::<4>()?).ok()?;
    identity.seen_ms = fields.int::<7>()?;
    Some(())
}

/// The last stored sequence of `queue` among what is known of a device's queues.
fn read_event_position(known: Option<Value>, queue: u64) -> u64 {
    let Some(Value::BulkString(known)) = known else { return 0 };
    let mut fields = Fields(&known);
    while let (Some(of), Some(last)) = (fields.int::<8>(), fields.int::<7>()) {
        if of == queue {
            return last;
        }
    }
    0
}
