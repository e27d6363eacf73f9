//! The keys of this side: what devices log in to, and `imlink keys`.
//!
//! ```text
//! route-key  route-key-next      X25519 private keys; their public keys are what a device pins
//!      └─rotate─┴─▶ a new one    a device that pinned the older two still knows the second
//! fleet-psk                      optional; KEY for the only tenant, TENANT=KEY, one a line, for others
//! ```
//!
//! All routes of a cluster use the same keys, as they do the cluster secret.

use std::collections::HashMap;

use anyhow::Context;
use imlink_protocol::id::{TENANT_DEFAULT, check_tenant};
use imlink_protocol::key_pair::{LoginKeys, PrivateKey, Psk, PublicKey};
use serde::Serialize;

use crate::cli::{KeysArgs, KeysCommand};
use crate::config::Settings;
use crate::exit::Exit;
use crate::state_dir::{Secret, StateDir, random_hex};

/// The key pairs that `settings` hold.
pub(crate) fn login_keys(settings: &Settings) -> anyhow::Result<LoginKeys> {
    read_pair(&settings.route_key, &settings.route_key_next)
}

fn read_pair(current: &str, next: &str) -> anyhow::Result<LoginKeys> {
    let read = |name: &str, text: &str| -> anyhow::Result<PrivateKey> {
        let key = text.trim().parse();
        key.map_err(|why| anyhow::anyhow!("{name} {why}; draw one with `openssl rand -hex 32`"))
    };
    Ok(LoginKeys { current: read("route_key", current)?, next: read("route_key_next", next)? })
}

/// Fleet secrets by tenant: `KEY` for the only tenant, or `TENANT=KEY`, separated by commas or line ends.
pub(crate) fn fleet_psks(text: &str) -> anyhow::Result<HashMap<String, Psk>> {
    let mut psks = HashMap::new();
    for part in text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        let (tenant, key) = part.split_once('=').unwrap_or((TENANT_DEFAULT, part));
        let tenant = tenant.trim();
        check_tenant(tenant).map_err(|why| anyhow::anyhow!("fleet_psk: tenant `{tenant}` {why}"))?;
        let psk = key.trim().parse();
        let psk = psk.map_err(|why| anyhow::anyhow!("fleet_psk of tenant `{tenant}` {why}; `openssl rand -hex 32`"))?;
        anyhow::ensure!(psks.insert(tenant.into(), psk).is_none(), "fleet_psk names tenant `{tenant}` twice");
    }
    Ok(psks)
}

/// What a device pins, as it is printed.
#[derive(Debug, Serialize)]
struct Shown {
    current: String,
    next: String,
    /// Tenants with a fleet secret.
    fleet_psk_of: Vec<String>,
}

/// Does what `args` say.
pub(crate) fn run(args: &KeysArgs) -> anyhow::Result<Exit> {
    let path = args.state_dir.clone().unwrap_or_else(|| StateDir::default_path(|name| std::env::var(name).ok()));
    let state = StateDir::new(path);
    match &args.command {
        KeysCommand::Show => show(&read(&state)?, &state, args.json),
        KeysCommand::Rotate { yes } => rotate(&state, *yes, args.json),
        KeysCommand::MakeFleetPsk => {
            let found = state.read_or_make(Secret::FleetPsk)?;
            fleet_psks(&found.text)?;
            let what = if found.is_new { "made a fleet secret; it is kept in" } else { "there is one already:" };
            println!("{what} {}", found.path.display());
            println!("restart gateways and routes; every device of the fleet must be flashed with it");
            Ok(Exit::Done)
        }
    }
}

/// The keys that apply on this machine, made now when there are none.
fn read(state: &StateDir) -> anyhow::Result<LoginKeys> {
    let find = |variable: &str, secret| match configured(variable) {
        Some(text) => Ok(text),
        None => state.read_or_make(secret).map(|found| found.text),
    };
    let current = find("IMLINK_ROUTE_KEY", Secret::RouteKey)?;
    read_pair(&current, &find("IMLINK_ROUTE_KEY_NEXT", Secret::RouteKeyNext)?)
}

fn configured(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|text| !text.is_empty())
}

