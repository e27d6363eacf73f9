//! The command line.

mod blob;
mod client;
mod cluster;
mod device;
mod firmware;
mod keys;
mod node;
mod swarm;
mod token;

use clap::{Parser, Subcommand};

pub(crate) use blob::{BlobArgs, BlobAs, BlobCommand, BlobFetchArgs, BlobKeyArgs, BlobSendArgs};
pub(crate) use client::{CallArgs, ClientArgs, Out, PayloadArgs, SendArgs, WaitFor, WatchArgs};
pub(crate) use cluster::{NodeCommand, NodesArgs, RedisAclArgs};
pub(crate) use device::{
    AddArgs, DeviceArgs, DeviceCommand, ExportArgs, FlashArgs, FlashFormat, ImportArgs, RotateArgs, TableFormat,
};
pub(crate) use firmware::{Board, NewFirmwareArgs};
pub(crate) use keys::{KeysArgs, KeysCommand};
pub(crate) use node::NodeArgs;
pub(crate) use swarm::{DEVICES_PER_PROCESS, DemoArgs, SwarmArgs};
pub(crate) use token::{AuditArgs, TokenArgs, TokenCommand};

/// Carries commands to small devices, reliably, and tells what became of them.
///
/// Start with `imlink demo` (no configuration, nothing kept), then `imlink gateway` in one terminal and
/// `imlink device add lamp-17 --plain` in another.
#[derive(Debug, Parser)]
#[command(name = "imlink", version, propagate_version = true, after_help = crate::exit::HELP)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run route, IM-server and store in one process: the way to run on one machine
    #[command(after_long_help = node::GATEWAY_EXAMPLES)]
    Gateway(NodeArgs),
    /// Run a route of a cluster: it logs devices in and takes requests from backends
    #[command(after_long_help = node::ROUTE_EXAMPLES)]
    Route(NodeArgs),
    /// Run an IM-server of a cluster: it holds the long connections of devices
    #[command(after_long_help = node::SERVER_EXAMPLES)]
    Server(NodeArgs),
    /// Say which devices may attach and with which keys, and look at them
    #[command(after_long_help = device::EXAMPLES)]
    Device(DeviceArgs),
    /// Show and change the keys that devices log in to
    #[command(after_long_help = keys::EXAMPLES)]
    Keys(KeysArgs),
    /// Send a device a message that is stored until it acknowledges
    #[command(after_long_help = client::SEND_EXAMPLES)]
    Send(SendArgs),
    /// Ask a device and print its answer
    #[command(after_long_help = client::CALL_EXAMPLES)]
    Call(CallArgs),
    /// Give devices files and firmware images, fetch files of theirs
    #[command(after_long_help = blob::EXAMPLES)]
    Blob(BlobArgs),
    /// Print events as devices publish them
    #[command(after_long_help = client::WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Say which IM-servers belong to a cluster, and let new ones join
    #[command(after_long_help = cluster::NODE_EXAMPLES)]
    Node(NodesArgs),
    /// Print users for Redis, each with no more rights than its role needs
    #[command(after_long_help = cluster::REDIS_ACL_EXAMPLES)]
    RedisAcl(RedisAclArgs),
    /// Say what other backends may do, and take it back
    #[command(after_long_help = token::TOKEN_EXAMPLES)]
    Token(TokenArgs),
    /// Print who changed which token or device, when and from where
    Audit(AuditArgs),
    /// Write a firmware project for a board, made of the example firmware
    #[command(after_long_help = firmware::EXAMPLES)]
    NewFirmware(NewFirmwareArgs),
    /// Attach many simulated devices, made of the real device client
    #[command(after_long_help = swarm::EXAMPLES)]
    Swarm(SwarmArgs),
    /// Show the main job on this machine: a gateway and 1,000 devices, in seconds
    Demo(DemoArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_a_script_may_call_prints_json() {
        for line in [
            "imlink device --json list",
            "imlink device list --json",
            "imlink send lamp-17 led/set --hex 01 --wait acked --json",
            "imlink call lamp-17 led/get --json",
            "imlink watch --json",
            "imlink blob send lamp-17 app.bin --as firmware --sign-key update.key --json",
            "imlink blob fetch lamp-17 core-dump -o core.bin --json",
            "imlink blob key update.key --json",
            "imlink token add --allow send,call:lamp-* --expires 30d --rate 100/s --tenant acme --name billing --json",
            "imlink token list --json",
            "imlink token revoke 0f1e2d3c4b5a6978 --json",
            "imlink audit --json",
            "imlink swarm --devices 10 --json",
            "imlink demo --json",
            "imlink node list --json",
            "imlink node token --expires 1h --uses 3 --json",
            "imlink node remove server-2 --json",
            "imlink redis-acl --role server --json",
            "imlink new-firmware lamp --board nucleo-h743zi --json",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_payload_is_given_in_one_way_only() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("imlink send lamp-17 led/set --hex 01 --text on").is_err());
        assert!(parse("imlink send lamp-17 led/set --hex 0g").is_err());
        assert!(parse("imlink send lamp-17 led/set").is_ok());
        assert!(parse("imlink send la/mp led/set").is_err());
    }
}
