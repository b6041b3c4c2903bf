//! A bad day for the host: killed at every step, no right to write, two of it at once. Processes, SQLite files
//! and devices are real.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Output},
};

use cbor_schemas::{DeviceInfo, SlotView};
use commissioner::{
    clock::Clock,
    registry::{self, CertificateStatus, KeyStatus, Registry},
    state_dir::StateDir,
};
use end_to_end::{Bench, Cable, Device, Finished, RECIPIENT, program};

/// Where a run can die, in debug builds.
#[cfg(debug_assertions)]
const POINTS: [&str; 5] = ["before-commit", "after-commit", "before-request", "after-answer", "signed"];

#[cfg(debug_assertions)]
mod killed {
    use age::secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn while_commissioning_over_pty() {
        commissioning(Cable::Pty);
    }

    #[test]
    fn while_commissioning_over_udp() {
        commissioning(Cable::Udp);
    }

    /// The next run finishes with the certificate that was begun.
    fn commissioning(cable: Cable) {
        let bench = Bench::initialised(cable);
        let deaths = sweep(|point| {
            let id = format!("urn:dev:ops:32473-kill-{}", point.replace(':', "-"));
            let device = bench.start(&point.replace(':', "-"), &id);
            let died = dies(&bench, &["commission", &device.link], point);
            check_audit(&bench);
            bench.commissioner(&["commission", &device.link]).succeeded();
            let known = check(&bench, &device, &id);
            assert!(known.keys.len() == 1 && known.keys[0].certificates.len() == 1, "{point}: {known:?}");
            died
        });
        // Seen, intended, issued, installed; one PUT; one signature.
        assert_eq!(deaths, [4, 4, 1, 1, 1]);
    }

    /// A device that can take one certificate, once, has the one that the registry has.
    #[test]
    fn while_commissioning_a_minimal_one() {
        let bench = Bench::initialised(Cable::Pty);
        let deaths = sweep(|point| {
            let name = point.replace(':', "-");
            let id = format!("urn:dev:ops:32473-kill-{name}");
            let device = bench.start_with(&name, &id, &["--profile", "minimal"]);
            let died = dies(&bench, &["commission", &device.link, "--trusted"], point);
            check_audit(&bench);
            bench.commissioner(&["commission", &device.link, "--trusted"]).succeeded();
            let known = check_audit(&bench).into_iter().find(|known| known.id.as_str() == id).expect("it is known");
            let certificates = &known.active().expect("one is").certificates;
            assert_eq!(certificates.len(), 1, "{point}: {known:?}");
            assert_eq!(certificates[0].status, CertificateStatus::Installed);
            died
        });
        // Seen, intended, issued, installed; one PUT; one signature.
        assert_eq!(deaths, [4, 4, 1, 1, 1]);
    }

    /// The next run finishes it; only where the answer with the new key was lost, that key is a change to be accepted.
    #[test]
    fn while_rekeying() {
        let (bench, id) = (Bench::initialised(Cable::Udp), "urn:dev:ops:32473-kill-rekey");
        commission(&bench, &bench.start("flash", id));
        let mut alarms = Vec::new();
        let deaths = sweep(|point| {
            // A start fills up the number of tokens that a device is willing to verify.
            let device = bench.start("flash", id);
            let died = dies(&bench, &["rekey", &device.link], point);
            check_audit(&bench);
            let next = bench.commissioner(&["commission", &device.link]);
            if next.exit == 6 {
                next.saying("--accept-new-key");
                alarms.push(point.to_owned());
                bench.commissioner(&["commission", &device.link, "--accept-new-key"]).succeeded();
            } else {
                next.succeeded();
            }
            let known = check(&bench, &device, id);
            assert!(known.keys.iter().all(|key| key.certificates.len() == 1), "{point}: {known:?}");
            died
        });
        // Token, begun, rekeyed; token, seen, intended, issued, installed. POST, GET, PUT.
        assert_eq!(deaths, [8, 8, 3, 3, 1]);
        assert_eq!(alarms, ["before-commit:3", "after-answer:1"]);
    }

