//! `imlink blob send`.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ed25519_dalek::Signer;
use futures_util::stream;
use imlink_protocol::blob::{Kind, signed};
use imlink_protocol::hex::Hex;
use imlink_protocol::id::check_device_id;
use imlink_route::http::BlobView;
use reqwest::{Body, Method, header};
use sha2::{Digest, Sha256};

use super::super::{Api, ClientError, print_line};
use super::progress::Progress;
use super::{Patience, key};
use crate::cli::{BlobAs, BlobSendArgs};
use crate::exit::Exit;

/// Bytes read from the file at once.
const READ_LEN: usize = 16 * 1024;
/// Longest wait for the device to say how far it is: it may erase flash first.
const ASK_TIMEOUT: Duration = Duration::from_secs(90);

/// A file and what is said of it.
struct Given<'a> {
    path: String,
    file: &'a Path,
    size: u32,
    sha256: String,
    query: Vec<(&'static str, String)>,
}

/// Gives a device a file and waits until it has checked it.
pub(super) async fn send(api: &Api, args: &BlobSendArgs, json: bool) -> Result<Exit, ClientError> {
    let given = given(args)?;
    let progress = Progress::new(given.size.into(), json);
    let mut patience = Patience::new(args.wait);
    let view = loop {
        match go_on(api, &given, &progress, &mut patience).await {
            Ok(view) if view.state != "receiving" => break view,
            // It took all that was given, and more is to be given: the file grew shorter.
            Ok(_) => return Err(anyhow::anyhow!("{} changed while it was sent", given.file.display()).into()),
            Err(error) => {
                progress.say(&format!("interrupted: {error}; going on"));
                patience.after(error).await.inspect_err(|_| progress.finish())?;
            }
        }
    };
    progress.finish();
    let line = if json {
        serde_json::json!({
            "device": args.device, "name": view.name, "size": view.size, "sha256": given.sha256,
            "state": view.state, "interrupted": patience.tries,
        })
        .to_string()
    } else {
        format!("{} {} on {}: {} bytes, SHA-256 {}", view.state, view.name, args.device, view.size, given.sha256)
    };
    print_line(&line)?;
    Ok(Exit::Done)
}

/// Asks how far the device is, and gives it the rest.
async fn go_on(
    api: &Api,
    given: &Given<'_>,
    progress: &Progress,
    patience: &mut Patience,
) -> Result<BlobView, ClientError> {
    let request = |wait| {
        let request = api.request(Method::PUT, &given.path, wait).query(&given.query);
        request.header(header::CONTENT_TYPE, "application/octet-stream")
    };
    let view: BlobView = api.ask_json(request(Some(ASK_TIMEOUT))).await?;
    patience.see(view.offset.into());
    progress.set(view.offset.into());
    progress.say("");
    if view.state != "receiving" {
        return Ok(view);
    }
    let body = body(given.file, view.offset, given.size, progress.clone())?;
    let request = request(None).query(&[("offset", view.offset.to_string())]);
    let len = given.size - view.offset;
    let view: BlobView = tokio::select! {
        view = api.ask_json(request.header(header::CONTENT_LENGTH, len).body(body)) => view?,
        () = progress.stalled() => return Err(api.silent()),
    };
    patience.see(view.offset.into());
    Ok(view)
}

/// The file from `offset` on, read as it is sent.
fn body(path: &Path, offset: u32, size: u32, progress: Progress) -> anyhow::Result<Body> {
    let mut file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.seek(SeekFrom::Start(offset.into())).with_context(|| format!("cannot read {}", path.display()))?;
    let rest = u64::from(size - offset);
    let parts = stream::unfold((file, offset.into(), rest), move |(mut file, at, rest): (_, u64, u64)| {
        let progress = progress.clone();
        async move {
            let len = rest.min(READ_LEN as u64);
            if len == 0 {
                progress.say("handed over, the device checks it");
                return None;
            }
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(READ_LEN)];
            let read = file.read_exact(&mut bytes).map(|()| bytes);
            progress.set(at + len);
            Some((read, (file, at + len, rest - len)))
        }
    });
    Ok(Body::wrap_stream(parts))
}

fn given(args: &BlobSendArgs) -> anyhow::Result<Given<'_>> {
    let file = args.file.as_path();
    let own = || file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let name = args.name.clone().unwrap_or_else(own);
    check_device_id(&name)
        .map_err(|error| anyhow::anyhow!("the name `{name}` of the blob {error}; give one with --name"))?;
    let (size, sha256) = hash(file).with_context(|| format!("cannot read {}", file.display()))?;
    let size = u32::try_from(size).with_context(|| format!("{} has {size} bytes, too many", file.display()))?;
    let kind = match args.kind {
        BlobAs::File => Kind::File,
        BlobAs::Firmware => Kind::Firmware,
    };
    let text = Hex(&sha256).to_string();
    let mut query = vec![("size", size.to_string()), ("sha256", text.clone()), ("kind", kind.name().into())];
    if let Some(path) = &args.sign_key {
        let signature = key::read(path)?.sign(&signed(kind, size, &sha256));
        query.push(("signature", Hex(&signature.to_bytes()).to_string()));
    }
    Ok(Given { path: format!("/v1/devices/{}/blobs/{name}", args.device), file, size, sha256: text, query })
}

/// Length and hash of a file.
pub(super) fn hash(path: &Path) -> std::io::Result<(u64, [u8; 32])> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_LEN];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hash.finalize().into())),
            len => {
                hash.update(buffer.get(..len).unwrap_or_default());
                size += len as u64;
            }
        }
    }
}
