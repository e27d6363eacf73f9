//! What imlink promises, asked of real processes.

mod bad_frames;
mod bystander;
mod http;
mod main_job;
mod real_input;
