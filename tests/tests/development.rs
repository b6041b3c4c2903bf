//! Development provisioning, end to end: `run`, `console` and `collect` with real processes and ptys.
//!
//! The flash and attach command is the simulator itself: it prints a report line and serves the device until Ctrl-C.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use end_to_end::{Bench, Cable, Finished, Running, program};
use serde_json::Value;

const ID: &str = "urn:dev:ops:32473-dev-1";
const OTHER: &str = "urn:dev:ops:32473-dev-2";

/// A `commissioner run` that leads a process group, as one that a shell starts.
struct Attached(Running);

impl Attached {
    fn start(bench: &Bench, args: &[&str]) -> Self {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(bench.path("state")).arg("run").args(args);
        Self(Running::start_group(&mut command))
    }

    fn expect_line(&mut self, text: &str) {
        self.0.expect_line(text);
    }

    /// Ctrl-C at the terminal. Returns the exit code.
    fn interrupt(self) -> Option<i32> {
        self.0.signal_group("INT");
        self.ended()
    }

    /// Reads what is left to say, and returns the exit code.
    fn ended(self) -> Option<i32> {
        self.0.ended()
    }
}

fn bench() -> Bench {
    Bench::initialised(Cable::Pty)
}

/// The command that programs a board: the simulator with the flash image `flash`, its serial line at `port`.
fn board(bench: &Bench, flash: &str, id: &str) -> Vec<String> {
    let path = |name: &str| bench.path(name).display().to_string();
    let words = ["--pty", &path("port"), "--flash", &path(flash), "--id", id];
    [&[program("device-sim").display().to_string()], &words.map(str::to_owned)[..]].concat()
}

fn link(bench: &Bench) -> String {
    format!("serial:{}", bench.path("port").display())
}

/// `run` for a board, with or without its link.
fn attach(bench: &Bench, options: &[&str], flash: &str, id: &str) -> Attached {
    let command = board(bench, flash, id);
    let command: Vec<_> = options.iter().copied().chain(["--"]).chain(command.iter().map(String::as_str)).collect();
    Attached::start(bench, &command)
}

/// `run -- sh -c SCRIPT`, with options before the dashes.
fn run_script(bench: &Bench, options: &[&str], script: &str) -> Finished {
    bench.commissioner(&[&["run"], options, &["--", "sh", "-c", script]].concat())
}

/// A report line of a device that nobody asks any more.
fn report(bench: &Bench, flash: &str, id: &str) -> String {
    bench.start(flash, id).report().to_owned()
}

fn column<'a>(records: &'a [Value], name: &str) -> Vec<&'a str> {
    records.iter().map(|record| record[name].as_str().expect(name)).collect()
}

#[test]
fn a_board_is_commissioned_while_its_command_goes_on() {
    let bench = bench();
    let mut run = attach(&bench, &["--link", &link(&bench)], "flash", ID);
    run.expect_line("is one of your devices now");
    assert_eq!(column(&bench.records(), "status"), ["active"]);
    // The line is free for other commands, and the command has not noticed a thing.
    bench.commissioner(&["identify", &link(&bench)]).succeeded();
    run.expect_line("identify: the LED blinks");
    assert_eq!(run.interrupt(), Some(0), "the simulator ends well by Ctrl-C, and so does the run");

    let [record] = &bench.records()[..] else { panic!("one device") };
    assert_eq!((&record["device"], &record["provenance"]), (&ID.into(), &"programming".into()));
    assert_eq!(record["certificates"][0]["status"], "installed");
}

#[test]
fn a_reflash_that_kept_the_key_changes_nothing() {
    let bench = bench();
    for last_words in ["is one of your devices now", "is one of your devices already"] {
        let mut run = attach(&bench, &["--link", &link(&bench)], "flash", ID);
        run.expect_line(last_words);
        assert_eq!(run.interrupt(), Some(0));
    }
    assert_eq!(bench.statuses(), ["active"]);
}