/// Fleet secrets that this machine knows, from `IMLINK_FLEET_PSK` or the state directory.
pub(crate) fn known_fleet_psks(state: &StateDir) -> anyhow::Result<HashMap<String, Psk>> {
    let text = match configured("IMLINK_FLEET_PSK") {
        Some(text) => text,
        None => state.read(Secret::FleetPsk).context("cannot read the fleet secret")?.unwrap_or_default(),
    };
    fleet_psks(&text)
}

fn show(keys: &LoginKeys, state: &StateDir, json: bool) -> anyhow::Result<Exit> {
    let (current, next): (PublicKey, PublicKey) = (keys.current.public(), keys.next.public());
    let mut fleet_psk_of: Vec<_> = known_fleet_psks(state)?.into_keys().collect();
    fleet_psk_of.sort();
    if json {
        let shown = Shown { current: current.to_string(), next: next.to_string(), fleet_psk_of };
        println!("{}", serde_json::to_string(&shown)?);
        return Ok(Exit::Done);
    }
    println!("current  {current}");
    println!("next     {next}");
    for tenant in fleet_psk_of {
        println!("fleet secret of tenant {tenant}");
    }
    Ok(Exit::Done)
}

/// The next key becomes the current one, and a new next one is made. Cut off in between, it leaves both equal, and
/// is finished by the next call.
fn rotate(state: &StateDir, yes: bool, json: bool) -> anyhow::Result<Exit> {
    for variable in ["IMLINK_ROUTE_KEY", "IMLINK_ROUTE_KEY_NEXT"] {
        anyhow::ensure!(
            configured(variable).is_none(),
            "{variable} sets the key, so it cannot be changed here: give the next one as IMLINK_ROUTE_KEY and a new \
             one as IMLINK_ROUTE_KEY_NEXT"
        );
    }
    if !yes {
        eprintln!(
            "imlink: after this, a device that pinned neither the current `next` nor a later key cannot log in any \
             more; make sure that each has it, then give --yes"
        );
        return Ok(Exit::Usage);
    }
    let read = |secret, name: &str| {
        let text = state.read(secret).with_context(|| format!("cannot read {name}"))?;
        text.with_context(|| format!("there is no {name} to rotate; `imlink keys show` makes the first ones"))
    };
    let next = read(Secret::RouteKeyNext, "route-key-next")?;
    read_pair(&read(Secret::RouteKey, "route-key")?, &next)?;
    state.replace(Secret::RouteKey, &next)?;
    state.replace(Secret::RouteKeyNext, &random_hex()?)?;
    if !json {
        println!("rotated; restart gateways and routes, then give devices the two keys that follow:");
    }
    show(&self::read(state)?, state, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleet_secrets_are_read_by_tenant_and_refused_by_name() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        assert!(fleet_psks(" \n").unwrap().is_empty());
        assert_eq!(fleet_psks(&a).unwrap(), HashMap::from([("-".into(), a.parse().unwrap())]));
        let two = HashMap::from([("-".into(), a.parse().unwrap()), ("acme".into(), b.parse().unwrap())]);
        assert_eq!(fleet_psks(&format!("{a}\nacme = {b}\n")).unwrap(), two);
        assert_eq!(fleet_psks(&format!("-={a},acme={b}")).unwrap(), two);
        for (wrong, why) in [("acme=12", "`acme` has 2"), (&format!("{a},{b}"), "twice"), ("a b=1", "`a b`")] {
            let error = fleet_psks(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_rotation_moves_the_next_key_up_and_is_finished_when_it_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        let pair = |state: &StateDir| {
            let text = |secret| state.read(secret).unwrap().unwrap();
            read_pair(&text(Secret::RouteKey), &text(Secret::RouteKeyNext)).unwrap()
        };
        assert!(rotate(&state, true, true).unwrap_err().to_string().contains("keys show"));
        let first = read(&state).unwrap();
        assert_eq!(rotate(&state, false, true).unwrap(), Exit::Usage);
        assert_eq!(pair(&state), first, "without --yes nothing is changed");
        assert_eq!(rotate(&state, true, true).unwrap(), Exit::Done);
        let second = pair(&state);
        assert_eq!(second.current, first.next, "a device that pinned the first two knows it");
        assert!(second.next != first.current && second.next != first.next);
        // Cut off after the first half.
        state.replace(Secret::RouteKey, &second.next.reveal().to_string()).unwrap();
        assert_eq!(rotate(&state, true, true).unwrap(), Exit::Done);
        let third = pair(&state);
        assert_eq!(third.current, second.next);
        assert!(third.next != third.current);
    }
}
