//! Puts the linker scripts where the linker finds them, and the identity of this device into the image.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Neither is named memory.x here: a linker looks in the folder where it runs first.
    let is_update = env::var_os("CARGO_FEATURE_UPDATE").is_some();
    let memory = if is_update { "memory-update.x" } else { "memory-plain.x" };
    fs::copy(memory, out.join("memory.x")).expect("the linker scripts lie beside Cargo.toml");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    // The second stage of the chip's boot comes with the bootloader.
    if !is_update {
        println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
    }
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rerun-if-changed={memory}");
    for (name, default) in [("IMLINK_DEVICE", "board-1"), ("IMLINK_ROUTE", "192.168.1.10:7000")] {
        println!("cargo:rerun-if-env-changed={name}");
        let value = env::var(name).unwrap_or_else(|_| default.into());
        println!("cargo:rustc-env={name}={value}");
    }
}
