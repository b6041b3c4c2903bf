//! State directories on bad days, and where people have them: lost and damaged registries, shares and sticks, full disks.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use end_to_end::{Bench, Cable, Finished, PATIENCE, Running, program};

const ID: &str = "urn:dev:ops:32473-state-dirs";

/// A bench with a backup of its state, of which the files are as after a loss: with nothing in a log beside the registry.
fn bench() -> Bench {
    let bench = Bench::initialised(Cable::Udp);
    let device = bench.start("flash", ID);
    bench.commissioner(&["commission", &device.link]).succeeded();
    bench.copy_state("state", "copy");
    bench
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("ours");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// What is in it.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("lock") && !path.to_string_lossy().ends_with("-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap_or_default()))
        .collect();
    all.sort_unstable();
    all
}

fn damaged(bench: &Bench, name: &str, damage: impl FnOnce(&Path)) -> PathBuf {
    let state = bench.path(name);
    copy(&bench.path("state"), &state);
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(state.join(format!("registry.sqlite{suffix}")));
    }
    damage(&state.join("registry.sqlite"));
    state
}

/// All commands say which file it is and what puts it back, `init` included, and following that does.
#[test]
fn a_lost_or_damaged_registry_is_said_and_never_made_anew() {
    let bench = bench();
    // One file has all.
    bench.commissioner(&["audit", "--seal"]).succeeded();
    let whole = fs::read(bench.path("copy/registry.sqlite")).expect("a file");
    let write = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |path: &Path| fs::write(path, bytes).expect("a file")
    };
    let page = 4096;
    let mut middle = whole.clone();
    middle[page..].iter_mut().step_by(3).for_each(|byte| *byte ^= 0x5a);
    damaged(&bench, "missing", |path| fs::remove_file(path).expect("it is there"));
    damaged(&bench, "empty", write(b""));
    damaged(&bench, "short", write(&whole[..5 * page]));
    damaged(&bench, "noise", write(&end_to_end::noise(50_000)));
    damaged(&bench, "middle", write(&middle));
    damaged(&bench, "folder", |path| {
        fs::remove_file(path).expect("it is there");
        fs::create_dir(path).expect("a directory");
    });
    for name in ["missing", "empty", "short", "noise", "middle", "folder"] {
        let state = bench.path(name);
        let before = contents(&state);
        for command in
            [&["init"][..], &["devices"], &["show", ID], &["audit", "--verify"], &["revoke", ID], &["init", "--sealed"]]
        {
            let failed = bench.commissioner_of(name, command).ended_with(6);
            let registry = state.join("registry.sqlite");
            for part in [registry.to_str().expect("UTF-8"), "restore-backup FILE"] {
                assert!(failed.stderr.contains(part), "{name} {command:?}: {}", failed.stderr);
            }
            assert!(!failed.stderr.contains("commissioner init`"), "{name} {command:?}: {}", failed.stderr);
        }
        assert!(contents(&state) == before, "{name}: something was changed");
        // As it is said.
        fs::rename(state.join("registry.sqlite"), bench.path(&format!("{name}.lost"))).ok();
        let (backup, words) = (bench.path("copy.age").display().to_string(), bench.path("words").display().to_string());
        bench.commissioner_of(name, &["restore-backup", &backup, "--passphrase-file", &words]).succeeded();
        assert_eq!(bench.commissioner_of(name, &["devices", "--json"]).succeeded().json().len(), 1, "{name}");
    }
}

#[test]
fn a_lost_key_is_not_made_anew() {
    let bench = bench();
    for key in ["issuer.key", "station.key"] {
        fs::rename(bench.path("state").join(key), bench.path(key)).expect("it is there");
        let failed = bench.commissioner(&["init"]).ended_with(6).saying("restore-backup");
        assert!(failed.stderr.contains(key) && !failed.stderr.contains("commissioner init`"), "{}", failed.stderr);
        fs::rename(bench.path(key), bench.path("state").join(key)).expect("it is put back");
    }
    bench.commissioner(&["init"]).succeeded();
}