    /// The next run finishes it, whether it is the same command or one that wants the device back.
    #[test]
    fn while_resetting() {
        let (bench, id) = (Bench::initialised(Cable::Udp), "urn:dev:ops:32473-kill-reset");
        commission(&bench, &bench.start("flash", id));
        for next in ["reset", "commission"] {
            let deaths = sweep(|point| {
                let device = bench.start("flash", id);
                let died = dies(&bench, &["reset", &device.link], point);
                let released = check_audit(&bench)[0].active().is_none();
                if next == "reset" && !released {
                    bench.commissioner(&["reset", &device.link]).succeeded();
                    assert!(check(&bench, &device, id).active().is_none(), "{point}");
                }
                bench.commissioner(&["commission", &device.link]).succeeded();
                check(&bench, &device, id);
                died
            });
            // Token, begun, released; one POST; no signature of a certificate.
            assert_eq!(deaths, [3, 3, 1, 1, 0], "{next}");
        }
    }

    /// The next run finishes it, or begins anew; no key that the device took is without its copy.
    #[test]
    fn while_giving_a_key_and_giving_it_back() {
        let (bench, id) = (Bench::initialised(Cable::Udp), "urn:dev:ops:32473-kill-escrow");
        let identity = age::x25519::Identity::generate();
        let file = bench.path("identity");
        fs::write(&file, identity.to_string().expose_secret()).expect("a file");
        let (recipient, file) = (identity.to_public().to_string(), file.display().to_string());
        let start = |flash: &str| {
            let mut device = Command::new(program("device-sim"));
            device.args(["--id", id, "--takes-keys", "--udp", "127.0.0.1:0", "--flash"]);
            Device::start(device.arg(bench.path(flash)))
        };
        let deaths = sweep(|point| {
            let _ = fs::remove_file(bench.path("flash"));
            let device = start("flash");
            bench.commissioner(&["commission", &device.link, "--accept-new-key"]).succeeded();
            let escrow = ["commission", &device.link, "--escrow", "--recipient", &recipient];
            let died = dies(&bench, &escrow, point);
            check_audit(&bench);
            bench.commissioner(&escrow).succeeded();
            let known = check(&bench, &device, id);
            let active = known.active().expect("one is");
            assert!(active.escrowed && known.policy == registry::Policy::Restore, "{point}: {known:?}");
            died
        });
        // Token, known; token, begun, rekeyed; token, known, intended, issued, installed. GET, POST, GET, PUT.
        assert_eq!(deaths, [10, 10, 4, 4, 1]);

        let kept = check_audit(&bench)[0].active().expect("one is").thumbprint.clone();
        let deaths = sweep(|point| {
            fs::remove_file(bench.path("flash")).expect("it is erased");
            let device = start("flash");
            let restore = ["restore", &device.link, "--identity", &file];
            let died = dies(&bench, &restore, point);
            check_audit(&bench);
            bench.commissioner(&restore).succeeded();
            let known = check(&bench, &device, id);
            assert_eq!(known.active().expect("one is").thumbprint, kept, "{point}");
            let pending = known.keys.iter().filter(|key| key.status == KeyStatus::Pending).count();
            assert_eq!(pending, 0, "{point}: {known:?}");
            died
        });
        // Seen, begun; token, restored; token, known, intended, issued, installed. PUT, POST, GET, PUT.
        assert_eq!(deaths, [9, 9, 4, 4, 1]);
    }

    /// Both stages by one issuer: as the maker, and then as the owner with a voucher of its own.
    #[test]
    fn while_being_maker_and_owner() {
        let bench = Bench::initialised(Cable::Udp);
        let policy = ["--claim-policy", "voucher"];
        for (stage, made, expected) in [
            // Seen, intended, issued, installed. GET, PUT.
            (&["commission", "--as", "factory"][..], false, [4, 4, 1, 1, 1]),
            // Seen again, voucher, intended, issued, installed. PUT.
            (&["commission"], true, [5, 5, 1, 1, 1]),
        ] {
            let deaths = sweep(|point| {
                let name = format!("{}-{}", if made { "owner" } else { "maker" }, point.replace(':', "-"));
                let id = format!("urn:dev:ops:32473-kill-{name}");
                let device = bench.start_with(&name, &id, &policy);
                if made {
                    bench.commissioner(&["commission", "--as", "factory", &device.link]).succeeded();
                }
                let died = dies(&bench, &[stage, &[&device.link]].concat(), point);
                check_audit(&bench);
                if made {
                    // What is begun for the other slot stays begun.
                    bench.commissioner(&["commission", "--as", "factory", &device.link]).succeeded();
                }
                bench.commissioner(&[stage, &[&device.link]].concat()).succeeded();
                let known = check_audit(&bench).into_iter().find(|known| known.id.as_str() == id).expect("it is known");
                let certificates = &known.active().expect("one is").certificates;
                let installed = certificates.iter().filter(|it| it.status == CertificateStatus::Installed).count();
                assert_eq!((installed, certificates.len()), if made { (2, 2) } else { (1, 1) }, "{point}: {known:?}");
                died
            });
            assert_eq!(deaths, expected, "{stage:?}");
        }
    }

