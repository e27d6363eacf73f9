//! Routes and IM-servers around one Redis.

use std::net::SocketAddr;
use std::time::Duration;

use crate::node::{Node, Role};
use crate::redis::{Keep, Redis};
use crate::wait::eventually;

/// A running cluster.
pub struct Cluster {
    /// The IM-servers `server-1`, `server-2` …
    pub servers: Vec<Node>,
    /// The routes `route-1`, `route-2` …
    pub routes: Vec<Node>,
    /// The store.
    pub redis: Redis,
}

impl Cluster {
    /// Starts Redis, then the routes, then the servers, and waits until every route knows every server.
    pub async fn start(routes: usize, servers: usize, settings: &[&str]) -> Self {
        let redis = Redis::start(Keep::Everything).await;
        let shared = redis.settings();
        let all: Vec<&str> = settings.iter().copied().chain(shared.iter().map(String::as_str)).collect();
        let launch = |role, name: String| Node::launch(role, &name, &all);
        let mut cluster = Self {
            routes: (1..=routes).map(|number| launch(Role::Route, format!("route-{number}"))).collect(),
            servers: (1..=servers).map(|number| launch(Role::Server, format!("server-{number}"))).collect(),
            redis,
        };
        for node in cluster.routes.iter_mut().chain(&mut cluster.servers) {
            node.ready().await;
        }
        cluster.is_known(servers).await;
        cluster
    }

    /// Where devices log in.
    pub fn logins(&self) -> Vec<SocketAddr> {
        self.routes.iter().map(Node::devices).collect()
    }

    /// Waits until every route names exactly `count` servers.
    pub async fn is_known(&self, count: usize) {
        for route in &self.routes {
            let api = route.api();
            let what = format!("{} knows {count} servers", route.name());
            eventually(&what, Duration::from_secs(20), async || (api.servers().await.len() == count).then_some(()))
                .await;
        }
    }

    /// Waits until `devices` are attached, by what the servers say.
    pub async fn attached(&self, devices: u32, within: Duration) {
        let apis: Vec<_> = self.servers.iter().map(Node::api).collect();
        eventually(&format!("{devices} devices attached"), within, async || {
            let mut attached = 0.0;
            for api in &apis {
                attached += api.gauge("imlink_server_attached").await;
            }
            (attached >= f64::from(devices)).then_some(())
        })
        .await;
    }
}
