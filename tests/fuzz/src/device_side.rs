//! What reaches a device.

use std::{cell::RefCell, convert::Infallible};

use cbor_schemas::{Audience, IssuerId, Kind, Sign1, SlotRequest, StationTokenClaims, VoucherClaims, Watermarks};
use device::{
    insides::{Anchor, Offer, Role, Verifier, Voucher, VoucherVerifier},
    transport::serial::Serial,
    transport::{LogLine, serve},
};
use embedded_io_async::{ErrorType, Read, Write};
use end_to_end::one_process::Dice;
use protocol::{
    edhoc::{ConnId, Initiator, Responder, Transfer},
    key::{PrivateKey, PublicKey},
};

use crate::{
    Seeds,
    bench::{
        Bench, Peer, STATES, State, Talks, WATERMARK, certified_contents, edhoc, encoded, next_piece, owner, piece,
        request, signed, station, token_claims,
    },
    recording::{self, recordings},
};

/// A token at a certified device, or, after an odd first byte, claims that its owner signs.
pub(crate) fn token(input: &[u8]) -> bool {
    let Some((is_signed, input)) = input.split_first() else { return false };
    let info = Bench::start(State::Certified).info();
    let anchors = [Anchor { key: *owner().public(), role: Role::Owner, watermark: Some(WATERMARK), min_iat: 0 }];
    let own_key = PublicKey::from_cose(&info.credential.expect("the device is whole")).expect("a key");
    let verifier = Verifier { anchors: &anchors, device: info.device, own_key, nonce: info.nonce, list_mode: None };
    let token = match is_signed % 2 {
        0 => input.to_vec(),
        _ => signed(Kind::StationToken, &input[..input.len().min(1_200)]),
    };
    let Ok(grant) = verifier.accept(&token, || Ok(())) else { return false };
    let object = Sign1::decode(&token).expect("it was accepted");
    let claims = StationTokenClaims::decode(object.payload).expect("it was accepted");
    if is_signed % 2 == 0 {
        assert!(tokens().iter().any(|token| *token == input), "nobody signed that");
    }
    let is_for_us = match claims.audience {
        Audience::Device(device) => device == info.device,
        Audience::All(issuer) => issuer.0 == owner().public().kid(),
    };
    let is_fresh = claims.cnonce == Some(info.nonce)
        || claims.cnonce.is_none() && claims.expires_at.is_some_and(|expires_at| expires_at >= WATERMARK);
    assert!(is_for_us && is_fresh && grant.role == Role::Owner);
    assert_eq!(grant.key.cose_key(), claims.key);
    true
}

/// Tokens that the device takes.
fn tokens() -> Vec<Vec<u8>> {
    claims_taken().iter().map(|claims| signed(Kind::StationToken, &encoded(|out| claims.encode(out)))).collect()
}

fn claims_taken() -> [StationTokenClaims; 3] {
    let claims = token_claims(&Bench::start(State::Certified).info());
    let all = Audience::All(claims.issuer);
    [
        claims,
        StationTokenClaims { audience: all, ..claims },
        StationTokenClaims { expires_at: Some(WATERMARK), cnonce: None, ..claims },
    ]
}

pub(crate) fn token_seeds() -> Seeds {
    let after = |first: u8, bytes: &[u8]| [&[first], bytes].concat();
    let whole = tokens().into_iter().map(|token| after(0, &token));
    let claims = claims_taken().map(|claims| encoded(|out| claims.encode(out)));
    let signed_here = claims.iter().map(|claims| after(1, claims));
    let taken @ [claims, ..] = claims_taken();
    let other: cbor_schemas::DeviceId = "urn:dev:ops:32473-other".parse().expect("a device ID");
    let refused = [
        StationTokenClaims { audience: Audience::Device(other), ..claims },
        StationTokenClaims { key: owner().public().cose_key(), ..claims },
        StationTokenClaims { cnonce: Some([0; 8]), ..claims },
        StationTokenClaims { expires_at: Some(WATERMARK - 1), ..claims },
        StationTokenClaims { issued_at: 5, expires_at: Some(WATERMARK - 1), ..taken[2] },
    ];
    let refused = refused.iter().map(|claims| after(1, &encoded(|out| claims.encode(out))));
    let recorded = recording::tokens().into_iter().map(|token| after(0, &token));
    Seeds { accepted: whole.chain(signed_here).collect(), others: refused.chain(recorded).collect() }
}

