//! Events: one stream for each shard of a tenant.

use std::collections::HashSet;
use std::time::Duration;

use imlink_protocol::limits::NUMBER_MAX;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};

use super::RedisStore;
use super::layout::{self, Reply};
use super::link::Lineage;
use super::script::Call;
use crate::Error;
use crate::event::{Event, EventBatch, EventsStored, Position, SHARDS, shard_of};
use crate::store::EventsByShard;

/// Consumer groups (`tenant/group`) that this process registered in every shard of their tenant, by the lineage it
/// did so in.
#[derive(Debug, Default)]
pub(super) struct KnownGroups(Mutex<HashSet<(Lineage, String)>>);

impl RedisStore {
    pub(crate) async fn append_events(&self, batches: &[EventBatch]) -> Result<Vec<EventsStored>, Error> {
        let keeper = &self.shared.keeper;
        let mut by_shard: Vec<((&str, usize), Vec<usize>)> = Vec::new();
        for (index, batch) in batches.iter().enumerate() {
            let shard = (batch.device.tenant(), shard_of(&batch.device));
            match by_shard.iter_mut().find(|(known, _)| *known == shard) {
                Some((_, indexes)) => indexes.push(index),
                None => by_shard.push((shard, vec![index])),
            }
        }
        let mut pipeline = Pipeline::with_capacity(by_shard.len());
        for (shard, indexes) in &by_shard {
            pipeline.add_command(self.events_call(
                shard.0,
                shard.1,
                indexes.iter().filter_map(|index| batches.get(*index)),
            ));
        }
        let answers = keeper.ask_all(&keeper.link()?, &pipeline).await?;
        let mut stored = vec![EventsStored::Full; batches.len()];
        for ((_, indexes), answer) in by_shard.iter().zip(answers) {
            let mut reply = Reply::new(answer)?;
            for index in indexes {
                let answer = match reply.value() {
                    Value::Int(-1) => EventsStored::Full,
                    value => EventsStored::UpTo(layout::number_of(Some(value))?),
                };
                if let Some(place) = stored.get_mut(*index) {
                    *place = answer;
                }
            }
        }
        Ok(stored)
    }