#[test]
fn a_reflash_that_erased_the_key_revokes_the_old_one() {
    // With a link, and without: once the key was proved, or reported.
    let bench = bench();
    for (options, flash, said, statuses) in [
        (vec!["--link".to_owned(), link(&bench)], "flash-1", "is one of your devices now", &["active"][..]),
        (vec!["--link".to_owned(), link(&bench)], "flash-2", "is one of your devices now", &["revoked", "active"]),
        (vec![], "flash-3", "is active", &["revoked", "revoked", "active"]),
    ] {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let mut run = attach(&bench, &options, flash, ID);
        run.expect_line(said);
        assert_eq!(run.interrupt(), Some(0));
        assert_eq!(bench.statuses(), statuses, "{flash}");
    }
    assert_eq!(column(&bench.records(), "provenance"), ["programming"; 3]);
}

#[test]
fn with_a_link_nothing_is_revoked_before_the_device_has_proved_its_key() {
    let bench = bench();
    let mut run = attach(&bench, &["--link", &link(&bench)], "flash-1", ID);
    run.expect_line("is one of your devices now");
    assert_eq!(run.interrupt(), Some(0));

    // The log says that there is a new key. At the link is nothing to prove it.
    let line = report(&bench, "flash-2", ID);
    let no_port = bench.path("no-port");
    fs::write(&no_port, "").unwrap();
    let script = format!("echo '{line}'");
    let run = run_script(&bench, &["--link", &format!("serial:{}", no_port.display())], &script);
    run.ended_with(4).saying("cannot be opened as a serial port");
    assert_eq!(bench.statuses(), ["active", "pending"]);
    assert_eq!(column(&bench.records(), "provenance"), ["programming", "reported"]);
}

#[test]
fn another_board_at_the_link_is_an_alarm_and_is_left_alone() {
    let bench = bench();
    let mine = report(&bench, "mine", ID);
    for (flash, id) in [("other", OTHER), ("copy", ID)] {
        let device = bench.start(flash, id);
        let run = run_script(&bench, &["--link", &device.link], &format!("echo '{mine}'"));
        run.ended_with(6).saying("nothing was changed for that one");
        let slot = bench.commissioner(&["get", "/comm/owner", &device.link, "--json"]).succeeded().json();
        assert_eq!(slot.last().unwrap()["payload_hex"], "a10000", "nobody claimed it");
    }
    let records = bench.records();
    assert_eq!((column(&records, "device"), column(&records, "provenance")), (vec![ID], vec!["reported"]));
}

#[test]
fn a_second_device_or_a_second_key_is_an_alarm_and_changes_nothing() {
    let bench = bench();
    let [mine, other, copy] =
        [("mine", ID), ("other", OTHER), ("copy", ID)].map(|(flash, id)| report(&bench, flash, id));
    for second in [&other, &copy] {
        let script = format!("echo '{mine}'; echo '{mine}'; echo '{second}'; echo '{mine}'");
        run_script(&bench, &[], &script).ended_with(6).saying("this run is about urn:dev:ops:32473-dev-1");
        let records = bench.records();
        assert_eq!((column(&records, "device"), column(&records, "status")), (vec![ID], vec!["active"]));
    }
    let shown = bench.commissioner(&["show", ID]).succeeded();
    assert!(shown.stdout.contains("key-conflict") && shown.stdout.contains(OTHER), "{}", shown.stdout);
    // The command's own failure is the louder one.
    let failed = run_script(&bench, &[], &format!("echo '{mine}'; echo '{other}'; exit 7"));
    failed.ended_with(7).saying("exit code 7").saying("this run is about");
}

