//! Puts the linker scripts where the linker finds them, the wiring of the Wi-Fi chip in its form, and the identity of
//! this device into the image.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x lies beside Cargo.toml");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rerun-if-changed=memory.x");
    fs::write(out.join("nvram.bin"), nvram()).expect("OUT_DIR can be written");
    println!("cargo:rerun-if-changed=nvram.txt");
    for (name, default) in [
        ("IMLINK_DEVICE", "board-1"),
        ("IMLINK_ROUTE", "192.168.1.10:7000"),
        ("IMLINK_WIFI", ""),
        ("IMLINK_WIFI_PASSWORD", ""),
    ] {
        println!("cargo:rerun-if-env-changed={name}");
        let value = env::var(name).unwrap_or_else(|_| default.into());
        println!("cargo:rustc-env={name}={value}");
    }
}

/// The lines of `nvram.txt`, each ended by a zero, and zeros behind them: one at least, and up to a whole word, which is
/// what the driver writes.
fn nvram() -> Vec<u8> {
    let text = fs::read_to_string("nvram.txt").expect("nvram.txt lies beside Cargo.toml");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut bytes: Vec<u8> = lines.flat_map(|line| line.bytes().chain([0])).collect();
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}
