//! `imlink new-firmware`: the example firmware as a project of one's own.
//!
//! ```text
//! firmware-example/interface          ─▶ NAME/interface    paths and types, shared with backends
//!                  app                ─▶ NAME/app          handlers
//!                  boards/BOARD       ─▶ NAME/board        pins and drivers; its image is NAME
//!                  boards/BOARD-boot  ─▶ NAME/boot        its bootloader, where it has one
//!                  .cargo             ─▶ NAME/.cargo
//! ```
//!
//! The files are those of the example itself, which CI builds and runs; only names and the way to imlink's own crates
//! are written anew.

mod boards;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::cli::{Board, NewFirmwareArgs};
use crate::exit::Exit;

use boards::COMMON;

/// What was written, for `--json`.
#[derive(Serialize)]
struct Written<'a> {
    path: &'a Path,
    board: &'a str,
    target: &'a str,
    image: PathBuf,
}

/// Does what `args` say.
pub(crate) fn run(args: &NewFirmwareArgs) -> anyhow::Result<Exit> {
    let path = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let source = Source::read(&args.source)?;
    let is_free = fs::read_dir(&path).map_or(!path.exists(), |mut entries| entries.next().is_none());
    ensure!(is_free, "{} is there already and not empty; give another --path", path.display());
    for (name, content) in COMMON.iter().chain(args.board.files()) {
        let content = if name.ends_with(".toml") || name.ends_with(".lock") {
            renamed(content, args.board, &args.name, &source)
        } else {
            (*content).to_owned()
        };
        write(&path.join(place(name, args.board)), &content)?;
    }
    write(&path.join("README.md"), &readme(args))?;
    write(&path.join(".gitignore"), "target/\n")?;
    let target = args.board.target();
    let image = path.join("board/target").join(target).join("release").join(&args.name);
    if args.json {
        let written = Written { path: &path, board: args.board.name(), target, image };
        println!("{}", serde_json::to_string(&written)?);
        return Ok(Exit::Done);
    }
    println!("wrote {}; build it with", path.display());
    println!("  rustup target add {target}");
    println!("  cd {} && cargo build --release", path.join("board").display());
    println!("README.md there says how to give it keys, flash it and make it your own");
    Ok(Exit::Done)
}

/// Where imlink's own crates come from.
enum Source {
    Checkout(PathBuf),
    Git(String),
}

impl Source {
    fn read(text: &str) -> anyhow::Result<Self> {
        if text.contains("://") || text.starts_with("git@") {
            return Ok(Self::Git(text.into()));
        }
        let folder = fs::canonicalize(text).with_context(|| format!("--source {text}"))?;
        let is_checkout = folder.join("device-client/Cargo.toml").is_file();
        ensure!(is_checkout, "--source {text}: no checkout of imlink, there is no device-client in it");
        Ok(Self::Checkout(folder))
    }

    /// What stands for `path = "…/NAME"` in a dependency.
    fn of(&self, name: &str) -> String {
        match self {
            Self::Checkout(folder) => format!("path = {:?}", folder.join(name)),
            Self::Git(url) => format!("git = {url:?}"),
        }
    }
}

/// The example's file as the project's.
fn renamed(content: &str, board: Board, name: &str, source: &Source) -> String {
    let mut content = content.replace(&format!("\"imlink-{}\"", board.name()), &format!("\"{name}\""));
    content = content.replace(&format!("\"imlink-{}-boot\"", board.name()), &format!("\"{name}-boot\""));
    for own in ["device-client", "protocol"] {
        for up in ["../../../", "../../"] {
            content = content.replace(&format!("path = \"{up}{own}\""), &source.of(own));
        }
    }
    content.replace("path = \"../../app\"", "path = \"../app\"")
}

/// Where a file of the example lies in the project.
fn place(name: &str, board: Board) -> String {
    let board = format!("boards/{}", board.name());
    match name.strip_prefix(&board) {
        Some(rest) => rest.strip_prefix("-boot").map_or_else(|| format!("board{rest}"), |rest| format!("boot{rest}")),
        None => name.to_owned(),
    }
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::write(path, content).with_context(|| format!("{}", path.display()))
}

fn readme(args: &NewFirmwareArgs) -> String {
    let (name, board, target) = (&args.name, args.board.name(), args.board.target());
    let flash = args.board.flash().replace("IMAGE", &format!("target/{target}/release/{name}"));
    format!(
        "# {name}\n\nFirmware for {board} over imlink.\n\n```\ninterface   paths and types, shared with backends in \
         Rust\napp         what it does with messages and calls; knows no board\nboard       pins, network driver, flash, \
         randomness; its image is `{name}`\n```\n\n## Build and flash\n\n```sh\nrustup target add {target}\ncd board\n\
         {flash}```\n\n## Making it your own\n\nState your paths in `interface/src/lib.rs`, handle them in \
         `app/src/device.rs`: `handle!` for messages, `answer!` for calls; an arm of the wrong type does not compile. A \
         message is acknowledged when its handler returns `Ok`.\n"
    )
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    fn example() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-example")
    }

    fn found(folder: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                found(&path, out);
            } else if path.is_file() {
                out.push(path.strip_prefix(example()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    /// A file added to the example is added to the template, and a board to the list.
    #[test]
    fn the_template_is_the_whole_example() {
        let mut there = Vec::new();
        for part in [".cargo", "app", "interface", "boards"] {
            found(&example().join(part), &mut there);
        }
        // The lock file of the app alone; a board has its own.
        there.retain(|name| name != "app/Cargo.lock");
        there.sort();
        let boards = Board::value_variants().iter().flat_map(|board| board.files());
        let mut listed: Vec<_> = COMMON.iter().chain(boards).map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, there);
    }

    #[test]
    fn a_board_is_built_for_one_processor_everywhere() {
        let build = fs::read_to_string(example().join("build")).unwrap();
        for board in Board::value_variants() {
            let (name, target) = (board.name(), board.target());
            let config = format!("boards/{name}/.cargo/config.toml");
            let (_, config) = board.files().iter().find(|(path, _)| *path == config).unwrap();
            let config: toml::Table = config.parse().unwrap();
            assert_eq!(config["build"]["target"].as_str(), Some(target), "{name}");
            assert!(build.contains(&format!("[{name}]={target}\n")), "{name}");
            assert!(board.flash().contains("IMAGE"), "{name}: its image is flashed");
        }
    }

    #[test]
    fn imlinks_own_crates_come_from_where_it_was_said() {
        for board in Board::value_variants() {
            let git = Source::Git("https://example.org/imlink".into());
            for (name, content) in COMMON.iter().chain(board.files()).filter(|(name, _)| name.ends_with("Cargo.toml")) {
                let content = renamed(content, *board, "lamp", &git);
                let manifest: toml::Table = content.parse().unwrap();
                for (dependency, value) in manifest["dependencies"].as_table().unwrap() {
                    let is_own = ["imlink-device-client", "imlink-protocol"].contains(&dependency.as_str());
                    assert_eq!(value.get("git").is_some(), is_own, "{name}: {dependency}");
                    let path = value.get("path").map(|path| path.as_str().unwrap());
                    assert!(path.is_none_or(|path| ["../app", "../interface"].contains(&path)), "{name}: {path:?}");
                }
                if name.starts_with("boards") {
                    let image = if place(name, *board).starts_with("boot/") { "lamp-boot" } else { "lamp" };
                    assert_eq!(manifest["package"]["name"].as_str(), Some(image));
                    assert_eq!(manifest["bin"][0]["name"].as_str(), Some(image));
                }
            }
        }
    }
}
