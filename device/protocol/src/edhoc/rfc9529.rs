//! The trace of RFC 9529 section 3 (method 3), replayed in both roles with its credentials and ephemeral keys.

use hexlit::hex;
use lakers::{BufferCred, BufferKid, Credential};

use super::credential::Identity;
use super::message::Message1;
use super::*;
use crate::key::PrivateKey;

const MESSAGE_1_FIRST: [u8; 37] = hex!("03065820741a13d7ba048fbb615e94386aa3b61bea5b3d8f65f32620b749bee8d278efa90e");
const MESSAGE_1: [u8; 39] = hex!("0382060258208af6f430ebe18d34184017a9a11bf511c8dff8f834730b96c1b7c8dbca2fc3b637");
const MESSAGE_2: [u8; 45] =
    hex!("582b419701d7f00a26c2dc587a36dd752549f33763c893422c8ea0f955a13a4ff5d59862a1eef9e0e7e1886fcd");
const MESSAGE_3: [u8; 19] = hex!("52e562097bc417dd5919485ac7891ffd90a9fc");
const MESSAGE_4: [u8; 9] = hex!("4828c966b7ca304f83");

const X: [u8; 32] = hex!("368ec1f69aeb659ba37d5a8d45b21bdc0299dceaa8ef235f3ca42ce3530f9525");
const Y: [u8; 32] = hex!("e2f4126777205e853b437d6eaca1e1f753cdcc3e2c69fa884b0a1a640977e418");
const SK_I: [u8; 32] = hex!("fb13adeb6518cee5f88417660841142e830a81fe334380a953406a1305e8706b");
const SK_R: [u8; 32] = hex!("72cc4761dbd4c78f758931aa589d348d1ef874a7e303ede2f140dcf3e6aa4aac");
const CRED_I: &[u8] = &hex!(
    "a2027734322d35302d33312d46462d45462d33372d33322d333908a101a5010202412b2001215820ac75e9ece3e50bfc8ed60399889522405c"
    "47bf16df96660a41298cb4307f7eb62258206e5de611388a4b8a8211334ac7d37ecb52a387d257e6db3c2a93df21ff3affc8"
);
const CRED_R: &[u8] = &hex!(
    "a2026b6578616d706c652e65647508a101a501020241322001215820bbc34960526ea4d32e940cad2a234148ddc21791a12afbcbac93622046"
    "dd44f02258204519e257236b2a0ce2023f0931f1f386ca7afda64fcde0108c224c51eabf6072"
);
const C_I: u8 = 0x37;
const C_R: u8 = 0x27;
const MASTER_SECRET: [u8; 16] = hex!("f9868f6a3aca78a05d1485b35030b162");
const MASTER_SALT: [u8; 8] = hex!("ada24c7dbfc85eeb");

fn key(bytes: &[u8; 32]) -> PrivateKey {
    PrivateKey::from_bytes(bytes).unwrap()
}

fn credential(ccs: &[u8], kid: u8, key: &PrivateKey) -> Credential {
    let bytes = BufferCred::new_from_slice(ccs).unwrap();
    Credential::new_ccs(bytes, *key.public().x()).with_kid(BufferKid::new_from_slice(&[kid]).unwrap())
}

fn identity(ccs: &[u8], kid: u8, key: &PrivateKey) -> Identity {
    let credential = credential(ccs, kid, key);
    Identity { key: *key.public(), id_cred: credential.by_kid().unwrap(), credential }
}

/// The secrets of a role at the end of the trace, and what EDHOC_Exporter makes of them for OSCORE.
fn check_secrets(prk_out: &[u8; 32], prk_exporter: &[u8; 32]) {
    assert_eq!(*prk_out, hex!("2c71afc1a9338a940bb3529ca734b886f30d1aba0b4dc51beeaeabdfea9ecbf8"));
    assert_eq!(*prk_exporter, hex!("e14d06699cee248c5a04bf9227bbcd4ce394de7dcb56db43555474171e6446db"));
    let (mut secret, mut salt) = ([0; 16], [0; 8]);
    suite::export(prk_exporter, 0, &mut secret);
    suite::export(prk_exporter, 1, &mut salt);
    assert_eq!((secret, salt), (MASTER_SECRET, MASTER_SALT));
}

/// A context of the trace.
fn trace_context(sender: u8, recipient: u8) -> oscore::Context {
    oscore::Context::derive(&MASTER_SECRET, &MASTER_SALT, sender.into(), recipient.into())
}

/// `client` and `server` understand each other, in both directions.
fn assert_match(mut client: oscore::Context, mut server: oscore::Context) {
    let (mut request, mut response) = (coap_lite::Packet::new(), coap_lite::Packet::new());
    let mut scratch = [0; 64];
    let sent = client.protect_request(&coap_lite::Packet::new(), &mut request, &mut scratch).unwrap();
    let (_, received) = server.unprotect_request(&request, &mut scratch).unwrap();
    server.protect_response(&coap_lite::Packet::new(), &mut response, &mut [0; 64], &received).unwrap();
    client.unprotect_response(&response, &mut [0; 64], &sent).unwrap();
}

#[test]
fn message_1_with_suite_6_is_answered_by_suite_2() {
    let error = Message1::parse(&MESSAGE_1_FIRST).err().unwrap();
    assert_eq!(error.message(), hex!("0202"));
}

#[test]
fn as_responder() {
    let (r, i) = (key(&SK_R), key(&SK_I));
    let message_1 = Message1::parse(&MESSAGE_1).unwrap();
    let (cred_r, c_r) = (credential(CRED_R, 0x32, &r), ConnId::new(C_R).unwrap());
    let (responder, message_2) = Responder::start_with(&message_1, &r, cred_r, c_r, &key(&Y)).unwrap();
    assert_eq!(message_2, MESSAGE_2);

    let identify = |id_cred: IdCred<'_>| {
        assert_eq!(id_cred, IdCred::Kid(&hex!("2b")));
        Ok(identity(CRED_I, 0x2b, &i))
    };
    let (_, processed) = responder.verify_message_3(&MESSAGE_3, identify).unwrap();
    check_secrets(&processed.prk_out, &processed.prk_exporter);

    let established = responder.finish_with(&MESSAGE_3, identify, true).unwrap();
    assert_eq!(established.peer, Peer { key: *i.public(), transfer: Transfer::ByKid });
    assert_eq!(established.message_4.unwrap(), MESSAGE_4);
    // The initiator's Sender ID is C_R.
    assert_match(trace_context(C_R, C_I), established.context);
}

#[test]
fn as_initiator() {
    let (r, i) = (key(&SK_R), key(&SK_I));
    // Suite 6 was turned down.
    let (initiator, message_1) =
        Initiator::start_with(&[6, 2], &i, ConnId::new(C_I).unwrap(), &key(&X), &None).unwrap();
    assert_eq!(message_1, MESSAGE_1);

    let identify = |id_cred: IdCred<'_>| {
        assert_eq!(id_cred, IdCred::Kid(&hex!("32")));
        Ok(identity(CRED_R, 0x32, &r))
    };
    let cred_i = credential(CRED_I, 0x2b, &i);
    let (pending, message_3) = initiator.finish_with(cred_i, &MESSAGE_2, Transfer::ByKid, identify).unwrap();
    assert_eq!(message_3, MESSAGE_3);
    assert_eq!((pending.c_r.byte(), pending.peer), (C_R, *r.public()));
    check_secrets(&pending.state.prk_out, &pending.state.prk_exporter);
    assert_match(pending.confirm(Some(&MESSAGE_4)).unwrap(), trace_context(C_I, C_R));
}
