//! Who a board is, from texts that were put into its image and the key that it keeps.

use embedded_storage_async::nor_flash::NorFlash;
use heapless::Vec;
use imlink_device_client::flash::{FlashStore, KeyError, Origin};
use imlink_device_client::{Config, Keys, Rng};
use imlink_protocol::key_pair::{self, KEY_LEN, PrivateKey, PublicKey};
use log::info;

/// Who a board is and where it goes.
pub struct Identity {
    device: &'static str,
    routes: Vec<&'static str, ROUTES_MAX>,
    private_key: PrivateKey,
    route_keys: Vec<[u8; KEY_LEN], ROUTE_KEYS_MAX>,
}

/// Routes that a board tries in turn.
const ROUTES_MAX: usize = 4;
/// Keys of the routes: current and next.
const ROUTE_KEYS_MAX: usize = 2;

/// What a board is told when its image is built, by environment variables.
#[derive(Clone, Copy)]
pub struct Texts {
    /// `IMLINK_DEVICE`: its device id.
    pub device: &'static str,
    /// `IMLINK_ROUTE`: `HOST:PORT` of its route or gateway, or up to four with commas between.
    pub routes: &'static str,
    /// `IMLINK_ROUTE_KEY`: the key of the routes, or two with a comma between, current and next.
    pub route_keys: Option<&'static str>,
    /// `IMLINK_PRIVATE_KEY`: its private key; a board without draws its own.
    pub private_key: Option<&'static str>,
}

/// Why a board does not know who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// There are more routes than four.
    Routes,
    /// No key of a route was given.
    NoRouteKey,
    /// There are more keys of routes than two.
    RouteKeys,
    /// A key of a route has another form.
    RouteKey(key_pair::KeyError),
    /// The private key has another form.
    PrivateKey(key_pair::KeyError),
    /// There is no private key, and no flash to keep one in.
    NoFlash,
    /// There is no private key, and none could be drawn and kept.
    Key(KeyError),
}

impl core::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Routes => f.write_str("IMLINK_ROUTE has more than four routes"),
            Self::NoRouteKey => f.write_str(
                "IMLINK_ROUTE_KEY was not set when this was built: set it to the current key that `imlink keys show` prints",
            ),
            Self::RouteKeys => f.write_str("IMLINK_ROUTE_KEY has more than two keys, which are current and next"),
            Self::RouteKey(why) => write!(f, "a key in IMLINK_ROUTE_KEY {why}"),
            Self::PrivateKey(why) => write!(f, "IMLINK_PRIVATE_KEY {why}"),
            Self::NoFlash => f.write_str("without flash there is nowhere to keep a key: build with IMLINK_PRIVATE_KEY"),
            Self::Key(why) => write!(f, "{why}"),
        }
    }
}

impl core::error::Error for IdentityError {}

/// A public key of 64 hexadecimal digits.
pub fn public_key(text: &str) -> Option<[u8; KEY_LEN]> {
    text.parse::<PublicKey>().ok().map(|key| key.0)
}

