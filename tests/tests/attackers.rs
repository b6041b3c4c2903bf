//! Devices that lie, and devices that only claim to be somebody's: the real commissioner ends in time, with bounded
//! memory, the right exit code and a sentence; it believes nothing, and changes nothing.

#[path = "attackers/liar.rs"]
mod liar;

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cbor_schemas::{DeviceInfo, ListMode, PeersView, ProblemDetails, Receipt};
use coap_lite::{CoapOption, Packet};
use coap_numbers::{code, option};
use end_to_end::{Bench, Cable, Finished, cases, program};
use protocol::key::{PrivateKey, PublicKey};
use rand_core::OsRng;
use slipmux::{Slipmux, encode_buffered};

use liar::{Liar, Lie, MAX_DATAGRAM, Stage, encode, encoded, respond, response};

cases! { [pty Pty, udp Udp] [
    a_line_that_is_never_quiet_is_a_failed_link,
    lies_about_who_it_is_are_refused,
    lies_in_the_handshake_are_refused,
    lies_about_a_token_are_refused,
    lies_under_protection_are_refused,
    lies_about_the_receipt_install_nothing,
    endless_and_deep_answers_are_cut_off_or_shown_safely,
    what_others_send_beside_the_answer_does_no_harm,
    an_impostor_is_turned_away_until_the_user_says_otherwise,
    a_device_with_a_damaged_page_is_not_claimed_again,
] }

/// What the commissioner may have of memory that it writes to, in KiB: stacks, heap, all of it.
const MEMORY_KIB: u32 = 32_000;
/// How long a run may take, in seconds; it is killed then.
const PATIENCE_S: u32 = 100;
const ID: &str = "urn:dev:ops:32473-attack-0024be";

