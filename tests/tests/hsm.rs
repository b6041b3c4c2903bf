//! The issuer's key where no file has it: in an HSM (SoftHSM2, from Debian), or sealed by a passphrase.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use end_to_end::{Bench, Cable, Finished, program};

const TOKEN: &str = "factory";
const PIN: &str = "4711";

/// Where distributions put the module.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A key for tests, with an odd y-coordinate.
const ODD: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnlC5vtXAkLWt7Jla
D3G7zac9pPIZzExu/4Oonkwg5EGhRANCAAR7dAQEtTiqnW30zHtaijfP/tocG139
XkAI7nQlurgQ8bbUFNgn89YmebDgum9enwS2Q9DyRWyYtrsae8G77VAt
-----END PRIVATE KEY-----
";

/// A software HSM of its own.
struct Hsm {
    bench: Bench,
    module: String,
}

impl Hsm {
    fn new() -> Self {
        let bench = Bench::new(Cable::Udp);
        let module = MODULES.into_iter().find(|module| PathBuf::from(module).exists());
        let module = module.expect("SoftHSM2 is missing: run `tests/setup.sh all`, or install softhsm2").to_owned();
        let configuration = format!("directories.tokendir = {}\nlog.level = ERROR\n", bench.path("tokens").display());
        fs::write(bench.path("softhsm2.conf"), configuration).expect("a file");
        let hsm = Self { bench, module };
        hsm.format();
        hsm
    }

    /// Makes a token without keys.
    fn format(&self) {
        let _ = fs::create_dir(self.bench.path("tokens"));
        self.softhsm2_util(&["--init-token", "--free", "--label", TOKEN, "--so-pin", "000000", "--pin", PIN]);
    }

    fn softhsm2_util(&self, args: &[&str]) {
        let mut program = Command::new("softhsm2-util");
        let done = program.args(args).env("SOFTHSM2_CONF", self.bench.path("softhsm2.conf")).output();
        let done = done.expect("softhsm2-util is missing: run `tests/setup.sh all`, or install softhsm2");
        assert!(done.status.success(), "{done:?}");
    }

    /// A file with a PIN.
    fn pin(&self, pin: &str) -> String {
        let path = self.bench.path(&format!("pin-{pin}"));
        fs::write(&path, pin).expect("a file");
        path.display().to_string()
    }

    fn commissioner(&self, pin: &str, args: &[&str]) -> Finished {
        self.commissioner_of("state", pin, args)
    }

    fn commissioner_of(&self, state: &str, pin: &str, args: &[&str]) -> Finished {
        let output = Command::new(program("commissioner"))
            .arg("--state-dir")
            .arg(self.bench.path(state))
            .args(["--unlock-file", &self.pin(pin)])
            .args(args)
            .env("SOFTHSM2_CONF", self.bench.path("softhsm2.conf"))
            .stdin(Stdio::null())
            .output()
            .expect("the commissioner starts");
        Finished::from(output)
    }

    fn init(&self, pin: &str, token: &str, module: &str) -> Finished {
        self.commissioner(pin, &["init", "--pkcs11", module, "--token", token])
    }
}