#[test]
fn a_board_is_commissioned_after_a_command_that_only_flashes() {
    let bench = bench();
    let device = bench.start("flash", ID);
    // What failed to flash is not commissioned.
    run_script(&bench, &["--link", &device.link], "exit 3").ended_with(3).saying("exit code 3");
    assert!(bench.records().is_empty());

    let run = run_script(&bench, &["--link", &device.link], "echo flashed").succeeded();
    assert_eq!(run.stdout, "flashed\n");
    let run = run.saying("the command has ended; going on with the device").saying("is one of your devices now");
    drop(run);
    assert_eq!(column(&bench.records(), "provenance"), ["programming"]);

    // The link may come from the environment.
    let script = "commissioner --state-dir state run -- true";
    let mut again = Command::new("sh");
    again.args(["-c", script]).current_dir(bench.path("")).env("COMMISSIONER_LINK", &device.link);
    again.env("PATH", path_with_our_programs());
    let again = Finished::from(again.output().unwrap()).succeeded();
    again.saying("is one of your devices already");
}

#[test]
fn the_port_that_the_command_reads_is_waited_for() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let port = device.link.strip_prefix("serial:").unwrap();
    // A monitor that locks the port, and one that does not, which would take part of what the device says.
    let commissioner = format!("{} --state-dir {}", program("commissioner").display(), bench.path("state").display());
    let console = format!("exec {commissioner} console {}", device.link);
    let pipe = bench.path("pipe").display().to_string();
    let opened = format!("exec 3<{port}; trap 'exit 0' INT; echo '{}'; read line <>{pipe}", device.report());
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (monitor, reads, said) in
        [(console, "commissioner", "is one of your devices now"), (opened, "sh", "is one of your devices already")]
    {
        let mut run = Attached::start(&bench, &["--link", &device.link, "--", "sh", "-c", &monitor]);
        run.expect_line(&format!("{reads} (process "));
        // The monitor ends well by Ctrl-C, and the port is free.
        run.0.signal_group("INT");
        run.expect_line(said);
        assert_eq!(run.ended(), Some(0));
        assert_eq!(bench.statuses(), ["active"]);
    }
}

#[test]
fn the_port_that_another_program_reads_is_busy() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let mut console = bench.watch(&["console", &device.link]);
    console.expect_line("reports key");
    let run = run_script(&bench, &["--link", &device.link], "true");
    run.ended_with(4).saying(&format!("is in use by commissioner (process {})", console.process()));
    assert_eq!(console.interrupt(), Some(0));
}

#[test]
fn output_passes_through_unchanged() {
    let bench = bench();
    let everything: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(bench.path("bytes"), &everything).unwrap();
    let run = |options: &[&str]| {
        let mut run = Command::new(program("commissioner"));
        run.arg("--state-dir").arg(bench.path("state")).arg("run").args(options).args(["--", "sh", "-c"]);
        run.arg("cat bytes; echo progress >&2; cat; exit 9").current_dir(bench.path("")).stdin(Stdio::piped());
        let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        run.stdin.take().unwrap().write_all(b"typed").unwrap();
        run.wait_with_output().unwrap()
    };
    let plain = run(&[]);
    assert_eq!(plain.status.code(), Some(9));
    assert_eq!(plain.stdout, [&everything[..], b"typed"].concat());
    assert!(plain.stderr.starts_with(b"progress\n"), "{}", String::from_utf8_lossy(&plain.stderr));

    // With --json, standard output is ours alone.
    let json = run(&["--json"]);
    assert_eq!(json.status.code(), Some(9));
    let line: Value = serde_json::from_slice(&json.stdout).expect("one line of JSON");
    assert_eq!((&line["exit"], &line["error"]), (&9.into(), &"the command ended with exit code 9".into()));
    // What went to either is one stream then, in the order in which it was written.
    let whole = [&everything[..], b"progress\ntyped"].concat();
    assert!(json.stderr.starts_with(&whole));
    let log = fs::File::create(bench.path("log")).unwrap();
    let mut run = Command::new(program("commissioner"));
    run.arg("--state-dir").arg(bench.path("state")).args(["run", "--", "sh", "-c"]);
    run.arg("for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done");
    assert!(run.stdout(log.try_clone().unwrap()).stderr(log).status().unwrap().success());
    let expected: String = (1..10).map(|i| format!("out {i}\nerr {i}\n")).collect();
    assert!(fs::read_to_string(bench.path("log")).unwrap().starts_with(&expected));
}

