//! As whom a client connects, and whom it believes.

use std::fmt;
use std::path::{Path, PathBuf};

/// A token, and what goes with it. Made from the token's text alone where that is enough.
#[derive(Clone)]
pub struct Access {
    pub(crate) token: String,
    pub(crate) tenant: String,
    pub(crate) ca_file: Option<PathBuf>,
}

impl Access {
    /// With this token, in its own tenant.
    pub fn new(token: &str) -> Self {
        Self { token: token.into(), tenant: String::new(), ca_file: None }
    }

    /// In this tenant: only the token of the route's configuration may act in another one than its own.
    pub fn in_tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.into();
        self
    }

    /// Believes routes whose certificate comes from an authority in this PEM file; for addresses of the form
    /// `imlinks://host:port`, which need one. It is read anew for each link.
    pub fn trusting(mut self, ca_file: impl AsRef<Path>) -> Self {
        self.ca_file = Some(ca_file.as_ref().into());
        self
    }
}

impl From<&str> for Access {
    fn from(token: &str) -> Self {
        Self::new(token)
    }
}

impl From<&String> for Access {
    fn from(token: &String) -> Self {
        Self::new(token)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("tenant", &self.tenant).field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}