    /// A transfer that is interrupted at its taker's: the same voucher finishes it.
    #[test]
    fn while_taking_over() {
        let bench = Bench::initialised(Cable::Udp);
        bench.commissioner_of("former", &["init"]).succeeded();
        let anchor = bench.path("anchor.pem").display().to_string();
        bench.commissioner(&["issuer", "export", "--output", &anchor]).succeeded();
        let deaths = sweep(|point| {
            let (name, id) = (point.replace(':', "-"), format!("urn:dev:ops:32473-take-{}", point.replace(':', "-")));
            let device = bench.start(&name, &id);
            bench.commissioner_of("former", &["commission", &device.link]).succeeded();
            let voucher = bench.path(&format!("{name}.cwt")).display().to_string();
            bench.commissioner_of("former", &["transfer", &id, "--to", &anchor, "--output", &voucher]).succeeded();
            let take = ["commission", &device.link, "--voucher", &voucher];
            let died = dies(&bench, &take, point);
            check_audit(&bench);
            bench.commissioner(&take).succeeded();
            check(&bench, &device, &id);
            died
        });
        assert_eq!(deaths, [4, 4, 1, 1, 1]);
    }

    fn commission(bench: &Bench, device: &Device) {
        bench.commissioner(&["commission", &device.link]).succeeded();
    }

    /// Lets `run` die at every point, for the first time, the second time ... How often it did, for each point.
    fn sweep(mut run: impl FnMut(&str) -> bool) -> [usize; 5] {
        POINTS.map(|name| (1..).take_while(|count| run(&format!("{name}:{count}"))).count())
    }

    /// Runs the commissioner; whether it died at `point`. If not, it was never there, and succeeded.
    fn dies(bench: &Bench, args: &[&str], point: &str) -> bool {
        let output = commissioner(bench).args(args).env("COMMISSIONER_STOP_AT", point).output().expect("it starts");
        if output.status.signal() == Some(9) {
            return true;
        }
        Finished::from(output).succeeded();
        false
    }
}

/// Two commissioners with one state directory at once: one of them stands still at every step while the other one works.
#[cfg(debug_assertions)]
mod overtaken {
    use end_to_end::Running;

    use super::*;

    /// Where the slower one finds its session gone with the other one's PUT, or the certificate that both began installed
    /// already, it is told to repeat the command.
    #[test]
    fn at_one_device() {
        const SESSION_GONE: (i32, &str) = (5, "it may have restarted, so repeat the command");
        const INSTALLED: (i32, &str) = (6, "is installed, so it cannot become issued; commission the device again");
        const DONE: (i32, &str) = (0, "");
        let bench = Bench::initialised(Cable::Udp);
        for point in points() {
            let (exit, words) = match point.as_str() {
                "before-commit:4" | "after-commit:4" | "after-answer:1" => DONE,
                "before-commit:2" | "after-commit:2" | "signed:1" => INSTALLED,
                _ => SESSION_GONE,
            };
            let id = device_id("one", &point);
            let device = bench.start(&point.replace(':', "-"), &id);
            let [slow, fast] = overtake(&bench, [&device, &device], &point);
            assert_eq!(fast.0, Some(0), "{point}: {:?}", fast.1);
            assert_eq!(slow.0, Some(exit), "{point}: {:?}", slow.1);
            assert!(slow.1.last().is_some_and(|line| line.contains(words)), "{point}: {:?}", slow.1);
            // What was said to be done has to be true before anybody runs again. The slower one may leave an intent open.
            agreed(&bench, &device, &id);
            bench.commissioner(&["commission", &device.link]).succeeded();
            check(&bench, &device, &id);
        }
    }

