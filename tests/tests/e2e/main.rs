//! What imlink promises, asked of real processes.

mod bad_frames;
mod blobs;
mod bystander;
mod cluster;
mod http;
mod link_ports;
mod main_job;
mod membership;
mod real_input;
mod sealed;
mod sealed_flood;
mod sealed_keys;
mod sealed_replays;
