//! Nodes and join tokens.

use std::collections::BTreeMap;

use crate::Error;
use crate::node::{Enrolled, JOIN_ID_LEN, JOIN_TOKENS_MAX, JoinToken, NODE_KEY_LEN, NODES_MAX, Node, NodeRole};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    known: BTreeMap<(NodeRole, String), Node>,
    tokens: BTreeMap<[u8; JOIN_ID_LEN], JoinToken>,
}

impl Nodes {
    pub(super) fn enrol(
        &mut self,
        role: NodeRole,
        name: &str,
        key: [u8; NODE_KEY_LEN],
        token: Option<[u8; JOIN_ID_LEN]>,
        now_ms: u64,
    ) -> Enrolled {
        let at = (role, name.to_owned());
        match self.known.get(&at) {
            Some(known) if known.key == key => return if known.is_removed { Enrolled::Removed } else { Enrolled::Yes },
            Some(known) if !known.is_removed => return Enrolled::NameTaken,
            Some(_) => {}
            None if self.known.len() >= NODES_MAX => return Enrolled::Full,
            None => {}
        }
        if let Some(id) = token {
            let usable = |token: &&mut JoinToken| token.role == role && !token.is_over(now_ms);
            let Some(token) = self.tokens.get_mut(&id).filter(usable) else { return Enrolled::NoToken };
            match token.uses {
                0 => {}
                1 => drop(self.tokens.remove(&id)),
                _ => token.uses -= 1,
            }
        }
        self.known.insert(at, Node { role, name: name.into(), key, enrolled_ms: now_ms, is_removed: false });
        Enrolled::Yes
    }

    pub(super) fn all(&self) -> Vec<Node> {
        self.known.values().cloned().collect()
    }

    pub(super) fn find(&self, role: NodeRole, name: &str) -> Option<Node> {
        self.known.get(&(role, name.to_owned())).cloned()
    }

    pub(super) fn remove(&mut self, role: NodeRole, name: &str) -> bool {
        match self.known.get_mut(&(role, name.to_owned())) {
            Some(node) => !std::mem::replace(&mut node.is_removed, true),
            None => false,
        }
    }

    pub(super) fn put_token(&mut self, token: &JoinToken, now_ms: u64) -> Result<(), Error> {
        self.tokens.retain(|_, token| !token.is_over(now_ms));
        if self.tokens.len() >= JOIN_TOKENS_MAX && !self.tokens.contains_key(&token.id) {
            return Err(Error::Full(format!("{JOIN_TOKENS_MAX} join tokens are kept: remove some")));
        }
        self.tokens.insert(token.id, token.clone());
        Ok(())
    }

    pub(super) fn tokens(&self, now_ms: u64) -> Vec<JoinToken> {
        self.tokens.values().filter(|token| !token.is_over(now_ms)).cloned().collect()
    }

    pub(super) fn remove_token(&mut self, id: [u8; JOIN_ID_LEN]) -> bool {
        self.tokens.remove(&id).is_some()
    }
}