    /// A port is for one alone.
    #[test]
    fn at_one_port() {
        let bench = Bench::initialised(Cable::Pty);
        for point in points() {
            let id = device_id("port", &point);
            let device = bench.start(&point.replace(':', "-"), &id);
            let slow = start(&bench, &device, &stops(&point));
            assert!(slow.is_stopped(), "{point}");
            bench.commissioner(&["commission", &device.link]).ended_with(4).saying("is in use by commissioner");
            assert_eq!(finish(slow).0, Some(0), "{point}");
            check(&bench, &device, &id);
        }
    }

    #[test]
    fn at_two_devices() {
        let bench = Bench::initialised(Cable::Udp);
        for point in points() {
            let ids = ["slow", "fast"].map(|name| device_id(name, &point));
            let devices = ids.each_ref().map(|id| bench.start(&id.replace(':', "-"), id));
            for (exit, lines) in overtake(&bench, devices.each_ref(), &point) {
                assert_eq!(exit, Some(0), "{point}: {lines:?}");
            }
            for (device, id) in devices.iter().zip(&ids) {
                check(&bench, device, id);
            }
        }
    }

    /// All that a first visit comes to: see the sweep of `killed::commissioning`.
    fn points() -> Vec<String> {
        let counts = [4, 4, 1, 1, 1];
        POINTS.iter().zip(counts).flat_map(|(name, count)| (1..=count).map(move |at| format!("{name}:{at}"))).collect()
    }

    fn device_id(name: &str, point: &str) -> String {
        format!("urn:dev:ops:32473-{name}-{}", point.replace(':', "-"))
    }

    /// Before a commit, the registry is held: then a second stop follows right after it.
    fn stops(point: &str) -> String {
        match point.strip_prefix("before-commit") {
            Some(count) => format!("{point}:pause,after-commit{count}:pause"),
            None => format!("{point}:pause"),
        }
    }

    /// At the first device one stands still at `point`, while another one does all of its work at the second. How they ended.
    fn overtake(bench: &Bench, [device, other]: [&Device; 2], point: &str) -> [(Option<i32>, Vec<String>); 2] {
        let slow = start(bench, device, &stops(point));
        assert!(slow.is_stopped(), "{point} was never reached");
        let mut fast = start(bench, other, "");
        if point.starts_with("before-commit") {
            fast.expect_line("another commissioner is changing the registry; waiting until it is done");
            slow.go_on();
            assert!(slow.is_stopped(), "{point}: it does not get through the commit");
        }
        let fast = fast.finish();
        [finish(slow), fast]
    }

    fn start(bench: &Bench, device: &Device, stops: &str) -> Running {
        Running::start(commissioner(bench).args(["commission", &device.link]).env("COMMISSIONER_STOP_AT", stops))
    }

    /// Lets it go on until it ends.
    fn finish(slow: Running) -> (Option<i32>, Vec<String>) {
        slow.go_on();
        if slow.is_stopped() {
            slow.go_on();
        }
        slow.finish()
    }
}

/// The disk fails after the device was asked: fills up, or takes nothing any more.
#[cfg(debug_assertions)]
mod full_after_the_deed {
    use age::secrecy::ExposeSecret;
    use end_to_end::Running;

    use super::*;

    const ID: &str = "urn:dev:ops:32473-sim-f012";

