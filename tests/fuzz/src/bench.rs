//! Devices in each state, always the same ones, and who talks to them.

use std::sync::LazyLock;

use cbor_schemas::{
    Aif, Audience, Condition, DeviceCertificateClaims, DeviceInfo, IssuerId, KeyOrigin, Kind, ProofLevel, Sign1,
    SlotContents, SlotRequest, SlotState, StationTokenClaims,
};
use coap_message::ReadableMessage;
use coap_message_implementations::inmemory::{Message, MessageMut};
use device::{DATAGRAM_LEN, transport::Service};
use end_to_end::one_process::{Dice, Flash, OnBench};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use protocol::{
    coap::Datagram,
    edhoc::{ConnId, Initiator, Transfer},
    key::{PrivateKey, PublicKey},
    oscore::{Context, Correlation},
    sign1,
};

/// When the certificate of certified devices was signed.
const THEN: u64 = 1_000;
/// The newest `iat` that owned devices have seen.
pub(crate) const WATERMARK: u64 = THEN + 10;
/// The address of the owner's station. Fuzzed datagrams come from other ones.
const STATION: u8 = 9;
/// Ends the name of every device here.
const NAME: &str = "fuzz";

/// The state of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The flash was blank until just now.
    Blank,
    Unowned,
    Anchored,
    Certified,
    Fault,
}

/// All of them.
pub(crate) const STATES: [State; 5] = [State::Blank, State::Unowned, State::Anchored, State::Certified, State::Fault];

/// Flash images by state: made once, for key generation is slow.
static IMAGES: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let unowned = OnBench::start(NAME, Flash::erased(), 1);
    let key = unowned.info().credential.expect("a key");
    let with_owner = |certificate: Option<&[u8]>| {
        let flash = Flash::new(unowned.flash().contents());
        let contents = SlotContents { anchor: owner().public().cose_key(), certificate };
        let contents = encoded(|out| contents.encode(out));
        flash.store().0.set_owner(&contents, 1, Some(WATERMARK), None).expect("the flash works");
        flash.contents()
    };
    let claims = DeviceCertificateClaims {
        issuer: IssuerId(owner().public().kid()),
        subject: unowned.info().device,
        issued_at: THEN,
        cti: [7; 8],
        key,
        key_origin: KeyOrigin::Generated,
        proof: ProofLevel::Proved,
    };
    let certified = with_owner(Some(&signed(Kind::DeviceCertificate, &encoded(|out| claims.encode(out)))));
    let mut fault = certified.clone();
    let layout = Flash::layout();
    fault[layout.half_a.start as usize..layout.half_b.end as usize].fill(0);
    [Flash::erased().contents(), unowned.flash().contents(), with_owner(None), certified, fault]
});

/// The key that the anchor of owned devices belongs to.
pub(crate) fn owner() -> PrivateKey {
    PrivateKey::generate(&mut Dice(99))
}

/// The key of the owner's station.
pub(crate) fn station() -> PrivateKey {
    PrivateKey::generate(&mut Dice(98))
}

/// Signed by the owner.
pub(crate) fn signed(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut to_be_signed = Vec::new();
    Sign1::to_be_signed(kind, payload, &mut |bytes| to_be_signed.extend_from_slice(bytes));
    let signature: Signature = SigningKey::from_slice(owner().as_bytes()).expect("a key").sign(&to_be_signed);
    let object = Sign1 { kind, payload, signature: signature.to_bytes().into() };
    encoded(|out| object.encode(out))
}

/// What is encoded into a buffer that is long enough.
pub(crate) fn encoded(encode: impl FnOnce(&mut [u8]) -> Result<usize, cbor_schemas::Error>) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let len = encode(&mut buffer).expect("it fits");
    buffer.truncate(len);
    buffer
}