    fn events_call<'a>(&self, tenant: &str, shard: usize, batches: impl Iterator<Item = &'a EventBatch>) -> Cmd {
        let keeper = &self.shared.keeper;
        let config = &keeper.config;
        let ms = |age: Duration| age.as_millis().to_string();
        let keys =
            [layout::stream_key(tenant, shard), layout::queues_key(tenant, shard), layout::groups_key(tenant, shard)];
        let mut call = keeper.scripts.call(Call::Events, &keys.each_ref().map(String::as_str));
        let ungrouped =
            config.event_age_max.map_or(config.event_age_ungrouped, |age| age.min(config.event_age_ungrouped));
        call.arg(config.events_per_shard_max).arg(config.event_age_max.map_or(String::new(), ms)).arg(ms(ungrouped));
        for batch in batches {
            // Sequences from 2^53 on are no one's.
            let events = batch.events.iter().filter(|(sequence, ..)| *sequence <= NUMBER_MAX);
            call.arg(batch.device.as_str()).arg(&batch.queue.to_be_bytes()).arg(events.clone().count());
            for (sequence, key, payload) in events {
                let event = Event {
                    device: batch.device.clone(),
                    queue: batch.queue,
                    sequence: *sequence,
                    fingerprint: batch.fingerprint,
                    key: *key,
                    payload: payload.clone(),
                    stored_ms: 0,
                };
                call.arg(*sequence).arg(layout::write_event(&event));
            }
        }
        call
    }

    pub(crate) async fn read_events(
        &self,
        tenant: &str,
        shard: usize,
        after: Position,
        limit: usize,
    ) -> Result<Vec<(Position, Event)>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("XRANGE");
        let start = format!("({}-{}", after.ms, after.n);
        cmd.arg(layout::stream_key(tenant, shard)).arg(start).arg("+").arg("COUNT").arg(limit);
        read_stream(keeper.ask(&keeper.link()?, cmd).await?)
    }

    pub(crate) async fn wait_events(
        &self,
        tenant: &str,
        after: &[Position; SHARDS],
        limit_per_shard: usize,
        wait: Duration,
    ) -> Result<EventsByShard, Error> {
        let keys: Vec<String> = (0..SHARDS).map(|shard| layout::stream_key(tenant, shard)).collect();
        let mut cmd = redis::cmd("XREAD");
        // 0 would be for ever.
        cmd.arg("COUNT").arg(limit_per_shard).arg("BLOCK").arg(wait.as_millis().max(1).to_string()).arg("STREAMS");
        cmd.arg(&keys);
        for position in after {
            cmd.arg(format!("{}-{}", position.ms, position.n));
        }
        let Value::Array(streams) = self.shared.keeper.ask_blocking(&cmd, wait).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::with_capacity(streams.len());
        for stream in streams {
            let mut stream = Reply::new(stream)?;
            let key = stream.bytes()?;
            if let Some(shard) = keys.iter().position(|known| known.as_bytes() == key) {
                found.push((shard, read_stream(stream.value())?));
            }
        }
        Ok(found)
    }

    pub(crate) async fn event_tails(&self, tenant: &str) -> Result<[Position; SHARDS], Error> {
        let keeper = &self.shared.keeper;
        let mut pipeline = Pipeline::with_capacity(SHARDS);
        for shard in 0..SHARDS {
            pipeline.cmd("XREVRANGE").arg(layout::stream_key(tenant, shard)).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let mut tails = [Position::default(); SHARDS];
        for (tail, answer) in tails.iter_mut().zip(keeper.ask_all(&keeper.link()?, &pipeline).await?) {
            if let Some((position, _)) = read_stream(answer)?.first() {
                *tail = *position;
            }
        }
        Ok(tails)
    }

    pub(crate) async fn commit_events(
        &self,
        tenant: &str,
        group: &str,
        shard: usize,
        upto: Position,
    ) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let link = keeper.link()?;
        let known = (link.lineage, format!("{tenant}/{group}"));
        if !self.shared.groups.0.lock().contains(&known) {
            // From here on it holds every shard, also those it did not get to yet.
            let mut pipeline = Pipeline::with_capacity(SHARDS);
            for shard in 0..SHARDS {
                pipeline.cmd("HSETNX").arg(layout::groups_key(tenant, shard)).arg(group).arg(&[0u8; 14]);
            }
            keeper.ask_all(&link, &pipeline).await?;
            self.shared.groups.0.lock().insert(known);
        }
        let keys = [layout::stream_key(tenant, shard), layout::groups_key(tenant, shard)];
        let mut call = keeper.scripts.call(Call::Commit, &keys.each_ref().map(String::as_str));
        call.arg(group).arg(layout::number(upto.ms)).arg(layout::number(upto.n));
        keeper.ask(&link, call).await.map(|_| ())
    }

    pub(crate) async fn committed_events(&self, tenant: &str, group: &str) -> Result<[Position; SHARDS], Error> {
        let keeper = &self.shared.keeper;
        let mut pipeline = Pipeline::with_capacity(SHARDS);
        for shard in 0..SHARDS {
            pipeline.cmd("HGET").arg(layout::groups_key(tenant, shard)).arg(group);
        }
        let mut positions = [Position::default(); SHARDS];
        for (position, answer) in positions.iter_mut().zip(keeper.ask_all(&keeper.link()?, &pipeline).await?) {
            if let Value::BulkString(bytes) = answer {
                let mut fields = layout::Fields(&bytes);
                if let (Some(ms), Some(n)) = (fields.int::<7>(), fields.int::<7>()) {
                    *position = Position { ms, n };
                }
            }
        }
        Ok(positions)
    }
}

/// Entries as `XRANGE` gives them: `[id, [field, value]]`.
fn read_stream(answer: Value) -> Result<Vec<(Position, Event)>, Error> {
    let Value::Array(entries) = answer else { return Ok(Vec::new()) };
    let read = |entry: Value| {
        let mut entry = Reply::new(entry)?;
        let id = entry.bytes()?;
        let mut fields = Reply::new(entry.value())?;
        fields.bytes()?;
        let event = fields.bytes()?;
        let position = layout::read_position(&id);
        let event = position.and_then(|position| Some((position, layout::read_event(position, event.into())?)));
        event.ok_or_else(|| layout::unexpected(&Value::BulkString(id)))
    };
    entries.into_iter().map(read).collect()
}
