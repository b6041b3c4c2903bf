//! Firmware on an emulated board, beyond what `commissioning.rs` shows of it: power cuts, garbage, and a long session. The
//! emulator, its flash image, the UART at 115200 baud and the commissioner are real.

use std::{fs, io::Write, process::Command, thread, time::Duration};

use cbor_schemas::{DeviceInfo, report};
use commissioner::{
    client::{Client, Request, Timers},
    link::Link,
    progress::Progress,
    visit::{Account, Visit},
};
use end_to_end::{Bench, CORTEX_M3, Cable, Device, Running, firmware, program};
use rand_core::{OsRng, RngCore};

const ID: &str = "urn:dev:ops:32473-sf2-00000000000024be";

/// What a report says.
fn read(report_line: &str) -> DeviceInfo<'static> {
    let buffer = Box::leak(Box::new([0; 512]));
    report::find(report_line, buffer).expect("a report").expect("a whole one")
}

#[test]
fn a_first_start_makes_a_key_and_reports_it() {
    let bench = Bench::new(Cable::Uart);
    let first = read(bench.start("flash", ID).report());
    assert_eq!(first.device.as_str(), ID);
    assert_eq!((first.generation, first.claim_counter), (1, 0));
    assert!(first.credential.is_some());

    let again = read(bench.start("flash", ID).report());
    assert_eq!(again.credential, first.credential);
    assert_ne!(again.nonce, first.nonce, "random numbers are new ones at each start");
    let other = read(bench.start("other", ID).report());
    assert_ne!(other.credential, first.credential, "no key comes with the firmware");
}

/// The power fails at each step of a commissioning, and at different times while the certificate is written to flash. The
/// next commissioning finishes it, about the same key.
#[test]
fn power_cuts_in_the_middle_of_a_commissioning() {
    let steps = ["authenticated", "intended", "issued", "sent"].map(|step| (step, 0));
    let while_it_writes = [5, 20, 60, 150, 400].map(|delay_ms| ("sent", delay_ms));
    let mut failed = 0;
    for (step, delay_ms) in steps.into_iter().chain(while_it_writes) {
        let bench = Bench::initialised(Cable::Uart);
        let device = bench.start("flash", ID);
        let key = read(device.report()).credential;
        let mut run = bench.watch(&["commission", &device.link, "--json"]);
        run.expect_line(&format!("\"step\":\"{step}\""));
        thread::sleep(Duration::from_millis(delay_ms));
        drop(device);
        match run.ended() {
            Some(0) => {} // the receipt was faster than the cut
            Some(4) => failed += 1,
            other => panic!("{step}: exit {other:?}"),
        }

        let device = bench.start("flash", ID);
        assert_eq!(read(device.report()).credential, key, "{step} {delay_ms}: another key");
        bench.commissioner(&["commission", &device.link]).succeeded();
        let records = bench.records();
        let certificates = records[0]["certificates"].as_array().expect("a list");
        let installed = certificates.iter().filter(|certificate| certificate["status"] == "installed").count();
        assert_eq!((records.len(), installed), (1, 1), "{step} {delay_ms}: {records:?}");
        let again = bench.commissioner(&["commission", &device.link]).succeeded();
        assert!(again.stdout.contains("nothing was changed"), "{}", again.stdout);
    }
    assert!(failed >= 4, "the cuts came too late to cut anything");
}

/// Flash, provision and attach in one command, as a cargo runner does it; then again with a flash that was erased.
#[test]
fn a_board_is_flashed_and_provisioned_by_one_command() {
    let bench = Bench::initialised(Cable::Uart);
    let (port, flash) = (bench.path("port"), bench.path("flash"));
    let mut keys = Vec::new();
    for round in 0..3 {
        let mut command = Command::new(program("commissioner"));
        command.arg("--state-dir").arg(bench.path("state")).args(["run", "--link"]);
        command.arg(format!("serial:{}", port.display())).arg("--").arg(program("device-emulator"));
        command.arg("--pty").arg(&port).arg("--flash").arg(&flash).arg(firmware("emcraft-sf2", CORTEX_M3));
        let mut run = Running::start_group(&mut command);
        run.expect_line(if round == 1 { "nothing was changed" } else { "is one of your devices now" });
        run.signal_group("INT");
        assert_eq!(run.ended(), Some(0), "the emulator ends well by Ctrl-C, and the run with it");
        keys.push(bench.statuses());
        if round == 1 {
            fs::remove_file(&flash).expect("an image");
        }
    }
    assert_eq!(keys, [vec!["active"], vec!["active"], vec!["revoked", "active"]]);
    assert_eq!(bench.records()[1]["provenance"], "programming");
}

#[test]
fn garbage_on_the_uart_is_survived() {
    let bench = Bench::initialised(Cable::Uart);
    let device = bench.start("flash", ID);
    let port = device.link.strip_prefix("serial:").expect("a serial link");
    let mut noise = vec![0; 24_000];
    OsRng.fill_bytes(&mut noise);
    // A third is noise, a third frames that never end, a third frames full of it.
    for (number, chunk) in noise.chunks_mut(200).enumerate() {
        match number % 3 {
            1 => chunk[..2].copy_from_slice(b"\xc0\xa9"),
            2 => {
                chunk[..2].copy_from_slice(b"\xc0\xa9");
                chunk[199] = 0xc0;
            }
            _ => {}
        }
    }
    let mut line = fs::OpenOptions::new().write(true).open(port).expect("the port");
    line.write_all(&noise).expect("a line that takes bytes");
    drop(line);
    bench.commissioner(&["commission", &device.link]).succeeded();
    let now = bench.commissioner(&["get", "/comm", &device.link, "--json"]).succeeded().json();
    let nonce = read(device.report()).nonce;
    let told = now.last().expect("an answer")["payload_hex"].as_str().expect("hex").to_owned();
    assert!(told.contains(&hex::encode(nonce)), "it did not restart");
}

/// At the pace of 115200 baud, without a byte that is lost: every request is sent once and answered once. However busy this
/// machine is, nothing is sent again.
#[tokio::test]
async fn a_thousand_requests_in_one_session() {
    let bench = Bench::new(Cable::Uart);
    let device = bench.start("flash", ID);
    let quiet = Progress::unseen();
    let mut client = Client::open(&link(&device)).await.expect("the port");
    let account = Account::read(&mut client).await.expect("an account");
    client.set_timers(Timers { ack_timeout: Duration::from_secs(60), max_retransmit: 0, ..Timers::SERIAL });
    client.record();
    let mut visit = Visit::stranger(&mut client, &account, &quiet).await.expect("a session");
    for number in 0..1000 {
        let path = if number % 10 == 0 { "/comm" } else { "/comm/factory" };
        let response = visit.request(&Request::get(path)).await.expect("an answer").success().expect("the contents");
        assert!(!response.payload.is_empty());
    }
    drop(visit);
    // message_1 and message_2; the request that the visit begins with; ours.
    assert_eq!(client.take_records().len(), 2 * (1 + 1 + 1000));
}

fn link(device: &Device) -> Link {
    device.link.parse().expect("a link")
}