#[test]
fn an_issuer_in_an_hsm_does_all_that_one_in_a_file_does() {
    let hsm = Hsm::new();
    hsm.init(PIN, TOKEN, &hsm.module).succeeded();
    assert!(!hsm.bench.path("state/issuer.key").exists(), "the private key is nowhere else");
    assert!(hsm.init(PIN, TOKEN, &hsm.module).succeeded().stdout.contains("already"));
    // What is public takes no PIN.
    hsm.commissioner("wrong", &["issuer", "show"]).succeeded();
    let device = hsm.bench.start("flash", "urn:dev:ops:32473-sim-45b0");
    let run = |args: &[&str]| hsm.commissioner(PIN, args).succeeded();
    run(&["commission", &device.link]);
    run(&["distribute", &device.link]);
    run(&["rekey", &device.link]);
    run(&["audit", "--seal"]);
    run(&["audit", "--verify"]);
    assert!(run(&["commission", &device.link]).stdout.contains("already"));

    // With the wrong PIN nothing happens, to the device or to the registry.
    let before = fs::read(hsm.bench.path("flash")).expect("a flash image");
    let history = run(&["audit", "--json"]).stdout;
    let other = hsm.bench.start("other", "urn:dev:ops:32473-sim-45b1");
    hsm.commissioner("4712", &["commission", &other.link]).ended_with(5).saying("does not take this PIN");
    hsm.commissioner("4712", &["distribute", &device.link]).ended_with(5).saying("does not take this PIN");
    fs::rename(hsm.bench.path("tokens"), hsm.bench.path("unplugged")).expect("it is unplugged");
    fs::create_dir(hsm.bench.path("tokens")).expect("a folder");
    hsm.commissioner(PIN, &["commission", &other.link]).ended_with(3).saying("there is no token \"factory\"");
    fs::remove_dir(hsm.bench.path("tokens")).expect("it is empty");
    fs::rename(hsm.bench.path("unplugged"), hsm.bench.path("tokens")).expect("it is back");
    assert_eq!(run(&["audit", "--json"]).stdout, history);
    assert_eq!(fs::read(hsm.bench.path("flash")).expect("a flash image"), before);
    run(&["commission", &other.link]);

    // Another token of the same name has no such key; one with another key of the same name is another issuer.
    fs::remove_dir_all(hsm.bench.path("tokens")).expect("it is lost");
    hsm.format();
    hsm.commissioner(PIN, &["commission", &other.link]).ended_with(2).saying("has no P-256 key");
    hsm.commissioner_of("second", PIN, &["init", "--pkcs11", &hsm.module, "--token", TOKEN]).succeeded();
    hsm.commissioner(PIN, &["commission", &other.link]).ended_with(6).saying("is not this issuer's");
}

/// The other half of all keys: devices would not know it by its x-coordinate.
#[test]
fn a_key_with_an_odd_y_is_no_issuers() {
    let hsm = Hsm::new();
    let file = hsm.bench.path("odd.pem");
    fs::write(&file, ODD).expect("a file");
    let import =
        ["--import", &file.display().to_string(), "--token", TOKEN, "--label", "odd", "--id", "01", "--pin", PIN];
    hsm.softhsm2_util(&import);
    let init = ["init", "--pkcs11", &hsm.module, "--token", TOKEN, "--key", "odd"];
    hsm.commissioner(PIN, &init).ended_with(2).saying("has an odd y-coordinate");
    hsm.init(PIN, TOKEN, &hsm.module).succeeded();
}

#[test]
fn what_is_no_hsm_is_said_and_leaves_nothing() {
    let hsm = Hsm::new();
    hsm.init(PIN, TOKEN, "/nonexistent/module.so").ended_with(2).saying("cannot load the PKCS#11 module");
    hsm.init(PIN, "other", &hsm.module).ended_with(3).saying("there is no token \"other\"");
    hsm.init("1234", TOKEN, &hsm.module).ended_with(5).saying("does not take this PIN");
    hsm.commissioner(PIN, &["devices"]).ended_with(2).saying("commissioner init");
    // And then it is made all the same.
    hsm.init(PIN, TOKEN, &hsm.module).succeeded();
    hsm.commissioner(PIN, &["devices"]).succeeded();
}

