//! Backups: the state directory is lost and put back, as of now and as of some time ago.

use std::{fs, io::Read, os::unix::fs::MetadataExt, path::Path, process::Command};

use age::{scrypt, secrecy::SecretString};
use end_to_end::{Bench, Cable, Finished, program};
use serde_json::Value;

const LAMP: &str = "urn:dev:ops:32473-sim-1a3b";
const BUTTON: &str = "urn:dev:ops:32473-sim-b0770";

fn passphrase(bench: &Bench, text: &str) -> String {
    let file = bench.path("passphrase");
    fs::write(&file, format!("{text}\nnot this line\n")).expect("a file");
    file.display().to_string()
}

fn backup(bench: &Bench, name: &str) -> String {
    let (file, passphrase) = (bench.path(name).display().to_string(), passphrase(bench, "correct horse"));
    bench.commissioner(&["backup", &file, "--passphrase-file", &passphrase]).succeeded();
    file
}

fn restore(bench: &Bench, state: &str, file: &str, text: &str) -> Finished {
    let passphrase = passphrase(bench, text);
    bench.commissioner_of(state, &["restore-backup", file, "--passphrase-file", &passphrase])
}

fn devices(bench: &Bench, state: &str) -> Vec<Value> {
    bench.commissioner_of(state, &["devices", "--all", "--json"]).succeeded().json()
}

/// The files of a directory, without those that SQLite keeps beside a database.
fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| !name.starts_with("registry.sqlite-"))
        .collect();
    names.sort_unstable();
    names
}

/// All that is in a state directory, beside what SQLite has open or did not close.
const STATE: [&str; 4] = ["issuer.key", "lock", "registry.sqlite", "station.key"];

/// What is in a backup.
type Archive = Vec<(String, Vec<u8>)>;

fn words() -> SecretString {
    SecretString::from("correct horse".to_owned())
}

fn opened(file: &str) -> Archive {
    let sealed = fs::read(file).expect("a backup");
    let archive = age::decrypt(&scrypt::Identity::new(words()), &sealed).expect("it opens");
    let mut archive = tar::Archive::new(&archive[..]);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).expect("contents");
        (name, contents)
    };
    archive.entries().expect("entries").map(read).collect()
}

/// A backup as others could write it.
fn sealed(archive: &Archive, work_factor: u8) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in archive {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, &contents[..]).expect("a vector takes everything");
    }
    let mut recipient = scrypt::Recipient::new(words());
    recipient.set_work_factor(work_factor);
    age::encrypt(&recipient, &builder.into_inner().expect("an archive")).expect("it is sealed")
}

/// The contents of a file in it.
fn contents<'a>(archive: &'a mut Archive, name: &str) -> &'a mut Vec<u8> {
    &mut archive.iter_mut().find(|(it, _)| it == name).expect("it is there").1
}

fn replace(contents: &mut [u8], old: &[u8], new: &[u8]) {
    let at = contents.windows(old.len()).position(|window| window == old).expect("it is there");
    contents[at..at + new.len()].copy_from_slice(new);
}

