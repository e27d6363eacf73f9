//! Tokens and audit records.

use imlink_protocol::id::TokenId;
use redis::Value;

use super::RedisStore;
use super::layout::{self, Fields, REVOCATIONS_KEY, REVOKED_TOKENS_KEY, Reply, TOKENS_KEY};
use super::script::Call;
use crate::Error;
use crate::audit::AuditRecord;
use crate::event::Position;
use crate::limits::{AUDIT_MAX, REVOKED_TOKENS_MAX, TOKEN_KEPT_MAX, TOKENS_PER_TENANT_MAX};
use crate::token::{Revocations, RevocationsVersion, Token, TokenAdded};

impl RedisStore {
    pub(crate) async fn add_token(&self, token: &Token) -> Result<TokenAdded, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::TokenAdd, &[TOKENS_KEY, &layout::tenant_tokens_key(&token.tenant)]);
        call.arg(&token.id.0)
            .arg(write_token(token))
            .arg(TOKENS_PER_TENANT_MAX)
            .arg(TOKEN_KEPT_MAX.as_millis().to_string());
        Ok(match layout::number_of(Some(keeper.ask(&keeper.link()?, call).await?))? {
            0 => TokenAdded::Added,
            1 => TokenAdded::Exists,
            _ => TokenAdded::Full,
        })
    }

    pub(crate) async fn token(&self, id: TokenId) -> Result<Option<Token>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("HGET");
        cmd.arg(TOKENS_KEY).arg(&id.0);
        match keeper.ask(&keeper.link()?, cmd).await? {
            Value::Nil => Ok(None),
            some => read_token(id, &layout::bytes_of(Some(some))?).map(Some),
        }
    }

    pub(crate) async fn tokens(&self, tenant: &str) -> Result<Vec<Token>, Error> {
        let keeper = &self.shared.keeper;
        let call = keeper.scripts.call(Call::Tokens, &[TOKENS_KEY, &layout::tenant_tokens_key(tenant)]);
        let Value::Array(values) = keeper.ask(&keeper.link()?, call).await? else { return Ok(Vec::new()) };
        let (pairs, _) = values.as_chunks::<2>();
        pairs.iter().map(|[id, record]| read_token(read_id(id)?, &layout::bytes_of(Some(record.clone()))?)).collect()
    }

    pub(crate) async fn revoke_token(&self, tenant: &str, id: TokenId) -> Result<Option<Token>, Error> {
        let keeper = &self.shared.keeper;
        let keys = [TOKENS_KEY, REVOKED_TOKENS_KEY, REVOCATIONS_KEY];
        let mut call = keeper.scripts.call(Call::TokenRevoke, &keys);
        call.arg(&id.0).arg(tenant).arg(REVOKED_TOKENS_MAX);
        match keeper.ask(&keeper.link()?, call).await? {
            Value::Nil => Ok(None),
            some => read_token(id, &layout::bytes_of(Some(some))?).map(Some),
        }
    }

    pub(crate) async fn revocations(&self, known: Option<RevocationsVersion>) -> Result<Option<Revocations>, Error> {
        let keeper = &self.shared.keeper;
        let link = keeper.link()?;
        // After another lineage the same count may be of another set.
        let count = known.filter(|known| known.lineage == link.lineage).map(|known| known.count.to_string());
        let mut call = keeper.scripts.call(Call::Revocations, &[REVOKED_TOKENS_KEY, REVOCATIONS_KEY]);
        call.arg(count.unwrap_or_default());
        let mut reply = Reply::new(keeper.ask(&link, call).await?)?;
        if reply.number()? == 0 {
            return Ok(None);
        }
        let version = RevocationsVersion { lineage: link.lineage, count: reply.number()? };
        let ids = match reply.value() {
            Value::Array(ids) => ids.iter().map(read_id).collect::<Result<_, _>>()?,
            other => return Err(layout::unexpected(&other)),
        };
        Ok(Some(Revocations { version, ids }))
    }

    pub(crate) async fn add_audit(&self, tenant: &str, record: &AuditRecord) -> Result<(), Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::Audit, &[&layout::audit_key(tenant)]);
        call.arg(AUDIT_MAX).arg(&record.who.0).arg(&record.what).arg(&record.object).arg(&record.from);
        keeper.ask(&keeper.link()?, call).await.map(|_| ())
    }

    pub(crate) async fn audit(
        &self,
        tenant: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<(Position, AuditRecord)>, Error> {
        let keeper = &self.shared.keeper;
        let key = layout::audit_key(tenant);
        let mut cmd;
        match after {
            Some(after) => {
                cmd = redis::cmd("XRANGE");
                cmd.arg(key).arg(format!("({}-{}", after.ms, after.n)).arg("+").arg("COUNT").arg(limit);
            }
            None => {
                cmd = redis::cmd("XREVRANGE");
                cmd.arg(key).arg("+").arg("-").arg("COUNT").arg(limit);
            }
        }
        let Value::Array(entries) = keeper.ask(&keeper.link()?, cmd).await? else { return Ok(Vec::new()) };
        let mut records: Vec<_> = entries.into_iter().map(read_record).collect::<Result<_, _>>()?;
        if after.is_none() {
            records.reverse();
        }
        Ok(records)
    }
}

