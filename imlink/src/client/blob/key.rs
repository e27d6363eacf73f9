//! The key that signs firmware images.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use ed25519_dalek::SigningKey;
use imlink_protocol::hex::{self, Hex};

use super::super::{ClientError, print_line};
use crate::cli::BlobKeyArgs;
use crate::exit::Exit;

/// Draws a key unless there is one, and prints its public half.
pub(super) fn key(args: &BlobKeyArgs, json: bool) -> Result<Exit, ClientError> {
    let key = match draw(&args.file) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(&args.file)?,
        drawn => drawn.with_context(|| format!("cannot write the key {}", args.file.display()))?,
    };
    let public = Hex(key.verifying_key().as_bytes()).to_string();
    let json = json.then(|| serde_json::json!({ "file": args.file, "public_key": public }).to_string());
    print_line(&json.unwrap_or(public))?;
    Ok(Exit::Done)
}

fn draw(path: &Path) -> std::io::Result<SigningKey> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", Hex(&bytes))?;
    file.sync_all()?;
    Ok(SigningKey::from_bytes(&bytes))
}

/// Reads a private key.
pub(super) fn read(path: &Path) -> anyhow::Result<SigningKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    let bytes = hex::read(text.trim())
        .ok()
        .with_context(|| format!("{} is not 64 hexadecimal digits; draw one with `imlink blob key`", path.display()))?;
    Ok(SigningKey::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_drawn_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.key");
        let drawn = draw(&path).unwrap();
        assert_eq!(draw(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(read(&path).unwrap().to_bytes(), drawn.to_bytes());
        std::fs::write(&path, "no key").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("64 hexadecimal digits"));
    }
}