/// What a token says that the owner gives the station, for the device of `info`.
pub(crate) fn token_claims(info: &DeviceInfo<'_>) -> StationTokenClaims {
    StationTokenClaims {
        issuer: IssuerId(owner().public().kid()),
        audience: Audience::Device(info.device),
        expires_at: None,
        issued_at: WATERMARK,
        key: station().public().cose_key(),
        scope: Aif::everything(),
        cnonce: Some(info.nonce),
    }
}

/// A CoAP request without a token: `tail` is its options and payload.
pub(crate) fn request(code: u8, message_id: u16, tail: &[u8]) -> Vec<u8> {
    let [high, low] = message_id.to_be_bytes();
    [&[0x40, code, high, low], tail].concat()
}

/// Bytes with their length in front, of two bytes. A length beyond the end is what is left.
pub(crate) fn next_piece(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[high, low], rest) = input.split_first_chunk()?;
    Some(rest.split_at(usize::from(u16::from_be_bytes([high, low])).min(rest.len())))
}

pub(crate) fn piece(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Something that answers datagrams.
pub(crate) trait Talks {
    /// One datagram in, and the one that comes out.
    fn ask(&mut self, from: u8, datagram: &[u8]) -> Option<Vec<u8>>;
    fn info(&self) -> DeviceInfo<'static>;

    /// It goes on serving.
    #[track_caller]
    fn check_serves(&mut self) {
        const GET_COMM: &[u8] = b"\x42\x01\xfe\xdc\xba\x98\xb4comm";
        let answer = self.ask(STATION, GET_COMM).expect("an answer");
        assert_eq!(answer.get(1), Some(&0x45));
    }

    /// What strangers can never change.
    fn unchanging(&self) -> DeviceInfo<'static> {
        DeviceInfo { nonce: [0; 8], ..self.info() }
    }
}

/// The certificate is the anchor's, about this device and its key.
#[track_caller]
pub(crate) fn check_certificate(info: &DeviceInfo<'_>, anchor: &PublicKey, certificate: &[u8]) {
    let object = Sign1::decode_as(Kind::DeviceCertificate, certificate).expect("a certificate");
    sign1::verify(anchor, &object).expect("signed by the anchor");
    let claims = DeviceCertificateClaims::decode(object.payload).expect("claims");
    assert_eq!((claims.subject, Some(claims.key)), (info.device, info.credential));
}

/// A device, and all that it heard. By its clock, each datagram takes a second.
pub(crate) struct Bench {
    device: OnBench,
    pub(crate) heard: Vec<Vec<u8>>,
}

impl Bench {
    /// A device that was just started in a state.
    pub(crate) fn start(state: State) -> Self {
        let device = OnBench::start(NAME, Flash::new(IMAGES[state as usize].clone()), 2);
        Bench { device, heard: Vec::new() }
    }

    /// What the device says is what another start finds; and a certificate that it holds is its owner's, about its key.
    #[track_caller]
    pub(crate) fn check_durable(&mut self) {
        let said = self.unchanging();
        if said.condition == Condition::Ok {
            let slot = self.device.owner_slot();
            assert_eq!(said.owner == SlotState::Empty, slot.is_none());
            if let Some((anchor, Some(certificate))) = slot {
                check_certificate(&said, &PublicKey::from_x(&anchor).expect("a key"), &certificate);
            }
        }
        self.device.reset();
        assert_eq!(self.unchanging(), said, "after a restart");
    }
}

impl Talks for Bench {
    fn ask(&mut self, from: u8, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut answer = [0; DATAGRAM_LEN];
        let len = self.handle(from, &mut datagram.to_vec(), 0, &mut answer)?;
        Some(answer[..len].to_vec())
    }

    fn info(&self) -> DeviceInfo<'static> {
        self.device.info()
    }
}

impl Service<u8> for Bench {
    fn handle(&mut self, from: u8, datagram: &mut [u8], _now: u64, out: &mut [u8]) -> Option<usize> {
        self.heard.push(datagram.to_vec());
        self.device.handle(from, datagram, self.heard.len() as u64 * 1_000, out)
    }
}

/// Somebody who has a session with the device.
pub(crate) struct Peer {
    from: u8,
    context: Context,
    message_id: u16,
}

