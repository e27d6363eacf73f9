//! `tenant/device`: how a device is named everywhere behind the device link.

use std::fmt;
use std::sync::Arc;

use imlink_protocol::id::{IdError, TENANT_DEFAULT, check_device_id, check_tenant};

/// `tenant/device`, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceKey(Arc<str>);

impl DeviceKey {
    /// The key of `device` of `tenant`.
    pub fn new(tenant: &str, device: &str) -> Result<Self, IdError> {
        check_tenant(tenant)?;
        check_device_id(device)?;
        Ok(Self(format!("{tenant}/{device}").into()))
    }

    /// The key of a device of the only tenant.
    pub fn single(device: &str) -> Result<Self, IdError> {
        Self::new(TENANT_DEFAULT, device)
    }

    /// Reads `tenant/device`.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (tenant, device) = text.split_once('/').ok_or(IdError::Empty)?;
        check_tenant(tenant)?;
        check_device_id(device)?;
        Ok(Self(text.into()))
    }

    /// `tenant/device`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant's part.
    pub fn tenant(&self) -> &str {
        self.0.split_once('/').map_or("", |(tenant, _)| tenant)
    }

    /// The device's part.
    pub fn device(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, device)| device)
    }
}

impl std::borrow::Borrow<str> for DeviceKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
