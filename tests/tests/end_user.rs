//! `docs/end-user.md`, run: each command in it, in order, and what it says.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use end_to_end::{Bench, Cable, Device, program};

const ID: &str = "urn:dev:ops:32473-lamp-0024be";
/// Behind whose turn it is.
const PROMPT: &str = "$ ";

/// The page, with the commands run anew in a scratch directory.
fn run(page: &str, bench: &Bench) -> String {
    let mut fresh = String::new();
    let (mut in_block, mut commands) = (false, 0);
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = line == "```console";
        }
        if !in_block || line == "```console" {
            fresh.push_str(line);
            fresh.push('\n');
            continue;
        }
        // What a command said comes anew.
        let Some((party, command)) = line.split_once(PROMPT).filter(|(party, _)| is_name(party)) else { continue };
        fresh.push_str(&format!("{line}\n{}", output(party, command, bench)));
        commands += 1;
    }
    assert!(commands > 15, "{commands} commands");
    fresh
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// What a command says, on both streams in order, and its exit code if that is not 0.
fn output(party: &str, command: &str, bench: &Bench) -> String {
    let arguments = command.strip_prefix("commissioner ").expect("a command of the commissioner").split(' ');
    let path = env::join_paths([program("commissioner").parent().expect("a folder")]).expect("a path");
    // Both streams are one file: nothing is lost, and nothing out of order.
    let log = bench.path("log");
    let out = fs::File::create(&log).expect("a file");
    let status = Command::new(program("commissioner"))
        .args(arguments)
        .env("PATH", path)
        .env("COMMISSIONER_STATE_DIR", format!("./{party}"))
        .current_dir(bench.path(""))
        .stdin(Stdio::null())
        .stderr(out.try_clone().expect("the same file"))
        .stdout(out)
        .status()
        .expect("the commissioner starts");
    let mut said = fs::read_to_string(&log).expect("it is UTF-8");
    // What is absolute is different each time.
    said = said.replace(&bench.path("").canonicalize().expect("a path").display().to_string(), ".");
    match status.code() {
        Some(0) => said,
        code => format!("{said}(exit code {})\n", code.expect("no signal ended it")),
    }
}

/// The text without what differs between two runs: digits in hex from eight on, and times.
fn comparable(text: &str) -> String {
    let mut plain = String::new();
    for line in text.lines() {
        let mut rest = line;
        while !rest.is_empty() {
            let hex = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
            let is_time = rest.len() >= 20 && rest.as_bytes()[4] == b'-' && rest.as_bytes()[10] == b'T' && hex == 4;
            let (same, skip) = match hex {
                _ if is_time => ("@", 20),
                8.. => ("#", hex),
                _ => {
                    let len = rest.chars().next().map_or(0, char::len_utf8).max(hex);
                    (&rest[..len], len)
                }
            };
            plain.push_str(same);
            rest = &rest[skip..];
        }
        plain.push('\n');
    }
    plain
}

#[test]
fn the_page_says_what_happens() {
    let bench = Bench::new(Cable::Pty);
    fs::write(bench.path("passphrase.txt"), "correct horse battery staple").expect("a file");
    let mut device = Command::new(program("device-sim"));
    device.args(["--id", ID, "--claim-policy", "voucher", "--reset-by-presence", "--flash"]).arg(bench.path("flash"));
    let _device = Device::start(device.arg("--pty").arg(bench.path("port")));

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/end-user.md");
    let page = fs::read_to_string(&file).expect("the page");
    let fresh = run(&page, &bench);
    if env::var_os("UPDATE_DOC").is_some() {
        fs::write(&file, &fresh).expect("the page");
        return;
    }
    let (page, fresh) = (comparable(&page), comparable(&fresh));
    for (number, (written, said)) in page.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(written, said, "line {} of docs/end-user.md; UPDATE_DOC=1 writes it anew", number + 1);
    }
    assert_eq!(page.lines().count(), fresh.lines().count(), "UPDATE_DOC=1 writes it anew");
}

#[test]
fn what_is_compared() {
    let line = "key 3420e9f9fc1b is active since 2026-11-22T16:38:57Z, ün 1234567 cafe";
    assert_eq!(comparable(line), "key # is active since @, ün 1234567 cafe\n");
    assert_ne!(comparable(line), comparable(&line.replace("active", "pending")));
}
