//! A real route over a real memory store; the IM-servers are small ones that speak the node link.

mod backends;
mod calls;
mod drain;
mod events;
mod kicks;
mod logins;
mod nodes;
mod over_redis;
mod sends;
mod support;
mod tls;
