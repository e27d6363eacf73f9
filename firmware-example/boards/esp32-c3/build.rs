//! Names the HAL's linker script to the linker, and puts the identity of this device into the image.

use std::env;

fn main() {
    println!("cargo:rustc-link-arg-bins=-Tlinkall.x");
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
