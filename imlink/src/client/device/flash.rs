//! What a device is flashed with: who it is, its private key, what it logs in to.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use imlink_protocol::id::TENANT_DEFAULT;
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey, Psk, PublicKey};
use imlink_route::http::KeysView;
use reqwest::Method;
use serde::Serialize;

use crate::cli::{ClientArgs, FlashArgs, FlashFormat};
use crate::client::{Api, ClientError};
use crate::keys::known_fleet_psks;
use crate::state_dir::StateDir;

/// What one administrative request may take.
const WAIT: Duration = Duration::from_secs(10);

/// What every device of a fleet is flashed with.
#[derive(Clone, Debug)]
pub(super) struct Fleet {
    tenant: String,
    route_keys: [PublicKey; 2],
    fleet_psk: Option<Psk>,
    addresses: Vec<String>,
}

impl Fleet {
    /// Asks the gateway or route, without the fleet's secret.
    pub(super) async fn public(api: &Api, addresses: &[String]) -> Result<(Self, KeysView), ClientError> {
        let view: KeysView = api.ask_json(api.request(Method::GET, "/v1/keys", Some(WAIT))).await?;
        let key = |text: &str| text.parse().map_err(|why| anyhow::anyhow!("a key that {} told {why}", api.url()));
        let addresses = if addresses.is_empty() { view.addresses.clone() } else { addresses.to_vec() };
        for address in &addresses {
            check_address(address)?;
        }
        let route_keys = [key(&view.current)?, key(&view.next)?];
        Ok((Self { tenant: TENANT_DEFAULT.into(), route_keys, fleet_psk: None, addresses }, view))
    }

    /// Asks the gateway or route, and takes the fleet's secret, if it has one, from this machine.
    pub(super) async fn whole(api: &Api, client: &ClientArgs, flash: &FlashArgs) -> Result<Self, ClientError> {
        let (mut fleet, view) = Self::public(api, &flash.address).await?;
        if view.fleet_psk {
            let path = client.state_dir.clone();
            let path = path.unwrap_or_else(|| StateDir::default_path(|name| std::env::var(name).ok()));
            let psk = known_fleet_psks(&StateDir::new(&path))?.remove(&fleet.tenant);
            fleet.fleet_psk = Some(psk.with_context(|| {
                format!(
                    "devices of this fleet need its secret, which is not in {}; set IMLINK_FLEET_PSK, or run this where \
                     the gateway's state directory is",
                    path.display()
                )
            })?);
        }
        Ok(fleet)
    }
}

/// An address that can stand in source text and a URI as it is.
fn check_address(address: &str) -> anyhow::Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    anyhow::ensure!(
        address.bytes().all(is_plain) && address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()),
        "`{address}` is not an address that a device can dial; expected HOST:PORT"
    );
    Ok(())
}

/// What one device is flashed with.
#[derive(Debug)]
pub(super) struct Flash<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) id: &'a str,
    /// None where the device made its own key pair.
    pub(super) private_key: Option<&'a PrivateKey>,
    pub(super) public_key: PublicKey,
}

/// [`Flash`] as JSON.
#[derive(Serialize)]
struct Json<'a> {
    tenant: &'a str,
    id: &'a str,
    private_key: Option<String>,
    public_key: String,
    route_keys: [String; 2],
    fleet_psk: Option<String>,
    addresses: &'a [String],
}

