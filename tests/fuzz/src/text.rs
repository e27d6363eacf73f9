//! Text from outside: names, numbers and keys in URLs, commands, files and interfaces.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use imlink_link::seal::{JoinSecret, NodeKey, PublicKey as NodePublicKey};
use imlink_protocol::id::{DeviceId, MessageId, TokenId, check_device_id, check_path, check_tenant};
use imlink_protocol::interface::Entries;
use imlink_protocol::key_pair::{PrivateKey, Psk, PublicKey};
use imlink_protocol::limits::{DEVICE_ID_LEN_MAX, INTERFACE_LEN_MAX, PATH_LEN_MAX, TENANT_LEN_MAX};

use crate::vectors;

/// Every parser of a short text.
pub(crate) fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_of = |allowed: &str, max: usize| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
        !text.is_empty() && text.len() <= max && text.chars().all(is_good)
    };
    assert_eq!(check_device_id(text).is_ok(), is_of("._:-", DEVICE_ID_LEN_MAX));
    assert_eq!(check_tenant(text).is_ok(), is_of("._:-", TENANT_LEN_MAX));
    assert_eq!(check_path(text).is_ok(), is_of("._:-/", PATH_LEN_MAX));
    one_text_one_thing::<DeviceId>(text);
    one_text_one_thing::<MessageId>(text);
    one_text_one_thing::<TokenId>(text);
    // Keys may be given in capitals.
    let lower = text.to_ascii_lowercase();
    one_text_one_thing::<PublicKey>(&lower);
    one_text_one_thing::<NodePublicKey>(&lower);
    assert_eq!(text.parse::<PrivateKey>().is_ok(), text.parse::<PublicKey>().is_ok());
    if let Ok(key) = text.parse::<Psk>() {
        assert_eq!(key.reveal().to_string(), lower);
        assert!(!format!("{key:?}").contains(&lower), "a secret shows");
    }
    if let Ok(token) = text.parse::<JoinSecret>() {
        assert_eq!(token.reveal().as_str(), lower.trim());
        assert!(!format!("{token:?}").contains(&token.reveal()[21..]), "a secret shows");
    }
    if let Ok(key) = NodeKey::from_hex(text) {
        assert_eq!(*key.to_hex(), text.trim().to_ascii_lowercase());
    }
}

/// What reads writes itself in the very same way: nothing has two names.
fn one_text_one_thing<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An interface as a device sends it.
pub(crate) fn interface(data: &[u8]) {
    let data = &data[..data.len().min(INTERFACE_LEN_MAX)];
    let (mut read, mut written) = (0, Vec::new());
    for entry in Entries::new(data) {
        let Ok(entry) = entry else { return };
        assert!(check_path(entry.path).is_ok());
        read += 1;
        assert!(read <= data.len(), "more entries than bytes");
        let mut out = vec![0; data.len() + 16];
        let bytes = postcard::to_slice(&entry, &mut out).expect("what was read can be written");
        written.extend_from_slice(bytes);
    }
    assert!(written.len() <= data.len());
    let again: Vec<_> = Entries::new(&written).collect();
    assert_eq!(again.len(), read);
    assert!(again.iter().zip(Entries::new(data)).all(|(a, b)| *a == b));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let hex = "00ff10a5".repeat(8);
    let join = format!("imj_0011223344556677_{hex}");
    let texts = ["lamp-17.a:b_c", "led/set", "-", "1764000000000-17", "0-0", "9007199254740991-1", "00112233aabbccdd"];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain([hex.into_bytes(), join.into_bytes()]).collect()
}

pub(crate) fn interface_seeds() -> Vec<Vec<u8>> {
    vectors::all("keys", "hex")
}