#[test]
fn a_lost_state_directory_comes_back() {
    let bench = Bench::initialised(Cable::Udp);
    let lamp = bench.start("lamp", LAMP);
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    bench.commissioner(&["audit", "--seal"]).succeeded();
    let file = backup(&bench, "backup.age");
    assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o777, 0o600);
    let sealed = fs::read(&file).expect("a file");
    for secret in ["PRIVATE KEY", "SQLite format", LAMP] {
        assert!(!sealed.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is in the open");
    }
    let before = devices(&bench, "state");
    fs::remove_dir_all(bench.path("state")).expect("it is lost");

    restore(&bench, "state", &file, "correct horse").succeeded();
    assert_eq!(devices(&bench, "state"), before);
    for name in ["issuer.key", "station.key", "registry.sqlite"] {
        let mode = fs::metadata(bench.path("state").join(name)).expect("a file").mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    bench.commissioner(&["get", "/comm/owner", &lamp.link]).succeeded();
    bench.commissioner(&["distribute", &lamp.link]).succeeded();
    bench.commissioner(&["commission", &lamp.link]).succeeded();
    bench.commissioner(&["audit", "--verify"]).succeeded();
    let history = bench.commissioner(&["audit"]).succeeded().stdout;
    assert!(history.contains("backup-made") && history.contains("backup-restored"), "{history}");
    // Once more is no harm, as long as nothing happened: what is there is what would be put there.
    restore(&bench, "state", &file, "correct horse").ended_with(6).saying("is there already");
}

#[test]
fn what_does_not_open_changes_nothing() {
    let bench = Bench::initialised(Cable::Udp);
    let file = backup(&bench, "backup.age");
    restore(&bench, "new", &file, "wrong horse").ended_with(5).saying("does not open");
    restore(&bench, "new", &file, "").ended_with(2).saying("an empty passphrase opens nothing");
    let sealed = fs::read(&file).expect("a file");
    let half = sealed.len() / 2;
    let mut flipped = sealed.clone();
    flipped[half] ^= 1;
    for (name, bytes) in [
        ("flipped", flipped),
        ("cut", sealed[..half].to_vec()),
        ("short", sealed[..sealed.len() - 1].to_vec()),
        ("no", b"backup".to_vec()),
    ] {
        let damaged = bench.path(name);
        fs::write(&damaged, bytes).expect("a file");
        restore(&bench, "new", &damaged.display().to_string(), "correct horse").ended_with(2).saying("no whole backup");
        assert!(!bench.path("new").exists(), "{name}");
    }
    restore(&bench, "new", &bench.path("nowhere").display().to_string(), "correct horse").ended_with(2);
    // Another state is not written over, nor is another file.
    bench.commissioner_of("other", &["init"]).succeeded();
    let before = fs::read(bench.path("other/issuer.key")).expect("a key");
    restore(&bench, "other", &file, "correct horse").ended_with(6).saying("is there already");
    assert_eq!(fs::read(bench.path("other/issuer.key")).expect("a key"), before);
    let passphrase = passphrase(&bench, "correct horse");
    bench.commissioner(&["backup", &file, "--passphrase-file", &passphrase]).ended_with(2).saying("is there already");
    assert_eq!(fs::read(&file).expect("a file"), sealed);
    assert_eq!(files(&bench.path("state")), STATE, "nothing is left lying about");
    restore(&bench, "new", &file, "correct horse").succeeded();
    // Without a terminal nobody can be asked.
    bench.commissioner(&["backup", "x"]).ended_with(2).saying("--passphrase-file");
}

/// The registry of last week does not know which key was revoked since.
#[test]
fn an_old_backup_brings_no_revoked_key_back_and_signs_no_version_twice() {
    let bench = Bench::initialised(Cable::Udp);
    let (lamp, button) = (bench.start("lamp", LAMP), bench.start("button", BUTTON));
    bench.commissioner(&["commission", &lamp.link, &button.link]).succeeded();
    let version = |state: &str, args: &[&str]| {
        let given = bench.commissioner_of(state, args).succeeded().json();
        given.iter().find_map(|line| line["list_version"].as_u64()).expect("a version")
    };
    let first = version("state", &["distribute", "--json", &lamp.link, &button.link]);
    let file = backup(&bench, "backup.age");
    bench.commissioner(&["revoke", BUTTON]).succeeded();
    let second = version("state", &["distribute", "--json", &lamp.link]);
    assert!(second > first);

    restore(&bench, "old", &file, "correct horse").succeeded();
    let old = |args: &[&str]| bench.commissioner_of("old", args);
    old(&["distribute", &lamp.link]).ended_with(6).saying("that is not in this registry");
    old(&["distribute", &button.link]).ended_with(6);
    // Where no device tells, the clock does: versions are times.
    restore(&bench, "older", &file, "correct horse").succeeded();
    let older = |args: &[&str]| bench.commissioner_of("older", args);
    older(&["revoke", LAMP]).succeeded();
    let third = version("older", &["distribute", "--json", &button.link]);
    assert!(third > first && third >= second, "{first} {second} {third}");
}

/// Whoever made it, and however well it is sealed: what is not whole leaves nothing, and the good one is taken afterwards.
#[test]
fn a_bad_backup_leaves_nothing_and_the_good_one_is_taken_afterwards() {
    let bench = Bench::initialised(Cable::Udp);
    bench.commissioner_of("other", &["init"]).succeeded();
    let other = bench.path("other.age").display().to_string();
    let passphrase = passphrase(&bench, "correct horse");
    bench.commissioner_of("other", &["backup", &other, "--passphrase-file", &passphrase]).succeeded();
    let (file, other) = (backup(&bench, "backup.age"), opened(&other));
    fs::create_dir(bench.path("empty")).expect("a folder");
    let bad = |what: &str, words: &str, bend: &dyn Fn(&mut Archive)| {
        let mut archive = opened(&file);
        bend(&mut archive);
        let bad = bench.path("bad.age");
        fs::write(&bad, sealed(&archive, 10)).expect("a file");
        for state in ["new/and/deep", "empty"] {
            let refused = restore(&bench, state, &bad.display().to_string(), "correct horse").ended_with(2);
            refused.saying("no whole backup").saying("nothing was put back").saying(words);
            assert!(!bench.path("new").exists(), "{what}");
            assert_eq!(files(&bench.path("empty")), [""; 0], "{what}");
        }
    };
    let registry = "registry.sqlite";
    bad("another issuer's registry", "another issuer's key", &|archive| {
        *contents(archive, registry) = other.iter().find(|(name, _)| name == registry).expect("one").1.clone();
    });
    bad("another issuer's key", "another issuer's key", &|archive| {
        *contents(archive, "issuer.key") = other.iter().find(|(name, _)| name == "issuer.key").expect("one").1.clone();
    });
    bad("a key that is none", "station.key", &|archive| contents(archive, "station.key").truncate(100));
    bad("no registry", "something is missing", &|archive| archive.retain(|(name, _)| name != registry));
    bad("something else", "something else", &|archive| archive.insert(0, ("notes.txt".to_owned(), Vec::new())));
    bad("the same twice", "something else", &|archive| archive.insert(0, archive[0].clone()));
    bad("an empty registry", "", &|archive| contents(archive, registry).clear());
    bad("the first half of a registry", "", &|archive| {
        let registry = contents(archive, registry);
        registry.truncate(registry.len() / 2 / 4096 * 4096);
    });
    bad("a page of zeros", "", &|archive| {
        let registry = contents(archive, registry);
        let page = registry.len() / 2 / 4096 * 4096;
        registry[page..page + 4096].fill(0);
    });
    bad("a history that was changed", "audit entry 1 was changed", &|archive| {
        replace(contents(archive, registry), b"\"station\":", b"\"stati0n\":");
    });
    restore(&bench, "new/and/deep", &file, "correct horse").succeeded();
    restore(&bench, "empty", &file, "correct horse").succeeded();
    assert_eq!(files(&bench.path("empty")), STATE);
    bench.commissioner_of("empty", &["audit", "--verify"]).succeeded();
}

/// A registry that was lost comes back to the keys that are still there; what else is in its place is not written over.
#[test]
fn only_what_is_missing_is_put_back() {
    let bench = Bench::initialised(Cable::Udp);
    let file = backup(&bench, "backup.age");
    let state = |name: &str| bench.path("state").join(name);
    let refuses = |name: &str| {
        let before = fs::read(state(name)).expect("a file");
        restore(&bench, "state", &file, "correct horse").ended_with(6).saying(name).saying("is there already");
        assert_eq!(fs::read(state(name)).expect("a file"), before, "{name}");
        assert!(!files(&bench.path("state")).iter().any(|name| name.starts_with("staging")));
    };
    for name in ["registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"] {
        let _ = fs::remove_file(state(name));
    }
    // The log of a database that is gone belongs to no other.
    fs::write(state("registry.sqlite-wal"), "log").expect("a file");
    refuses("registry.sqlite-wal");
    fs::remove_file(state("registry.sqlite-wal")).expect("it is moved away");
    // A key of somebody else would be neither here nor there.
    fs::write(state("issuer.key.age"), "other").expect("a file");
    refuses("issuer.key.age");
    fs::remove_file(state("issuer.key.age")).expect("it is moved away");
    // A disk that failed leaves nothing of a file but its name.
    fs::write(state("registry.sqlite"), "").expect("a file");
    restore(&bench, "state", &file, "correct horse").succeeded();
    bench.commissioner(&["audit", "--verify"]).succeeded();
    refuses("registry.sqlite");
}

/// What others sealed, and this program before, with as much work as their machines did in a second.
#[test]
fn old_backups_open() {
    let bench = Bench::initialised(Cable::Udp);
    let file = backup(&bench, "backup.age");
    let archive = opened(&file);
    let head = fs::read(&file).expect("a backup");
    assert!(head.windows(4).any(|window| window == b" 16\n"), "the work is the same on every machine");
    for work_factor in [12, 18] {
        let old = bench.path(&format!("{work_factor}.age"));
        fs::write(&old, sealed(&archive, work_factor)).expect("a file");
        restore(&bench, &format!("state-{work_factor}"), &old.display().to_string(), "correct horse").succeeded();
    }
}

/// Where there is less memory than opening it takes, that is said, and not found out by dying.
#[test]
fn a_backup_that_takes_too_much_memory_is_refused_in_words() {
    let bench = Bench::initialised(Cable::Udp);
    let file = backup(&bench, "backup.age");
    let passphrase = passphrase(&bench, "correct horse");
    for (work_factor, exit, words) in [(22, 1, "takes 4096 MiB of memory"), (23, 2, "more work than anything honest")] {
        let mut bent = fs::read(&file).expect("a backup");
        replace(&mut bent, b" 16\n", format!(" {work_factor}\n").as_bytes());
        let path = bench.path("bent.age");
        fs::write(&path, bent).expect("a file");
        let run = Command::new("sh")
            .args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\""])
            .arg(program("commissioner"))
            .arg("--state-dir")
            .arg(bench.path("new"))
            .arg("restore-backup")
            .args([&path.display().to_string(), "--passphrase-file", &passphrase])
            .output()
            .expect("sh starts");
        Finished::from(run).ended_with(exit).saying(words);
        assert!(!bench.path("new").exists());
    }
}

