//! `imlink device add` and `rotate`: keys are made here, registered, and shown once.

use anyhow::Context;
use imlink_protocol::key_pair::{KEY_LEN, PrivateKey, PublicKey};
use imlink_route::http::{DeviceView, NewDevice, NewKey};
use reqwest::Method;

use super::flash::{Flash, Fleet, OutFile};
use super::{WAIT, find, qr, to_json};
use crate::cli::{AddArgs, ClientArgs, FlashArgs, RotateArgs};
use crate::client::{Api, ClientError, print_line};
use crate::exit::Exit;

/// A key that is to become a device's: made here, or only known in public.
struct NewPair {
    private: Option<PrivateKey>,
    public: PublicKey,
}

impl NewPair {
    fn new(given: Option<PublicKey>) -> anyhow::Result<Self> {
        if let Some(public) = given {
            return Ok(Self { private: None, public });
        }
        let mut bytes = [0; KEY_LEN];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers, so no key: {error}"))?;
        let private = PrivateKey::new(bytes);
        Ok(Self { public: private.public(), private: Some(private) })
    }
}

/// Provisions devices.
pub(super) async fn add(api: &Api, client: &ClientArgs, args: &AddArgs) -> Result<Exit, ClientError> {
    let ids = &args.devices.ids;
    if ids.len() > 1 && (args.public_key.is_some() || args.flash.out.is_some()) {
        return Err(
            anyhow::anyhow!("--public-key and --out are of one device: add {} by itself", ids.join(", ")).into()
        );
    }
    if args.plain {
        for id in ids {
            add_plain(api, id, args.replace, client.json).await?;
        }
        return Ok(Exit::Done);
    }
    let fleet = Fleet::whole(api, client, &args.flash).await?;
    for id in ids {
        let known = find(api, id).await?;
        let is_same = |view: &DeviceView| args.public_key.is_some_and(|key| view.public_key == Some(key.to_string()));
        if let Some(view) = known.as_ref().filter(|view| !args.replace && !is_same(view)) {
            return Err(refuse_to_replace(view));
        }
        let pair = NewPair::new(args.public_key)?;
        let device = NewDevice { public_key: Some(pair.public.to_string()), ..NewDevice::default() };
        let put = async || {
            api.ask_json(api.request(Method::PUT, &format!("/v1/devices/{id}"), Some(WAIT)).json(&device)).await
        };
        let what = match &known {
            None => "provisioned",
            Some(view) if is_same(view) => "was provisioned before with this key",
            Some(_) => "its key is replaced",
        };
        give(&fleet, id, &pair, &args.flash, client.json, what, put).await?;
    }
    Ok(Exit::Done)
}

async fn add_plain(api: &Api, id: &str, replace: bool, json: bool) -> Result<(), ClientError> {
    let known = find(api, id).await?;
    let is_plain = |view: &DeviceView| view.proof == "plain";
    if let Some(view) = known.as_ref().filter(|view| !replace && !is_plain(view)) {
        return Err(refuse_to_replace(view));
    }
    let request = api.request(Method::PUT, &format!("/v1/devices/{id}"), Some(WAIT)).json(&NewDevice::PLAIN);
    let view: DeviceView = api.ask_json(request).await?;
    let line = match (json, &known) {
        (true, _) => to_json(&view)?,
        (false, None) => format!("{id}: provisioned without a key; it may attach over a plain link"),
        (false, Some(before)) if is_plain(before) => format!("{id}: was provisioned before"),
        (false, Some(_)) => format!("{id}: its key is gone; it may attach over a plain link"),
    };
    print_line(&line)?;
    warn_if_revoked(&view);
    Ok(())
}

fn refuse_to_replace(view: &DeviceView) -> ClientError {
    let id = &view.id;
    anyhow::anyhow!(
        "{id} is provisioned already ({}); `imlink device rotate {id}` gives it a next key, and --replace a new one at once, \
         which shuts out whoever holds the old one",
        view.proof
    )
    .into()
}

/// Gives a device its next key.
pub(super) async fn rotate(api: &Api, client: &ClientArgs, args: &RotateArgs) -> Result<Exit, ClientError> {
    let fleet = Fleet::whole(api, client, &args.flash).await?;
    let pair = NewPair::new(args.public_key)?;
    let key = NewKey { public_key: pair.public.to_string() };
    let path = format!("/v1/devices/{}/next-key", args.id);
    let put = async || api.ask_json(api.request(Method::PUT, &path, Some(WAIT)).json(&key)).await;
    let what = "has a next key; the current one is good until the first login with it";
    give(&fleet, &args.id, &pair, &args.flash, client.json, what, put).await?;
    Ok(Exit::Done)
}

/// Registers a key by `put`, and shows or writes what to flash. A file is written before the key counts.
async fn give(
    fleet: &Fleet,
    id: &str,
    pair: &NewPair,
    args: &FlashArgs,
    json: bool,
    what: &str,
    put: impl AsyncFnOnce() -> Result<DeviceView, ClientError>,
) -> Result<(), ClientError> {
    let flash = Flash { fleet, id, private_key: pair.private.as_ref(), public_key: pair.public };
    let code = args.qr.then(|| qr::code(&flash.uri())).transpose()?;
    let out = OutFile::create(args)?;
    if let Some(out) = &out {
        out.write(&flash)?;
    }
    let view = put().await?;
    let line = match (out.map(OutFile::keep), json) {
        (Some(path), true) => {
            to_json(&serde_json::json!({ "id": id, "public_key": pair.public.to_string(), "file": path }))?
        }
        (Some(path), false) => format!("{id}: {what}; what to flash is in {}", path.display()),
        (None, true) => flash.json()?,
        (None, false) => format!("{id}: {what}\n{}", flash.lines()),
    };
    let is_read = print_line(&line).context("the key is registered, but could not be shown: use --replace")?;
    if let Some(code) = code.filter(|_| is_read) {
        print_line(&qr::drawn(&code))?;
    }
    warn_if_revoked(&view);
    Ok(())
}

fn warn_if_revoked(view: &DeviceView) {
    if view.revoked {
        eprintln!("imlink: {} is still revoked; `imlink device restore {}` lifts that", view.id, view.id);
    }
}