/// Runs the commissioner with bounded memory and time. Whatever it says cannot steer the terminal.
fn commissioner(bench: &Bench, args: &[&str]) -> Finished {
    let bounded = format!("ulimit -d {MEMORY_KIB}; exec timeout -s KILL {PATIENCE_S} \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &bounded, "sh"])
        .arg(program("commissioner"))
        .arg("--state-dir")
        .arg(bench.path("state"))
        .args(args)
        .env("TOKIO_WORKER_THREADS", "2") // each has a stack
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let finished = Finished::from(output);
    for said in [&finished.stdout, &finished.stderr] {
        assert!(!said.contains("panicked"), "{said}");
        assert!(
            !said.contains(|c: char| c.is_control() && c != '\n' || matches!(c, '\u{2028}'..='\u{202e}')),
            "{said:?}"
        );
    }
    finished
}

static LIARS: AtomicUsize = AtomicUsize::new(0);

/// A lie, how the commissioner ends, and a part of what it says.
type Case = (Lie, i32, &'static str);

/// Commissions a liar of its own for each case; each has an ID of its own, so that none is a key change.
fn refused(bench: &Bench, stage: Stage, cases: &[Case]) {
    for (number, (lie, exit, sentence)) in cases.iter().enumerate() {
        let id = format!("urn:dev:ops:32473-liar-{}", LIARS.fetch_add(1, Ordering::Relaxed));
        let liar = Liar::start(bench.cable, &id, stage, *lie);
        let finished = commissioner(bench, &["commission", &liar.link]);
        let context = format!("{stage:?}, case {number}, {sentence:?}: {}", finished.stderr);
        assert_eq!(finished.exit, *exit, "{context}");
        assert!(finished.stderr.contains(sentence), "{context}");
        assert!(finished.exit == 0 || finished.stderr.contains("error: "), "{context}");
        let status = bench.records().into_iter().find(|record| record["device"] == id.as_str());
        let status = status.map(|record| (record["status"].clone(), record["certificates"].to_string()));
        let installed =
            status.is_some_and(|(status, certificates)| status == "active" || certificates.contains("installed"));
        assert_eq!(installed, *exit == 0, "{context}");
    }
}

/// The same answer with another payload.
fn with_payload(mut answer: Packet, payload: &[u8]) -> Packet {
    answer.payload = payload.to_vec();
    answer
}

fn with_option(mut answer: Packet, number: u16, value: &[u8]) -> Packet {
    answer.add_option(CoapOption::from(number), value.to_vec());
    answer
}

/// What the honest answer says of the device, changed.
fn with_info(answer: Packet, change: impl FnOnce(&mut DeviceInfo<'_>)) -> Packet {
    let truth = answer.payload.clone();
    let mut info = DeviceInfo::decode(&truth).expect("a DeviceInfo");
    change(&mut info);
    with_payload(answer, &encoded(|out| info.encode(out)))
}

/// The answer with another schema version, which comes first in it.
fn with_version(mut answer: Packet, version: u8) -> Packet {
    assert_eq!(answer.payload[1..3], [0, 1]);
    answer.payload[2] = version;
    answer
}

/// Number and size of the block that is asked for; block 0 of 1024 bytes if none is.
fn asked(request: &Packet) -> (u32, u32) {
    let Some(value) = request.get_first_option(CoapOption::Block2) else { return (0, 1024) };
    let value = value.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    (value >> 4, 16 << (value & 7))
}

/// A block of `payload` bytes that says it is the `number`th of `size` bytes, with more to come.
fn block(answer: Packet, number: u32, size: u32, payload: usize) -> Packet {
    let value = number << 4 | 8 | (size.ilog2() - 4);
    let bytes = value.to_be_bytes();
    let answer = with_option(answer, option::BLOCK2, &bytes[value.leading_zeros() as usize / 8..]);
    with_payload(answer, &vec![0xa0; payload])
}

/// The block that is asked for, of at most `size` bytes; there is always one more.
fn endless(request: &Packet, answer: Packet, size: u32) -> Packet {
    let (number, asked) = asked(request);
    let size = size.min(asked);
    block(answer, number, size, size as usize)
}

/// Blocks of an answer that is as long as can be, and consists of one byte but for its end.
fn longest(request: &Packet, answer: Packet, byte: u8) -> Packet {
    const LAST: u32 = 63;
    let (number, _) = asked(request);
    let mut answer = block(answer, number, 1024, 1024);
    answer.payload.fill(byte);
    if number == LAST {
        answer.clear_option(CoapOption::Block2);
        answer = with_option(answer, option::BLOCK2, &[3, 0xf6]);
        answer.payload[1023] = 0;
    }
    answer
}

/// A refusal that would clear the screen if it were printed as it is.
fn steering(code: u8) -> Packet {
    let problem = ProblemDetails { title: Some("\x1b[2J\x07no"), detail: Some("\r\u{9b}1mnever") };
    let payload = encoded(|out| problem.encode(out));
    let mut answer = response(code, 60, &payload);
    answer.clear_option(CoapOption::ContentFormat);
    with_option(answer, option::CONTENT_FORMAT, &[1, 1])
}

/// Lies that are told in the same way wherever there is an answer: they are found out below what the answer means.
fn everywhere() -> Vec<Case> {
    vec![
        (Lie::Answer(|request, answer| endless(request, answer, 1024)), 5, "larger than 65536 bytes"),
        (Lie::Answer(|request, answer| endless(request, answer, 16)), 5, "larger than 65536 bytes"),
        // Blocks that grow, shrink, leave a gap, come short, or come from elsewhere in the body.
        (
            Lie::Answer(|request, answer| match asked(request).0 {
                2 => block(answer, 1, 128, 128),
                number => block(answer, number, 64, 64),
            }),
            5,
            "a block larger than those before",
        ),
        (
            Lie::Answer(|request, answer| match asked(request).0 {
                0 => block(answer, 0, 64, 64),
                number => block(answer, number, 16, 16),
            }),
            5,
            "not the next one",
        ),
        (Lie::Answer(|request, answer| block(answer, asked(request).0 * 2, 64, 64)), 5, "not the next one"),
        (Lie::Answer(|request, answer| block(answer, asked(request).0, 64, 63)), 5, "not the next one"),
        (Lie::Answer(|_, answer| block(answer, 9, 64, 64)), 5, "not the next one"),
        (Lie::Answer(|_, answer| with_option(answer, option::BLOCK2, &[7])), 5, "block option"),
        (Lie::Answer(|_, answer| with_option(answer, option::BLOCK2, &[1, 2, 3, 4])), 5, "must not be ignored"),
        (
            Lie::Answer(|request, answer| {
                let etag = [asked(request).0 as u8];
                with_option(endless(request, answer, 64), option::ETAG, &etag)
            }),
            4,
            "changed while it was being read",
        ),
        (Lie::Answer(|_, answer| with_option(answer, 65001, b"")), 5, "must not be ignored"),
        (Lie::Answer(|_, _| response(code::CONTINUE, 60, b"")), 5, "2.31"),
    ]
}

/// Lies of which nothing is believed that differs from the truth: all goes on.
fn harmless() -> Vec<Case> {
    vec![
        // Size2 is a hint (RFC 7959 section 4), and so large that nobody should make room for it.
        (Lie::Answer(|_, answer| with_option(answer, option::SIZE2, &[0xff; 4])), 0, ""),
        (Lie::Answer(|_, answer| with_option(answer, option::SIZE2, &[5])), 0, ""),
        (Lie::Answer(|_, answer| with_option(answer, option::ETAG, &[0; 300])), 0, ""),
        (Lie::Answer(|_, answer| with_option(answer, option::OBSERVE, &[1])), 0, ""),
    ]
}

fn a_line_that_is_never_quiet_is_a_failed_link(bench: &Bench) {
    let floods: Vec<Lie> = match bench.cable {
        Cable::Pty | Cable::Uart => vec![
            Lie::Flood(|| [b"\xc0\xa9".to_vec(), vec![0x55; 4096]]), // a frame without end
            Lie::Flood(|| [b"\xc0\x0a".to_vec(), vec![b'x'; 4096]]), // a log without end
            Lie::Flood(|| [vec![], [b"\xc0\x0a", &[b'x'; 4096][..], b"\xc0"].concat()]), // one line of it after the other
            Lie::Flood(|| [vec![], vec![0x55; 4096]]),
            Lie::Flood(|| [vec![], vec![0xc0; 4096]]),
            // Pings, whose answers it never reads.
            Lie::Flood(|| [vec![], encode_buffered(Slipmux::Configuration(vec![0x40, 0, 0, 7])).repeat(400)]),
        ],
        Cable::Udp => vec![
            Lie::Flood(|| [vec![], vec![0x40, 0, 0, 7]]),
            Lie::Flood(|| [vec![], vec![0xa0; 100]]),
            Lie::Flood(|| [vec![], vec![0x60; MAX_DATAGRAM + 1]]),
            Lie::Flood(|| [vec![], vec![0x60; 60_000]]),
            Lie::Flood(|| [vec![], vec![]]),
        ],
    };
    let quiet = [
        Lie::Datagrams(|_| Vec::new()),
        Lie::Datagrams(|answer| vec![vec![0x70, 0, !encode(&answer)[2], encode(&answer)[3]]]),
        Lie::Datagrams(|answer| vec![[&encode(&answer)[..], &[0; 3000]].concat()]),
        Lie::Answer(|_, _| response(code::CONTENT, 60, b"pong")),
    ];
    // Each of them takes the 3 s after which a silent line is given up.
    thread::scope(|scope| {
        for lie in floods.into_iter().chain(quiet) {
            scope.spawn(move || {
                let liar = Liar::start(bench.cable, ID, Stage::Ping, lie);
                commissioner(bench, &["commission", &liar.link]).ended_with(4).saying("no answer within");
            });
        }
    });
    assert!(bench.records().is_empty());
}

fn lies_about_who_it_is_are_refused(bench: &Bench) {
    refused(bench, Stage::Comm, &everywhere());
    refused(
        bench,
        Stage::Comm,
        &[
            (Lie::Answer(|_, answer| with_payload(answer, b"")), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_payload(answer, b"junk")), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_payload(answer, &[0x81; 1900])), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_payload(answer, &[0xbf; 1900])), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_version(answer, 0)), 5, "schema version 0"),
            (Lie::Answer(|_, answer| with_version(answer, 2)), 5, "schema version 2"),
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.credential.as_mut().unwrap().y[31] ^= 1)),
                5,
                "credential cannot be used",
            ),
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.credential.as_mut().unwrap().x = [0xff; 32])),
                5,
                "credential cannot be used",
            ),
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.profile = cbor_schemas::Profile::Minimal)),
                5,
                "minimal profile",
            ),
            (
                Lie::Answer(|_, answer| {
                    with_info(answer, |info| {
                        info.condition = cbor_schemas::Condition::Fault;
                        info.credential = None;
                    })
                }),
                5,
                "damaged storage",
            ),
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.owner = cbor_schemas::SlotState::Certified)),
                5,
                "differs from what was answered before",
            ),
            (
                Lie::Answer(|_, answer| {
                    let other = PrivateKey::generate(&mut OsRng).public().cose_key();
                    with_info(answer, |info| info.credential = Some(other))
                }),
                5,
                "another device answered",
            ),
            (Lie::Answer(|_, _| steering(code::NOT_FOUND)), 3, "no commissioning device"),
            (Lie::Answer(|_, _| steering(code::SERVICE_UNAVAILABLE)), 3, "no commissioning device"),
            // A name that would clear the screen is shown, and does not; it differs from what is said under protection.
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.firmware = "\x1b[2J\u{202e}liar")),
                5,
                "\\u{1b}[2J\\u{202e}liar",
            ),
            // However slow it says it is: it answers at once.
            (Lie::Answer(|_, answer| with_info(answer, |info| info.operation_ms = u32::MAX)), 5, "speed"),
            (
                Lie::Datagrams(|answer| {
                    let id = answer.header.message_id.to_be_bytes();
                    vec![vec![0x70, 0, id[0], id[1]]]
                }),
                4,
                "RST",
            ),
        ],
    );
    refused(bench, Stage::Comm, &harmless());
}

