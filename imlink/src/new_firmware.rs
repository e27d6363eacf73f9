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

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::cli::{Board, NewFirmwareArgs};
use crate::exit::Exit;

/// Files of the example, by their path in it.
macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../firmware-example/", $path)))),*] };
}

type Files = &'static [(&'static str, &'static str)];

const COMMON: Files = files![
    ".cargo/config.toml",
    "app/Cargo.toml",
    "app/src/device.rs",
    "app/src/identity.rs",
    "app/src/lib.rs",
    "app/src/network.rs",
    "app/src/records.rs",
    "interface/Cargo.toml",
    "interface/src/lib.rs",
];

const QEMU: Files = files![
    "boards/qemu-mps2-an385/.cargo/config.toml",
    "boards/qemu-mps2-an385/Cargo.lock",
    "boards/qemu-mps2-an385/Cargo.toml",
    "boards/qemu-mps2-an385/build.rs",
    "boards/qemu-mps2-an385/memory.x",
    "boards/qemu-mps2-an385/src/arguments.rs",
    "boards/qemu-mps2-an385/src/clock.rs",
    "boards/qemu-mps2-an385/src/ethernet.rs",
    "boards/qemu-mps2-an385/src/executor.rs",
    "boards/qemu-mps2-an385/src/flash.rs",
    "boards/qemu-mps2-an385/src/fpga.rs",
    "boards/qemu-mps2-an385/src/host.rs",
    "boards/qemu-mps2-an385/src/i2c.rs",
    "boards/qemu-mps2-an385/src/interrupts.rs",
    "boards/qemu-mps2-an385/src/main.rs",
    "boards/qemu-mps2-an385/src/stack.rs",
];

const W5500_EVB_PICO: Files = files![
    "boards/w5500-evb-pico-boot/.cargo/config.toml",
    "boards/w5500-evb-pico-boot/Cargo.lock",
    "boards/w5500-evb-pico-boot/Cargo.toml",
    "boards/w5500-evb-pico-boot/build.rs",
    "boards/w5500-evb-pico-boot/memory.x",
    "boards/w5500-evb-pico-boot/src/main.rs",
    "boards/w5500-evb-pico/.cargo/config.toml",
    "boards/w5500-evb-pico/Cargo.lock",
    "boards/w5500-evb-pico/Cargo.toml",
    "boards/w5500-evb-pico/build.rs",
    "boards/w5500-evb-pico/memory-plain.x",
    "boards/w5500-evb-pico/memory-update.x",
    "boards/w5500-evb-pico/src/main.rs",
    "boards/w5500-evb-pico/src/noise.rs",
    "boards/w5500-evb-pico/src/update.rs",
];

const NUCLEO_H743ZI: Files = files![
    "boards/nucleo-h743zi/.cargo/config.toml",
    "boards/nucleo-h743zi/Cargo.lock",
    "boards/nucleo-h743zi/Cargo.toml",
    "boards/nucleo-h743zi/build.rs",
    "boards/nucleo-h743zi/memory.x",
    "boards/nucleo-h743zi/src/main.rs",
];

impl Board {
    const fn files(self) -> Files {
        match self {
            Self::Qemu => QEMU,
            Self::W5500EvbPico => W5500_EVB_PICO,
            Self::NucleoH743zi => NUCLEO_H743ZI,
        }
    }

    /// The compiler's name for its processor.
    const fn target(self) -> &'static str {
        match self {
            Self::Qemu => "thumbv7m-none-eabi",
            Self::W5500EvbPico => "thumbv6m-none-eabi",
            Self::NucleoH743zi => "thumbv7em-none-eabihf",
        }
    }
}

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
    let flash = match args.board {
        Board::Qemu => QEMU_RUN,
        Board::W5500EvbPico => PICO_FLASH,
        Board::NucleoH743zi => NUCLEO_FLASH,
    };
    let flash = flash.replace("IMAGE", &format!("target/{target}/release/{name}"));
    format!(
        "# {name}\n\nFirmware for {board} over imlink.\n\n```\ninterface   paths and types, shared with backends in \
         Rust\napp         what it does with messages and calls; knows no board\nboard       pins, network driver, flash, \
         randomness; its image is `{name}`\n```\n\n## Build and flash\n\n```sh\nrustup target add {target}\ncd board\n\
         {flash}```\n\n## Making it your own\n\nState your paths in `interface/src/lib.rs`, handle them in \
         `app/src/device.rs`: `handle!` for messages, `answer!` for calls; an arm of the wrong type does not compile. A \
         message is acknowledged when its handler returns `Ok`.\n"
    )
}

const QEMU_RUN: &str = "\
cargo build --release
imlink gateway                          # in another terminal; devices on 127.0.0.1:7000
imlink device add board-1               # prints private key and route key
qemu-system-arm -M mps2-an385 -display none -serial none -monitor none -nic user,model=lan9118 \\
    -device tmp105,address=0x48 \\
    -semihosting-config enable=on,target=native,arg=fw,arg=device=board-1,arg=route=10.0.2.2:7000,arg=private_key=HEX,arg=route_key=HEX \\
    -kernel IMAGE
imlink send board-1 led/set --hex 01 --wait acked
";

const PICO_FLASH: &str = "\
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
cargo install elf2uf2-rs                                 # then hold BOOTSEL while plugging in
elf2uf2-rs -d IMAGE
probe-rs run --chip RP2040 IMAGE                         # or so, with a debug probe
cat /dev/ttyACM0                                         # it draws its key and logs the command that provisions it:
imlink device add board-1 --public-key HEX
# With updates over imlink: flash `boot` once, then `cargo build --release --features update` (IMLINK_UPDATE_KEY=HEX).
imlink send board-1 led/set --hex 01 --wait acked
";

const NUCLEO_FLASH: &str = "\
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
probe-rs run --chip STM32H743ZITx IMAGE                  # it draws its key and logs the command that provisions it:
imlink device add board-1 --public-key HEX
imlink send board-1 led/set --hex 01 --wait acked
";

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
