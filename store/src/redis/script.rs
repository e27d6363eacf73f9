//! The scripts, each loaded when a connection is made and called by its hash.
//!
//! A script that frees, or whose growth is bounded for each provisioned device, is flagged `allow-oom`: a full
//! Redis still attaches devices, reads and trims. `append`, `events`, `provision` and `idempotent` are not.

use redis::Cmd;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Acknowledge,
    Append,
    Attach,
    Commit,
    Detach,
    Events,
    Idempotent,
    IdempotentDone,
    Lease,
    Provision,
    Read,
    Reassert,
    Remove,
    Revoke,
    State,
}

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
    /// Whether the rules of a device go in front.
    of_device: bool,
    body: &'static str,
}

impl Text {
    fn code(&self) -> String {
        let rules = if self.of_device { include_str!("scripts/device.lua") } else { "" };
        format!("#!lua{}\n{rules}{}", self.flags, self.body)
    }
}

const fn of_device(call: Call, flags: &'static str, body: &'static str) -> Text {
    Text { call, flags, of_device: true, body }
}

const fn plain(call: Call, flags: &'static str, body: &'static str) -> Text {
    Text { call, flags, of_device: false, body }
}

const ALLOW_OOM: &str = " flags=allow-oom";

/// In the order of [`Call`].
const TEXTS: [Text; 15] = [
    of_device(Call::Acknowledge, ALLOW_OOM, include_str!("scripts/acknowledge.lua")),
    of_device(Call::Append, "", include_str!("scripts/append.lua")),
    of_device(Call::Attach, ALLOW_OOM, include_str!("scripts/attach.lua")),
    plain(Call::Commit, ALLOW_OOM, include_str!("scripts/commit.lua")),
    of_device(Call::Detach, ALLOW_OOM, include_str!("scripts/detach.lua")),
    plain(Call::Events, "", include_str!("scripts/events.lua")),
    plain(Call::Idempotent, "", include_str!("scripts/idempotent.lua")),
    plain(Call::IdempotentDone, ALLOW_OOM, include_str!("scripts/idempotent_done.lua")),
    plain(Call::Lease, ALLOW_OOM, include_str!("scripts/lease.lua")),
    plain(Call::Provision, "", include_str!("scripts/provision.lua")),
    of_device(Call::Read, ALLOW_OOM, include_str!("scripts/read.lua")),
    of_device(Call::Reassert, ALLOW_OOM, include_str!("scripts/reassert.lua")),
    of_device(Call::Remove, ALLOW_OOM, include_str!("scripts/remove.lua")),
    of_device(Call::Revoke, ALLOW_OOM, include_str!("scripts/revoke.lua")),
    of_device(Call::State, ALLOW_OOM, include_str!("scripts/state.lua")),
];

const _: () = {
    let mut i = 0;
    while i < TEXTS.len() {
        assert!(TEXTS[i].call as usize == i, "TEXTS are in the order of Call");
        i += 1;
    }
};