/// A voucher at a certified device, or, after an odd first byte, claims that its owner signs.
pub(crate) fn voucher(input: &[u8]) -> bool {
    let Some((is_signed, input)) = input.split_first() else { return false };
    let info = Bench::start(State::Certified).info();
    let own_key = PublicKey::from_cose(&info.credential.expect("the device is whole")).expect("a key");
    let input = &input[..input.len().min(1_200)];
    let voucher = if is_signed % 2 == 0 { input.to_vec() } else { signed(Kind::Voucher, input) };
    let anchor = next_owner().cose_key();
    let request = SlotRequest { anchor, certificate: Some(&[]), voucher: Some(&voucher) };
    let body = encoded(|out| request.encode(out));
    let offer = Offer::parse(&body, &own_key).expect("a slot request");
    let (device, claim_counter) = (info.device, info.claim_counter);
    let watermarks = Watermarks { factory: None, owner: Some(8) };
    let verifier = VoucherVerifier {
        device,
        claim_counter,
        factory: None,
        owner: Some(*owner().public()),
        min_iat: 7,
        watermarks,
    };
    let Ok(Some(vouched)) = verifier.verify(&offer) else { return false };
    if is_signed % 2 == 0 {
        assert_eq!(input, signed_voucher(), "nobody signed that");
    }
    let object = Sign1::decode(&voucher).expect("it was accepted");
    let claims = VoucherClaims::decode(object.payload).expect("it was accepted");
    assert_eq!((claims.subject, claims.claim_counter, claims.key), (device, claim_counter, anchor));
    assert!(vouched.by == Voucher::Owner && vouched.issued_at == claims.issued_at && claims.issued_at >= 7);
    true
}

fn next_owner() -> PublicKey {
    *PrivateKey::generate(&mut Dice(97)).public()
}

/// What the voucher says that the device takes.
fn voucher_claims() -> VoucherClaims {
    let info = Bench::start(State::Certified).info();
    VoucherClaims {
        issuer: IssuerId(owner().public().kid()),
        subject: info.device,
        expires_at: Some(WATERMARK),
        issued_at: WATERMARK,
        key: next_owner().cose_key(),
        claim_counter: info.claim_counter,
    }
}

fn signed_voucher() -> Vec<u8> {
    signed(Kind::Voucher, &encoded(|out| voucher_claims().encode(out)))
}

pub(crate) fn voucher_seeds() -> Seeds {
    let after = |first: u8, bytes: &[u8]| [&[first], bytes].concat();
    let claims = voucher_claims();
    let encode = |claims: &VoucherClaims| after(1, &encoded(|out| claims.encode(out)));
    let other: cbor_schemas::DeviceId = "urn:dev:ops:32473-other".parse().expect("a device ID");
    let refused = [
        VoucherClaims { subject: other, ..claims },
        VoucherClaims { key: station().public().cose_key(), ..claims },
        VoucherClaims { claim_counter: claims.claim_counter + 1, ..claims },
        VoucherClaims { issued_at: 6, ..claims },
        VoucherClaims { expires_at: Some(7), ..claims },
        VoucherClaims { issuer: IssuerId([0; 8]), ..claims },
    ];
    Seeds { accepted: vec![after(0, &signed_voucher()), encode(&claims)], others: refused.iter().map(encode).collect() }
}

