//! `imlink device`.

use std::time::Duration;

use imlink_route::http::{DeviceList, DeviceView};
use reqwest::{Method, StatusCode};

use super::{Api, ClientError, print_line};
use crate::cli::{DeviceArgs, DeviceCommand};
use crate::exit::Exit;

/// What one administrative request may take.
const WAIT: Duration = Duration::from_secs(10);
/// Devices asked for at once.
const PAGE: usize = 1000;

/// Does what `args` say.
pub(crate) async fn device(args: &DeviceArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let json = args.client.json;
    match &args.command {
        DeviceCommand::Add { ids } => add(&api, ids, json).await,
        DeviceCommand::List { after, limit } => list(&api, after.as_deref(), *limit, json).await,
        DeviceCommand::Show { id } => show(&api, id, json).await,
        DeviceCommand::Remove { ids } => remove(&api, ids, json).await,
    }
}

async fn add(api: &Api, ids: &[String], json: bool) -> Result<Exit, ClientError> {
    for id in ids {
        let answer = api.ask(api.request(Method::PUT, &format!("/v1/devices/{id}"), Some(WAIT))).await?;
        let is_new = answer.status() == StatusCode::CREATED;
        let view: DeviceView = answer.json().await.map_err(|error| api.unreachable(&error))?;
        let line = match (json, is_new) {
            (true, _) => to_json(&view)?,
            (false, true) => format!("{id}: provisioned; it may attach over a plain link"),
            (false, false) => format!("{id}: was provisioned before"),
        };
        print_line(&line)?;
    }
    Ok(Exit::Done)
}

async fn list(api: &Api, after: Option<&str>, limit: Option<usize>, json: bool) -> Result<Exit, ClientError> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after = after.unwrap_or_default().to_owned();
    while left > 0 {
        let page = PAGE.min(left);
        let request = api
            .request(Method::GET, "/v1/devices", Some(WAIT))
            .query(&[("after", after.as_str()), ("limit", &page.to_string())]);
        let list: DeviceList = api.ask_json(request).await?;
        for id in &list.devices {
            let line = if json { to_json(&serde_json::json!({ "id": id }))? } else { id.clone() };
            if !print_line(&line)? {
                return Ok(Exit::Done);
            }
        }
        left = left.saturating_sub(list.devices.len());
        match list.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(Exit::Done)
}

async fn show(api: &Api, id: &str, json: bool) -> Result<Exit, ClientError> {
    let view: DeviceView = api.ask_json(api.request(Method::GET, &format!("/v1/devices/{id}"), Some(WAIT))).await?;
    if json {
        print_line(&to_json(&view)?)?;
        return Ok(Exit::Done);
    }
    let session =
        view.session.as_ref().map_or("none".into(), |session| format!("{} epoch {}", session.server, session.epoch));
    print_line(&format!("device     {id}"))?;
    print_line(&format!("online     {}", if view.online { "yes" } else { "no" }))?;
    print_line(&format!("session    {session}"))?;
    print_line(&format!("proof      {}{}", view.proof, if view.revoked { " (revoked)" } else { "" }))?;
    print_line(&format!(
        "waiting    {} messages (last {}-{})",
        view.mailbox.waiting, view.mailbox.generation, view.mailbox.last
    ))?;
    match &view.paths {
        None => {
            print_line("speaks     not known yet")?;
        }
        Some(paths) => {
            for path in paths {
                print_line(&format!("speaks     {:<8} {}", path.kind, path.path))?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn remove(api: &Api, ids: &[String], json: bool) -> Result<Exit, ClientError> {
    for id in ids {
        api.ask(api.request(Method::DELETE, &format!("/v1/devices/{id}"), Some(WAIT))).await?;
        let line = match json {
            true => to_json(&serde_json::json!({ "id": id, "removed": true }))?,
            false => format!("{id}: removed with its mailbox"),
        };
        print_line(&line)?;
    }
    Ok(Exit::Done)
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, ClientError> {
    serde_json::to_string(value).map_err(|error| anyhow::Error::from(error).into())
}
