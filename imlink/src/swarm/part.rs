//! Fleets in processes of their own. A part reads its configuration as one line of JSON from standard input,
//! writes a line for each tick and one with its report to standard output, and leaves when its standard
//! input is closed.

use std::process::Stdio;

use anyhow::Context;
use imlink_swarm::{Config, Report, Swarm};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::progress::{Moment, Progress};
use super::{TICK, shares};
use crate::exit::Exit;
use crate::{open_files, signals};

/// Lines of all parts that wait to be drawn.
const LINES_MAX: usize = 1024;

/// What a part says.
#[derive(Serialize, Deserialize)]
enum Line {
    /// How it is doing.
    Moment(Moment),
    /// How it was; the last line.
    Report(Box<Report>),
}

/// Runs one part.
pub(super) fn run() -> anyhow::Result<Exit> {
    open_files::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = signals::shutdown()?;
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        let config =
            input.next_line().await?.context("a part of a swarm is told its configuration on standard input")?;
        let swarm = Swarm::new(serde_json::from_str(&config)?)?;
        let closed = shutdown.clone();
        tokio::spawn(async move {
            while let Ok(Some(_)) = input.next_line().await {}
            closed.cancel();
        });
        let live = swarm.live();
        let running = swarm.run(shutdown);
        tokio::pin!(running);
        let mut tick = tokio::time::interval(TICK);
        let report = loop {
            tokio::select! {
                report = running.as_mut() => break report?,
                _ = tick.tick() => print(&Line::Moment(live.snapshot().into())).await?,
            }
        };
        print(&Line::Report(Box::new(report))).await
    })?;
    // Standard input is read by a thread that may wait for ever.
    runtime.shutdown_background();
    Ok(Exit::Done)
}

async fn print(line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let mut out = tokio::io::stdout();
    out.write_all(text.as_bytes()).await?;
    Ok(out.flush().await?)
}

/// The processes of one fleet.
pub(super) struct Parts {
    children: Vec<Child>,
    configs: Vec<Config>,
}

impl Parts {
    /// Starts a process for each of `shares`.
    pub(super) fn start(shares: &[Config]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the program does not know its own path")?;
        let start = |_| {
            let mut command = Command::new(&program);
            command.args(["swarm", "--part", "--devices", "1"]).kill_on_drop(true);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a process of the swarm")
        };
        Ok(Self { children: shares.iter().map(start).collect::<Result<_, _>>()?, configs: shares.to_vec() })
    }

    /// Runs them until `shutdown` and adds up what they did.
    pub(super) async fn run(mut self, progress: &Progress, shutdown: CancellationToken) -> anyhow::Result<Report> {
        let (lines, mut heard) = mpsc::channel(LINES_MAX);
        for (index, (child, config)) in self.children.iter_mut().zip(&self.configs).enumerate() {
            let mut input = child.stdin.take().context("a part without standard input")?;
            let output = child.stdout.take().context("a part without standard output")?;
            input.write_all(format!("{}\n", serde_json::to_string(config)?).as_bytes()).await?;
            let (lines, shutdown) = (lines.clone(), shutdown.clone());
            tokio::spawn(async move {
                shutdown.cancelled().await;
                drop(input);
            });
            tokio::spawn(async move {
                let mut output = BufReader::new(output).lines();
                while let Ok(Some(line)) = output.next_line().await {
                    if let Ok(line) = serde_json::from_str::<Line>(&line) {
                        let _ = lines.send((index, line)).await;
                    }
                }
            });
        }
        drop(lines);
        let mut moments = vec![Moment::default(); self.children.len()];
        let mut reports = Vec::new();
        while let Some((index, line)) = heard.recv().await {
            match line {
                Line::Report(report) => reports.push(*report),
                Line::Moment(moment) => {
                    if let Some(slot) = moments.get_mut(index) {
                        *slot = moment;
                    }
                    progress.show(Moment::of_all(&moments));
                }
            }
        }
        let missing = self.children.len() - reports.len();
        anyhow::ensure!(missing == 0, "{missing} of {} processes of the swarm ended early", self.children.len());
        Ok(shares::merge(reports))
    }
}