/// Killed at any commit, `init` is finished by the next one; after its last commit it is as good as done. From then on a loss is
/// a loss.
#[test]
fn an_interrupted_init_is_finished_and_then_a_loss_is_a_loss() {
    for point in ["before-commit:1", "after-commit:1"] {
        let bench = Bench::new(Cable::Udp);
        let state = bench.path("state");
        let mut init = Command::new(program("commissioner"));
        init.arg("--state-dir").arg(&state).arg("init").env("COMMISSIONER_STOP_AT", point);
        assert_eq!(init.output().expect("it starts").status.code(), None, "it was killed");
        assert!(state.join("init-under-way").exists(), "{point}");
        let key = fs::read(state.join("issuer.key")).expect("a key");
        if point == "before-commit:1" {
            bench.commissioner(&["devices"]).ended_with(2).saying("run `commissioner init`");
        } else {
            bench.commissioner(&["devices"]).succeeded();
        }
        bench.commissioner(&["init"]).succeeded();
        assert!(!state.join("init-under-way").exists(), "{point}");
        assert_eq!(fs::read(state.join("issuer.key")).expect("a key"), key, "{point}: the key is the same");
        bench.commissioner(&["audit", "--seal"]).succeeded();
        fs::remove_file(state.join("registry.sqlite")).expect("it is there");
        bench.commissioner(&["init"]).ended_with(6).saying("restore-backup FILE");
    }
}

#[test]
fn a_directory_that_others_write_to_takes_a_word_more() {
    let bench = Bench::new(Cable::Udp);
    let state = bench.path("state");
    fs::create_dir(&state).expect("a directory");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).expect("ours");
    let refused = bench.commissioner(&["init"]).ended_with(2).saying("--insecure-state-dir");
    assert!(refused.stderr.contains("FAT"), "{}", refused.stderr);
    assert_eq!(contents(&state).len(), 0, "nothing was made");
    bench.commissioner(&["init", "--insecure-state-dir"]).succeeded();
    // As FAT shows them.
    for entry in fs::read_dir(&state).expect("a directory") {
        fs::set_permissions(entry.expect("an entry").path(), fs::Permissions::from_mode(0o777)).expect("ours");
    }
    bench.commissioner(&["devices"]).ended_with(2).saying("--insecure-state-dir");
    bench.commissioner(&["--insecure-state-dir", "devices"]).succeeded();
    bench.commissioner(&["audit", "--seal", "--insecure-state-dir"]).succeeded();
    // Where they are kept, modes of the files alone are refused, too.
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).expect("ours");
    bench.commissioner(&["audit", "--seal"]).ended_with(2).saying("--insecure-state-dir");
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test is spoken of")]
fn root_keeps_off_the_state_of_others() {
    let bench = Bench::initialised(Cable::Udp);
    let state = bench.path("state");
    if fs::metadata(&state).expect("it is there").uid() != 0 || chown(&state, Some(1000), Some(1000)).is_err() {
        println!("SKIPPED: this takes root");
        return;
    }
    for command in [["devices"], ["init"]] {
        bench.commissioner(&command).ended_with(2).saying("belongs to user 1000");
    }
    bench.commissioner(&["devices", "--insecure-state-dir"]).succeeded();
}

/// Files that grow to nothing are what a full disk leaves: not even shared memory for SQLite.
#[test]
fn a_full_disk_is_read_from() {
    let bench = bench();
    for (name, suffixes) in [("log", &["-shm"][..]), ("no-log", &["-shm", "-wal"])] {
        let state = bench.path(name);
        copy(&bench.path(if name == "log" { "state" } else { "copy" }), &state);
        for suffix in suffixes {
            let _ = fs::remove_file(state.join(format!("registry.sqlite{suffix}")));
        }
        fs::remove_file(state.join("lock")).expect("it is there");
        for command in
            [&["devices"][..], &["show", ID], &["audit", "--verify"], &["export", "--format", "json"], &["init"]]
        {
            let read = full(&bench, name, command).succeeded();
            assert!(!read.stderr.contains("WARN"), "{}", read.stderr);
        }
        assert_eq!(full(&bench, name, &["devices", "--json"]).json().len(), 1, "{name}");
        full(&bench, name, &["audit", "--seal"]).ended_with(1).saying("room");
        assert!(!state.join("lock").exists(), "{name}: reading takes no lock");
        bench.commissioner_of(name, &["audit", "--seal"]).succeeded();
    }
}