    /// A command, how many protected requests it makes until the device did something for good, what is said then, and what
    /// goes on from there.
    struct Case<'a> {
        command: &'a [&'a str],
        requests: usize,
        said: &'a str,
        next: &'a [&'a str],
    }

    impl Case<'_> {
        /// Stops behind the deed, lets files grow to `limit` bytes there, and goes on.
        fn run(&self, bench: &Bench, device: &Device, limit: impl FnOnce() -> u64) -> (Option<i32>, String) {
            let mut command = Command::new("sh");
            command.args(["-c", "exec \"$0\" \"$@\""]).arg(program("commissioner")).arg("--state-dir");
            command.arg(bench.path("state")).args(self.command).arg(&device.link);
            let stop = format!("after-answer:{}:pause", self.requests);
            let run = Running::start(command.env("COMMISSIONER_STOP_AT", stop));
            assert!(run.is_stopped(), "{:?} was never there", self.command);
            run.limit_files(limit());
            run.go_on();
            let (exit, lines) = run.finish();
            (exit, lines.join("\n"))
        }
    }

    #[test]
    fn there_was_room_for_it() {
        each_case(|bench, device, case| {
            let log = bench.path("state/registry.sqlite-wal");
            let (_, said) = case.run(bench, device, || fs::metadata(log).expect("a log").len());
            assert!(!said.contains("could not be written down"), "{:?}: {said}", case.command);
            one_key(bench, device, ID);
        });
    }

    /// A rekey has two deeds. After the first one it is said what the device did; and the key that it has by then may be given up,
    /// and come back, without a word.
    #[test]
    fn the_second_deed_is_not_done_and_the_first_one_is_said() {
        let bench = Bench::initialised(Cable::Udp);
        let device = taker(&bench, "flash", ID);
        bench.commissioner(&["commission", &device.link]).succeeded();
        // The second protected request reads the slot that the certificate is for.
        let rekey = Case { command: &["rekey"], requests: 2, said: "made the new key", next: &["reset"] };
        let (exit, said) = rekey.run(&bench, &device, || 0);
        assert_eq!(exit, Some(1), "{said}");
        let error = said.lines().last().expect("an error");
        for words in ["the device made the new key", "is on record", "`commissioner commission` goes on from there"] {
            assert!(error.contains(words), "{words:?} is not in {error}");
        }
        assert_eq!(bench.statuses(), ["revoked", "pending"]);
        bench.commissioner(&["reset", &device.link]).succeeded();
        one_key(&bench, &device, ID);
        bench.commissioner(&["commission", &device.link]).succeeded();
        assert_eq!(bench.statuses(), ["revoked", "active"]);
        check(&bench, &device, ID);
    }

    #[test]
    fn it_is_said_what_the_device_did() {
        each_case(|bench, device, case| {
            let (exit, said) = case.run(bench, device, || 0);
            assert_eq!(exit, Some(1), "{:?}: {said}", case.command);
            for words in ["the device ", case.said, "could not be written down"] {
                assert!(said.contains(words), "{:?}: {words:?} is not in {said}", case.command);
            }
            assert!(!said.contains("nothing was changed"), "{:?}: {said}", case.command);
            check_audit(bench);
        });
    }

    fn each_case(mut take: impl FnMut(&Bench, &Device, &Case<'_>)) {
        let bench = Bench::initialised(Cable::Udp);
        let identity = age::x25519::Identity::generate();
        let (recipient, file) = (identity.to_public().to_string(), bench.path("identity"));
        fs::write(&file, identity.to_string().expose_secret()).expect("a file");
        let file = file.display().to_string();
        let escrow = ["commission", "--escrow", "--recipient", &recipient];
        let restore = ["restore", "--identity", &file];
        let case = |command, requests, said, next| Case { command, requests, said, next };
        for case in [
            case(&["commission"], 1, "stored the certificate", &["commission"]),
            case(&["rekey"], 1, "made the new key", &["commission", "--accept-new-key"]),
            case(&["reset"], 1, "emptied its owner slot", &["reset"]),
            case(&["commission"], 1, "stored the certificate", &["commission"]),
            // Its slot is read first.
            case(&escrow, 2, "took the key that was made for it", &escrow),
            case(&restore, 2, "took its former key", &restore),
            case(&["distribute"], 2, "stored the list", &["distribute"]),
        ] {
            if case.command[0] == "restore" {
                fs::remove_file(bench.path("flash")).expect("it is erased");
            }
            let device = taker(&bench, "flash", ID);
            take(&bench, &device, &case);
            drop(device);
            let device = taker(&bench, "flash", ID);
            let next = bench.commissioner(&[case.next, &[&device.link]].concat());
            // It may be done already.
            let is_done = case.command[0] == "reset" && next.stderr.contains("not one of your devices");
            assert!(next.exit == 0 || is_done, "{:?}: {}", case.next, next.stderr);
            one_key(&bench, &device, ID);
        }
        check(&bench, &taker(&bench, "flash", ID), ID);
        // One active key at the end, and no other that is not revoked.
        assert_eq!(bench.statuses().iter().filter(|status| *status != "revoked").count(), 1);
    }
}

