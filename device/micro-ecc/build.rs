//! Compiles micro-ecc: P-256 in C, with multiplications in assembly on an AVR and on a Cortex-M.
//!
//! The crate micro-ecc-sys has the source, and its checksum is in Cargo.lock. Its own build script needs libclang and has no
//! notion of an AVR, so the source alone is used.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "it runs while building, and a build may stop")]

use std::{env, path::PathBuf, process::Command};

fn main() {
    let mut build = cc::Build::new();
    let target = env::var("TARGET").expect("cargo sets TARGET");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "avr") {
        build
            .compiler("avr-gcc")
            .no_default_flags(true)
            .flag(format!("-mmcu={}", processor()))
            // The assembly needs the frame pointer's registers.
            .flags(["-O2", "-fomit-frame-pointer", "-ffunction-sections", "-fdata-sections"])
            // Assembly with loops: without, it takes two thirds of the time, and 16 kB more.
            .define("uECC_OPTIMIZATION_LEVEL", "2")
            .define("uECC_SQUARE_FUNC", "1");
        println!("cargo:rustc-link-arg=-lgcc");
    } else if target.starts_with("thumb") {
        build
            // A fifth of the flash less than for speed, which is little slower: the assembly does the work.
            .opt_level_str("s")
            // No C library is there.
            .flag("-ffreestanding")
            // The assembly needs the frame pointer's register.
            .flag("-fomit-frame-pointer")
            // Multiplications without loops where there are instructions for them. ARMv6-M has none, and level 2 is its highest.
            .define("uECC_OPTIMIZATION_LEVEL", if target.starts_with("thumbv6m") { "2" } else { "3" })
            .define("uECC_SQUARE_FUNC", "1");
        for other in ["160r1", "192r1", "224r1", "256k1"] {
            build.define(&format!("uECC_SUPPORTS_secp{other}"), "0");
        }
    }
    build
        .std("gnu99")
        .warnings(false)
        .extra_warnings(false)
        .cargo_warnings(false)
        .include(source())
        // On an AVR all curves, though one is used: the assembly does not build otherwise. The linker leaves the others out.
        .file("src/multiply.c")
        .compile("uECC");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/multiply.c");
}

/// Which AVR rustc compiles for.
fn processor() -> String {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let processor =
        flags.split('\x1f').find_map(|flag| flag.split_once("target-cpu=")).map(|(_, name)| name.to_owned());
    processor.expect("-C target-cpu=PROCESSOR in RUSTFLAGS, as rustc itself asks for")
}

/// Where the source of micro-ecc is.
fn source() -> PathBuf {
    let output = Command::new(env::var_os("CARGO").expect("cargo says where it is"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "micro-ecc-sys").expect("micro-ecc-sys");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    manifest.with_file_name("micro-ecc")
}
