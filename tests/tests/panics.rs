//! Which panics are left in the linked firmware, and why no peer can reach them.
//!
//! Each call of a panic function is traced to the source that it was compiled from, inlined code included. `panics.table`
//! names those sources, one a line, with the reason. A source that is not in it fails this test: either the panic can be
//! avoided, or the reason has to be found.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use end_to_end::{CORTEX_M3, firmware};

const TABLE: &str = include_str!("panics.table");

#[test]
fn every_panic_that_is_left_in_the_firmware_has_a_reason() {
    let firmware = firmware("emcraft-sf2", CORTEX_M3).display().to_string();
    let sites = panic_sites(&run("arm-none-eabi-objdump", &["-d", "-C", "--no-show-raw-insn", &firmware], ""));
    assert!(sites.len() > 10, "the disassembly was not understood");
    let sources = sources(&run("arm-none-eabi-addr2line", &["-e", &firmware, "-i", "-a"], &sites.join("\n")));
    assert_eq!(sources.values().sum::<usize>(), sites.len(), "the sources were not understood");

    let reasons = reasons();
    // Another compiler may leave out some of what the table explains, so that is not an error.
    let unexplained: Vec<_> = sources.keys().filter(|source| !reasons.contains_key(source.as_str())).collect();
    assert!(unexplained.is_empty(), "panics without a reason in panics.table: {unexplained:#?}");
}

/// The table: source and reason.
fn reasons() -> BTreeMap<&'static str, &'static str> {
    let rows = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let reasons: BTreeMap<_, _> = rows.map(|row| row.split_once(": ").expect("source: reason")).collect();
    assert!(reasons.values().all(|reason| reason.len() > 20), "a reason is a sentence");
    reasons
}

/// Addresses of the calls of panic functions, of a disassembly.
fn panic_sites(disassembly: &str) -> Vec<String> {
    let mut sites = Vec::new();
    let mut function = "";
    for line in disassembly.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")).map(|(_, name)| name) {
            function = name;
            continue;
        }
        // `   1234:  bl  5678 <core::panicking::panic>`
        let Some((address, instruction)) = line.trim().split_once(":\t") else { continue };
        let Some((_, target)) = instruction.split_once(" <") else { continue };
        if instruction.starts_with('b') && panics(target) && !panics(function) {
            sites.push(format!("0x{address}"));
        }
    }
    sites
}

/// Whether a function of core is there to panic.
fn panics(name: &str) -> bool {
    let name = name.split(['+', '>']).next().unwrap_or_default();
    let of_core = name.starts_with("core::") && (name.ends_with("_fail") || name.ends_with("_failed"));
    of_core
        || name.starts_with("core::panicking::")
        || name.contains("panic_already")
        || name.contains("rust_begin_unwind")
}

/// How many sites come from which source file: the innermost one that is not of core.
fn sources(frames: &str) -> BTreeMap<String, usize> {
    let mut sources = BTreeMap::new();
    for site in frames.split("\n0x").map(|site| site.split_once('\n').map_or("", |(_, frames)| frames)) {
        let frames: Vec<_> = site.lines().map(source).collect();
        let innermost = frames.iter().find(|source| !source.starts_with("core/")).or(frames.first());
        *sources.entry(innermost.cloned().unwrap_or_default()).or_default() += 1;
    }
    sources
}

/// `crate/src/file.rs` of a path with a line number.
fn source(frame: &str) -> String {
    let path = frame.split(':').next().unwrap_or_default();
    let after = |marker: &str| path.split_once(marker).map(|(_, rest)| rest);
    if let Some(rest) = after("/registry/src/") {
        // index/crate-1.2.3/src/file.rs
        let (_, rest) = rest.split_once('/').unwrap_or_default();
        let (name, file) = rest.split_once('/').unwrap_or_default();
        let name = name.rsplit_once('-').map_or(name, |(name, _)| name);
        return format!("{name}/{file}");
    }
    let root = env!("CARGO_MANIFEST_DIR").strip_suffix("/tests").expect("this is the package `tests`");
    let ours = path.strip_prefix(root).map(|rest| rest.trim_start_matches('/'));
    ours.or_else(|| after("/library/")).unwrap_or(path).to_owned()
}

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; install binutils-arm-none-eabi"));
    process.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it takes its input");
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} failed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
