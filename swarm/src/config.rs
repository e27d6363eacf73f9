//! What a fleet is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use imlink_protocol::IdError;
use imlink_protocol::id::{TENANT_DEFAULT, check_device_id, check_tenant};
use serde::{Deserialize, Serialize};

use crate::device::PAYLOAD_MAX;
use crate::keys::Keys;

/// Devices of one process at most: each needs an open file, and 20,000 is a usual hard limit.
pub const DEVICES_MAX: u32 = 18_000;

/// What a fleet is told. Serialisable, so that a program can hand parts of it to further processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Routes or gateways where devices log in; device `n` begins with number `n` modulo their count.
    pub routes: Vec<SocketAddr>,
    /// Tenant of all devices; `-` by default.
    pub tenant: String,
    /// Ids are `prefix-n`; `sim` by default.
    pub prefix: String,
    /// Number of the first device; 1 by default.
    pub first: u32,
    /// What the devices prove themselves by; `None` for plain links, the default.
    pub keys: Option<Keys>,
    /// How many devices, at most [`DEVICES_MAX`]; 1 by default.
    pub devices: u32,
    /// Devices switched on per second; 1,000 by default.
    pub connect_rate: f64,
    /// Events per second, of all devices; 0 by default.
    pub event_rate: f64,
    /// Payload of an event in bytes; 16 by default.
    pub event_size: usize,
    /// Devices per second that leave and come back, of all; 0 by default.
    pub churn: f64,
    /// How long a handler takes for a message or call, in milliseconds; 0 by default.
    pub handler_ms: u64,
    /// Unacknowledged messages a device holds; 8 by default.
    pub window: u8,
    /// What the firmware states; the interface by default.
    pub speaks: Speaks,
    /// Threads, each with a share of the devices; 1 by default.
    pub threads: u32,
    /// File that gets a line for each message handled, see [`Ledger`](crate::Ledger); none by default.
    pub ledger: Option<PathBuf>,
}

/// What a simulated firmware states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// Messages `led/set` and `cmd`, call `echo`, event `telemetry`, all raw bytes.
    #[default]
    Interface,
    /// Nothing: any key is taken.
    Anything,
}

/// A field of a [`Config`] is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No route is named.
    #[error("no route or gateway is named: at least one address is needed")]
    NoRoute,
    /// The tenant does not have its form.
    #[error("tenant {0}")]
    Tenant(IdError),
    /// The prefix makes ids that do not have their form.
    #[error("device id {id:?} {error}")]
    Device {
        /// The longest id.
        id: String,
        /// What is wrong with it.
        error: IdError,
    },
    /// Too many devices for one process.
    #[error("{devices} devices are too many for one process, at most {DEVICES_MAX} are allowed: use more processes")]
    TooMany {
        /// Devices asked for.
        devices: u32,
    },
    /// A rate that is no number, or negative.
    #[error("{field} is {value}: it must be a number of at least {least}")]
    Rate {
        /// Field.
        field: &'static str,
        /// Value given.
        value: f64,
        /// Smallest value.
        least: f64,
    },
    /// Events that do not fit a device's buffers.
    #[error("event_size is {size} bytes, at most {max} fit a simulated device")]
    EventSize {
        /// Size given.
        size: usize,
        /// Largest.
        max: usize,
    },
    /// A window or thread count of 0.
    #[error("{field} is 0: it must be at least 1")]
    Zero {
        /// Field.
        field: &'static str,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            tenant: TENANT_DEFAULT.to_owned(),
            prefix: "sim".to_owned(),
            first: 1,
            keys: None,
            devices: 1,
            connect_rate: 1000.0,
            event_rate: 0.0,
            event_size: 16,
            churn: 0.0,
            handler_ms: 0,
            window: 8,
            speaks: Speaks::Interface,
            threads: 1,
            ledger: None,
        }
    }
}

impl Config {
    /// Id of device `index` of this fleet, from 0.
    pub fn device_id(&self, index: u32) -> String {
        format!("{}-{}", self.prefix, u64::from(self.first) + u64::from(index))
    }

    /// Checks what can be checked without a connection.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.routes.is_empty() {
            return Err(ConfigError::NoRoute);
        }
        check_tenant(&self.tenant).map_err(ConfigError::Tenant)?;
        let id = self.device_id(self.devices.saturating_sub(1));
        check_device_id(&id).map_err(|error| ConfigError::Device { id, error })?;
        if self.devices > DEVICES_MAX {
            return Err(ConfigError::TooMany { devices: self.devices });
        }
        for (field, value, least) in [
            ("connect_rate", self.connect_rate, 0.001),
            ("event_rate", self.event_rate, 0.0),
            ("churn", self.churn, 0.0),
        ] {
            if !value.is_finite() || value < least {
                return Err(ConfigError::Rate { field, value, least });
            }
        }
        if self.event_size > PAYLOAD_MAX {
            return Err(ConfigError::EventSize { size: self.event_size, max: PAYLOAD_MAX });
        }
        for (field, value) in [("window", u32::from(self.window)), ("threads", self.threads)] {
            if value == 0 {
                return Err(ConfigError::Zero { field });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_protocol::key_pair::{Psk, PublicKey};

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let good = Config { routes: vec!["127.0.0.1:7000".parse().unwrap()], ..Config::default() };
        assert_eq!(good.check(), Ok(()));
        let table = [
            (Config { routes: Vec::new(), ..good.clone() }, "no route or gateway is named"),
            (Config { devices: 18_001, ..good.clone() }, "18001 devices are too many for one process, at most 18000"),
            (Config { prefix: "a/b".into(), ..good.clone() }, "device id \"a/b-1\" has byte 0x2f at 1"),
            (Config { churn: f64::NAN, ..good.clone() }, "churn is NaN"),
            (Config { event_size: 5000, ..good.clone() }, "event_size is 5000 bytes, at most"),
            (Config { window: 0, ..good.clone() }, "window is 0"),
        ];
        for (config, words) in table {
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn a_config_comes_back_from_json() {
        let secret = Psk::new([1; 32]);
        let keys = Keys { psk: Some(secret.clone()), secret, route_keys: [PublicKey([2; 32]), PublicKey([3; 32])] };
        let routes = vec!["[::1]:1".parse().unwrap()];
        let config = Config { routes, devices: 5, keys: Some(keys), ..Config::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        assert!(serde_json::from_str::<Config>(r#"{"devise": 5}"#).is_err());
    }
}