impl Identity {
    /// Reads the texts. A board whose image has no private key draws its own, see [`private_key`]; that is done first,
    /// so that it can be provisioned whatever else is missing.
    pub async fn read<F: NorFlash>(
        texts: Texts,
        flash: Option<&mut FlashStore<F>>,
        rng: &mut impl Rng,
    ) -> Result<Self, IdentityError> {
        let private_key = match texts.private_key {
            Some(text) => text.parse().map_err(IdentityError::PrivateKey)?,
            None => private_key(texts.device, flash, rng).await?,
        };
        let mut routes = Vec::new();
        for route in texts.routes.split(',') {
            routes.push(route).map_err(|_| IdentityError::Routes)?;
        }
        let mut route_keys = Vec::new();
        for text in texts.route_keys.ok_or(IdentityError::NoRouteKey)?.split(',') {
            let key: PublicKey = text.parse().map_err(IdentityError::RouteKey)?;
            route_keys.push(key.0).map_err(|_| IdentityError::RouteKeys)?;
        }
        Ok(Self { device: texts.device, routes, private_key, route_keys })
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
    flash: Option<&mut FlashStore<F>>,
    rng: &mut impl Rng,
) -> Result<PrivateKey, IdentityError> {
    let flash = flash.ok_or(IdentityError::NoFlash)?;
    let (key, origin) = flash.private_key(rng).await.map_err(IdentityError::Key)?;
    let public = key.public();
    match origin {
        Origin::Drawn => info!("a new key pair: imlink device add {device} --public-key {public}"),
        Origin::Kept => info!("public key {public}"),
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use embassy_futures::block_on;
    use embedded_storage_async::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
    use imlink_device_client::RngError;

    use super::*;

    /// Flash in memory.
    struct Nor(Vec<u8>);

    impl ErrorType for Nor {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Nor {
        const READ_SIZE: usize = 1;

        async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.0.len()
        }
    }

    impl NorFlash for Nor {
        const WRITE_SIZE: usize = 4;
        const ERASE_SIZE: usize = 1024;

        async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            self.0[from as usize..to as usize].fill(0xff);
            Ok(())
        }

        async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    /// Gives this byte for ever.
    struct Draws(u8);

    impl Rng for Draws {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
            bytes.fill(self.0);
            Ok(())
        }
    }

    const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
    const TEXTS: Texts =
        Texts { device: "board-1", routes: "10.0.0.1:7000", route_keys: Some(KEY), private_key: Some(KEY) };

    fn flash() -> FlashStore<Nor> {
        block_on(FlashStore::open(Nor(vec![0xff; 4096]), 0..4096)).expect("flash that works")
    }

    fn read(texts: Texts, flash: Option<&mut FlashStore<Nor>>, byte: u8) -> Result<Identity, IdentityError> {
        block_on(Identity::read(texts, flash, &mut Draws(byte)))
    }

    fn refused(texts: Texts) -> Option<IdentityError> {
        read(texts, None, 7).err()
    }

    #[test]
    fn a_key_in_the_image_is_the_boards_and_needs_no_flash() {
        let identity = read(TEXTS, None, 7).expect("complete texts");
        assert_eq!(identity.config().keys.expect("a sealed link").private_key, &[1; KEY_LEN]);
    }

    #[test]
    fn a_board_without_a_key_draws_its_own_and_keeps_it() {
        let (texts, mut flash) = (Texts { private_key: None, ..TEXTS }, flash());
        for byte in [7, 8] {
            let identity = read(texts, Some(&mut flash), byte).expect("a drawn key");
            assert_eq!(identity.config().keys.expect("a sealed link").private_key, &[7; KEY_LEN]);
        }
        assert_eq!(refused(texts), Some(IdentityError::NoFlash));
    }

    #[test]
    fn a_board_that_does_not_know_its_routes_draws_its_key_all_the_same() {
        let mut flash = flash();
        let texts = Texts { private_key: None, route_keys: None, ..TEXTS };
        assert_eq!(read(texts, Some(&mut flash), 7).err(), Some(IdentityError::NoRouteKey));
        let identity = read(Texts { route_keys: Some(KEY), ..texts }, Some(&mut flash), 8).expect("complete texts");
        assert_eq!(identity.config().keys.expect("a sealed link").private_key, &[7; KEY_LEN]);
    }

    #[test]
    fn one_or_two_keys_of_routes_are_pinned() {
        let two: &'static str = std::format!("{KEY},{}", KEY.replace('1', "2")).leak();
        let identity = read(Texts { route_keys: Some(two), ..TEXTS }, None, 7).expect("two keys");
        assert_eq!(identity.config().keys.expect("a sealed link").route_keys, [[1; KEY_LEN], [2; KEY_LEN]]);
        let three: &'static str = std::format!("{two},{KEY}").leak();
        assert_eq!(refused(Texts { route_keys: Some(three), ..TEXTS }), Some(IdentityError::RouteKeys));
    }

    #[test]
    fn up_to_four_routes_are_tried_in_turn() {
        let routes = "im.example.com:7000,10.0.0.1:7000";
        let identity = read(Texts { routes, ..TEXTS }, None, 7).expect("two routes");
        assert_eq!(identity.config().routes, ["im.example.com:7000", "10.0.0.1:7000"]);
        assert_eq!(refused(Texts { routes: "a:1,b:1,c:1,d:1,e:1", ..TEXTS }), Some(IdentityError::Routes));
    }

    #[test]
    fn texts_of_another_form_are_named() {
        let short = key_pair::KeyError::Length(2);
        assert_eq!(refused(Texts { route_keys: Some("01"), ..TEXTS }), Some(IdentityError::RouteKey(short)));
        assert_eq!(refused(Texts { private_key: Some("01"), ..TEXTS }), Some(IdentityError::PrivateKey(short)));
    }
}
