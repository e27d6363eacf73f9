//! `imlink blob fetch`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use imlink_protocol::hex::{self, Hex};
use reqwest::{Method, Response, header};

use super::super::{Api, ClientError, print_line};
use super::progress::Progress;
use super::{Patience, send};
use crate::cli::BlobFetchArgs;
use crate::exit::Exit;

/// A file on its way: `FILE.HASH.part`, by the first digits of its hash, until it is whole.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
}

/// Fetches a file of a device and compares its hash.
pub(super) async fn fetch(api: &Api, args: &BlobFetchArgs, json: bool) -> Result<Exit, ClientError> {
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let mut patience = Patience::new(args.wait);
    let mut progress = None;
    let (hash, part) = loop {
        match go_on(api, args, &output, &mut progress, json, &mut patience).await {
            Ok(whole) => break whole,
            Err(error) => {
                if let Some(progress) = &progress {
                    progress.say(&format!("interrupted: {error}; going on"));
                }
                patience.after(error).await.inspect_err(|_| progress.iter().for_each(Progress::finish))?;
            }
        }
    };
    progress.iter().for_each(Progress::finish);
    keep(&part, &output, &hash)?;
    let (size, text) = (part.len, Hex(&hash).to_string());
    let line = if json {
        serde_json::json!({
            "device": args.device, "name": args.name, "size": size, "sha256": text, "file": output,
            "interrupted": patience.tries,
        })
        .to_string()
    } else {
        format!("fetched {} from {} into {}: {size} bytes, SHA-256 {text}", args.name, args.device, output.display())
    };
    print_line(&line)?;
    Ok(Exit::Done)
}

/// Asks for the file, or for what is missing of it, and reads on to its end.
async fn go_on(
    api: &Api,
    args: &BlobFetchArgs,
    output: &Path,
    progress: &mut Option<Progress>,
    json: bool,
    patience: &mut Patience,
) -> Result<([u8; 32], Part), ClientError> {
    let path = format!("/v1/devices/{}/blobs/{}", args.device, args.name);
    let mut answer = api.ask(api.request(Method::GET, &path, None)).await?;
    let (hash, size) = head(&answer)?;
    let mut part = Part::open(output, &hash, size)?;
    if part.len > 0 {
        // What is here need not come again.
        drop(answer);
        let request = api.request(Method::GET, &path, None);
        let request = request.header(header::RANGE, format!("bytes={}-", part.len));
        answer = api.ask(request.header(header::IF_MATCH, format!("\"{}\"", Hex(&hash)))).await?;
    }
    patience.see(part.len);
    let progress = progress.get_or_insert_with(|| Progress::new(size, json));
    progress.say("");
    progress.set(part.len);
    while part.len < size {
        let bytes = tokio::select! {
            bytes = answer.chunk() => bytes.map_err(|error| api.unreachable(&error))?,
            () = progress.stalled() => return Err(api.silent()),
        };
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            return Err(ClientError::Unreachable { url: api.url().into(), why: "the transfer broke off".into() });
        };
        part.put(&bytes)?;
        patience.see(part.len);
        progress.set(part.len);
    }
    Ok((hash, part))
}

/// Hash and length of the whole file.
fn head(answer: &Response) -> anyhow::Result<([u8; 32], u64)> {
    let text = |name: header::HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let hash = text(header::ETAG).and_then(|tag| hex::read(tag.trim_matches('"')).ok());
    let size = text(header::CONTENT_LENGTH).and_then(|len| len.parse().ok());
    hash.zip(size).context("the answer does not name hash and length of the file; is --url right?")
}

/// Checks the hash and gives the file its name.
fn keep(part: &Part, output: &Path, hash: &[u8; 32]) -> anyhow::Result<()> {
    part.file.sync_all().with_context(|| format!("cannot write {}", part.path.display()))?;
    let (_, is) = send::hash(&part.path).with_context(|| format!("cannot read {}", part.path.display()))?;
    if is != *hash {
        // Best effort: the error is what counts.
        let _ = std::fs::remove_file(&part.path);
        anyhow::bail!("what came has SHA-256 {}, the device said {}: fetch it again", Hex(&is), Hex(hash));
    }
    std::fs::rename(&part.path, output).with_context(|| format!("cannot write {}", output.display()))
}

impl Part {
    fn open(output: &Path, hash: &[u8; 32], size: u64) -> anyhow::Result<Self> {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".{}.part", Hex(hash.get(..8).unwrap_or_default())));
        let path = PathBuf::from(name);
        let open = || -> std::io::Result<(File, u64)> {
            let file = OpenOptions::new().append(true).create(true).open(&path)?;
            let len = file.metadata()?.len().min(size);
            file.set_len(len)?;
            Ok((file, len))
        };
        let (file, len) = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file, len })
    }

    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}
