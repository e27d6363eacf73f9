//! The scripts, each loaded when a connection is made and called by its hash.
//!
//! A script that frees, or whose growth is bounded for each provisioned device, is flagged `allow-oom`: a full
//! Redis still attaches devices, reads and trims. `append`, `events`, `provision`,
//! `idempotent` and `token_add` are not.

use std::collections::BTreeSet;

use redis::Cmd;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Acknowledge,
    Append,
    Attach,
    Audit,
    Commit,
    Detach,
    EnrolNode,
    Events,
    Idempotent,
    IdempotentDone,
    Lease,
    NextKey,
    PromoteKey,
    Provision,
    Read,
    Reassert,
    Remove,
    RemoveNode,
    Restore,
    Revocations,
    Revoke,
    State,
    TokenAdd,
    TokenRevoke,
    Tokens,
}

impl Call {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Self; TEXTS.len()] = {
        let mut all = [Self::Acknowledge; TEXTS.len()];
        let mut i = 0;
        while i < TEXTS.len() {
            all[i] = TEXTS[i].call;
            i += 1;
        }
        all
    };

    /// The commands of Redis that its script calls.
    pub(super) fn commands(self) -> BTreeSet<&'static str> {
        let text = TEXTS.get(self as usize);
        let parts = text.into_iter().flat_map(|text| text.parts.iter().copied().chain([text.body]));
        parts.flat_map(|part| part.split(CALL).skip(1).filter_map(|rest| rest.split('\'').next())).collect()
    }
}

/// How scripts call a command; there is no other way, which a test sees to.
const CALL: &str = "call('";

/// Script texts and their hashes.
#[derive(Debug)]
pub(super) struct Scripts {
    loaded: Vec<(String, String)>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let loaded = TEXTS.iter().map(|text| {
            let code = text.code();
            let hash = redis::Script::new(&code).get_hash().to_owned();
            (code, hash)
        });
        Self { loaded: loaded.collect() }
    }

    /// Makes every script known to a server.
    pub(super) fn load(&self) -> redis::Pipeline {
        let mut pipeline = redis::Pipeline::with_capacity(self.loaded.len());
        for (code, _) in &self.loaded {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(code);
        }
        pipeline
    }

    /// The beginning of a call; its arguments follow.
    pub(super) fn call(&self, call: Call, keys: &[&str]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        let hash = self.loaded.get(call as usize).map_or("", |(_, hash)| hash);
        cmd.arg(hash).arg(keys.len());
        for key in keys {
            cmd.arg(*key);
        }
        cmd
    }
}

struct Text {
    call: Call,
    flags: &'static str,
    /// Parts of the rules of a device that go in front.
    parts: &'static [&'static str],
    body: &'static str,
}

impl Text {
    fn code(&self) -> String {
        format!("#!lua{}\n{}\n{}", self.flags, self.parts.join("\n"), self.body)
    }
}

