//! A backend over the binary link: a command, a question, and the events of all lamps.
//!
//! ```sh
//! export IMLINK_TOKEN=$(cat ~/.local/state/imlink/token)    # of a gateway that runs on this machine
//! cargo run -p imlink-examples --bin backend -- lamp-17
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::Context;
use imlink_backend_client::{Call, Client, Code, Error, Message, State};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let device =
        arguments.next().context("usage: backend DEVICE [HOST:PORT of the backend link, default 127.0.0.1:7002]")?;
    let address = arguments.next().unwrap_or("127.0.0.1:7002".into());
    let token = std::env::var("IMLINK_TOKEN")
        .context("IMLINK_TOKEN is not set: the gateway keeps its token in its state directory")?;

    let client = Client::connect(&address, &token, "example").await?;
    // From now on; with a group, from where the group committed.
    let mut events = client.events("", "").await?;

    let switch_on = Message::new(&device, "led/set", &[1]).acked().timeout(Duration::from_secs(5));
    let sent = client.send(&switch_on).await?;
    match sent.state {
        State::Acked => println!("{device} is on ({})", sent.id),
        State::Waiting | State::Sent => println!("{device} is away; {} is done when it is back", sent.id),
        other => println!("{device} did not do {}: {other:?}", sent.id),
    }

    match client.call(&Call::new(&device, "led/get", &[])).await {
        Ok(replied) if replied.status == Code::OK => println!("{device} answers {:02x?}", &replied.payload[..]),
        Ok(replied) => println!("{device} refuses: {}", replied.status),
        Err(error @ Error::Lost) => println!("nobody knows whether the call ran: {error}"),
        Err(error) => println!("no answer: {error}"),
    }

    while let Ok(event) = tokio::time::timeout(Duration::from_secs(2), events.next()).await {
        let event = event?;
        println!("{} tells {} {:02x?}", event.device, event.path, &event.payload[..]);
    }
    Ok(())
}
