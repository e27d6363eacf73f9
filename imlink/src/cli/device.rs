//! Flags of `imlink device`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use imlink_protocol::key_pair::PublicKey;

use super::ClientArgs;
use super::client::device_id;

pub(crate) const EXAMPLES: &str = "\
Examples:
  imlink device add lamp-17                             make a key pair; what to flash is shown once
  imlink device add lamp-17 --out lamp-17.h             the same as a C header (.rs, .json)
  imlink device add lamp-17 --public-key 8520f0…        the device made its own key pair
  imlink device add lamp-17 --plain                     no key: loopback only, for trying things
  imlink device rotate lamp-17 --out lamp-17.h          the next key; the old one is good until it is used
  imlink device revoke lamp-17                          refused everywhere, its session is closed within 2 s
  imlink device export --out fleet.csv                  ids and public keys; imlink keeps no private ones
  imlink device import fleet.csv                        again after a failure: what is done is done again
  imlink device qr lamp-17 --out lamp-17.svg";

/// `imlink device …`
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: DeviceCommand,
}

/// What `imlink device` does.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Provision devices, each with a key pair made here, and show once what to flash
    #[command(after_long_help = EXAMPLES)]
    Add(AddArgs),
    /// Give a device its next key; the current one is good until the first login with the next
    Rotate(RotateArgs),
    /// Refuse devices everywhere and close their sessions within 2 s; mailboxes stay
    Revoke(Ids),
    /// Lift the revocation of devices; they attach with the keys they have
    Restore(Ids),
    /// Provision the devices of a table: id, proof or public_key, next_public_key, revoked
    #[command(after_long_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Write a table of all devices with their public keys, in the form that `import` reads
    Export(ExportArgs),
    /// Show a QR code of a device's id, keys and addresses (nothing secret), for whoever installs it
    Qr {
        /// Device id
        #[arg(value_parser = device_id)]
        id: String,
        /// Write FILE.svg or FILE.png instead of drawing on the terminal
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List devices in the order of their ids
    List {
        /// Only ids behind this one
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most this many [default: all]
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Show a device: whether it is attached, what it speaks, what waits for it
    Show {
        /// Device id
        #[arg(value_parser = device_id)]
        id: String,
    },
    /// Remove devices with their mailboxes, closing their sessions
    Remove(Ids),
}

const IMPORT_HELP: &str = "\
CSV has a header; only id and one of proof and public_key are needed:

  id,proof,public_key,next_public_key,revoked
  lamp-17,public-key,8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a,,false
  bench-1,plain,,,

JSON is one such object a line, or an array of them. A file is checked whole before anything is sent; what is wrong is
named by line and column. A device that is there gets the keys of the table and keeps mailbox and session; its revocation
is changed only where the table says so.";

/// Device ids.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// Device ids: 1–64 bytes of A-Z a-z 0-9 . _ : -
    #[arg(required = true, value_parser = device_id)]
    pub(crate) ids: Vec<String>,
}

/// `imlink device add …`
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) devices: Ids,
    /// The device made its own key pair; this is its public key
    #[arg(long, value_name = "HEX", conflicts_with = "plain")]
    pub(crate) public_key: Option<PublicKey>,
    /// Provision without a key: the device proves nothing, and attaches over plain links only
    #[arg(long, conflicts_with_all = ["out", "format", "address", "qr"])]
    pub(crate) plain: bool,
    /// Replace the key of a device that is there, which closes its session within 2 s and shuts out whoever holds the old one
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) flash: FlashArgs,
}

/// `imlink device rotate …`
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Device id
    #[arg(value_parser = device_id)]
    pub(crate) id: String,
    /// The device made its own next key pair; this is its public key
    #[arg(long, value_name = "HEX")]
    pub(crate) public_key: Option<PublicKey>,
    #[command(flatten)]
    pub(crate) flash: FlashArgs,
}

/// Where what is to be flashed goes.
#[derive(Debug, Args)]
pub(crate) struct FlashArgs {
    /// Write what to flash to a new file of mode 0600, in the form that its ending or --format names
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Form of --out
    #[arg(long, value_enum, requires = "out")]
    pub(crate) format: Option<FlashFormat>,
    /// Where the device logs in; may be repeated [default: what the gateway or route says]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Vec<String>,
    /// Also draw a QR code, private key included
    #[arg(long)]
    pub(crate) qr: bool,
}

/// A form that firmware can be built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlashFormat {
    /// C header (.h)
    C,
    /// Rust source (.rs)
    Rust,
    /// JSON object (.json)
    Json,
}

/// `imlink device import …`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Table of devices, - for standard input
    pub(crate) file: PathBuf,
    /// Its form [default: by its ending, .csv or .json]
    #[arg(long, value_enum)]
    pub(crate) format: Option<TableFormat>,
}

/// `imlink device export …`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Form of the table [default: by the ending of --out, else csv]
    #[arg(long, value_enum)]
    pub(crate) format: Option<TableFormat>,
    /// Only ids behind this one, to go on where an export was cut off
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
}

/// A form of a table of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// With a header
    Csv,
    /// One object a line
    Json,
}
