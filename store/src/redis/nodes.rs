//! Nodes and join tokens.

use redis::Value;

use super::RedisStore;
use super::layout::{self, Fields, JOINS_KEY, NODES_KEY};
use super::script::Call;
use crate::Error;
use crate::node::{Enrolled, JOIN_ID_LEN, JOIN_TOKENS_MAX, JoinToken, NODE_KEY_LEN, NODES_MAX, Node, NodeRole};

impl RedisStore {
    pub(crate) async fn enrol_node(
        &self,
        role: NodeRole,
        name: &str,
        key: [u8; NODE_KEY_LEN],
        token: Option<[u8; JOIN_ID_LEN]>,
    ) -> Result<Enrolled, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::EnrolNode, &[NODES_KEY, JOINS_KEY]);
        let token: &[u8] = token.as_ref().map_or(&[], |id| id);
        call.arg(field(role, name)).arg(&key).arg(&[role.byte()]).arg(token).arg(NODES_MAX);
        Ok(match layout::number_of(Some(keeper.ask(&keeper.link()?, call).await?))? {
            0 => Enrolled::Yes,
            1 => Enrolled::NameTaken,
            2 => Enrolled::Removed,
            3 => Enrolled::NoToken,
            _ => Enrolled::Full,
        })
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(NODES_KEY);
        let held = pairs(keeper.ask(&keeper.link()?, cmd).await?)?;
        let mut nodes: Vec<Node> = held.iter().filter_map(|(field, value)| read_node(field, value)).collect();
        nodes.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        Ok(nodes)
    }

    pub(crate) async fn node(&self, role: NodeRole, name: &str) -> Result<Option<Node>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("HGET");
        let field = field(role, name);
        cmd.arg(NODES_KEY).arg(&field);
        match keeper.ask(&keeper.link()?, cmd).await? {
            Value::Nil => Ok(None),
            some => Ok(read_node(field.as_bytes(), &layout::bytes_of(Some(some))?)),
        }
    }

    pub(crate) async fn remove_node(&self, role: NodeRole, name: &str) -> Result<bool, Error> {
        let keeper = &self.shared.keeper;
        let mut call = keeper.scripts.call(Call::RemoveNode, &[NODES_KEY]);
        call.arg(field(role, name));
        Ok(layout::number_of(Some(keeper.ask(&keeper.link()?, call).await?))? == 1)
    }

    pub(crate) async fn put_join_token(&self, token: &JoinToken) -> Result<(), Error> {
        let now_ms = self.now_ms().await?;
        let keeper = &self.shared.keeper;
        let held = self.held_tokens().await?;
        for over in held.iter().filter(|token| token.is_over(now_ms)) {
            self.remove_join_token(over.id).await?;
        }
        let live = held.iter().filter(|held| !held.is_over(now_ms) && held.id != token.id).count();
        if live >= JOIN_TOKENS_MAX {
            return Err(Error::Full(format!("{JOIN_TOKENS_MAX} join tokens are kept: remove some")));
        }
        let mut value = vec![token.role.byte()];
        value.extend_from_slice(layout::number(token.expires_ms).to_be_bytes().get(1..).unwrap_or_default());
        value.extend_from_slice(&token.uses.to_be_bytes());
        let mut cmd = redis::cmd("HSET");
        cmd.arg(JOINS_KEY).arg(&token.id).arg(value);
        keeper.ask(&keeper.link()?, cmd).await.map(|_| ())
    }

    pub(crate) async fn join_tokens(&self) -> Result<Vec<JoinToken>, Error> {
        let now_ms = self.now_ms().await?;
        let mut tokens = self.held_tokens().await?;
        tokens.retain(|token| !token.is_over(now_ms));
        tokens.sort_by_key(|token| token.id);
        Ok(tokens)
    }

    pub(crate) async fn remove_join_token(&self, id: [u8; JOIN_ID_LEN]) -> Result<bool, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("HDEL");
        cmd.arg(JOINS_KEY).arg(&id);
        Ok(layout::number_of(Some(keeper.ask(&keeper.link()?, cmd).await?))? == 1)
    }

    async fn held_tokens(&self) -> Result<Vec<JoinToken>, Error> {
        let keeper = &self.shared.keeper;
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(JOINS_KEY);
        let held = pairs(keeper.ask(&keeper.link()?, cmd).await?)?;
        Ok(held.iter().filter_map(|(id, value)| read_token(id, value)).collect())
    }
}

/// A field and its value.
type Pair = (Vec<u8>, Vec<u8>);

fn field(role: NodeRole, name: &str) -> String {
    format!("{role}/{name}")
}

fn pairs(answer: Value) -> Result<Vec<Pair>, Error> {
    redis::from_redis_value(answer).map_err(|error| Error::Unusable(error.to_string()))
}

fn read_node(field: &[u8], value: &[u8]) -> Option<Node> {
    let (role, name) = std::str::from_utf8(field).ok()?.split_once('/')?;
    let mut fields = Fields(value);
    Some(Node {
        role: role.parse().ok()?,
        name: name.into(),
        is_removed: fields.int::<1>()? == 1,
        enrolled_ms: fields.int::<7>()?,
        key: fields.0.try_into().ok()?,
    })
}

fn read_token(id: &[u8], value: &[u8]) -> Option<JoinToken> {
    let mut fields = Fields(value);
    let role = fields.int::<1>()?;
    Some(JoinToken {
        id: id.try_into().ok()?,
        role: NodeRole::ALL.into_iter().find(|known| u64::from(known.byte()) == role)?,
        expires_ms: fields.int::<7>()?,
        uses: u32::try_from(fields.int::<4>()?).ok()?,
    })
}
