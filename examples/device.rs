//! A lamp on the host: the same client that firmware links, over tokio's sockets.
//!
//! ```sh
//! imlink gateway                                                   # in one terminal
//! imlink device add lamp-17 --out lamp-17.json
//! cargo run -p imlink-examples --bin device -- lamp-17.json       # in another one
//! imlink send lamp-17 led/set --hex 01 --wait acked
//! imlink call lamp-17 led/get
//! imlink blob send lamp-17 README.md                              # kept in the folder lamp-17.files
//! ```
#![forbid(unsafe_code)]

use std::cell::Cell;

use anyhow::Context;
use imlink_device_client::blob::{BlobState, Files};
use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Code, Config, Keys, NoopRawMutex, State, interface};
use imlink_protocol::key_pair::{PrivateKey, Psk, PublicKey};

interface! {
    /// What this lamp speaks, all raw bytes.
    LAMP {
        Message SET = "led/set";
        Call GET = "led/get";
        Event SWITCHED = "led/switched";
    }
}

/// What a device is flashed with; firmware has it in a header or in its flash.
#[derive(serde::Deserialize)]
struct Flashed {
    tenant: String,
    id: String,
    private_key: String,
    route_keys: [String; 2],
    fleet_psk: Option<String>,
    addresses: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let usage = "usage: device FILE, which `imlink device add ID --out FILE.json` writes";
    let file = std::env::args().nth(1).context(usage)?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}; {usage}"))?;
    let flashed: Flashed =
        serde_json::from_str(&text).with_context(|| format!("{file} is not such a file; {usage}"))?;
    let private_key: PrivateKey = flashed.private_key.parse().map_err(|why| anyhow::anyhow!("private_key {why}"))?;
    let [current, next] = flashed.route_keys.each_ref().map(|key| key.parse::<PublicKey>());
    let bad_key = |why| anyhow::anyhow!("a route key {why}");
    let route_keys = [current.map_err(bad_key)?.0, next.map_err(bad_key)?.0];
    let psk: Option<Psk> =
        flashed.fleet_psk.map(|psk| psk.parse()).transpose().map_err(|why| anyhow::anyhow!("fleet_psk {why}"))?;

    // All memory of the client is in here; firmware places it in a static.
    let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
    let routes: Vec<&str> = flashed.addresses.iter().map(String::as_str).collect();
    let id = &flashed.id;
    let keys = Keys { private_key: private_key.bytes(), route_keys: &route_keys, psk: psk.as_ref().map(Psk::bytes) };
    let config = Config { tenant: &flashed.tenant, interface: LAMP, ..Config::new(id, &routes, keys) };
    let device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng)?;
    let imlink_device_client::Device { runner, client, messages } = device;

    // Files of up to 16 MiB, both ways, through a buffer of 4 KiB.
    let folder = format!("{id}.files");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {folder}"))?;
    let transfers = BlobState::<NoopRawMutex>::new();
    let (mut runner, mut blobs) = runner.with_blobs(&transfers);
    let (mut sink, mut source) = (Files::new(&folder, 16 * 1024 * 1024), Files::new(&folder, 0));

    let is_on = Cell::new(false);
    // A message is acknowledged when this returns Ok, and only then.
    let mut messages = messages;
    let messages = messages.for_each(async |message| {
        let on = match message.payload(|payload| payload.first().copied()) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(Code::BAD_PAYLOAD),
        };
        is_on.set(on);
        println!(
            "the lamp is {}{}",
            if on { "on" } else { "off" },
            if message.is_redelivered() { " (again)" } else { "" }
        );
        // Kept until it is stored, also over a lost connection; a full queue refuses the newest.
        let _ = client.publish(SWITCHED, &[u8::from(on)]);
        Ok(())
    });
    let calls = client.calls();
    let answers = calls.for_each(async |call| match call.key() {
        GET => Ok([u8::from(is_on.get())]),
        _ => Err(Code::UNKNOWN_PATH),
    });
    let link = async {
        let mut was_attached = false;
        loop {
            client.wait_for(|link, _| link.is_attached() != was_attached).await;
            was_attached = !was_attached;
            println!("{id} is {}", if was_attached { "attached" } else { "away" });
        }
    };
    tokio::select! {
        ended = runner.run() => ended.map_err(|error| anyhow::anyhow!("{error}")),
        () = async { tokio::join!(messages, answers, link); } => Ok(()),
        _ = blobs.run(&mut sink, &mut source) => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