const fn text(call: Call, flags: &'static str, parts: &'static [&'static str], body: &'static str) -> Text {
    Text { call, flags, parts, body }
}

const ALLOW_OOM: &str = " flags=allow-oom";

const BASE: &str = include_str!("scripts/device/base.lua");
const IDS: &str = include_str!("scripts/device/ids.lua");
const ENDS: &str = include_str!("scripts/device/ends.lua");
const TRIM: &str = include_str!("scripts/device/trim.lua");
const EXPIRY: &str = include_str!("scripts/device/expiry.lua");
const DOUBT: &str = include_str!("scripts/device/doubt.lua");
const LINEAGE: &str = include_str!("scripts/device/lineage.lua");
const PAGE: &str = include_str!("scripts/device/page.lua");
const KEYS: &str = include_str!("scripts/device/keys.lua");
const LEAVE: &str = include_str!("scripts/device/leave.lua");
const STATE: &str = include_str!("scripts/device/state.lua");

/// In the order of [`Call`].
const TEXTS: [Text; 25] = [
    text(Call::Acknowledge, ALLOW_OOM, &[BASE, IDS, ENDS, TRIM, DOUBT], include_str!("scripts/acknowledge.lua")),
    text(Call::Append, "", &[BASE, IDS, ENDS, EXPIRY, DOUBT, LINEAGE], include_str!("scripts/append.lua")),
    text(
        Call::Attach,
        ALLOW_OOM,
        &[BASE, IDS, ENDS, TRIM, EXPIRY, DOUBT, LINEAGE, PAGE, KEYS],
        include_str!("scripts/attach.lua"),
    ),
    text(Call::Audit, ALLOW_OOM, &[], include_str!("scripts/audit.lua")),
    text(Call::Commit, ALLOW_OOM, &[], include_str!("scripts/commit.lua")),
    text(Call::Detach, ALLOW_OOM, &[BASE, ENDS, EXPIRY, LEAVE], include_str!("scripts/detach.lua")),
    text(Call::EnrolNode, "", &[], include_str!("scripts/enrol_node.lua")),
    text(Call::Events, "", &[], include_str!("scripts/events.lua")),
    text(Call::Idempotent, "", &[], include_str!("scripts/idempotent.lua")),
    text(Call::IdempotentDone, ALLOW_OOM, &[], include_str!("scripts/idempotent_done.lua")),
    text(Call::Lease, ALLOW_OOM, &[], include_str!("scripts/lease.lua")),
    text(Call::NextKey, ALLOW_OOM, &[BASE, KEYS], include_str!("scripts/next_key.lua")),
    text(Call::PromoteKey, ALLOW_OOM, &[BASE, KEYS], include_str!("scripts/promote_key.lua")),
    text(Call::Provision, "", &[BASE, ENDS, EXPIRY, LEAVE, KEYS], include_str!("scripts/provision.lua")),
    text(Call::Read, ALLOW_OOM, &[BASE, IDS, ENDS, EXPIRY, PAGE], include_str!("scripts/read.lua")),
    text(Call::Reassert, ALLOW_OOM, &[BASE, DOUBT, LINEAGE, KEYS], include_str!("scripts/reassert.lua")),
    text(Call::Remove, ALLOW_OOM, &[BASE], include_str!("scripts/remove.lua")),
    text(Call::RemoveNode, ALLOW_OOM, &[], include_str!("scripts/remove_node.lua")),
    text(Call::Restore, ALLOW_OOM, &[], include_str!("scripts/restore.lua")),
    text(Call::Revocations, ALLOW_OOM, &[], include_str!("scripts/revocations.lua")),
    text(Call::Revoke, ALLOW_OOM, &[BASE, ENDS, EXPIRY, LEAVE], include_str!("scripts/revoke.lua")),
    text(Call::State, ALLOW_OOM, &[BASE, IDS, ENDS, EXPIRY, STATE], include_str!("scripts/state.lua")),
    text(Call::TokenAdd, "", &[], include_str!("scripts/token_add.lua")),
    text(Call::TokenRevoke, ALLOW_OOM, &[], include_str!("scripts/token_revoke.lua")),
    text(Call::Tokens, ALLOW_OOM, &[], include_str!("scripts/tokens.lua")),
];

const _: () = {
    let mut i = 0;
    while i < TEXTS.len() {
        assert!(TEXTS[i].call as usize == i, "TEXTS are in the order of Call");
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_a_script_is_found_by_its_text() {
        for text in &TEXTS {
            let code = text.code();
            assert_eq!(code.matches("call(").count(), code.matches(CALL).count(), "{:?} hides a command", text.call);
            assert!(!code.contains("pcall"), "{:?} calls otherwise", text.call);
            assert!(!text.call.commands().is_empty(), "{:?} calls nothing", text.call);
        }
        assert_eq!(Vec::from_iter(Call::RemoveNode.commands()), ["HGET", "HSET"]);
    }
}
