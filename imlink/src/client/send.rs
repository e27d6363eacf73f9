//! `imlink send`.

use std::time::Duration;

use imlink_route::http::MessageView;
use reqwest::{Method, header};

use super::{Api, ClientError, print_line};
use crate::cli::{SendArgs, WaitFor};
use crate::exit::Exit;

/// Stores a message and tells what became of it.
pub(crate) async fn send(args: &SendArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let wait = if args.wait == WaitFor::Acked { "acked" } else { "stored" };
    let mut query = vec![("wait", wait.to_owned()), ("timeout", args.timeout.to_string())];
    if let Some(ttl) = args.ttl {
        query.push(("ttl", ttl.to_string()));
    }
    let path = format!("/v1/devices/{}/messages/{}", args.device, args.path);
    let longest = Duration::try_from_secs_f64(args.timeout).unwrap_or_default();
    let mut request = api
        .request(Method::POST, &path, Some(longest))
        .query(&query)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .body(args.payload.read()?);
    if let Some(key) = &args.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let message: MessageView = api.ask_json(request).await?;
    if args.client.json {
        print_line(&serde_json::to_string(&message).map_err(anyhow::Error::from)?)?;
    } else {
        print_line(&human(&message))?;
    }
    Ok(exit(args.wait, &message.state))
}

fn human(message: &MessageView) -> String {
    let MessageView { id, state, .. } = message;
    match (message.code, &message.code_name, message.may_have_run) {
        (Some(code), Some(name), _) => format!("{id} {state} with {name} ({code})"),
        (_, _, Some(true)) => format!("{id} {state}, but may have been carried out"),
        _ => format!("{id} {state}"),
    }
}

fn exit(wait: WaitFor, state: &str) -> Exit {
    match (wait, state) {
        (WaitFor::Stored, _) | (_, "acked") => Exit::Done,
        (_, "waiting" | "sent" | "unknown") => Exit::NotYet,
        _ => Exit::NotAcked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_tells_what_became_of_an_awaited_message() {
        assert_eq!(exit(WaitFor::Stored, "waiting"), Exit::Done);
        assert_eq!(exit(WaitFor::Acked, "acked"), Exit::Done);
        assert_eq!(exit(WaitFor::Acked, "sent"), Exit::NotYet);
        assert_eq!(exit(WaitFor::Acked, "rejected"), Exit::NotAcked);
        assert_eq!(exit(WaitFor::Acked, "expired"), Exit::NotAcked);
    }
}