fn full(bench: &Bench, state: &str, args: &[&str]) -> Finished {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0; exec \"$@\"", "sh"]).arg(program("commissioner"));
    Finished::from(command.arg("--state-dir").arg(bench.path(state)).args(args).output().expect("sh starts"))
}

/// In a namespace of our own, the state directory is mounted read-only.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test is spoken of")]
fn a_read_only_mount_is_read_from() {
    let bench = bench();
    let read_only = |state: &str, args: &[&str]| {
        let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && ! touch \"$1/x\" 2>/dev/null || exit 99; \
                      shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(bench.path(state)).arg(program("commissioner")).arg("--state-dir").arg(bench.path(state));
        command.args(args).env("TMPDIR", bench.path("temporary")).output().map(Finished::from)
    };
    fs::create_dir(bench.path("temporary")).expect("a directory");
    match read_only("copy", &["devices"]) {
        Ok(finished) if finished.exit != 99 && !finished.stderr.contains("unshare") => {}
        Ok(finished) => return println!("SKIPPED: no namespace to mount in: {}", finished.stderr),
        Err(error) => return println!("SKIPPED: no unshare: {error}"),
    }
    for state in ["state", "copy"] {
        let before = contents(&bench.path(state));
        for command in
            [&["devices"][..], &["show", ID], &["audit", "--verify"], &["export", "--format", "json"], &["init"]]
        {
            read_only(state, command).expect("it starts").succeeded();
        }
        assert_eq!(read_only(state, &["devices", "--json"]).expect("it starts").json().len(), 1);
        read_only(state, &["audit", "--seal"]).expect("it starts").ended_with(1).saying("written to");
        // A backup goes elsewhere, and so does the copy that it is made of.
        let (backup, words) = (bench.path(&format!("{state}-read-only.age")), bench.path("words"));
        let backup = backup.display().to_string();
        let command = ["backup", &backup, "--passphrase-file", words.to_str().expect("UTF-8")];
        read_only(state, &command).expect("it starts").succeeded();
        assert!(contents(&bench.path(state)) == before, "{state}");
        let restored = format!("{state}-restored");
        let command = ["restore-backup", &backup, "--passphrase-file", words.to_str().expect("UTF-8")];
        bench.commissioner_of(&restored, &command).succeeded();
        assert_eq!(bench.commissioner_of(&restored, &["devices", "--json"]).succeeded().json().len(), 1);
    }
    assert_eq!(fs::read_dir(bench.path("temporary")).expect("a directory").count(), 0, "nothing is left");
}