#[test]
fn a_sealed_key_is_opened_by_its_passphrase_alone() {
    let bench = Bench::new(Cable::Udp);
    let words = |words: &str| {
        let path = bench.path(&words.replace(' ', "-"));
        fs::write(&path, words).expect("a file");
        path.display().to_string()
    };
    let (right, wrong) = (words("correct horse"), words("wrong horse"));
    let run = |file: &str, args: &[&str]| bench.commissioner(&[&["--unlock-file", file], args].concat());
    run(&right, &["init", "--sealed"]).succeeded();
    assert!(!bench.path("state/issuer.key").exists(), "the key is in no file that is open");
    assert!(fs::read(bench.path("state/issuer.key.age")).expect("sealed").starts_with(b"age-encryption.org/v1"));
    let device = bench.start("flash", "urn:dev:ops:32473-sim-5ea1");
    bench.commissioner(&["commission", &device.link]).ended_with(2).saying("--unlock-file");
    run(&wrong, &["commission", &device.link]).ended_with(5).saying("does not open");
    assert!(bench.commissioner(&["devices", "--json"]).succeeded().json().is_empty());
    run(&right, &["commission", &device.link]).succeeded();
    bench.commissioner(&["issuer", "show"]).succeeded();

    // A backup has it as it is.
    let (backup, sealed) = (bench.path("backup").display().to_string(), words("backup words"));
    bench.commissioner(&["backup", &backup, "--passphrase-file", &sealed]).succeeded();
    let original = fs::read(bench.path("state/issuer.key.age")).expect("sealed");
    fs::remove_dir_all(bench.path("state")).expect("it is lost");
    bench.commissioner(&["restore-backup", &backup, "--passphrase-file", &sealed]).succeeded();
    assert_eq!(fs::read(bench.path("state/issuer.key.age")).expect("sealed"), original);
    assert!(run(&right, &["commission", &device.link]).succeeded().stdout.contains("already"));
}

/// A backup may come from anybody, and a module is a program: it is not loaded before the user has said that it is theirs.
#[test]
fn a_module_that_a_backup_names_is_loaded_once_it_is_confirmed() {
    let hsm = Hsm::new();
    hsm.init(PIN, TOKEN, &hsm.module).succeeded();
    let file = hsm.bench.path("backup.age").display().to_string();
    let words = hsm.pin("correct horse");
    hsm.commissioner(PIN, &["backup", &file, "--passphrase-file", &words]).succeeded();
    let device = hsm.bench.start("flash", "urn:dev:ops:32473-sim-45b2");
    let restore = |state: &str, trust: &[&str]| {
        let args = [&["restore-backup", &file, "--passphrase-file", &words], trust].concat();
        hsm.commissioner_of(state, PIN, &args).succeeded()
    };
    let mark = |state: &str| hsm.bench.path(state).join("issuer.pkcs11.unconfirmed");

    assert!(restore("new", &[]).stdout.contains(&hsm.module));
    let refusal = "came with a backup, and nobody has confirmed it";
    for command in [&["commission", &device.link][..], &["distribute", &device.link], &["audit", "--seal"]] {
        let refused = hsm.commissioner_of("new", PIN, command).ended_with(2).saying(refusal);
        refused.saying(&hsm.module).saying("--trust-module");
    }
    // What takes no key takes no module.
    hsm.commissioner_of("new", PIN, &["devices"]).succeeded();
    hsm.commissioner_of("new", PIN, &["audit", "--verify"]).succeeded();
    // A copy of it is no way around.
    let copy = hsm.bench.path("copy.age").display().to_string();
    hsm.commissioner_of("new", PIN, &["backup", &copy, "--passphrase-file", &words]).succeeded();
    let again = ["restore-backup", &copy, "--passphrase-file", &words];
    hsm.commissioner_of("copy", PIN, &again).succeeded();
    hsm.commissioner_of("copy", PIN, &["audit", "--seal"]).ended_with(2).saying(refusal);

    hsm.commissioner_of("new", PIN, &["audit", "--seal", "--trust-module"]).succeeded();
    assert!(!mark("new").exists());
    hsm.commissioner_of("new", PIN, &["commission", &device.link]).succeeded();

    // At once.
    restore("other", &["--trust-module"]);
    assert!(!mark("other").exists());
    hsm.commissioner_of("other", PIN, &["audit", "--seal"]).succeeded();

    // Where the same was there before, it was the user's before.
    for name in ["registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"] {
        let _ = fs::remove_file(hsm.bench.path("state").join(name));
    }
    restore("state", &[]);
    hsm.commissioner(PIN, &["audit", "--seal"]).succeeded();
}