fn lies_in_the_handshake_are_refused(bench: &Bench) {
    refused(bench, Stage::Message1, &everywhere());
    refused(
        bench,
        Stage::Message1,
        &[
            (Lie::Answer(|_, answer| with_payload(answer, b"")), 5, "handshake failed"),
            (Lie::Answer(|_, answer| with_payload(answer, b"junk")), 5, "handshake failed"),
            (
                Lie::Answer(|_, answer| {
                    let repeated = answer.payload.repeat(20);
                    with_payload(answer, &repeated)
                }),
                5,
                "handshake failed",
            ),
            (Lie::Answer(|request, answer| with_payload(answer, &request.payload[1..])), 5, "handshake failed"),
            // A point that is none.
            (
                Lie::Answer(|_, mut answer| {
                    while PublicKey::from_x(&answer.payload[2..34].try_into().unwrap()).is_ok() {
                        answer.payload[2] = answer.payload[2].wrapping_add(1);
                    }
                    answer
                }),
                5,
                "handshake failed",
            ),
            // The last byte is the MAC's, the one behind G_Y is C_R's: a stranger on the line can flip the bits of both.
            (
                Lie::Answer(|_, mut answer| {
                    *answer.payload.last_mut().unwrap() ^= 1;
                    answer
                }),
                5,
                "handshake failed",
            ),
            (
                Lie::Answer(|_, mut answer| {
                    answer.payload[34] = !answer.payload[34];
                    answer
                }),
                5,
                "handshake failed",
            ),
            // Somebody else, with a key of its own.
            (
                Lie::Answer(|request, answer| {
                    let (_, message_2) = respond(&request.payload, &PrivateKey::generate(&mut OsRng));
                    with_payload(answer, &message_2)
                }),
                5,
                "another device answered",
            ),
            (Lie::Answer(|_, _| response(code::BAD_REQUEST, 64, b"\x02\x02")), 5, "another cipher suite first"),
            (Lie::Answer(|_, _| response(code::BAD_REQUEST, 64, b"\x02\x03")), 5, "does not speak cipher suite 2"),
            (Lie::Answer(|_, _| response(code::BAD_REQUEST, 64, b"\x01\x65\x1b[2Jx")), 5, "\\u{1b}[2Jx"),
            (Lie::Answer(|_, _| response(code::BAD_REQUEST, 64, b"\x01\x7b\xff\xff\xff\xff\xff")), 5, "no EDHOC"),
            (Lie::Answer(|_, _| steering(code::NOT_FOUND)), 5, "no EDHOC"),
        ],
    );
    refused(bench, Stage::Message1, &harmless());
}

