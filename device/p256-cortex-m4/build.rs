//! Compiles P256-Cortex-M4: P-256 in assembly and C.
//!
//! The crate p256-cortex-m4-sys has the source, and its checksum is in Cargo.lock. Its own build script has no way to ask for
//! tables that are read as a whole, and compiles what is not used here; so the source alone is used.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "it runs while building, and a build may stop")]

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=include/string.h");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let processor = match target.as_str() {
        _ if target.starts_with("thumbv7em-") => "-march=armv7e-m",
        // It takes the instructions of the DSP extension.
        _ if target.starts_with("thumbv8m.main-") => "-march=armv8-m.main+dsp",
        // On a host, for lints and documentation.
        _ if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "none") => return,
        _ => panic!("P256-Cortex-M4 is for Cortex-M4, M7 and M33, not for {target}: take micro-ecc, or P-256 in Rust"),
    };
    let mut build = cc::Build::new();
    build
        .std("c11")
        .flag(processor)
        .opt_level_str("s")
        // No C library is there, but the compiler's own copying.
        .flags(["-ffreestanding", "-fbuiltin"])
        .include("include")
        // Tables are read as a whole, so that no address depends on a secret.
        .define("has_d_cache", "1");
    for unused in [
        "sign",
        "keygen",
        "ecdh",
        "to_octet_string_uncompressed",
        "to_octet_string_compressed",
        "to_octet_string_hybrid",
        "decode_point",
    ] {
        build.define(&format!("include_p256_{unused}"), "0");
    }
    let source = source();
    build
        .warnings(false)
        .extra_warnings(false)
        .cargo_warnings(false)
        .files(["p256-cortex-m4.c", "p256-cortex-m4-asm-gcc.S"].map(|file| source.join(file)))
        .compile("p256-cortex-m4");
}

/// Where the source of P256-Cortex-M4 is.
fn source() -> PathBuf {
    let output = Command::new(env::var_os("CARGO").expect("cargo says where it is"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "p256-cortex-m4-sys").expect("p256-cortex-m4-sys");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("P256-Cortex-M4")
}
