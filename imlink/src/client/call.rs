//! `imlink call`.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use imlink_protocol::hex::Hex;
use reqwest::{Method, header};

use super::{Api, ClientError, print_line};
use crate::cli::{CallArgs, Out};
use crate::exit::Exit;

/// Asks a device and prints its answer.
pub(crate) async fn call(args: &CallArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let path = format!("/v1/devices/{}/calls/{}", args.device, args.path);
    let longest = Duration::try_from_secs_f64(args.timeout).unwrap_or_default();
    let request = api
        .request(Method::POST, &path, Some(longest))
        .query(&[("timeout", args.timeout.to_string())])
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT, "application/octet-stream")
        .body(args.payload.read()?);
    let answer = api.ask(request).await?.bytes().await.map_err(|error| api.unreachable(&error))?;
    if args.client.json {
        print_line(&serde_json::json!({ "payload_base64": STANDARD.encode(&answer) }).to_string())?;
        return Ok(Exit::Done);
    }
    match args.out {
        Out::Hex => print_line(&Hex(&answer).to_string())?,
        Out::Text => print_line(&String::from_utf8_lossy(&answer))?,
        Out::Raw => {
            let mut out = std::io::stdout().lock();
            out.write_all(&answer).and_then(|()| out.flush()).context("cannot print")?;
            true
        }
    };
    Ok(Exit::Done)
}