/// A device that is ours by then takes the station's token, or does not.
fn lies_about_a_token_are_refused(bench: &Bench) {
    let refusals = [
        (Lie::Answer(|_, _| steering(code::UNAUTHORIZED)), 5, "does not accept this station"),
        (Lie::Answer(|_, _| steering(code::INTERNAL_SERVER_ERROR)), 5, "does not accept this station"),
    ];
    for (lie, exit, sentence) in everywhere().into_iter().chain(refusals) {
        let id = format!("urn:dev:ops:32473-liar-{}", LIARS.fetch_add(1, Ordering::Relaxed));
        let liar = Liar::start(bench.cable, &id, Stage::Token, lie);
        commissioner(bench, &["commission", &liar.link]).succeeded();
        commissioner(bench, &["commission", &liar.link]).ended_with(exit).saying(sentence);
    }
    assert!(bench.statuses().iter().all(|status| status == "active"), "nothing changed for what is said there");
}

/// What is found out whatever the protected request was.
fn below_protection() -> Vec<Case> {
    vec![
        (Lie::Datagrams(|answer| unprotected(&answer, code::CONTENT)), 5, "unprotected"),
        (Lie::Datagrams(|answer| unprotected(&answer, code::UNAUTHORIZED)), 5, "unprotected"),
        (
            Lie::Datagrams(|mut answer| {
                *answer.payload.last_mut().unwrap() ^= 1;
                vec![encode(&answer)]
            }),
            5,
            "error: ",
        ),
        (Lie::Datagrams(|answer| vec![encode(&with_payload(answer, b""))]), 5, "error: "),
        (Lie::Datagrams(|answer| vec![encode(&with_payload(answer, &[0; 1900]))]), 5, "error: "),
        (
            Lie::Datagrams(|mut answer| {
                answer.clear_option(CoapOption::Oscore);
                vec![encode(&with_option(answer, option::OSCORE, &[0xff; 20]))]
            }),
            5,
            "error: ",
        ),
        (Lie::Answer(|request, _| with_payload(request.clone(), b"")), 5, "a request in place of a response"),
        (Lie::Answer(|_, _| steering(code::FORBIDDEN)), 5, r"\u{1b}[2J\u{7}no (\r\u{9b}1mnever)"),
    ]
}

