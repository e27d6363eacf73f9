//! The commands that ask a gateway or route over HTTP.

mod api;
mod blob;
mod call;
mod device;
mod send;
mod sse;
mod token;
mod watch;

use std::io::{Read, Write};

use anyhow::Context;
use imlink_protocol::hex::Hex;

use crate::cli::PayloadArgs;

pub(crate) use api::{Api, ClientError};
pub(crate) use blob::blob;
pub(crate) use call::call;
pub(crate) use device::device;
pub(crate) use send::send;
pub(crate) use sse::Frames;
pub(crate) use token::{audit, token};
pub(crate) use watch::watch;

impl PayloadArgs {
    /// The bytes that were given; none for an empty payload.
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(hex) = &self.hex {
            return Ok(hex.0.clone());
        }
        if let Some(text) = &self.text {
            return Ok(text.clone().into_bytes());
        }
        match &self.file {
            None => Ok(Vec::new()),
            Some(path) if path.as_os_str() == "-" => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).context("cannot read the payload from standard input")?;
                Ok(bytes)
            }
            Some(path) => {
                std::fs::read(path).with_context(|| format!("cannot read the payload from {}", path.display()))
            }
        }
    }
}

/// Prints one line to standard output; false when nobody reads it any more.
fn print_line(line: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot print"),
    }
}

/// Bytes as a person reads them: text where it is, else hexadecimal.
fn readable(bytes: &[u8]) -> String {
    let is_text = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    match std::str::from_utf8(bytes).ok().filter(is_text) {
        Some(text) => format!("{text:?}"),
        None => Hex(bytes).to_string(),
    }
}