/// Bytes on the serial line of a device that nobody owns. Whatever they were, the next frame is served.
pub(crate) fn serial(input: &[u8]) -> bool {
    let bench = RefCell::new(Bench::start(State::Unowned));
    let mut port = Line { input: [input, &frame(&request(0, 0x12_34, &[]))].concat(), at: 0, output: Vec::new() };
    let mut link = Serial::new(&mut port, 0_u8);
    let silent = async || std::future::pending::<LogLine>().await;
    let closed = embassy_futures::block_on(serve(&bench, &mut link, || 0, silent));
    assert!(closed.is_err(), "the line ends with the input");
    assert!(port.output.windows(4).any(|bytes| bytes == b"\x70\x00\x12\x34"), "the ping is answered by a Reset");
    let mut bench = bench.into_inner();
    bench.check_durable();
    bench.info().claim_counter > 0
}

pub(crate) fn serial_seeds() -> Seeds {
    let streams = recordings().iter().map(|recording| recording.requests().flat_map(frame).collect());
    let noise = b"\xc0\x0ahello\xc0\xdb\xc0\x45\xdd\xc0".to_vec();
    Seeds { accepted: streams.collect(), others: vec![noise, frame(&request(1, 9, b"\xb4comm"))] }
}

/// A slipmux configuration frame.
fn frame(datagram: &[u8]) -> Vec<u8> {
    let mut encoder = slipmux::ChunkedEncoder::new(slipmux::FrameType::Configuration, datagram);
    let mut bytes = vec![0; 2 * datagram.len() + 16];
    let len = encoder.encode_chunk(&mut bytes);
    bytes.truncate(len);
    bytes
}

/// What a commissioner sends to a device that nobody owns, from the first visit to whatever came later: the device plays
/// the same part again, with the same random numbers. Each datagram has its length in front.
pub(crate) fn session(mut input: &[u8]) -> bool {
    let mut bench = Bench::start(State::Unowned);
    while let Some((datagram, rest)) = next_piece(input) {
        bench.ask(0, datagram);
        input = rest;
    }
    bench.check_serves();
    let was_claimed = bench.info().claim_counter > 0;
    bench.check_durable();
    was_claimed
}

pub(crate) fn session_seeds() -> Seeds {
    let whole = |recording: &recording::Recording| recording.requests().flat_map(piece).collect();
    Seeds { accepted: recordings().iter().map(whole).collect(), others: Vec::new() }
}

/// Datagrams without security to a device in the state that the first byte chooses: see [`STATES`]; beyond them, a
/// certified device has a session with its owner, or has the first block of a body from it. Each datagram has its sender
/// and its length in front.
pub(crate) fn datagrams(input: &[u8]) -> bool {
    const BLOCK: usize = 256;
    let Some((situation, mut rest)) = input.split_first() else { return false };
    let situation = usize::from(*situation) % (STATES.len() + 2);
    let mut bench = Bench::start(STATES.get(situation).copied().unwrap_or(State::Certified));
    let mut station = (situation >= STATES.len()).then(|| Peer::station(&mut bench));
    let contents = certified_contents();
    let put =
        |block_1: u8, payload: &[u8]| [b"\xb4comm\x05owner\x11\x3c\xd1\x02", &[block_1][..], b"\xff", payload].concat();
    let is_mid_block = situation == STATES.len() + 1;
    if is_mid_block && let Some(station) = &mut station {
        assert_eq!(station.ask(&mut bench, 3, &put(0x0c, &contents[..BLOCK])), Some(0x5f));
    }
    let before = bench.unchanging();

    let mut served = false;
    while let Some((from, more)) = rest.split_first()
        && let Some((datagram, behind)) = next_piece(more)
    {
        let answer = bench.ask(from % 4, datagram);
        served |= answer.is_some_and(|answer| answer.get(1).is_some_and(|code| code >> 5 == 2));
        rest = behind;
    }
    assert_eq!(bench.unchanging(), before, "nothing changes without security");
    bench.check_serves();
    if let Some(station) = &mut station {
        if is_mid_block {
            assert_eq!(station.ask(&mut bench, 3, &put(0x14, &contents[BLOCK..])), Some(0x44), "the body goes on");
        }
        assert_eq!(station.ask(&mut bench, 1, b"\xb4comm\x05owner"), Some(0x45), "the owner's session goes on");
    }
    bench.check_durable();
    served
}