/// A limit on the size of files stands for a full disk: writes fail, in the middle of whatever was going on.
#[test]
fn a_full_disk_is_said_and_leaves_nothing_half_done() {
    let bench = Bench::new(Cable::Udp);
    let failures = until_it_fits(16, |limit| {
        let init = limited(&bench, limit, &["init"]);
        bench.commissioner(&["devices"]).exit.eq(&0).then(|| check_audit(&bench));
        init
    });
    assert!(failures > 2, "{failures}");

    let id = "urn:dev:ops:32473-full";
    let device = bench.start("flash", id);
    let failures = until_it_fits(4, |limit| {
        let run = limited(&bench, limit, &["commission", &device.link]);
        check_audit(&bench);
        run
    });
    assert!(failures > 2, "{failures}");
    bench.commissioner(&["commission", &device.link]).succeeded();
    let known = check(&bench, &device, id);
    assert_eq!(known.keys[0].certificates.len(), 1);
}

/// What a device cannot undo it is asked for only if there is room to write it down.
#[test]
fn nothing_irreversible_is_asked_for_on_a_full_disk() {
    let (bench, id) = (Bench::initialised(Cable::Udp), "urn:dev:ops:32473-sim-f011");
    bench.commissioner(&["commission", &taker(&bench, "flash", id).link]).succeeded();
    for command in [&["rekey"][..], &["reset"], &["commission"], &["commission", "--escrow", "--recipient", RECIPIENT]]
    {
        let mut refused = 0;
        until_it_fits(32, |limit| {
            // A start fills up the number of tokens that a device is willing to verify.
            let device = taker(&bench, "flash", id);
            let run = limited(&bench, limit, &[command, &[&device.link]].concat());
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(!said.contains("nothing was changed"), "{command:?} {limit}: {said}");
            refused += usize::from(said.contains("so the device was not asked to "));
            one_key(&bench, &device, id);
            run
        });
        assert!(refused > 2, "{command:?}: {refused}");
    }
    check(&bench, &taker(&bench, "flash", id), id);
}

/// The key that the device has is the one that counts, or that a reset left; and what it holds is on record.
fn one_key(bench: &Bench, device: &Device, id: &str) {
    let held = held(bench, device);
    let shown = get(bench, device, "/comm");
    let shown = DeviceInfo::decode(&shown).expect("an account").credential.expect("a key").x;
    let known = check_audit(bench).into_iter().find(|known| known.id.as_str() == id).expect("the registry knows it");
    let key = known.keys.iter().find(|key| key.x == shown).expect("the registry knows the key");
    assert_ne!(key.status, KeyStatus::Revoked, "{known:?}");
    let newest = known.keys.iter().filter(|key| key.status != KeyStatus::Revoked).count();
    assert_eq!(newest, 1, "{known:?}");
    let installed = certificates(&known, CertificateStatus::Installed);
    assert!(held.is_none() || installed.contains(&held), "{known:?}");
}

/// A device that takes keys.
fn taker(bench: &Bench, flash: &str, id: &str) -> Device {
    bench.start_with(flash, id, &["--takes-keys"])
}

/// Repeats with more and more room, `step` blocks at a time; how often that was too little.
fn until_it_fits(step: usize, mut run: impl FnMut(usize) -> Output) -> usize {
    (0..)
        .take_while(|attempt| {
            let ended = Finished::from(run(attempt * step));
            if ended.exit != 0 {
                ended.ended_with(1).saying("error: ");
                return true;
            }
            false
        })
        .count()
}

/// Runs the commissioner with files of at most `blocks` of 512 bytes.
fn limited(bench: &Bench, blocks: usize, args: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "ulimit -f \"$0\"; exec \"$@\"", &blocks.to_string()])
        .arg(program("commissioner"))
        .arg("--state-dir")
        .arg(bench.path("state"))
        .args(args)
        .output()
        .expect("sh starts")
}

#[test]
fn a_read_only_state_directory_is_said_and_nothing_is_sent() {
    let (bench, id) = (Bench::initialised(Cable::Udp), "urn:dev:ops:32473-read-only");
    let device = bench.start("flash", id);
    let state = bench.path("state");
    if !modes_bind(&state) {
        return;
    }
    for (directory, file) in [(0o500, 0o400), (0o700, 0o400)] {
        let before = contents(&state);
        modes(&state, directory, file);
        let refused = Command::new("setpriv")
            .args(WITHOUT_PRIVILEGE)
            .arg(program("commissioner"))
            .arg("--state-dir")
            .arg(&state)
            .args(["commission", &device.link])
            .output()
            .expect("setpriv starts");
        let refused = Finished::from(refused).ended_with(1);
        assert!(refused.stderr.contains("denied") || refused.stderr.contains("read"), "{}", refused.stderr);
        modes(&state, 0o700, 0o600);
        assert!(contents(&state) == before, "{directory:o} {file:o}");
        assert_eq!(held(&bench, &device), None);
    }
    bench.commissioner(&["commission", &device.link]).succeeded();
    check(&bench, &device, id);
}