/// File systems of others, one property at a time, by a library that is loaded before the C library.
#[test]
fn file_systems_lack_this_or_that() {
    let bench = Bench::new(Cable::Udp);
    let shim = bench.path("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state_dirs/file_system.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    assert!(built.expect("a C compiler").success());
    for lack in ["directory-sync", "shared-map", "flock", "link", "directory-sync shared-map flock link"] {
        let state = lack.replace(' ', "-");
        let run = |args: &[&str]| {
            let mut command = Command::new(program("commissioner"));
            command.env("LD_PRELOAD", &shim).env("LACKS", lack).arg("--state-dir").arg(bench.path(&state)).args(args);
            Finished::from(command.output().expect("it starts"))
        };
        let init = run(&["init"]).succeeded();
        assert_eq!(init.stderr.contains("shares no memory"), lack.contains("shared-map"), "{lack}: {}", init.stderr);
        assert!(!run(&["init"]).succeeded().stderr.contains("shares no memory"), "{lack}: it is said once");
        let backup = bench.path(&format!("{state}.age")).display().to_string();
        let words = bench.path("words").display().to_string();
        fs::write(&words, "correct horse").expect("a file");
        run(&["backup", &backup, "--passphrase-file", &words]).succeeded();
        run(&["backup", &backup, "--passphrase-file", &words]).ended_with(2);
        let list = bench.path(&format!("{state}.list")).display().to_string();
        run(&["export", "--format", "signed-list", "--output", &list]).succeeded();
        run(&["devices"]).succeeded();
        if lack.contains("shared-map") {
            // All of a visit, with its readings and writings.
            let device = bench.start(&format!("{state}.flash"), ID);
            run(&["commission", &device.link]).succeeded();
            run(&["distribute", &device.link]).succeeded();
            // Where it can have a log again, it does; and comes back from there.
            assert!(!has_log(&bench.path(&state)), "{lack}");
            bench.commissioner_of(&state, &["audit", "--seal"]).succeeded();
            assert!(has_log(&bench.path(&state)), "{lack}");
            run(&["audit", "--verify"]).succeeded();
            assert!(!has_log(&bench.path(&state)), "{lack}");
        }
    }
}

/// Whether a registry is one with a write-ahead log, by its file's header.
fn has_log(state: &Path) -> bool {
    fs::read(state.join("registry.sqlite")).expect("a registry")[19] == 2
}

/// What `--output` names, and whatever is planted beside it.
#[test]
fn output_follows_no_link() {
    let bench = Bench::initialised(Cable::Udp);
    let (victim, out) = (bench.path("victim"), bench.path("out"));
    fs::write(&victim, "precious").expect("a file");
    for name in ["out", "out.part", "out.unfinished"] {
        symlink(&victim, bench.path(name)).expect("a link");
    }
    let file = out.display().to_string();
    for args in [
        &["export", "--format", "json", "--output", &file][..],
        &["issuer", "export", "--output", &file],
        &["audit", "--seal", "--output", &file],
    ] {
        let _ = fs::remove_file(&out);
        symlink(&victim, &out).expect("a link");
        bench.commissioner(args).succeeded();
        assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious", "{args:?}");
        assert!(fs::symlink_metadata(&out).expect("a file").is_file(), "{args:?}");
        // And what is no file stays.
        let null = bench.path("null");
        let _ = symlink("/dev/null", &null);
        let mut args = args.to_vec();
        let null = null.display().to_string();
        args.pop();
        args.push(&null);
        bench.commissioner(&args).ended_with(2).saying("is no file that could be replaced");
    }
    let nowhere = bench.path("nowhere");
    symlink(bench.path("elsewhere"), &nowhere).expect("a link");
    let words = bench.path("words").display().to_string();
    fs::write(&words, "correct horse").expect("a file");
    for taken in [&nowhere, &victim] {
        bench.commissioner(&["backup", &taken.display().to_string(), "--passphrase-file", &words]).ended_with(2);
    }
    assert!(!bench.path("elsewhere").exists());
    assert_eq!(fs::read_to_string(&victim).expect("a file"), "precious");
}

/// What is left of the state directory `from` without its registry, and the registry of `of` in its place.
fn mixed(bench: &Bench, from: &str, of: &str, name: &str) {
    let state = bench.path(name);
    copy(&bench.path(from), &state);
    for suffix in ["", "-wal", "-shm"] {
        let registry = format!("registry.sqlite{suffix}");
        let _ = fs::remove_file(state.join(&registry));
        let _ = fs::copy(bench.path(of).join(&registry), state.join(&registry));
    }
}

/// A registry that came from elsewhere is not read as if nothing had ever been commissioned.
#[test]
fn a_registry_beside_another_issuers_key_is_noticed_by_all_commands() {
    let bench = bench();
    let key = bench.commissioner(&["issuer", "show", "--json"]).succeeded().json()[0]["key"].clone();
    bench.commissioner_of("other", &["init"]).succeeded();
    let words = bench.path("words").display().to_string();
    bench.commissioner_of("sealed", &["init", "--sealed", "--unlock-file", &words]).succeeded();
    bench.commissioner_of("station", &["init", "--issuer", key.as_str().expect("hex")]).succeeded();
    // That of its issuer is a station's.
    mixed(&bench, "station", "state", "station-of-it");
    bench.commissioner_of("station-of-it", &["show", ID]).succeeded();
    let backup = bench.path("backup.age").display().to_string();
    for (from, of) in [("state", "other"), ("other", "state"), ("sealed", "state"), ("station", "other")] {
        let name = format!("{from}-{of}");
        mixed(&bench, from, of, &name);
        for command in [
            &["devices"][..],
            &["show", ID],
            &["revoke", ID],
            &["init"],
            &["clock"],
            &["issuer", "show"],
            &["station", "list"],
            &["audit", "--verify"],
            &["audit", "--seal", "--unlock-file", &words],
            &["collect", "/dev/stdin"],
            &["export", "--format", "json"],
            &["export", "--format", "peers-yml"],
            &["export", "--format", "signed-list", "--unlock-file", &words],
            &["serve", "--listen", "127.0.0.1:0"],
            &["backup", &backup, "--passphrase-file", &words],
        ] {
            let refused = bench.commissioner_of(&name, command).ended_with(6).saying("belongs to issuer");
            let state = bench.path(&name);
            let way_out = format!("commissioner --state-dir {} restore-backup FILE", state.display());
            refused.saying(state.join("registry.sqlite").to_str().expect("UTF-8")).saying(&way_out);
        }
    }
    // As it is said.
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(bench.path("state-other").join(format!("registry.sqlite{suffix}")));
    }
    let own = bench.path("copy.age").display().to_string();
    bench.commissioner_of("state-other", &["restore-backup", &own, "--passphrase-file", &words]).succeeded();
    assert_eq!(bench.commissioner_of("state-other", &["devices", "--json"]).succeeded().json().len(), 1);
}

