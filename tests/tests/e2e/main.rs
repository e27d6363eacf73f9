//! What imlink promises, asked of real processes.

mod bad_frames;
mod blobs;
mod bystander;
mod cluster;
mod hostile;
mod http;
mod leaked_store;
mod link_ports;
mod main_job;
mod membership;
mod real_input;
mod sealed;
mod sealed_flood;
mod sealed_flood_login;
mod sealed_keys;
mod sealed_logins;
mod sealed_records;
mod sealed_replays;
mod sealed_tickets;
mod unread_log;
