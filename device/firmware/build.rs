//! Build script of every board: where its flash and RAM are, and how cortex-m-rt links.

#![allow(clippy::expect_used, reason = "it runs while building, and a build may stop")]

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("memory.x", out.join("memory.x")).expect("the board's memory.x");
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    if env::var("CARGO_PKG_NAME").is_ok_and(|name| name == "firmware-rpi-pico") {
        // Where its second stage boot loader goes.
        println!("cargo:rustc-link-arg-bins=-Tlink-rp.x");
    }
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rerun-if-changed=memory.x");
}