/// SQLite finds nothing in an index without entries, and says nothing about it.
#[test]
fn a_damaged_index_makes_no_list_and_no_export_shorter() {
    let bench = bench();
    bench.commissioner(&["audit", "--seal"]).succeeded();
    let x = bench.commissioner(&["export", "--format", "json"]).succeeded().json()[0]["x"].clone();
    let x = hex::decode(x.as_str().expect("hex")).expect("hex");
    damaged(&bench, "index", |path| {
        let mut file = fs::read(path).expect("a file");
        let mut emptied = 0;
        // Leaves of indexes (SQLite's file format, section 1.6): no cells, and all of the page is room for them.
        for page in file.chunks_mut(4096).filter(|page| page[0] == 0x0a && page.windows(32).any(|it| it == x)) {
            page[3..7].copy_from_slice(&[0, 0, 0x10, 0]);
            emptied += 1;
        }
        assert!(emptied > 0);
        fs::write(path, file).expect("a file");
    });
    let output = bench.path("output").display().to_string();
    let words = bench.path("words").display().to_string();
    for command in [
        &["devices"][..],
        &["export", "--format", "peers-yml"],
        &["export", "--format", "cose-keyset", "--output", &output],
        &["export", "--format", "aiocoap", "--link", "udp:127.0.0.1:9"],
        &["export", "--format", "json"],
        &["export", "--format", "json", "--history"],
        &["export", "--format", "csv"],
        &["export", "--format", "signed-list", "--output", &output],
        &["serve", "--listen", "127.0.0.1:0"],
        &["backup", &output, "--passphrase-file", &words],
    ] {
        bench.commissioner_of("index", command).ended_with(6).saying("damaged").saying("restore-backup FILE");
        assert!(!Path::new(&output).exists(), "{command:?}");
    }
}

/// What another name mends is exit code 2; a full disk is none of the user's.
#[test]
fn a_full_disk_is_no_misuse() {
    let bench = bench();
    let output = bench.path("output").display().to_string();
    let words = bench.path("words").display().to_string();
    let backup = bench.path("copy.age").display().to_string();
    fs::remove_file(bench.path("copy").join("lock")).expect("it is there");
    for command in [
        &["export", "--format", "json", "--output", &output][..],
        &["export", "--format", "csv", "--output", &output],
        &["issuer", "export", "--output", &output],
        &["backup", &output, "--passphrase-file", &words],
    ] {
        full(&bench, "copy", command).ended_with(1);
        assert!(!Path::new(&output).exists(), "{command:?}");
    }
    full(&bench, "restored", &["restore-backup", &backup, "--passphrase-file", &words]).ended_with(1);
    assert!(!bench.path("restored").exists());
    let to_full = "exec \"$@\" >/dev/full";
    for command in [&["export", "--format", "peers-yml"][..], &["devices"]] {
        let mut run = Command::new("sh");
        run.args(["-c", to_full, "sh"]).arg(program("commissioner")).arg("--state-dir").arg(bench.path("state"));
        Finished::from(run.args(command).output().expect("sh starts")).ended_with(1).saying("No space left");
    }
    let nowhere = bench.path("no/such/folder").display().to_string();
    bench.commissioner(&["export", "--format", "json", "--output", &nowhere]).ended_with(2);
    bench.commissioner(&["issuer", "export", "--output", &nowhere]).ended_with(2);
    bench.commissioner(&["backup", &nowhere, "--passphrase-file", &words]).ended_with(2);
}

