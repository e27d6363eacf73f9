//! Flags of `imlink blob`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::client::{ClientArgs, device_id};

pub(crate) const EXAMPLES: &str = "\
Examples:
  imlink blob key update.key                            a key pair; flash the public half that it prints
  imlink blob send lamp-17 app.bin --as firmware --sign-key update.key
  imlink blob send lamp-17 tune.opus --name ring        a file; the device keeps it as `ring`
  imlink blob fetch lamp-17 core-dump -o core.bin       a file of the device
  imlink blob fetch lamp-17 log --json

Both go on where they were after a cut, of the device or of the gateway, and when the command is run again.";

/// `imlink blob …`
#[derive(Debug, Args)]
pub(crate) struct BlobArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: BlobCommand,
}

/// What `imlink blob` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Give a device a file or a firmware image
    Send(BlobSendArgs),
    /// Fetch a file from a device
    Fetch(BlobFetchArgs),
    /// Draw the key that signs firmware images, and print its public half
    Key(BlobKeyArgs),
}

/// What a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BlobAs {
    /// A file
    File,
    /// An image to be booted; signed by --sign-key, which the device checks
    Firmware,
}

/// `imlink blob send …`
#[derive(Debug, Args)]
pub(crate) struct BlobSendArgs {
    /// Device id
    #[arg(value_parser = device_id)]
    pub(crate) device: String,
    /// The file
    pub(crate) file: PathBuf,
    /// Name on the device [default: the file's own]
    #[arg(long, value_parser = device_id)]
    pub(crate) name: Option<String>,
    /// What it is for
    #[arg(long = "as", value_enum, default_value_t = BlobAs::File)]
    pub(crate) kind: BlobAs,
    /// File with the private Ed25519 key that signs it, 64 hexadecimal digits
    #[arg(long, value_name = "FILE", required_if_eq("kind", "firmware"))]
    pub(crate) sign_key: Option<PathBuf>,
    /// Longest time without progress, in seconds; the device may be away so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

/// `imlink blob fetch …`
#[derive(Debug, Args)]
pub(crate) struct BlobFetchArgs {
    /// Device id
    #[arg(value_parser = device_id)]
    pub(crate) device: String,
    /// Name on the device
    #[arg(value_parser = device_id)]
    pub(crate) name: String,
    /// Where to keep it [default: a file of that name here]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Longest time without progress, in seconds; the device may be away so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,
}

/// `imlink blob key …`
#[derive(Debug, Args)]
pub(crate) struct BlobKeyArgs {
    /// Where to keep the private key; a file that is there already is read, not changed
    pub(crate) file: PathBuf,
}