/// The answer that anybody can send who saw the request.
fn unprotected(answer: &Packet, code: u8) -> Vec<Vec<u8>> {
    let mut forged = response(code, 60, b"believe me");
    forged.header = answer.header.clone();
    forged.header.code = code.into();
    forged.set_token(answer.get_token().to_vec());
    vec![encode(&forged)]
}

fn lies_under_protection_are_refused(bench: &Bench) {
    refused(bench, Stage::Protected, &everywhere());
    refused(bench, Stage::Protected, &below_protection());
    refused(
        bench,
        Stage::Protected,
        &[
            (Lie::Answer(|_, answer| with_payload(answer, b"")), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_payload(answer, &[0x81; 1000])), 5, "cannot be read"),
            (Lie::Answer(|_, answer| with_version(answer, 2)), 5, "schema version 2"),
            (
                Lie::Answer(|_, answer| with_info(answer, |info| info.device = ID.parse().unwrap())),
                5,
                "differs from what was answered before (device ID)",
            ),
        ],
    );
    refused(bench, Stage::Protected, &harmless()[..3]);
}

fn lies_about_the_receipt_install_nothing(bench: &Bench) {
    refused(bench, Stage::Claim, &below_protection());
    refused(
        bench,
        Stage::Claim,
        &[
            (Lie::Answer(|request, answer| endless(request, answer, 16)), 5, "larger than 65536 bytes"),
            (Lie::Answer(|_, _| response(code::CONTINUE, 60, b"")), 5, "2.31"),
            (Lie::Answer(|_, answer| with_payload(answer, b"")), 5, "receipt cannot be read"),
            (Lie::Answer(|_, answer| with_payload(answer, &[0xa0; 1000])), 5, "receipt cannot be read"),
            (
                Lie::Answer(|_, answer| {
                    let receipt = Receipt { digest: [0; 32], ..Receipt::decode(&answer.payload).unwrap() };
                    with_payload(answer, &encoded(|out| receipt.encode(out)))
                }),
                5,
                "does not fit what it was sent (the contents)",
            ),
        ],
    );
    refused(bench, Stage::Claim, &harmless()[..3]);
}