/// Nobody writes to these pipes, and nobody waits for that.
#[test]
fn a_pipe_in_the_place_of_a_file_is_said_and_not_waited_for() {
    let bench = bench();
    let pipe = bench.path("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let backup = bench.path("copy.age").display().to_string();
    let words = bench.path("words").display().to_string();
    let run = |state: &str, args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60"]).arg(program("commissioner")).arg("--state-dir").arg(bench.path(state));
        let output = command.args(args).stdin(Stdio::null()).output().expect("timeout starts");
        assert!(output.status.code().is_some(), "{args:?} waits for ever");
        Finished::from(output)
    };
    let new = bench.path("new.age").display().to_string();
    bench.commissioner_of("sealed", &["init", "--sealed", "--unlock-file", &words]).succeeded();
    for (state, command) in [
        ("state", &["backup", &new, "--passphrase-file", &pipe][..]),
        ("new", &["restore-backup", &pipe, "--passphrase-file", &words]),
        ("new", &["restore-backup", &backup, "--passphrase-file", &pipe]),
        ("sealed", &["audit", "--seal", "--unlock-file", &pipe]),
        ("state", &["import", &pipe]),
        ("state", &["collect", &pipe]),
        ("state", &["audit", "--verify", "--with", &pipe]),
        ("state", &["issuer", "sign", &pipe, "--output", &new]),
        ("state", &["commission", "udp:127.0.0.1:9", "--voucher", &pipe]),
        ("state", &["get", "/led", "udp:127.0.0.1:9", "--peer", &pipe]),
        ("state", &["put", "/led", "udp:127.0.0.1:9", "--file", &pipe]),
        ("new", &["init", "--issuer", &pipe]),
    ] {
        run(state, command).ended_with(2).saying("a pipe, and nobody writes to it");
    }
    assert!(!bench.path("new").exists());
    // Of ours, none is a pipe.
    let instead = |name: &str, file: &str| {
        copy(&bench.path("copy"), &bench.path(name));
        let _ = fs::remove_file(bench.path(name).join(file));
        assert!(Command::new("mkfifo").arg(bench.path(name).join(file)).status().expect("mkfifo").success());
    };
    for file in ["issuer.key", "station.key", "issuer.pem"] {
        instead(file, file);
        let failed = run(file, &["init"]);
        assert!(failed.exit != 0 && failed.stderr.contains("a pipe, and no file"), "{file}: {}", failed.stderr);
        run(file, &["devices"]).succeeded();
        let failed = run(file, &["backup", &new, "--passphrase-file", &words]).ended_with(6);
        failed.saying("a pipe, and no file");
    }
    for file in ["registry.sqlite", "registry.sqlite-wal"] {
        instead(file, file);
        run(file, &["devices"]).ended_with(6).saying("no file").saying("restore-backup");
    }
    instead("lock", "lock");
    assert_ne!(run("lock", &["backup", &new, "--passphrase-file", &words]).exit, 0);
}

