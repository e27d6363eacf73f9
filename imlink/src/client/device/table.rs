//! `imlink device import` and `export`: tables of devices, row by row.
//!
//! ```text
//! import   file ─checked whole─▶ thread that parses ─≤ 256 rows─▶ ≤ 64 requests in flight
//! export   page of ids ─▶ ≤ 64 requests in flight, in order ─▶ row
//! ```

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use imlink_route::http::{DeviceList, DeviceView};
use indicatif::ProgressBar;
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;

use super::rows::{self, Row};
use super::{PAGE, WAIT};
use crate::bar::bar;
use crate::cli::{ExportArgs, ImportArgs, TableFormat};
use crate::client::{Api, ClientError, print_line};
use crate::exit::Exit;

/// Requests in flight.
const IN_FLIGHT: usize = 64;
/// Rows read ahead.
const AHEAD: usize = 256;
/// How often a request that was refused for want of room is sent again.
const TRIES: u32 = 10;

/// Provisions the devices of a table.
pub(super) async fn import(api: &Api, args: &ImportArgs, json: bool) -> Result<Exit, ClientError> {
    let is_stdin = args.file.as_os_str() == "-";
    let format = format_of(args.format, Some(&args.file).filter(|_| !is_stdin).map(|path| path.as_path()));
    let format = format.context("name the form of the table with --format csv or --format json")?;
    let name = args.file.display().to_string();
    let mut count = 0;
    if !is_stdin {
        let checked = rows::read(open(&args.file)?, format, |_| {
            count += 1;
            true
        });
        checked.with_context(|| format!("{name}; nothing was imported"))?;
    }
    let bar = progress(count, json);
    let table: Box<dyn Read + Send> = if is_stdin { Box::new(std::io::stdin()) } else { Box::new(open(&args.file)?) };
    let (send, receive) = mpsc::channel(AHEAD);
    let reader = std::thread::spawn(move || rows::read(table, format, |row| send.blocking_send(row).is_ok()));
    let (mut created, mut done) = (0_u64, 0_u64);
    let answers = stream::unfold(receive, async |mut rows: mpsc::Receiver<Row>| Some((rows.recv().await?, rows)));
    let imported = answers
        .map(|row| put(api, row))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|is_new| {
            (created, done) = (created + u64::from(is_new), done + 1);
            bar.set_position(done);
            std::future::ready(Ok(()))
        })
        .await;
    bar.finish_and_clear();
    let stopped = |error: &dyn std::fmt::Display| {
        eprintln!(
            "imlink: {done} devices are provisioned; importing the table again goes on, and changes nothing of them: {error}"
        );
    };
    imported.inspect_err(|error| stopped(&error_start(error)))?;
    let read = reader.join().map_err(|_| anyhow::anyhow!("reading {name} broke"))?;
    read.inspect_err(|_| stopped(&"the rest could not be read")).with_context(|| name)?;
    let known = done - created;
    print_line(&match json {
        true => serde_json::json!({ "devices": done, "created": created, "known": known }).to_string(),
        false => format!("{done} devices: {created} new, {known} known before"),
    })?;
    Ok(Exit::Done)
}

/// What stopped an import, in a word; the whole error is told by whoever called.
fn error_start(error: &ClientError) -> String {
    match error {
        ClientError::Refused(problem) => problem.name().to_owned(),
        ClientError::Unreachable { why, .. } => why.clone(),
        ClientError::Other(error) => error.to_string(),
    }
}

/// Provisions one device; whether it is new.
async fn put(api: &Api, row: Row) -> Result<bool, ClientError> {
    let path = format!("/v1/devices/{}", row.id);
    let device = row.into_device();
    let answer = patiently(async || api.ask(api.request(Method::PUT, &path, Some(WAIT)).json(&device)).await).await?;
    Ok(answer.status() == StatusCode::CREATED)
}

/// Asks, and asks again when told to come back later.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    for _ in 1..TRIES {
        match ask().await {
            Err(ClientError::Refused(problem)) if problem.more.retry_after_ms.is_some() => {
                let wait = Duration::from_millis(problem.more.retry_after_ms.unwrap_or_default());
                tokio::time::sleep(wait.min(WAIT)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}

/// Writes a table of all devices.
pub(super) async fn export(api: &Api, args: &ExportArgs, json: bool) -> Result<Exit, ClientError> {
    let default = if json { TableFormat::Json } else { TableFormat::Csv };
    let format = format_of(args.format, args.out.as_deref()).unwrap_or(default);
    let problem = || args.out.as_ref().map_or("standard output".into(), |path| path.display().to_string());
    let out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => Box::new(std::io::stdout()),
    };
    let mut table = Table::new(BufWriter::new(out), format);
    let bar = progress(0, args.out.is_none());
    let mut after = args.after.clone().unwrap_or_default();
    let mut forged = 0;
    loop {
        let query = [("after", after.as_str()), ("limit", &PAGE.to_string())];
        let page: DeviceList =
            patiently(async || api.ask_json(api.request(Method::GET, "/v1/devices", Some(WAIT)).query(&query)).await)
                .await?;
        let mut views = stream::iter(page.devices.iter().map(|id| show(api, id))).buffered(IN_FLIGHT);
        while let Some(view) = views.next().await {
            // One that was removed meanwhile is none.
            if let Some(view) = view? {
                if view.proof == "forged" {
                    forged += 1;
                    eprintln!("imlink: {} is left out: its key in the store was written by no route", view.id);
                    continue;
                }
                table.write(&Row::of(view)).with_context(problem)?;
                bar.inc(1);
            }
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    let written = bar.position();
    bar.finish_and_clear();
    table.finish().with_context(problem)?;
    if let Some(path) = &args.out {
        print_line(&match json {
            true => serde_json::json!({ "devices": written, "file": path }).to_string(),
            false => format!("{written} devices written to {}", path.display()),
        })?;
    }
    Ok(if forged == 0 { Exit::Done } else { Exit::Failed })
}

async fn show(api: &Api, id: &str) -> Result<Option<DeviceView>, ClientError> {
    let path = format!("/v1/devices/{id}");
    match patiently(async || api.ask_json(api.request(Method::GET, &path, Some(WAIT))).await).await {
        Ok(view) => Ok(Some(view)),
        Err(ClientError::Refused(problem)) if problem.name() == "unknown-device" => Ok(None),
        Err(error) => Err(error),
    }
}

/// A table that is written.
enum Table<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Json(W),
}

impl<W: Write> Table<W> {
    fn new(out: W, format: TableFormat) -> Self {
        match format {
            TableFormat::Csv => Self::Csv(Box::new(csv::Writer::from_writer(out))),
            TableFormat::Json => Self::Json(out),
        }
    }

    fn write(&mut self, row: &Row) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => writer.serialize(row)?,
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush(),
            Self::Json(mut out) => out.flush(),
        }
    }
}

fn format_of(given: Option<TableFormat>, path: Option<&Path>) -> Option<TableFormat> {
    given.or_else(|| match path?.extension()?.to_str()? {
        "csv" => Some(TableFormat::Csv),
        "json" | "jsonl" | "ndjson" => Some(TableFormat::Json),
        _ => None,
    })
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file))
}

/// A bar on standard error, where somebody looks; of unknown length with 0.
fn progress(count: u64, is_silent: bool) -> ProgressBar {
    let count = Some(count).filter(|count| *count > 0);
    bar(count, "{elapsed:>4} {bar:30} {pos}/{len} devices  {per_sec}", is_silent).0
}
