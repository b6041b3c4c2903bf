//! Dependencies point one way. cargo itself says what depends on what.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Who may depend on whom within the workspace; `None` is everybody.
const ALLOWED: &[(&str, Option<&[&str]>)] = &[
    ("commissioning-cbor", Some(&[])),
    ("edhoc-oscore-micro-ecc", Some(&[])),
    ("edhoc-oscore-p256-cortex-m4", Some(&[])),
    // On some processors.
    ("edhoc-oscore", Some(&["commissioning-cbor", "edhoc-oscore-micro-ecc", "edhoc-oscore-p256-cortex-m4"])),
    ("commissionable-device", Some(&["commissioning-cbor", "edhoc-oscore"])),
    (
        "commissionable-device-embassy",
        Some(&["commissioning-cbor", "edhoc-oscore", "commissionable-device", "commissionable-device-board"]),
    ),
    ("commissionable-device-small", Some(&["commissioning-cbor", "edhoc-oscore"])),
    ("commissionable-device-board", Some(&["commissioning-cbor", "commissionable-device"])),
    ("embassy-usb-usbip", Some(&[])), // publishable by itself
    (
        "device-sim",
        Some(&[
            "commissioning-cbor",
            "edhoc-oscore",
            "commissionable-device",
            "commissionable-device-board",
            "commissionable-device-embassy",
            "commissionable-device-small",
            "embassy-usb-usbip",
        ]),
    ),
    ("commissioner", Some(&["commissioning-cbor", "edhoc-oscore"])),
    ("commissioner-cli", Some(&["commissioning-cbor", "edhoc-oscore", "commissioner"])),
    ("commissioning-examples", None),
    ("end-to-end", None),
    ("fuzzing", None),
];

/// The crates that have to do without an operating system, and what would bring one in.
const NO_STD: &[&str] = &[
    "commissioning-cbor",
    "edhoc-oscore-micro-ecc",
    "edhoc-oscore-p256-cortex-m4",
    "edhoc-oscore",
    "commissionable-device",
    "commissionable-device-embassy",
    "commissionable-device-small",
    "commissionable-device-board",
];
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

/// What the commissioner is made of knows neither a command line nor an exit code; that is another package. There, a command
/// knows no other command.
#[test]
fn no_command_stands_on_another_one() {
    let source = root().join("../commissioner/cli/src/cmd");
    let commands: BTreeSet<_> = names_in(&source.join("mod.rs"), "pub mod ").collect();
    assert!(commands.len() > 25 && commands.contains("revoke"), "{commands:?}");
    let mut looked_at = 0;
    for file in rust_files(&source) {
        let name = file.strip_prefix(&source).expect("it is in there").to_str().expect("UTF-8");
        if name == "mod.rs" || name.ends_with("tests.rs") {
            continue;
        }
        looked_at += 1;
        let text = std::fs::read_to_string(&file).expect("a file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = name.split(['/', '.']).next().unwrap_or_default();
        let used = code.split("use super::{").nth(1).and_then(|rest| rest.split("};").next()).unwrap_or_default();
        for other in commands.iter().filter(|it| **it != own && **it != "exit") {
            let uses = [format!("super::{other}::"), format!("cmd::{other}::")];
            let is_used = uses.iter().any(|it| code.contains(it)) || used.contains(&format!("    {other}::"));
            assert!(!is_used, "the command {own} stands on the command {other}");
        }
    }
    assert!(looked_at > 40, "{looked_at} files");
}

/// The core of the commissioner has a device proved over any link, and nothing of a machine: no port, no file, no database.
#[test]
fn the_commissioners_core_is_for_any_program() {
    let library = tree_with("commissioner", &[]);
    for terminal in ["clap", "indicatif", "rpassword", "tracing-subscriber"] {
        assert!(!library.contains(terminal), "the library has {terminal}");
    }
    let core = tree_with("commissioner", &["--no-default-features"]);
    assert!(core.contains("edhoc-oscore") && core.len() < 130, "{} packages", core.len());
    for machine in
        ["tokio-serial", "serialport", "sqlx", "sqlx-core", "age", "tar", "cryptoki", "directories", "rustix", "mio"]
    {
        assert!(library.contains(machine) && !core.contains(machine), "{machine}");
    }
}

/// The registry's rows have all SQL of the commissioner; its tests run statements by what the rows give them.
#[test]
fn all_sql_is_in_the_rows() {
    let source = root().join("../commissioner/src");
    let (mut rows, mut others) = (0, 0);
    for file in rust_files(&source) {
        let path = file.strip_prefix(&source).expect("it is in there").to_str().expect("UTF-8");
        let text = std::fs::read_to_string(&file).expect("a file");
        if path.starts_with("registry/rows") {
            rows += text.matches("sqlx::query").count();
            continue;
        }
        others += 1;
        assert!(!text.contains("sqlx::"), "{path} stands on the database");
        let code = if path.ends_with("tests.rs") { "" } else { text.split("#[cfg(test)]").next().unwrap_or_default() };
        for statement in ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "PRAGMA "] {
            assert!(!code.contains(statement), "{path} has SQL: {statement}");
        }
    }
    assert!(rows > 50 && others > 70, "{rows} statements, {others} other files");
}

/// What a file names after `keyword`.
fn names_in(file: &Path, keyword: &str) -> impl Iterator<Item = String> {
    let text = std::fs::read_to_string(file).expect("a file");
    let names: Vec<_> =
        text.lines().filter_map(|line| Some(line.strip_prefix(keyword)?.strip_suffix(';')?.to_owned())).collect();
    names.into_iter()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(rust_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
            false => {}
        }
    }
    files
}

#[test]
fn the_device_crates_need_no_operating_system() {
    for package in NO_STD {
        let tree = tree_of(package);
        let std = tree.iter().find(|dependency| NEEDS_STD.contains(&dependency.as_str()));
        assert_eq!(std, None, "of {package}");
    }
}

/// The device is for any executor, and a product with a UART builds neither a USB stack nor a network.
#[test]
fn what_is_for_embassy_is_built_where_it_is_asked_for() {
    let device = tree_of("commissionable-device");
    assert_eq!(device.iter().find(|dependency| dependency.starts_with("embassy-")), None);
    let uart = tree_of("commissionable-device-embassy");
    assert!(uart.contains("embassy-time"), "{uart:?}");
    let others = ["embassy-usb", "embassy-net", "smoltcp", "log"];
    assert_eq!(uart.iter().find(|dependency| others.contains(&dependency.as_str())), None);
}

/// The package and all that it is built with, with no features but its default ones.
fn tree_of(package: &str) -> BTreeSet<String> {
    tree_with(package, &[])
}

/// The same with those that `features`, arguments of cargo, choose.
fn tree_with(package: &str, features: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    assert!(tree.starts_with(package), "{tree}");
    tree.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect()
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