pub(crate) fn datagram_seeds() -> Seeds {
    let core = b"\x50\x01\x00\x05\xbb.well-known\x04core";
    let token = [b"\x41\x02\x00\x03\x09\xbaauthz-info\xff", &tokens()[0][..]].concat();
    // Two that lack their end.
    let c_i = ConnId::new(0).expect("a connection identifier");
    let (_, message_1) = Initiator::start(&owner(), c_i, &mut Dice(11)).expect("it starts");
    let cut = |whole: &[u8]| whole[..whole.len() / 2].to_vec();
    let refused: [&[u8]; 8] = [
        b"\x40\x00\x00\x01",
        b"\x40\x03\x00\x06\xb4comm\x05owner\xff\xa0",
        b"\x40\x02\x00\x07\xb4comm\x05reset",
        b"\x41\x02\x00\x08\x01\x94\x09\x00\x20\xc0\xff01234567890",
        b"\x40\x01\x00\x09\xb4comm\xc1\x22",
        &edhoc(0x0a, &[&[0xf5], &cut(&message_1)[..]].concat()),
        &edhoc(0x0b, &[&[c_i.byte()], &cut(&message_1)[..]].concat()),
        &token,
    ];
    let one = |from: u8, datagram: &[u8]| [&[from], &piece(datagram)[..]].concat();
    let mut seeds = Seeds::default();
    for situation in 0..STATES.len() as u8 + 2 {
        let after = |datagrams: &[u8]| [&[situation], datagrams].concat();
        let info = one(0, &request(1, 1, b"\xb4comm"));
        seeds.accepted.push(after(&info));
        seeds.accepted.push(after(&[one(1, core), info].concat()));
        seeds.others.extend(refused.iter().map(|datagram| after(&one(2, datagram))));
        if STATES.get(usize::from(situation)) != Some(&State::Fault) {
            seeds
                .accepted
                .push(after(&handshake(situation).iter().flat_map(|datagram| one(3, datagram)).collect::<Vec<_>>()));
        }
    }
    // What a commissioner says to a device, here said to one in another state.
    for recording in recordings() {
        let all = recording.requests().flat_map(|datagram| one(0, datagram));
        seeds.others.push([3].into_iter().chain(all).collect());
    }
    seeds
}

/// What a stranger sends for a session at a device in this situation, and to read the owner slot's state.
fn handshake(situation: u8) -> Vec<Vec<u8>> {
    let mut bench = Bench::start(STATES.get(usize::from(situation)).copied().unwrap_or(State::Certified));
    if usize::from(situation) >= STATES.len() {
        Peer::station(&mut bench);
    }
    let already = bench.heard.len();
    let mut stranger = Peer::stranger(&mut bench);
    stranger.ask(&mut bench, 1, b"\xb4comm\x05owner").expect("an answer");
    bench.heard.split_off(already)
}

/// Codes, options and payloads of requests under OSCORE: of a stranger at a device that nobody owns, of a stranger at a
/// certified one, or of its owner, as the first byte says. Each has its length in front.
pub(crate) fn protected(input: &[u8]) -> bool {
    let Some((who, mut rest)) = input.split_first() else { return false };
    let state = if who % 3 == 0 { State::Unowned } else { State::Certified };
    let mut bench = Bench::start(state);
    let mut peer = if who % 3 == 2 { Peer::station(&mut bench) } else { Peer::stranger(&mut bench) };
    let before = bench.unchanging();
    let mut served = false;
    while let Some((message, behind)) = next_piece(rest) {
        rest = behind;
        let Some((code, tail)) = message.split_first() else { continue };
        // What cannot be protected is refused on this side already; what is answered plain, the session's end.
        served |= peer.ask(&mut bench, *code, tail).is_some_and(|code| code >> 5 == 2);
    }
    if who % 3 == 1 {
        assert_eq!(bench.unchanging(), before, "a stranger changes nothing of an owned device");
    }
    bench.check_serves();
    bench.check_durable();
    served
}

