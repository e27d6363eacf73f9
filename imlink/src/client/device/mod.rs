//! `imlink device`.

mod add;
mod flash;
mod qr;
mod rows;
mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use imlink_route::http::{DeviceList, DeviceView};
use reqwest::Method;

use super::{Api, ClientError, print_line};
use crate::cli::{DeviceArgs, DeviceCommand};
use crate::exit::Exit;
use flash::{Flash, Fleet};

/// What one administrative request may take.
const WAIT: Duration = Duration::from_secs(10);
/// Devices asked for at once.
const PAGE: usize = 1000;

/// Does what `args` say.
pub(crate) async fn device(args: &DeviceArgs) -> Result<Exit, ClientError> {
    let api = Api::new(&args.client)?;
    let json = args.client.json;
    match &args.command {
        DeviceCommand::Add(add) => add::add(&api, &args.client, add).await,
        DeviceCommand::Rotate(rotate) => add::rotate(&api, &args.client, rotate).await,
        DeviceCommand::Revoke(devices) => {
            change(&api, &devices.ids, "revoke", "revoked, and its session closed", json).await
        }
        DeviceCommand::Restore(devices) => change(&api, &devices.ids, "restore", "not revoked", json).await,
        DeviceCommand::Import(import) => table::import(&api, import, json).await,
        DeviceCommand::Export(export) => table::export(&api, export, json).await,
        DeviceCommand::Qr { id, out } => show_qr(&api, id, out.as_deref()).await,
        DeviceCommand::List { after, limit } => list(&api, after.as_deref(), *limit, json).await,
        DeviceCommand::Show { id } => show(&api, id, json).await,
        DeviceCommand::Remove(devices) => remove(&api, &devices.ids, json).await,
    }
}

/// The device, if there is one.
async fn find(api: &Api, id: &str) -> Result<Option<DeviceView>, ClientError> {
    match api.ask_json(api.request(Method::GET, &format!("/v1/devices/{id}"), Some(WAIT))).await {
        Ok(view) => Ok(Some(view)),
        Err(ClientError::Refused(problem)) if problem.name() == "unknown-device" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Revokes or restores devices.
async fn change(api: &Api, ids: &[String], verb: &str, done: &str, json: bool) -> Result<Exit, ClientError> {
    for id in ids {
        let request = api.request(Method::POST, &format!("/v1/devices/{id}/{verb}"), Some(WAIT));
        let view: DeviceView = api.ask_json(request).await?;
        print_line(&if json { to_json(&view)? } else { format!("{id}: {done}") })?;
    }
    Ok(Exit::Done)
}

async fn show_qr(api: &Api, id: &str, out: Option<&Path>) -> Result<Exit, ClientError> {
    let view: DeviceView = api.ask_json(api.request(Method::GET, &format!("/v1/devices/{id}"), Some(WAIT))).await?;
    let key = view.public_key.with_context(|| format!("{id} is plain: it has no key to show"))?;
    let public_key = key.parse().map_err(|why| anyhow::anyhow!("the key that {} told {why}", api.url()))?;
    let (fleet, _) = Fleet::public(api, &[]).await?;
    let uri = Flash { fleet: &fleet, id, private_key: None, public_key }.uri();
    let code = qr::code(&uri)?;
    match out {
        Some(path) => qr::write(&code, path)?,
        None => {
            print_line(&qr::drawn(&code))?;
            print_line(&uri)?;
        }
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
    for (name, key) in [("key", &view.public_key), ("next key", &view.next_public_key)] {
        if let Some(key) = key {
            print_line(&format!("{name:<10} {key}"))?;
        }
    }
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