#[test]
fn scripts_see_what_people_see() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let run = run_script(&bench, &["--json", "--link", &device.link], &format!("echo '{}'", device.report()));
    let run = run.succeeded();
    assert!(run.stderr.contains("commissioning-report:"), "{}", run.stderr);
    let lines = run.json();
    let steps: Vec<_> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    assert_eq!(steps[0], "reported");
    assert!(steps.contains(&"installed"), "{steps:?}");
    assert_eq!((&lines.last().unwrap()["device"], &lines.last().unwrap()["status"]), (&ID.into(), &"active".into()));
}

#[test]
fn reports_are_found_in_whatever_a_command_prints() {
    let bench = bench();
    let line = report(&bench, "flash", ID);
    let (head, tail) = line.split_at(100);
    for script in [
        format!("echo '{line}' >&2"),
        format!("printf '0.000012 \\033[32mINFO\\033[0m {line}\\r\\n'"),
        format!("printf '%s' '{head}'; printf '' >&2; printf '%s\\n' '{tail}'"),
        format!("printf '\\300\\012%s\\300' '{line}'"),
        format!("printf '\\000\\377%s' '{line}'"),
    ] {
        let bench = Bench::initialised(Cable::Pty);
        let mut run = Command::new(program("commissioner"));
        run.arg("--state-dir").arg(bench.path("state")).args(["run", "--", "sh", "-c", &script]);
        assert!(run.output().unwrap().status.success(), "{script}");
        assert_eq!(column(&bench.records(), "status"), ["active"], "{script}");
    }
    run_script(&bench, &[], "true").succeeded().saying("no report line");
    run_script(&bench, &[], &format!("echo '{head}'")).succeeded().saying("not usable");
}

