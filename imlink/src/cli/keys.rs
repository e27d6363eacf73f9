//! Flags of `imlink keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) const EXAMPLES: &str = "\
Examples:
  imlink keys show                       the two public keys that a device pins
  imlink keys show --json | jq -r .current
  imlink keys rotate --yes               next becomes current, and a new next one is made
  imlink keys make-fleet-psk             a secret that all devices share, beside their own keys

The private keys are files of mode 0600 in the state directory: route-key, route-key-next, fleet-psk. All routes of a
cluster need the same ones.";

/// `imlink keys …`
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// The gateway's or route's state directory, where its keys are
    #[arg(long, global = true, env = "IMLINK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

/// What `imlink keys` does.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Show the public keys that a device pins; made now when there are none
    Show,
    /// Make the next key the current one, and a new next one
    Rotate {
        /// Every device has the next key pinned
        #[arg(long)]
        yes: bool,
    },
    /// Make a secret that the whole fleet shares with its routes, if there is none
    MakeFleetPsk,
}
