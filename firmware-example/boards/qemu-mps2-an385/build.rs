//! Puts the linker scripts where the linker finds them.

use std::path::PathBuf;
use std::{env, fs};

/// Interrupts that have a handler; `cortex-m-rt` wants to know them by name.
const INTERRUPTS: &str =
    "PROVIDE(TIMER0 = DefaultHandler);\nPROVIDE(TIMER1 = DefaultHandler);\nPROVIDE(ETHERNET = DefaultHandler);\n";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("memory.x lies beside Cargo.toml");
    fs::write(out.join("device.x"), INTERRUPTS).expect("OUT_DIR can be written");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rerun-if-changed=memory.x");
}
