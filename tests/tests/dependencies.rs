//! Dependencies point one way. cargo itself says what depends on what.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Who may depend on whom within the workspace; `None` is everybody.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("cbor-schemas", Some(&[])),
    ("device-protocol", Some(&["cbor-schemas"])),
    ("device", Some(&["cbor-schemas", "device-protocol"])),
    ("device-board", Some(&["cbor-schemas", "device"])), // for its tests only
    ("device-sim", Some(&["cbor-schemas", "device-protocol", "device"])),
    ("commissioner", Some(&["cbor-schemas", "device-protocol"])),
    ("commissioning-examples", None),
    ("end-to-end", None),
    ("fuzzing", None),
];

/// The crates that have to do without an operating system, and what would bring one in.
const NO_STD: &[&str] = &["cbor-schemas", "device-protocol", "device", "device-board"];
const NEEDS_STD: &[&str] = &["getrandom", "tokio", "libc"];

#[test]
fn dependencies_within_the_workspace_point_one_way() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let packages = metadata["packages"].as_array().expect("packages");
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().expect("a name")).collect();
    assert_eq!(names.len(), ALLOWED.len(), "a new package needs a line in this test: {names:?}");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let Some(allowed) = allowed.get(name).unwrap_or_else(|| panic!("no line for {name}")) else { continue };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let dependency = dependency["name"].as_str().expect("a name");
            let is_ours = names.contains(&dependency);
            assert!(!is_ours || allowed.contains(&dependency), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn the_device_crates_need_no_operating_system() {
    for package in NO_STD {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        let tree = String::from_utf8(tree.stdout).expect("UTF-8");
        assert!(tree.starts_with(package), "{tree}");
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            assert!(!NEEDS_STD.contains(&dependency), "{package} depends on {dependency}");
        }
    }
}

fn metadata() -> Value {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    serde_json::from_slice(&metadata.stdout).expect("JSON")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