/// Nor does root write where modes forbid it.
const WITHOUT_PRIVILEGE: [&str; 1] = ["--bounding-set=-dac_override,-dac_read_search,-fowner"];

/// Whether this machine lets us drop the privilege to ignore modes. Says so if not.
#[expect(clippy::print_stdout, reason = "a skipped test is spoken of")]
fn modes_bind(dir: &Path) -> bool {
    modes(dir, 0o500, 0o600);
    let test = Command::new("setpriv").args(WITHOUT_PRIVILEGE).args(["test", "!", "-w"]).arg(dir).output();
    modes(dir, 0o700, 0o600);
    let binds = test.is_ok_and(|test| test.status.success());
    if !binds {
        println!("skipped: this user writes wherever it likes, and setpriv cannot stop it");
    }
    binds
}

fn modes(dir: &Path, directory: u32, file: u32) {
    for entry in fs::read_dir(dir).expect("readable") {
        fs::set_permissions(entry.expect("readable").path(), fs::Permissions::from_mode(file)).expect("ours");
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(directory)).expect("ours");
}

/// Names and contents of all files.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entry = |entry: fs::DirEntry| {
        (entry.file_name().into_string().expect("UTF-8"), fs::read(entry.path()).expect("readable"))
    };
    let mut files: Vec<_> = fs::read_dir(dir).expect("readable").map(|it| entry(it.expect("readable"))).collect();
    files.sort();
    files
}

fn commissioner(bench: &Bench) -> Command {
    let mut command = Command::new(program("commissioner"));
    command.arg("--state-dir").arg(bench.path("state"));
    command
}

/// What must hold of a device whenever a run is over: registry and device agree, and nothing is open.
fn check(bench: &Bench, device: &Device, id: &str) -> registry::Device {
    let known = agreed(bench, device, id);
    let open = [CertificateStatus::Intended, CertificateStatus::Issued];
    assert!(open.into_iter().all(|status| certificates(&known, status).is_empty()), "{known:?}");
    known
}

/// What the registry knows of a device, which must agree with what the device holds.
fn agreed(bench: &Bench, device: &Device, id: &str) -> registry::Device {
    let held = held(bench, device);
    let known = check_audit(bench).into_iter().find(|known| known.id.as_str() == id).expect("the registry knows it");
    let installed = certificates(&known, CertificateStatus::Installed);
    assert_eq!(installed, held.iter().cloned().map(Some).collect::<Vec<_>>(), "{known:?}");
    let active = known.keys.iter().filter(|key| key.status == KeyStatus::Active).count();
    assert_eq!(active, usize::from(held.is_some()), "{known:?}");
    known
}

/// The certificates of a device in a status, as signed objects.
fn certificates(known: &registry::Device, status: CertificateStatus) -> Vec<Option<Vec<u8>>> {
    let certificates = known.keys.iter().flat_map(|key| &key.certificates);
    certificates.filter(|certificate| certificate.status == status).map(|it| it.object.clone()).collect()
}

/// Opens the registry as it lies there: its audit trail holds. What it knows.
fn check_audit(bench: &Bench) -> Vec<registry::Device> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = StateDir::open(&bench.path("state")).expect("a state directory");
        let registry = Registry::open(&dir, Clock::System, false).await.expect("a registry");
        registry.verify_audit().await.expect("the audit trail holds");
        registry.devices().await.expect("devices")
    })
}

/// The certificate in the device's owner slot.
fn held(bench: &Bench, device: &Device) -> Option<Vec<u8>> {
    SlotView::decode(&get(bench, device, "/comm/owner")).expect("a slot view").certificate.map(<[u8]>::to_vec)
}

/// What the device has at a path.
fn get(bench: &Bench, device: &Device, path: &str) -> Vec<u8> {
    let answer = bench.commissioner(&["get", path, &device.link, "--json"]).succeeded().json();
    let payload = answer.last().expect("an answer")["payload_hex"].as_str().expect("hex").to_owned();
    hex::decode(payload).expect("hex")
}
