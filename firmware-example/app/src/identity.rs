//! Who a board is, from texts that were put into its image.

use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::flash::{FlashStore, KeyError, Origin};
use imlink_device_client::{Config, Keys, Rng};
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey, PublicKey};
use log::info;

/// What a board is told when its image is built. `imlink device add` prints the keys.
pub struct Identity {
    device: &'static str,
    routes: [&'static str; 1],
    private_key: PrivateKey,
    route_keys: [[u8; KEY_LEN]; 1],
}

/// A public key of 64 hexadecimal digits.
pub fn public_key(text: &str) -> Option<[u8; KEY_LEN]> {
    text.parse::<PublicKey>().ok().map(|key| key.0)
}

impl Identity {
    /// Reads the texts: device id, `HOST:PORT` of a route or gateway, keys in hexadecimal digits. `None` when one is
    /// missing or does not have its form.
    pub fn read(
        device: &'static str,
        route: &'static str,
        private_key: Option<&str>,
        route_key: Option<&str>,
    ) -> Option<Self> {
        Some(Self {
            device,
            routes: [route],
            private_key: private_key?.parse().ok()?,
            route_keys: [public_key(route_key?)?],
        })
    }

    /// The same for the client, over sealed links.
    pub fn config(&self) -> Config<'_> {
        let keys = Keys { private_key: self.private_key.bytes(), route_keys: &self.route_keys, psk: None };
        Config::new(self.device, &self.routes, keys)
    }
}

/// The private key of a board that makes its own: drawn at its first power-on, and from `flash` ever after.
///
/// Each power-on logs the public key, and the first one the command that provisions it. Until that was done the board
/// is refused as `unknown-device`, and tries again after the minute that the server asks for.
pub async fn private_key<F: NorFlash>(
    device: &str,
    flash: &mut FlashStore<F>,
    rng: &mut impl Rng,
) -> Result<PrivateKey, KeyError> {
    let (key, origin) = flash.private_key(rng).await?;
    let public = key.public();
    match origin {
        Origin::Drawn => info!("a new key pair: imlink device add {device} --public-key {public}"),
        Origin::Kept => info!("public key {public}"),
    }
    Ok(key)
}
