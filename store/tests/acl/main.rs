//! Users of Redis with the rights of a role, on a redis-server without a default user: each does all that its role
//! needs, and nothing else. And Redis over TLS.

#[path = "../redis_server/mod.rs"]
mod redis_server;

mod records;
mod roles;
mod tls;