#[cfg(debug_assertions)]
mod under_way {
    use end_to_end::Running;

    use super::*;

    /// What one may take, at any size of the registry: a board with 512 MiB has other things to do as well.
    const MEMORY: u64 = 96 << 20;

    /// Stops it at `stop`.
    fn stopped(bench: &Bench, state: &str, stop: &str, args: &[&str]) -> Running {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(bench.path(state)).args(args).arg("--passphrase-file");
        let run = Running::start(command.arg(bench.path("passphrase")).env("COMMISSIONER_STOP_AT", stop));
        assert!(run.is_stopped(), "it never came to {stop}");
        run
    }

    fn path(bench: &Bench, name: &str) -> String {
        bench.path(name).display().to_string()
    }

    #[test]
    fn several_at_once_do_not_get_into_each_others_way() {
        let bench = Bench::initialised(Cable::Udp);
        passphrase(&bench, "correct horse");
        fs::create_dir(bench.path("backups")).expect("a folder");
        for point in ["copied", "sealed"] {
            let name = |name: &str| path(&bench, &format!("backups/{point}-{name}.age"));
            let slow = stopped(&bench, "state", &format!("{point}:1:pause"), &["backup", &name("slow")]);
            bench.commissioner(&["nickname", "nobody", "kitchen"]).ended_with(3);
            backup(&bench, &format!("backups/{point}-fast.age"));
            slow.go_on();
            assert_eq!(slow.finish().0, Some(0));
            for which in ["slow", "fast"] {
                restore(&bench, &format!("{point}-{which}"), &name(which), "correct horse").succeeded();
            }
        }
        let backups = ["copied-fast.age", "copied-slow.age", "sealed-fast.age", "sealed-slow.age"];
        assert_eq!(files(&bench.path("backups")), backups);
        assert_eq!(files(&bench.path("state")), STATE);
    }