/// As a shell hands them over: `<(...)` is a file of this kind.
#[test]
fn what_a_pipe_may_bring_it_brings() {
    let bench = bench();
    let run = |script: &str| {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", "sh", "-ec", script]).env("COMMISSIONER_STATE_DIR", bench.path("state"));
        command.env("commissioner", program("commissioner")).current_dir(bench.path(""));
        let output = command.output().expect("timeout starts");
        assert!(output.status.code().is_some(), "{script} waits for ever");
        Finished::from(output).succeeded()
    };
    run("echo correct horse | \"$commissioner\" backup 1.age --passphrase-file /dev/stdin");
    run("echo correct horse | { exec 3<&0; \"$commissioner\" backup 2.age --passphrase-file /dev/fd/3 </dev/null; }");
    run("echo correct horse | \"$commissioner\" --state-dir new restore-backup 1.age --passphrase-file /dev/stdin");
    // A writer that is slow, and one that never closes its end.
    run("mkfifo slow; exec 3<>slow; echo correct horse >&3; \"$commissioner\" backup 3.age --passphrase-file slow");
    run("cat 2.age | \"$commissioner\" --state-dir newer restore-backup /dev/stdin --passphrase-file words");
    run("\"$commissioner\" export --format json --history | \"$commissioner\" --state-dir new import /dev/stdin");
    run("\"$commissioner\" issuer export | \"$commissioner\" --state-dir station init --issuer /dev/stdin");
    run("\"$commissioner\" audit --seal --output seal; \"$commissioner\" audit --verify --with /dev/stdin <seal");
}

/// SQLite opens neither, and what it says of that helps nobody.
#[test]
fn a_log_that_is_no_file_is_said() {
    let bench = bench();
    for (name, what) in [("link", "is a link"), ("folder", "is a directory")] {
        let state = bench.path(name);
        copy(&bench.path("copy"), &state);
        let log = state.join("registry.sqlite-wal");
        let _ = fs::remove_file(&log);
        match name {
            "link" => symlink(bench.path("elsewhere"), &log).expect("a link"),
            _ => fs::create_dir(&log).expect("a directory"),
        }
        for command in [["devices"], ["init"]] {
            let refused = bench.commissioner_of(name, &command).ended_with(6).saying("restore-backup FILE");
            refused.saying(&format!("registry.sqlite-wal beside it {what}"));
        }
    }
}

/// In a container there is often no other process, and the kernel ends that one by no signal that it does not listen for.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test is spoken of")]
fn signals_end_process_1_as_any_other() {
    let bench = Bench::initialised(Cable::Udp);
    let unshare = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]).args(args);
        command.stdin(Stdio::piped());
        command
    };
    if !unshare(&["true"]).output().is_ok_and(|tried| tried.status.success()) {
        return println!("SKIPPED: no namespace of processes");
    }
    let commissioner = program("commissioner").display().to_string();
    let state = bench.path("state").display().to_string();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        // It reads for ever.
        let run = Running::start(&mut unshare(&[&commissioner, "--state-dir", &state, "collect"]));
        let first = first_child(run.process());
        // Before that, the kernel drops the signal, or lets it end the process by itself.
        assert!(until(|| listens_for(first, number)), "nobody listens for SIG{signal}");
        assert!(Command::new("kill").args(["-s", signal, &first.to_string()]).status().expect("kill runs").success());
        let ended = until(|| !Path::new(&format!("/proc/{first}")).exists() || is_zombie(first));
        assert!(ended, "SIG{signal} does nothing");
        assert_eq!(run.ended(), Some(128 + number), "SIG{signal}");
    }
    // What ends in good order still does.
    let mut serving =
        Running::start(&mut unshare(&[&commissioner, "--state-dir", &state, "serve", "--listen", "127.0.0.1:0"]));
    serving.expect_line("serving");
    let first = first_child(serving.process());
    assert!(Command::new("kill").args(["-s", "TERM", &first.to_string()]).status().expect("kill runs").success());
    assert_eq!(serving.ended(), Some(0));
}

/// Tries again and again, until it is so.
fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The process that `unshare` started.
fn first_child(parent: u32) -> u32 {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let mut child = None;
    until(|| {
        let listed = fs::read_to_string(&children).unwrap_or_default();
        child = listed.split_whitespace().next().and_then(|child| child.parse().ok());
        child.is_some()
    });
    child.expect("it has a child")
}

/// Whether the process has a handler for the signal with this number.
fn listens_for(process: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    caught.is_some_and(|caught| caught & 1 << (signal - 1) != 0)
}

fn is_zombie(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
