//! State directories on bad days, and where people have them: lost and damaged registries, shares and sticks, full disks.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use end_to_end::{Bench, Cable, Finished, program};

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
        command.args(args).output().map(Finished::from)
    };
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
        assert!(contents(&bench.path(state)) == before, "{state}");
    }
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
