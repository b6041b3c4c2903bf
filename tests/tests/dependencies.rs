//! Dependencies point one way. cargo itself says what depends on what.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Who may depend on whom within the workspace; `None` is everybody.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("cbor-schemas", Some(&[])),
    ("device-micro-ecc", Some(&[])),
    ("device-protocol", Some(&["cbor-schemas", "device-micro-ecc"])), // on some processors
    ("device", Some(&["cbor-schemas", "device-protocol"])),
    ("device-small", Some(&["cbor-schemas", "device-protocol"])),
    ("device-board", Some(&["cbor-schemas", "device"])), // for its tests only
    ("embassy-usb-usbip", Some(&[])),                    // publishable by itself
    ("device-sim", Some(&["cbor-schemas", "device-protocol", "device", "device-small", "embassy-usb-usbip"])),
    ("commissioner", Some(&["cbor-schemas", "device-protocol"])),
    ("commissioning-examples", None),
    ("end-to-end", None),
    ("fuzzing", None),
];

/// The crates that have to do without an operating system, and what would bring one in.
const NO_STD: &[&str] =
    &["cbor-schemas", "device-micro-ecc", "device-protocol", "device", "device-small", "device-board"];
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

/// What the host's tests say of a library holds for the firmware too.
#[test]
fn the_firmware_has_the_same_versions() {
    let (host, firmware) = (locked("Cargo.lock"), locked("device/firmware/Cargo.lock"));
    let mut shared = 0;
    for (library, version) in &firmware {
        if let Some(expected) = host.get(library) {
            assert_eq!(version, expected, "{library:?}: cargo update --precise in device/firmware, or here");
            shared += 1;
        }
    }
    assert!(shared > 50, "{shared} libraries in both");
}

/// The versions in a lock file, by name and what cargo takes for compatible.
fn locked(path: &str) -> BTreeMap<(String, String), String> {
    let text = std::fs::read_to_string(root().join("..").join(path)).expect("a lock file");
    let value =
        |line: &str, key: &str| Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned());
    let packages = text.split("[[package]]").filter_map(|package| {
        let name = package.lines().find_map(|line| value(line, "name"))?;
        let version = package.lines().find_map(|line| value(line, "version"))?;
        let parts = if version.starts_with("0.") { 2 } else { 1 };
        let series = version.split('.').take(parts).collect::<Vec<_>>().join(".");
        Some(((name, series), version))
    });
    packages.collect()
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
