//! A lamp on the host: the same client that firmware links, over tokio's sockets.
//!
//! ```sh
//! imlink gateway                                            # in one terminal
//! imlink device add lamp-17 --plain
//! cargo run -p imlink-examples --bin device -- lamp-17      # in another one
//! imlink send lamp-17 led/set --hex 01 --wait acked
//! imlink call lamp-17 led/get
//! ```
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::net::SocketAddr;

use anyhow::Context;
use imlink_device_client::tokio::{TokioClock, TokioRng, TokioStack};
use imlink_device_client::{Code, Config, NoopRawMutex, State, interface};

interface! {
    /// What this lamp speaks, all raw bytes.
    LAMP {
        Message SET = "led/set";
        Call GET = "led/get";
        Event SWITCHED = "led/switched";
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let id = arguments.next().context("usage: device ID [HOST:PORT of a gateway or route, default 127.0.0.1:7000]")?;
    let route: SocketAddr = arguments.next().unwrap_or("127.0.0.1:7000".into()).parse().context("not an address")?;

    // All memory of the client is in here; firmware places it in a static.
    let mut state = State::<NoopRawMutex, _>::new(TokioClock::new());
    let routes = [route];
    let config = Config { interface: LAMP, ..Config::plain(&id, &routes) };
    let mut device = imlink_device_client::new(&mut state, config, TokioStack::default(), TokioRng)?;

    let is_on = Cell::new(false);
    let client = device.client;
    // A message is acknowledged when this returns Ok, and only then.
    let messages = device.messages.for_each(async |message| {
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
        ended = device.runner.run() => ended.map_err(|error| anyhow::anyhow!("{error}")),
        () = async { tokio::join!(messages, answers, link); } => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
