//! Leases: routes and IM-servers that are alive.

/// A route, as IM-servers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name, unique in the cluster.
    pub name: String,
    /// Drawn at random at each start.
    pub incarnation: u64,
    /// Where nodes connect, `host:port`.
    pub node_address: String,
}

/// An IM-server, as routes find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Name, unique in the cluster.
    pub name: String,
    /// Drawn at random at each start.
    pub incarnation: u64,
    /// Where devices connect, `host:port`.
    pub device_address: String,
    /// Most connections it takes.
    pub capacity: u32,
    /// `key=value,…`.
    pub labels: String,
}
