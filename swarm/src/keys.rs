//! The keys of simulated devices: one secret for a whole fleet, so that its processes agree and nothing is kept.

use imlink_protocol::key_pair::{PrivateKey, Psk, PublicKey};
use imlink_protocol::ticket::mac;
use serde::{Deserialize, Serialize};

/// What a fleet proves itself by, all in hexadecimal. Serialisable, so that a program can hand it to further
/// processes over a pipe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Each device's private key is the HMAC-SHA256 of its id under this secret of 32 bytes.
    #[serde(with = "hex_secret")]
    pub secret: Psk,
    /// The public keys of the routes, which devices pin: current and next.
    #[serde(with = "hex_keys")]
    pub route_keys: [PublicKey; 2],
    /// The secret that the fleet shares with its routes, when there is one.
    #[serde(with = "hex_option", default)]
    pub psk: Option<Psk>,
}

impl Keys {
    /// The private key of device `id`.
    pub fn private_key(&self, id: &str) -> PrivateKey {
        PrivateKey::new(mac(self.secret.bytes(), &[b"imlink swarm", id.as_bytes()]))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("route_keys", &self.route_keys).finish_non_exhaustive()
    }
}

mod hex_secret {
    use imlink_protocol::key_pair::Psk;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(secret: &Psk, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&secret.reveal())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Psk, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod hex_option {
    use imlink_protocol::key_pair::Psk;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(secret: &Option<Psk>, to: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(|secret| secret.reveal().to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Psk>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse()).transpose().map_err(D::Error::custom)
    }
}

mod hex_keys {
    use imlink_protocol::key_pair::PublicKey;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(keys: &[PublicKey; 2], to: S) -> Result<S::Ok, S::Error> {
        keys.map(|key| key.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[PublicKey; 2], D::Error> {
        let [current, next] = <[String; 2]>::deserialize(from)?;
        Ok([current.parse().map_err(D::Error::custom)?, next.parse().map_err(D::Error::custom)?])
    }
}