fn endless_and_deep_answers_are_cut_off_or_shown_safely(bench: &Bench) {
    let get = |lie| {
        let liar = Liar::start(bench.cable, ID, Stage::Other, lie);
        commissioner(bench, &["get", "/comm/slots/x", &liar.link])
    };
    for (lie, exit, sentence) in everywhere().into_iter().chain(below_protection()) {
        get(lie).ended_with(exit).saying(sentence);
    }
    // As much as is taken, nested as deep as it goes, or no CBOR at all; then text that steers the terminal.
    for (lie, shown) in [
        (Lie::Answer(|request, answer| longest(request, answer, 0x81)), "8181"),
        (Lie::Answer(|request, answer| longest(request, answer, 0xff)), "ffff"),
        (Lie::Answer(|request, answer| longest(request, answer, 0x00)), "0,\n0"),
    ] {
        let text = get(lie).ended_with(0).stdout;
        assert!(text.starts_with(shown) && text.len() > 128 * 1024, "{}", &text[..40]);
    }
    let steering = get(Lie::Answer(|_, _| response(code::CONTENT, 60, b"\x67\x1b[2J\xc2\x9b\x07"))).ended_with(0);
    assert!(steering.stdout.contains("[2J"), "{}", steering.stdout);
}

fn what_others_send_beside_the_answer_does_no_harm(bench: &Bench) {
    let noise = Lie::Datagrams(|answer| {
        let (mut other, mut earlier) = (answer.clone(), answer.clone());
        other.set_token(b"abcd".to_vec());
        earlier.header.message_id ^= 1;
        (other.payload, earlier.payload) = (b"other".to_vec(), b"earlier".to_vec());
        let mut datagrams = vec![
            Vec::new(),
            vec![0x40],
            vec![0xff; 100],
            vec![0x60; MAX_DATAGRAM + 1],
            encode(&earlier),
            [&encode(&answer)[..2], &[0; 9]].concat(),
        ];
        // A ping is told apart by its Message ID alone.
        if answer.header.code != coap_lite::MessageClass::Empty {
            datagrams.push(encode(&other));
        }
        datagrams.extend((0..50).map(|id| vec![0x40, 0, 0, id]));
        datagrams.push(encode(&answer));
        datagrams
    });
    for (number, stage) in
        [Stage::Ping, Stage::Comm, Stage::Message1, Stage::Protected, Stage::Claim].into_iter().enumerate()
    {
        let liar = Liar::start(bench.cable, &format!("urn:dev:ops:32473-noise-{number}"), stage, noise);
        commissioner(bench, &["commission", &liar.link]).succeeded();
    }
    assert_eq!(bench.statuses(), ["active"; 5]);
}