    /// Two that are to be one file: one of them is, and whole.
    #[test]
    fn one_file_is_one_backup() {
        let bench = Bench::initialised(Cable::Udp);
        let words = passphrase(&bench, "correct horse");
        let file = path(&bench, "backup.age");
        let slow = stopped(&bench, "state", "sealed:1:pause", &["backup", &file]);
        bench.commissioner(&["backup", &file, "--passphrase-file", &words]).succeeded();
        slow.go_on();
        assert_eq!(slow.finish().0, Some(2));
        restore(&bench, "new", &file, "correct horse").succeeded();
    }

    #[test]
    fn what_a_killed_one_leaves_the_next_one_takes_away() {
        let bench = Bench::initialised(Cable::Udp);
        passphrase(&bench, "correct horse");
        fs::create_dir(bench.path("backups")).expect("a folder");
        for point in ["copied:1:pause", "sealed:1:pause"] {
            let killed = stopped(&bench, "state", point, &["backup", &path(&bench, "backups/killed.age")]);
            drop(killed);
            let state = files(&bench.path("state"));
            let left = state.iter().find(|name| name.starts_with("staging-")).expect("something was left");
            let left = fs::metadata(bench.path("state").join(left).join("registry.sqlite")).expect("a copy");
            assert_eq!(left.mode() & 0o777, 0o600, "only its owner reads it");
        }
        let file = backup(&bench, "backups/next.age");
        assert_eq!(files(&bench.path("backups")), ["next.age"]);
        assert_eq!(files(&bench.path("state")), STATE);

        drop(stopped(&bench, "new", "unpacked:1:pause", &["restore-backup", &file]));
        assert!(!bench.path("new/issuer.key").exists() && !bench.path("new/registry.sqlite").exists());
        restore(&bench, "new", &file, "correct horse").succeeded();
        assert_eq!(files(&bench.path("new")), STATE);
    }