impl Flash<'_> {
    /// One line of JSON.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        let fleet = self.fleet;
        Ok(serde_json::to_string(&Json {
            tenant: &fleet.tenant,
            id: self.id,
            private_key: self.private_key.map(|key| key.reveal().to_string()),
            public_key: self.public_key.to_string(),
            route_keys: fleet.route_keys.map(|key| key.to_string()),
            fleet_psk: fleet.fleet_psk.as_ref().map(|psk| psk.reveal().to_string()),
            addresses: &fleet.addresses,
        })?)
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> String {
        let [current, next] = self.fleet.route_keys;
        let mut text = String::new();
        if let Some(key) = self.private_key {
            let _ = writeln!(text, "  private key    {}   (shown once, kept nowhere)", key.reveal());
        }
        let _ = writeln!(text, "  public key     {}", self.public_key);
        let _ = writeln!(text, "  tenant         {}", self.fleet.tenant);
        let _ = writeln!(text, "  route keys     {current}\n                 {next}");
        if let Some(psk) = &self.fleet.fleet_psk {
            let _ = writeln!(text, "  fleet secret   {}", psk.reveal());
        }
        let _ = write!(text, "  addresses      {}", self.fleet.addresses.join(" "));
        text
    }

    /// The text of a file of that form.
    pub(super) fn source(&self, format: FlashFormat) -> anyhow::Result<String> {
        match format {
            FlashFormat::Json => Ok(self.json()? + "\n"),
            FlashFormat::C => Ok(self.c()),
            FlashFormat::Rust => Ok(self.rust()),
        }
    }

    fn c(&self) -> String {
        let [current, next] = &self.fleet.route_keys;
        let mut text = format!(
            "/* imlink: device {}. Secret: whoever reads this is that device. */\n#pragma once\n#include <stdint.h>\n\n\
             #define IMLINK_TENANT \"{}\"\n#define IMLINK_DEVICE_ID \"{}\"\n\n",
            self.id, self.fleet.tenant, self.id
        );
        if let Some(key) = self.private_key {
            let _ = writeln!(text, "static const uint8_t imlink_private_key[{KEY_LEN}] = {{{}}};", bytes(key.bytes()));
        }
        let _ = writeln!(
            text,
            "/* X25519 keys of the routes: current, next. */\n\
             static const uint8_t imlink_route_keys[2][{KEY_LEN}] = {{\n    {{{}}},\n    {{{}}}}};",
            bytes(&current.0),
            bytes(&next.0)
        );
        let psk = self.fleet.fleet_psk.as_ref().map_or([0; KEY_LEN], |psk| *psk.bytes());
        let _ = writeln!(text, "/* Zeros where the fleet has none. */");
        let _ = writeln!(text, "static const uint8_t imlink_fleet_psk[{KEY_LEN}] = {{{}}};", bytes(&psk));
        let _ = writeln!(text, "static const char *const imlink_addresses[] = {{{}}};", quoted(&self.fleet.addresses));
        text
    }

    fn rust(&self) -> String {
        let [current, next] = &self.fleet.route_keys;
        let mut text = format!(
            "//! imlink: device {}. Secret: whoever reads this is that device.\n\n\
             pub const TENANT: &str = \"{}\";\npub const DEVICE_ID: &str = \"{}\";\n",
            self.id, self.fleet.tenant, self.id
        );
        if let Some(key) = self.private_key {
            let _ = writeln!(text, "pub const PRIVATE_KEY: [u8; {KEY_LEN}] = [{}];", bytes(key.bytes()));
        }
        let _ = writeln!(
            text,
            "/// X25519 keys of the routes: current, next.\n\
             pub const ROUTE_KEYS: [[u8; {KEY_LEN}]; 2] = [\n    [{}],\n    [{}],\n];",
            bytes(&current.0),
            bytes(&next.0)
        );
        let psk = self.fleet.fleet_psk.as_ref().map_or([0; KEY_LEN], |psk| *psk.bytes());
        let _ = writeln!(text, "/// Zeros where the fleet has none.");
        let _ = writeln!(text, "pub const FLEET_PSK: [u8; {KEY_LEN}] = [{}];", bytes(&psk));
        let _ = writeln!(text, "pub const ADDRESSES: &[&str] = &[{}];", quoted(&self.fleet.addresses));
        text
    }

    /// What a QR code holds.
    pub(super) fn uri(&self) -> String {
        let [current, next] = self.fleet.route_keys;
        let mut uri = format!("imlink:{}?tenant={}&current={current}&next={next}", self.id, self.fleet.tenant);
        match self.private_key {
            Some(key) => {
                let _ = write!(uri, "&private={}", key.reveal());
                if let Some(psk) = &self.fleet.fleet_psk {
                    let _ = write!(uri, "&psk={}", psk.reveal());
                }
            }
            None => {
                let _ = write!(uri, "&public={}", self.public_key);
            }
        }
        for address in &self.fleet.addresses {
            let _ = write!(uri, "&at={address}");
        }
        uri
    }
}

fn bytes(key: &[u8; KEY_LEN]) -> String {
    key.iter().map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>().join(", ")
}

fn quoted(addresses: &[String]) -> String {
    addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ")
}

/// A file that is there before the key is registered, so that no key is registered that could not be written; it is
/// removed again unless it is kept.
pub(super) struct OutFile {
    path: PathBuf,
    format: FlashFormat,
    is_kept: bool,
}

impl OutFile {
    /// The file that `args` name, made now.
    pub(super) fn create(args: &FlashArgs) -> anyhow::Result<Option<Self>> {
        let Some(path) = &args.out else { return Ok(None) };
        let format = args.format.or_else(|| by_ending(path));
        let format = format.with_context(|| {
            format!("{} ends in none of .h, .rs and .json; name the form with --format", path.display())
        })?;
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        made.with_context(|| {
            format!(
                "cannot make {}; an existing file is not overwritten, it may hold the only copy of a key",
                path.display()
            )
        })?;
        Ok(Some(Self { path: path.clone(), format, is_kept: false }))
    }

    /// Writes what is to be flashed.
    pub(super) fn write(&self, flash: &Flash<'_>) -> anyhow::Result<()> {
        let text = flash.source(self.format)?;
        let written = OpenOptions::new().write(true).open(&self.path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// The key is registered: the file stays. Where it is.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn by_ending(path: &Path) -> Option<FlashFormat> {
    match path.extension()?.to_str()? {
        "h" => Some(FlashFormat::C),
        "rs" => Some(FlashFormat::Rust),
        "json" => Some(FlashFormat::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_could_break_out_of_source_text_is_refused() {
        for good in ["127.0.0.1:7000", "[::1]:7000", "gateway.example:7000"] {
            check_address(good).unwrap();
        }
        for bad in ["", "gateway", "gateway:", "a:99999", "a\";system(\"x\");//:1", "a b:1", "a&private=1:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
