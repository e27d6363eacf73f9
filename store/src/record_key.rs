//! The mac over a device's keys: it says that a route wrote them, and not somebody who can merely write the store.
//!
//! ```text
//! key    HMAC-SHA256 under the cluster secret over "imlink device record"
//! mac    first 16 bytes of HMAC-SHA256 under that key over "imlink device" · 0 · tenant/device · 0 ·
//!        public key of 32 bytes; nothing for a plain device
//! ```
//!
//! It binds the key to the device, not to a time: a key that a route once gave this very device fits for ever, and
//! revocation is not covered.

use imlink_protocol::ticket::mac;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::DeviceKey;

/// Bytes of the mac over a device's key.
pub(crate) const RECORD_MAC_LEN: usize = 16;

/// The key of such macs, which routes and gateways have and IM-servers have not.
#[derive(Clone)]
pub struct RecordKey([u8; 32]);

impl RecordKey {
    /// The key that belongs to a cluster secret.
    pub fn derive(cluster_secret: &[u8]) -> Self {
        Self(mac(cluster_secret, &[b"imlink device record"]))
    }

    /// The mac over the key of `device`, or over its having none.
    pub(crate) fn mac(&self, device: &DeviceKey, key: &[u8]) -> [u8; RECORD_MAC_LEN] {
        let full = mac(&self.0, &[b"imlink device", &[0], device.as_str().as_bytes(), &[0], key]);
        let mut half = [0; RECORD_MAC_LEN];
        half.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        half
    }

    /// Whether `mac` is that of the key of `device`.
    pub(crate) fn fits(&self, device: &DeviceKey, key: &[u8], mac: &[u8]) -> bool {
        self.mac(device, key).ct_eq(mac).into()
    }
}

impl Drop for RecordKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for RecordKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for RecordKey {}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecordKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_fits_its_secret_device_and_key_only_and_the_key_never_shows() {
        let key = RecordKey::derive(b"secret");
        let (lamp, door) = (DeviceKey::single("lamp").unwrap(), DeviceKey::single("door").unwrap());
        let made = key.mac(&lamp, &[7; 32]);
        assert!(key.fits(&lamp, &[7; 32], &made));
        let wrong = [
            key.fits(&door, &[7; 32], &made),
            key.fits(&DeviceKey::new("acme", "lamp").unwrap(), &[7; 32], &made),
            key.fits(&lamp, &[8; 32], &made),
            key.fits(&lamp, &[], &made),
            key.fits(&lamp, &[7; 32], &made[..15]),
            key.fits(&lamp, &[7; 32], &[]),
            RecordKey::derive(b"other").fits(&lamp, &[7; 32], &made),
        ];
        assert_eq!(wrong, [false; 7]);
        assert_eq!(format!("{key:?}"), "RecordKey(..)");
    }
}