impl Peer {
    /// A key that nobody vouches for.
    pub(crate) fn stranger(bench: &mut impl Talks) -> Self {
        Peer::connect(bench, 0, &PrivateKey::generate(&mut Dice(6)), Transfer::ByValue)
    }

    /// The owner's station, with a token.
    pub(crate) fn station(bench: &mut Bench) -> Self {
        let token = signed(Kind::StationToken, &encoded(|out| token_claims(&bench.info()).encode(out)));
        let answer = bench.ask(STATION, &request(2, 0x55_00, &[b"\xbaauthz-info\xff", &token[..]].concat()));
        assert_eq!(answer.expect("an answer").get(1), Some(&0x41));
        Peer::connect(bench, STATION, &station(), Transfer::ByKid)
    }

    /// All of EDHOC, message_3 sent alone.
    fn connect(bench: &mut impl Talks, from: u8, key: &PrivateKey, transfer: Transfer) -> Self {
        let device = bench.info().credential.expect("the device is whole");
        let device = PublicKey::from_cose(&device).expect("a key");
        let c_i = ConnId::new(0).expect("a connection identifier");
        let (initiator, message_1) = Initiator::start(key, c_i, &mut Dice(7)).expect("it starts");
        let answer = bench.ask(from, &edhoc(0x66_01, &[&[0xf5], &message_1[..]].concat())).expect("an answer");
        let message_2 = payload(&answer);
        let (pending, message_3) = initiator.finish(message_2, transfer, |_| Some(device)).expect("message_2");
        let answer = bench.ask(from, &edhoc(0x66_02, &[&[pending.c_r.byte()], &message_3[..]].concat()));
        let context = pending.confirm(Some(payload(&answer.expect("an answer")))).expect("message_4");
        Peer { from, context, message_id: 0x77_00 }
    }

    /// A protected request with this code, options and payload. `None` if it cannot be protected.
    pub(crate) fn protect(&mut self, code: u8, tail: &[u8]) -> Option<(Vec<u8>, Correlation)> {
        let (mut outer_code, mut outer, mut scratch) = (0, [0; 2048], [0; 2048]);
        let mut message = MessageMut::new_in_slice(&mut outer_code, &mut outer);
        let inner = Message::new_from_slice(code, tail);
        let correlation = self.context.protect_request(&inner, &mut message, &mut scratch).ok()?;
        let len = message.finish().0;
        self.message_id += 1;
        Some((request(outer_code, self.message_id, &outer[..len]), correlation))
    }

    /// The code of the protected answer; `None` if the request cannot be protected, or the session is over.
    pub(crate) fn ask(&mut self, bench: &mut impl Talks, code: u8, tail: &[u8]) -> Option<u8> {
        let (datagram, correlation) = self.protect(code, tail)?;
        let answer = bench.ask(self.from, &datagram)?;
        let answer = Datagram::parse(&answer).expect("CoAP");
        let mut buffer = [0; 2048];
        Some(self.context.unprotect_response(&answer.message(), &mut buffer, &correlation).ok()?.code())
    }
}

/// `POST /.well-known/edhoc`.
pub(crate) fn edhoc(message_id: u16, payload: &[u8]) -> Vec<u8> {
    request(2, message_id, &[b"\xbb.well-known\x05edhoc\xff", payload].concat())
}

/// What certified devices hold, as their owner puts it there.
pub(crate) fn certified_contents() -> &'static [u8] {
    static CONTENTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let (_, certificate) = Bench::start(State::Certified).device.owner_slot().expect("an owner");
        let anchor = owner().public().cose_key();
        encoded(|out| SlotRequest { anchor, certificate: certificate.as_deref(), voucher: None }.encode(out))
    });
    &CONTENTS
}

fn payload(datagram: &[u8]) -> &[u8] {
    let payload = Datagram::parse(datagram).expect("CoAP").payload_length();
    &datagram[datagram.len() - payload..]
}