/// It has the ID of a device of ours and a key of its own; nothing is done with it, and nothing to ours. (It would blink
/// for anybody, as long as it has no owner.)
fn an_impostor_is_turned_away_until_the_user_says_otherwise(bench: &Bench) {
    let mine = bench.start("mine", ID);
    commissioner(bench, &["commission", &mine.link]).succeeded();
    let mut impostor = bench.start("impostor", ID);
    for command in [&["commission"][..], &["rekey"], &["reset"], &["get", "/comm/owner"]] {
        let refused = commissioner(bench, &[command, &[&impostor.link]].concat());
        refused.ended_with(6);
    }
    assert_eq!(bench.statuses(), ["active", "pending"]);
    commissioner(bench, &["commission", &mine.link]).succeeded();
    // The user's word makes it the one; then the other one is out, and stays out.
    commissioner(bench, &["commission", &impostor.link, "--accept-new-key"]).succeeded();
    commissioner(bench, &["commission", &mine.link, "--accept-new-key"]).ended_with(6).saying("revoked");
    assert_eq!(bench.statuses(), ["revoked", "active"]);
    commissioner(bench, &["identify", &impostor.link]).succeeded();
    impostor.expect_line("identify");
}

/// Page by page of an owned device's flash image: the device is as it was. With both halves of its storage damaged it is at
/// fault, and nobody's to claim.
fn a_device_with_a_damaged_page_is_not_claimed_again(bench: &Bench) {
    const PAGE: usize = 4096;
    commissioner(bench, &["commission", &bench.start("flash", ID).link]).succeeded();
    bench.commissioner_of("thief", &["init"]).succeeded();
    let image = std::fs::read(bench.path("flash")).expect("a flash image");
    let pages = (0..image.len() / PAGE).map(|page| (page * PAGE..(page + 1) * PAGE, 0xff));
    let mut faults = 0;
    for (range, fill) in pages.chain([(0..2 * PAGE, 0x00)]) {
        let mut damaged = image.clone();
        damaged[range].fill(fill);
        std::fs::write(bench.path("flash"), &damaged).expect("it can be written");
        let device = bench.start("flash", ID);
        let thief = bench.commissioner_of("thief", &["commission", &device.link]).ended_with(5);
        if thief.stderr.contains("damaged storage") {
            faults += 1;
            commissioner(bench, &["commission", &device.link]).ended_with(5).saying("damaged storage");
        } else {
            thief.saying("has an owner");
            commissioner(bench, &["commission", &device.link]).succeeded();
        }
    }
    assert_eq!(faults, 1);
    assert_eq!(bench.statuses(), ["active"], "whatever the device says, its key is still the one");
}

/// Nobody owned it until a moment ago, so nobody gave it a list, whatever it says of that.
#[test]
fn a_device_that_is_claimed_stops_nobody_by_the_list_that_it_says_it_holds() {
    fn holds(answer: Packet, version: u64) -> Packet {
        let view = PeersView { version: Some(version), mode: Some(ListMode::Members), held: 1, capacity: 64 };
        with_payload(answer, &encoded(|out| view.encode(out)))
    }
    let when_asked: fn(&Packet, Packet) -> Packet = |_, answer| holds(answer, 4_000_000_000);
    let when_given: fn(&Packet, Packet) -> Packet = |request, answer| match u8::from(request.header.code) {
        code::PUT => holds(answer, 7),
        _ => with_payload(
            answer,
            &encoded(|out| PeersView { version: None, mode: None, held: 0, capacity: 64 }.encode(out)),
        ),
    };
    let bench = &Bench::initialised(Cable::Udp);
    let mine = bench.start("mine", ID);
    commissioner(bench, &["commission", &mine.link]).succeeded();
    commissioner(bench, &["distribute", &mine.link]).succeeded();
    for (number, lie) in [when_asked, when_given].into_iter().enumerate() {
        let id = format!("urn:dev:ops:32473-boaster-{number}");
        let liar = Liar::start(bench.cable, &id, Stage::Other, Lie::Answer(lie));
        let refused = commissioner(bench, &["commission", &liar.link]).ended_with(6).saying("claimed a moment ago");
        assert!(!refused.stderr.contains("Nothing is signed"), "{}", refused.stderr);
        // Everybody else goes on, and so does whatever takes a signature.
        commissioner(bench, &["distribute", &mine.link]).succeeded();
        commissioner(bench, &["revoke", &id]).succeeded();
        commissioner(bench, &["distribute", &mine.link]).succeeded();
    }
}