#[test]
fn the_code_of_the_command_is_passed_on() {
    let bench = bench();
    for (script, code, said) in [
        ("exit 1", 1, "exit code 1"),
        ("exit 255", 255, "exit code 255"),
        ("kill -KILL $$", 137, "signal 9"),
        ("kill -TERM $$", 143, "signal 15"),
    ] {
        run_script(&bench, &[], script).ended_with(code).saying(said);
    }
    let script = bench.path("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let run = |command: &str| bench.commissioner(&["run", "--", command]);
    run("no-such-flash-tool").ended_with(2).saying("there is no such program");
    run(script.to_str().unwrap()).ended_with(2).saying("may run");
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    run(script.to_str().unwrap()).ended_with(2).saying("interpreter");
    bench.commissioner(&["run"]).ended_with(2);
    Bench::new(Cable::Pty).commissioner(&["run", "--", "false"]).ended_with(2).saying("commissioner init");
}

#[test]
fn a_supervisor_that_stops_a_run_stops_its_command() {
    let bench = bench();
    // The command's end is what the run waits for, and its last words are not lost. It reads from a pipe that nobody
    // writes to, so that it waits without a process of its own.
    let script = "trap 'echo last words; exit 5' TERM INT; echo ready; read line <>pipe";
    assert!(Command::new("mkfifo").arg(bench.path("pipe")).status().unwrap().success());
    for signal in ["TERM", "INT"] {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(bench.path("state")).args(["run", "--", "sh", "-c", script]);
        let mut run = Attached(Running::start_group(command.current_dir(bench.path(""))));
        run.expect_line("ready");
        run.0.signal(signal);
        run.expect_line("last words");
        assert_eq!(run.ended(), Some(5), "{signal}");
    }
}

#[test]
fn ctrl_c_reaches_the_command_once_and_stops_what_would_follow() {
    let bench = bench();
    let device = bench.start("flash", ID);
    // `script` is the terminal, and here is what its user types.
    let count = "n=0; trap 'n=$((n + 1)); echo SIGINT $n' INT; test -t 1 && echo ready";
    let wait = "until read line; do :; done; echo $line after $n";
    fs::write(bench.path("count"), format!("{count}\n{wait}\n")).unwrap();
    let command = format!(
        "{} --state-dir {} run --link {} -- sh {}",
        program("commissioner").display(),
        bench.path("state").display(),
        device.link,
        bench.path("count").display()
    );
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--flush", "--command", &command, "/dev/null"]).stdin(Stdio::piped());
    let mut run = Running::start(&mut terminal);
    run.expect_line("ready");
    for n in 1..=10 {
        run.type_in(b"\x03");
        run.expect_line(&format!("SIGINT {n}"));
    }
    run.type_in(b"enough\n");
    run.expect_line("enough after 10");
    assert_eq!(run.ended(), Some(130));
    assert!(bench.records().is_empty());
}

#[test]
fn a_reader_that_goes_away_and_programs_left_behind_do_no_harm() {
    let bench = bench();
    let line = report(&bench, "flash", ID);
    // Nobody reads, and a program that was left behind holds on to the output.
    let script = format!("sleep 1000 & echo $! >left; echo unread; echo '{line}'; echo flashed >done");
    let mut run = Command::new(program("commissioner"));
    run.arg("--state-dir").arg(bench.path("state")).args(["run", "--", "sh", "-c", &script]);
    let mut run = run.current_dir(bench.path("")).stdout(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(0));
    assert_eq!(fs::read_to_string(bench.path("done")).unwrap(), "flashed\n");
    assert_eq!(bench.statuses(), ["active"]);
    let left = fs::read_to_string(bench.path("left")).unwrap();
    assert!(Command::new("kill").arg(left.trim()).status().unwrap().success());
}

#[test]
fn a_program_left_behind_that_goes_on_talking_is_left_by_a_second_ctrl_c() {
    let bench = bench();
    let script = "trap '' INT; while :; do echo still here; done & echo the end";
    let mut run = Command::new(program("commissioner"));
    run.arg("--state-dir").arg(bench.path("state")).args(["run", "--", "sh", "-c", script]);
    let mut run = run.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let pid = run.id().to_string();
    for (count, _) in BufReader::new(run.stdout.take().unwrap()).lines().enumerate() {
        if count % 1000 == 0 {
            // It may have ended just now.
            let _ = Command::new("kill").args(["-INT", &pid]).stderr(Stdio::null()).status();
        }
    }
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn what_goes_on_after_the_command_is_stopped_by_ctrl_c() {
    let bench = bench();
    let mut run = Attached::start(&bench, &["--link", "serial:/dev/ttyNONE", "--", "true"]);
    run.expect_line("the command has ended");
    assert_eq!(run.interrupt(), Some(130));
}

#[test]
fn cargo_runs_programs_through_it() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let project = bench.path("blinky");
    let write = |name: &str, text: &str| {
        let file = project.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("Cargo.toml", "[package]\nname = \"blinky\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n");
    write("src/report.txt", device.report());
    write(
        "src/main.rs",
        "fn main() {\n    println!(\"{:?}\", std::env::args().skip(1).collect::<Vec<_>>());\n    \
         println!(\"INFO {}\", include_str!(\"report.txt\"));\n    std::process::exit(9);\n}\n",
    );
    write(
        ".cargo/config.toml",
        &format!(
            "[target.'cfg(all())']\nrunner = [{:?}, \"--state-dir\", {:?}, \"run\", \"--link\", {:?}, \"--\"]\n",
            program("commissioner"),
            bench.path("state"),
            device.link
        ),
    );
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--offline", "--quiet", "--", "one argument"]).current_dir(&project);
    cargo.env("CARGO_TARGET_DIR", project.join("target")).env_remove("RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    let run = Finished::from(cargo.output().unwrap()).ended_with(9).saying("is one of your devices now");
    assert!(run.stdout.contains("[\"one argument\"]"), "{}", run.stdout);
    assert_eq!(column(&bench.records(), "provenance"), ["programming"]);
}

#[test]
fn a_console_shows_what_the_device_says_and_has_the_port_for_itself() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let mut console = bench.watch(&["console", &device.link]);
    console.expect_line(device.report());
    console.expect_line("reports key");
    bench.commissioner(&["identify", &device.link]).ended_with(4).saying("in use by commissioner (process ");
    assert_eq!(console.interrupt(), Some(0));

    bench.commissioner(&["identify", &device.link]).succeeded();
    let records = bench.records();
    assert_eq!((column(&records, "status"), column(&records, "provenance")), (vec!["pending"], vec!["reported"]));

    let mut console = bench.watch(&["console", &device.link]);
    console.expect_line("link open");
    // The cable is pulled.
    drop(device);
    assert_eq!(console.ended(), Some(4));
}

#[test]
fn a_console_speaks_json() {
    let bench = bench();
    let device = bench.start("flash", ID);
    let mut console = bench.watch(&["console", "--json", &device.link]);
    let mut next = || serde_json::from_str::<Value>(&console.next_line().expect("a line")).expect("JSON");
    assert_eq!(next()["step"], "link-opened");
    for text in &device.console {
        let line = next();
        assert_eq!((&line["link"], &line["text"]), (&device.link.as_str().into(), &text.as_str().into()));
    }
    assert_eq!(next()["step"], "reported");
    assert_eq!(console.interrupt(), Some(0));
}

#[test]
fn a_console_waits_for_a_device_that_comes_back() {
    let bench = Bench::new(Cable::Pty);
    let device = bench.start("flash", ID);
    let mut console = bench.watch(&["console", "--reconnect", &device.link]);
    console.expect_line("commissioning-report:");
    device.signal("TERM");
    console.expect_line("waiting for it to come back");
    drop(device);
    let _device = bench.start("flash", ID);
    console.expect_line("commissioning-report:");
    assert_eq!(console.interrupt(), Some(0));
    assert!(!bench.path("state").exists(), "a console needs no registry, and makes none");
}

#[test]
fn a_console_is_for_serial_lines_that_exist() {
    let bench = bench();
    bench.commissioner(&["console", "udp:127.0.0.1"]).ended_with(2).saying("only serial lines");
    bench.commissioner(&["console", "serial:/dev/ttyNONE"]).ended_with(3).saying("does not exist");
    bench.commissioner(&["console", "serial:/dev/null"]).ended_with(4).saying("cannot be opened as a serial port");
    bench.commissioner(&["console"]).ended_with(2);
}

#[test]
fn a_board_that_never_answers_may_run_at_another_speed() {
    let bench = bench();
    let device = bench.start("flash", ID);
    // What it printed at its start is read by then.
    bench.commissioner(&["discover", &device.link]).succeeded();
    device.signal("STOP");
    let slow = format!("{}@9600", device.link);
    bench.commissioner(&["get", "/comm", &slow]).ended_with(4).saying("is 9600 baud its speed");
    device.signal("CONT");
}

#[test]
fn a_captured_serial_line_is_a_log_too() {
    let bench = bench();
    let line = report(&bench, "flash", ID);
    let mut capture = b"\x1b[0mROM 1.2\r\n\xff\xc0\xa9\x40\x01\x00\x00\xbc\x38\xc0".to_vec();
    capture.extend([b"\xc0\x0a", line.as_bytes(), b"\xc0\xc0\xa9\x60"].concat());
    fs::write(bench.path("capture"), &capture).unwrap();
    let file = bench.path("capture").display().to_string();
    bench.commissioner(&["collect", &file]).succeeded();
    assert_eq!(column(&bench.records(), "provenance"), ["reported"]);

    // Cut before the report has ended, or without any: no device.
    capture.truncate(capture.len() - 60);
    bench.commissioner_fed("state", &["collect", "-"], &capture).ended_with(3).saying("not usable");
    bench.commissioner_fed("state", &["collect"], b"boot\n").ended_with(3).saying("standard input has no report line");
    bench.commissioner(&["collect", "/no/such/log"]).ended_with(2).saying("/no/such/log");
    bench.commissioner(&["collect", bench.path("").to_str().unwrap()]).ended_with(2).saying("it is a directory");
}

fn path_with_our_programs() -> String {
    let ours = program("commissioner").parent().expect("a directory").display().to_string();
    format!("{ours}:{}", std::env::var("PATH").unwrap_or_default())
}