/// secret_hash 32 · created_ms 7 · expires_ms 7 · revoked_ms 7 · rate 4 · length 1 · tenant · length 1 · name · scopes
fn write_token(token: &Token) -> Vec<u8> {
    let mut bytes = token.secret_hash.to_vec();
    for time in [token.created_ms, token.expires_ms, token.revoked_ms] {
        let [_, seven @ ..] = layout::number(time).to_be_bytes();
        bytes.extend_from_slice(&seven);
    }
    bytes.extend_from_slice(&token.rate.to_be_bytes());
    for text in [&token.tenant, &token.name] {
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(text.as_bytes().get(..text.len().min(255)).unwrap_or_default());
    }
    bytes.extend_from_slice(token.scopes.as_bytes());
    bytes
}

fn read_token(id: TokenId, bytes: &[u8]) -> Result<Token, Error> {
    let mut fields = Fields(bytes);
    let mut read = || {
        let secret_hash = fields.array()?;
        let (created_ms, expires_ms, revoked_ms) = (fields.int::<7>()?, fields.int::<7>()?, fields.int::<7>()?);
        let rate = u32::try_from(fields.int::<4>()?).ok()?;
        let mut text = || {
            let len = usize::try_from(fields.int::<1>()?).ok()?;
            let (text, rest) = fields.0.split_at_checked(len)?;
            fields.0 = rest;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        };
        let (tenant, name) = (text()?, text()?);
        let scopes = std::str::from_utf8(fields.0).ok()?.to_owned();
        Some(Token { id, secret_hash, tenant, name, scopes, rate, created_ms, expires_ms, revoked_ms })
    };
    read().ok_or_else(|| Error::Unusable(format!("token {id} is in no form this version knows")))
}

fn read_id(value: &Value) -> Result<TokenId, Error> {
    match value {
        Value::BulkString(bytes) if bytes.len() == 8 => Ok(TokenId(bytes.first_chunk().copied().unwrap_or_default())),
        other => Err(layout::unexpected(other)),
    }
}

fn read_record(entry: Value) -> Result<(Position, AuditRecord), Error> {
    let mut entry = Reply::new(entry)?;
    let position = entry.bytes()?;
    let position = layout::read_position(&position).ok_or_else(|| layout::unexpected(&Value::BulkString(position)))?;
    // Names and values alternate, in the order in which they were written.
    let mut fields = Reply::new(entry.value())?;
    let mut next = || {
        fields.value();
        fields.value()
    };
    let who = read_id(&next())?;
    let mut text = || Ok::<_, Error>(String::from_utf8_lossy(&layout::bytes_of(Some(next()))?).into_owned());
    Ok((position, AuditRecord { who, what: text()?, object: text()?, from: text()? }))
}