pub(crate) fn protected_seeds() -> Seeds {
    let contents = certified_contents();
    let claim = [b"\x03\xb4comm\x05owner\x11\x3c\xff", contents].concat();
    let (first, last) = contents.split_at(256);
    let first = [b"\x03\xb4comm\x05owner\x11\x3c\xd1\x02\x0c\xff", first].concat();
    let last = [b"\x03\xb4comm\x05owner\x11\x3c\xd1\x02\x14\xff", last].concat();
    let info: &[u8] = b"\x01\xb4comm\xc1\x02";
    let owner: &[u8] = b"\x01\xb4comm\x05owner";
    let factory: &[u8] = b"\x01\xb4comm\x07factory";
    let fill = [b"\x03\xb4comm\x07factory\x11\x3c\xff", contents].concat();
    let all = |who: u8, messages: &[&[u8]]| {
        [vec![who], messages.iter().flat_map(|message| piece(message)).collect()].concat()
    };
    let by_owner = |path: &[u8]| all(2, &[path]);
    Seeds {
        accepted: vec![
            all(0, &[&claim]),
            all(0, &[&first, &last]),
            all(0, &[&fill]),
            all(2, &[&fill]),
            all(0, &[b"\x02\xb4comm\x08identify"]),
            all(1, &[info, owner, factory]),
            all(2, &[info, owner, factory, &claim]),
            all(2, &[&first, &last]),
            by_owner(b"\x01\xb4comm\x05peers"),
            by_owner(b"\x02\xb4comm\x08identify"),
            by_owner(b"\x02\xb4comm\x05rekey\x11\x3c\xff\xa0"),
            by_owner(b"\x02\xb4comm\x05reset"),
        ],
        others: vec![
            all(1, &[&claim, &first, b"\x02\xb4comm\x05rekey", b"\x02\xb4comm\x05reset"]),
            all(1, &[b"\x01\xb4comm\x05peers\xc1\x22"]),
            all(2, &[b"\x03\xb4comm\x07factory\x11\x3c\xff\xa0", b"\x03\xb4comm\x05peers\xff\xa0"]),
        ],
    }
}

/// message_1, and then message_3 to the responder that it started; the first byte is the length of message_1.
pub(crate) fn responder(input: &[u8]) -> bool {
    let Some((len, rest)) = input.split_first() else { return false };
    let (message_1, message_3) = rest.split_at(usize::from(*len).min(rest.len()));
    let Ok((responder, _)) = start_responder(message_1) else { return false };
    let Ok(established) = responder.finish(message_3, |_| Some(*owner().public()), true) else { return false };
    assert!(
        [owner(), station()].iter().any(|key| *key.public() == established.peer.key),
        "nobody holds the key for that"
    );
    true
}

fn start_responder(message_1: &[u8]) -> Result<(Responder, protocol::edhoc::Message), protocol::edhoc::Error> {
    let own = PrivateKey::generate(&mut Dice(8));
    Responder::start(message_1, &own, ConnId::new(1).expect("a connection identifier"), &mut Dice(9))
}

pub(crate) fn responder_seeds() -> Seeds {
    let both = |message_1: &[u8], message_3: &[u8]| [&[message_1.len() as u8], message_1, message_3].concat();
    let c_i = ConnId::new(0).expect("a connection identifier");
    let device = *PrivateKey::generate(&mut Dice(8)).public();
    let mut seeds = Seeds::default();
    for (own, transfer) in [(owner(), Transfer::ByKid), (station(), Transfer::ByValue)] {
        let (initiator, message_1) = Initiator::start(&own, c_i, &mut Dice(11)).expect("it starts");
        let (_, message_2) = start_responder(&message_1).expect("it answers");
        let (_, message_3) = initiator.finish(&message_2, transfer, |_| Some(device)).expect("message_2");
        seeds.accepted.push(both(&message_1, &message_3));
        let mut changed = message_3.to_vec();
        changed.iter_mut().skip(2).for_each(|byte| *byte = !*byte);
        seeds.others.push(both(&message_1, &changed));
    }
    seeds
}

/// A serial line that ends.
struct Line {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl ErrorType for Line {
    type Error = Infallible;
}

impl Read for Line {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let rest = &self.input[self.at..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl Write for Line {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
