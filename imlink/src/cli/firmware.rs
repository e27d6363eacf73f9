//! Flags of `imlink new-firmware`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(crate) const EXAMPLES: &str = "\
Examples:
  imlink new-firmware lamp --board w5500-evb-pico          ./lamp: interface, app and board, ready to build
  imlink new-firmware lamp --board qemu-mps2-an385         the same for QEMU: no hardware needed
  imlink new-firmware lamp --board nucleo-h743zi --source ~/imlink     built against a checkout";

/// `imlink new-firmware …`
#[derive(Debug, Args)]
pub(crate) struct NewFirmwareArgs {
    /// Name of the project and its image: a-z, 0-9 and -, beginning with a letter, at most 48 characters
    #[arg(value_parser = project_name)]
    pub(crate) name: String,
    /// What it runs on
    #[arg(long)]
    pub(crate) board: Board,
    /// Where to write it; must not exist or be empty [default: ./NAME]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) path: Option<PathBuf>,
    /// Where imlink's own crates come from: the folder of a checkout, or the URL of a git repository
    #[arg(long, value_name = "FOLDER|URL", default_value = env!("CARGO_PKG_REPOSITORY"))]
    pub(crate) source: String,
    /// Print what was written as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A board that the example firmware runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Board {
    /// Arm MPS2 AN385 as QEMU models it: Cortex-M3, LAN9118 Ethernet
    #[value(name = "qemu-mps2-an385")]
    Qemu,
    /// WIZnet W5500-EVB-Pico: RP2040, W5500 Ethernet
    #[value(name = "w5500-evb-pico")]
    W5500EvbPico,
    /// ST Nucleo-H743ZI2: STM32H743 with its own Ethernet
    #[value(name = "nucleo-h743zi")]
    NucleoH743zi,
    /// Raspberry Pi Pico W: RP2040, CYW43439 Wi-Fi
    #[value(name = "pico-w")]
    PicoW,
    /// Boards with Espressif's ESP32-C3: RISC-V with Wi-Fi
    #[value(name = "esp32-c3")]
    Esp32C3,
}

impl Board {
    /// Its name, which is that of its folder in the example.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-mps2-an385",
            Self::W5500EvbPico => "w5500-evb-pico",
            Self::NucleoH743zi => "nucleo-h743zi",
            Self::PicoW => "pico-w",
            Self::Esp32C3 => "esp32-c3",
        }
    }
}

fn project_name(text: &str) -> Result<String, String> {
    let is_letter = text.starts_with(|first: char| first.is_ascii_lowercase());
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !is_letter || text.len() > 48 || !text.chars().all(fits) {
        return Err("must be a-z, 0-9 and -, begin with a letter and have at most 48 characters".into());
    }
    Ok(text.into())
}
