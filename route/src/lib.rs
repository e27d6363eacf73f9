//! The route: logs devices in, assigns each an IM-server, takes requests from backends and forwards them.
//!
//! The handle that HTTP, the backend link and a gateway work with:
//!
//! ```text
//! impl Route {   // Clone, Send, Sync
//!     pub async fn send(&self, send: Send) -> Result<Sent, Failed>;
//!     pub async fn call(&self, call: Call) -> Result<Replied, Failed>;
//!     pub async fn state(&self, tenant: &str, device: &str, id: MessageId) -> Result<State, Failed>;
//!     /// Ok(State::Cancelled), or Failed{Conflict} naming the state.
//!     pub async fn cancel(&self, tenant: &str, device: &str, id: MessageId) -> Result<State, Failed>;
//!     pub async fn provision(&self, tenant: &str, device: &str, proof: Proof) -> Result<Provisioned, Failed>;
//!     pub async fn identity(&self, tenant: &str, device: &str) -> Result<Device, Failed>;
//!     pub async fn revoke(&self, tenant: &str, device: &str) -> Result<(), Failed>;
//!     pub async fn remove(&self, tenant: &str, device: &str) -> Result<(), Failed>;
//!     pub async fn devices(&self, tenant: &str, after: &str, limit: usize) -> Result<Vec<String>, Failed>;
//!     pub async fn events(&self, subscription: Subscription) -> Result<Events, Failed>;
//!     pub async fn commit(&self, tenant: &str, group: &str, position: &str) -> Result<(), Failed>;
//!     pub fn servers(&self) -> Vec<Server>;
//!     pub fn is_ready(&self) -> bool;
//!     pub fn is_token(&self, bearer: &str) -> bool;      // constant time
//!     pub fn limits(&self) -> &Limits;
//!     pub fn name(&self) -> &str;
//!     pub fn metrics(&self, registry: &mut prometheus_client::registry::Registry);
//!     pub fn accept_link(&self, link: imlink_link::Link);
//! }
//! impl Events { pub async fn next(&mut self) -> Result<Event, Failed>; /* cancel-safe; Err ends it */ pub fn position(&self) -> String; }
//! route::start calls, when config.http_listen is Some: http::serve(route: Route, listener: tokio::net::TcpListener, shutdown: CancellationToken) -> impl Future<Output = ()> + Send
//! ```
#![forbid(unsafe_code)]

pub mod config;
pub mod request;

pub use config::{Config, Limits};
