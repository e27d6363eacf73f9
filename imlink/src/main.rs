//! One program for every part of imlink.
//!
//! ```text
//! command line ─▶ cli ─┬▶ node:   gateway · route · server     configuration from config
//!                      ├▶ client: device · send · call · blob · watch · token · audit  over HTTP
//!                      ├▶ swarm · demo                          simulated devices
//!                      └▶ new_firmware                          the example firmware as a project
//! ```
#![forbid(unsafe_code)]

mod bar;
mod cli;
mod client;
mod config;
mod demo;
mod exit;
mod keys;
mod logging;
mod new_firmware;
mod node;
mod open_files;
mod signals;
mod state_dir;
mod swarm;

use std::future::Future;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use client::ClientError;
use config::{ConfigError, Role};
use exit::Exit;

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Gateway(args) => node::run(Role::Gateway, &args),
        Command::Route(args) => node::run(Role::Route, &args),
        Command::Server(args) => node::run(Role::Server, &args),
        Command::Device(args) => ask(client::device(&args)),
        Command::Keys(args) => keys::run(&args),
        Command::Send(args) => ask(client::send(&args)),
        Command::Call(args) => ask(client::call(&args)),
        Command::Blob(args) => ask(client::blob(&args)),
        Command::Watch(args) => ask(client::watch(&args)),
        Command::Node(args) => node::nodes(&args),
        Command::RedisAcl(args) => node::redis_acl(&args),
        Command::Token(args) => ask(client::token(&args)),
        Command::Audit(args) => ask(client::audit(&args)),
        Command::NewFirmware(args) => new_firmware::run(&args),
        Command::Swarm(args) => swarm::run(args),
        Command::Demo(args) => demo::run(&args),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            logging::last_words(format!("imlink: {error:#}"));
            status(&error).into()
        }
    }
}

/// Runs a client command on this thread.
fn ask(command: impl Future<Output = Result<Exit, ClientError>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(command)?)
}

/// The exit status of an error.
fn status(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.exit();
    }
    if error.is::<ConfigError>() { Exit::Usage } else { Exit::Failed }
}
