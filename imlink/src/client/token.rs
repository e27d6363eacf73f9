//! `imlink token` and `imlink audit`.

use std::time::Duration;

use imlink_route::http::{AuditList, NewToken, NewTokenView, TokenList, TokenView};
use reqwest::Method;

use super::{Api, ClientError, print_line};
use crate::cli::{AuditArgs, TokenArgs, TokenCommand};
use crate::exit::Exit;

/// What one administrative request may take.
const WAIT: Duration = Duration::from_secs(10);

/// Does what `args` say.
pub(crate) async fn token(args: &TokenArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let json = args.client.json;
    match &args.command {
        TokenCommand::Add { allow, expires, rate, name } => {
            let wanted = NewToken {
                name: name.clone(),
                allow: allow.clone(),
                rate: rate.unwrap_or_default(),
                expires_s: expires.unwrap_or_default(),
            };
            add(&api, &wanted, json).await
        }
        TokenCommand::List => list(&api, json).await,
        TokenCommand::Revoke { ids } => revoke(&api, ids, json).await,
    }
}

async fn add(api: &Api, wanted: &NewToken, json: bool) -> Result<Exit, ClientError> {
    let made: NewTokenView = api.ask_json(api.request(Method::POST, "/v1/tokens", Some(WAIT)).json(wanted)).await?;
    if json {
        print_line(&to_json(&made)?)?;
    } else {
        // The token alone on standard output, so that a script can keep it.
        print_line(&made.token)?;
        eprintln!("{}\n  it is shown this once: give it as --token, --token-file or IMLINK_TOKEN", line(&made.about));
    }
    Ok(Exit::Done)
}

async fn list(api: &Api, json: bool) -> Result<Exit, ClientError> {
    let list: TokenList = api.ask_json(api.request(Method::GET, "/v1/tokens", Some(WAIT))).await?;
    for token in &list.tokens {
        let line = if json { to_json(token)? } else { line(token) };
        if !print_line(&line)? {
            break;
        }
    }
    Ok(Exit::Done)
}

async fn revoke(api: &Api, ids: &[String], json: bool) -> Result<Exit, ClientError> {
    for id in ids {
        let request = api.request(Method::DELETE, &format!("/v1/tokens/{id}"), Some(WAIT));
        let token: TokenView = api.ask_json(request).await?;
        let line = if json { to_json(&token)? } else { format!("{id}: revoked; it counts nowhere within 2 s") };
        print_line(&line)?;
    }
    Ok(Exit::Done)
}

/// Prints who changed what.
pub(crate) async fn audit(args: &AuditArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let mut query = vec![("limit", args.limit.to_string())];
    if let Some(after) = &args.after {
        query.push(("after", after.clone()));
    }
    let list: AuditList = api.ask_json(api.request(Method::GET, "/v1/audit", Some(WAIT)).query(&query)).await?;
    for record in &list.records {
        let line = match args.client.json {
            true => to_json(record)?,
            false => {
                format!("{} {} {} by {} from {}", record.position, record.what, record.object, record.who, record.from)
            }
        };
        if !print_line(&line)? {
            break;
        }
    }
    Ok(Exit::Done)
}

fn line(token: &TokenView) -> String {
    let rate = if token.rate == 0 { "no limit".into() } else { format!("{}/s", token.rate) };
    let expires = token.expires_ms.map_or("never expires".into(), |ms| format!("expires at {} s", ms / 1000));
    let TokenView { id, state, name, allow, .. } = token;
    format!("{id} {state} {} {rate}, {expires} {name:?}", allow.join(","))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, ClientError> {
    serde_json::to_string(value).map_err(|error| anyhow::Error::from(error).into())
}