    /// It ends whole, or with nothing.
    #[test]
    fn one_that_is_told_to_end_leaves_nothing() {
        let bench = Bench::initialised(Cable::Udp);
        passphrase(&bench, "correct horse");
        fs::create_dir(bench.path("backups")).expect("a folder");
        let good = backup(&bench, "good.age");
        for signal in ["INT", "TERM", "HUP"] {
            for point in ["copied", "sealed"] {
                let name = format!("{point}-{signal}.age");
                let file = path(&bench, &format!("backups/{name}"));
                let run = stopped(&bench, "state", &format!("{point}:1:pause"), &["backup", &file]);
                let ended = end(run, signal);
                assert!(ended == Path::new(&file).exists());
                if ended {
                    restore(&bench, &name, &file, "correct horse").succeeded();
                }
                assert!(files(&bench.path("backups")).iter().all(|name| name.ends_with(".age")));
                assert_eq!(files(&bench.path("state")), STATE);
            }
            let new = format!("new-{signal}");
            let run = stopped(&bench, &new, "unpacked:1:pause", &["restore-backup", &good]);
            if end(run, signal) {
                assert_eq!(files(&bench.path(&new)), STATE);
            } else {
                assert!(!bench.path(&new).exists());
            }
        }
    }

    /// Whether it did its work all the same.
    fn end(run: Running, signal: &str) -> bool {
        run.signal(signal);
        run.go_on();
        match run.finish() {
            (Some(0), _) => true,
            (exit, lines) => {
                assert_eq!(exit, Some(1), "{lines:?}");
                assert!(lines.iter().any(|line| line.contains("stopped before it was done")), "{lines:?}");
                false
            }
        }
    }

    #[test]
    fn it_takes_little_memory() {
        let bench = Bench::initialised(Cable::Udp);
        passphrase(&bench, "correct horse");
        let file = path(&bench, "backup.age");
        let run = stopped(&bench, "state", "sealed:1:pause", &["backup", &file]);
        assert!(run.peak_memory() <= MEMORY, "{} bytes", run.peak_memory());
        run.go_on();
        assert_eq!(run.finish().0, Some(0));
        let run = stopped(&bench, "new", "unpacked:1:pause", &["restore-backup", &file]);
        assert!(run.peak_memory() <= MEMORY, "{} bytes", run.peak_memory());
    }
}
