//! A device as a client of another one, and of servers that do it in their own way.

#[path = "../../tests/rules/common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the device use the rest")]
mod common;

use std::convert::Infallible;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use coap_numbers::{code, option};
use commissionable_device_embassy::client::{Client, Error, Request};
use device::transport::Datagrams;
use embassy_futures::block_on;
use protocol::key::PublicKey;

use crate::common::{Address, NETWORK, TestDevice, TestRng};

/// Another device at the end of a wire, on which its requests and answers may be changed.
struct Wire<'d> {
    device: &'d mut TestDevice,
    /// What takes the place of an answer.
    instead: fn(&Packet) -> Option<Packet>,
    asked: Vec<Packet>,
    answer: Vec<u8>,
}

impl Datagrams<Address> for Wire<'_> {
    type Error = Infallible;

    async fn receive(&mut self) -> Result<(&mut [u8], Address), Infallible> {
        Ok((&mut self.answer, NETWORK))
    }

    async fn send(&mut self, _to: Address, datagram: &[u8]) -> Result<(), Infallible> {
        let request = Packet::from_bytes(datagram).expect("CoAP");
        self.answer = match (self.instead)(&request) {
            Some(mut answer) => {
                answer.header.set_type(MessageType::Acknowledgement);
                answer.header.message_id = request.header.message_id;
                answer.set_token(request.get_token().to_vec());
                answer.to_bytes().expect("it fits")
            }
            None => self.device.receive(NETWORK, datagram).expect("an answer"),
        };
        self.asked.push(request);
        Ok(())
    }

    async fn log(&mut self, _line: &str) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Code and body of an answer.
type Outcome = Result<(u8, Vec<u8>), Error<Infallible>>;

/// Reads `path` of `device`. What came of it, and what was asked.
fn read(
    device: &mut TestDevice,
    path: &str,
    instead: fn(&Packet) -> Option<Packet>,
    approve: impl FnOnce(&PublicKey) -> bool,
) -> (Outcome, Vec<Packet>) {
    let own = TestRng::new(77).key();
    let mut wire = Wire { device, instead, asked: Vec::new(), answer: Vec::new() };
    let mut body = [0; 512];
    let result = block_on(async {
        let mut session = Client::new(&mut wire, NETWORK).connect(&own, approve, TestRng::new(78)).await?;
        let answer = session.request(&Request::get(path), &mut body).await?;
        Ok((answer.code, body[..answer.len].to_vec()))
    });
    (result, wire.asked)
}

fn has(packet: &Packet, number: u16) -> bool {
    packet.get_option(CoapOption::from(number)).is_some()
}

fn path(packet: &Packet) -> String {
    let segments = packet.get_option(CoapOption::UriPath).into_iter().flatten();
    segments.map(|segment| format!("/{}", str::from_utf8(segment).unwrap())).collect()
}

fn refusal(code: u8) -> Packet {
    let mut answer = Packet::new();
    answer.header.code = MessageClass::from(code);
    answer
}

#[test]
fn message_3_goes_with_the_first_request_and_nothing_else_is_asked_before() {
    let mut device = TestDevice::new();
    let known = *device.server.device().own_key().unwrap();
    let (answer, asked) = read(&mut device, "/led", |_| None, |key| *key == known);
    assert_eq!(answer, Ok((code::CONTENT, vec![])));
    assert_eq!(asked.len(), 2);
    assert_eq!((path(&asked[0]).as_str(), asked[0].payload.len()), ("/.well-known/edhoc", 1 + 38));
    assert!(has(&asked[1], option::OSCORE) && has(&asked[1], option::EDHOC));
}

#[test]
fn a_server_that_does_not_know_the_edhoc_option_gets_message_3_alone() {
    let mut device = TestDevice::new();
    let refuses = |request: &Packet| has(request, option::EDHOC).then(|| refusal(code::BAD_OPTION));
    let (answer, asked) = read(&mut device, "/led", refuses, |_| true);
    assert_eq!(answer, Ok((code::CONTENT, vec![])));
    let paths: Vec<_> = asked.iter().map(path).collect();
    assert_eq!(paths, ["/.well-known/edhoc", "", "/.well-known/edhoc", ""]);
}

#[test]
fn whoever_is_not_approved_of_learns_nothing() {
    let mut device = TestDevice::new();
    let (answer, asked) = read(&mut device, "/led", |_| None, |_| false);
    assert_eq!((answer, asked.len()), (Err(Error::NotMine), 1));
}

#[test]
fn a_server_that_refuses_message_3_refused_our_credential() {
    let mut device = TestDevice::new();
    let refuses = |request: &Packet| has(request, option::EDHOC).then(|| refusal(code::BAD_REQUEST));
    let (answer, _) = read(&mut device, "/led", refuses, |_| true);
    assert_eq!(answer, Err(Error::Refused));
    assert!(Error::<Infallible>::Refused.to_string().contains("refused our credential"));
}

#[test]
fn an_echo_that_is_asked_for_is_sent_back() {
    let mut device = TestDevice::new();
    let wants_echo = |request: &Packet| {
        let is_right = request.get_first_option(CoapOption::from(option::ECHO)).is_some_and(|echo| echo == b"echo");
        (!is_right && !has(request, option::OSCORE)).then(|| {
            let mut answer = refusal(code::UNAUTHORIZED);
            answer.add_option(CoapOption::from(option::ECHO), b"echo".to_vec());
            answer
        })
    };
    let (answer, asked) = read(&mut device, "/led", wants_echo, |_| true);
    assert_eq!(answer, Ok((code::CONTENT, vec![])));
    let paths: Vec<_> = asked.iter().map(path).collect();
    assert_eq!(paths, ["/.well-known/edhoc", "/.well-known/edhoc", ""]);
    // One that is never content is not asked for ever.
    let never = |request: &Packet| {
        (!has(request, option::OSCORE)).then(|| {
            let mut answer = refusal(code::UNAUTHORIZED);
            answer.add_option(CoapOption::from(option::ECHO), b"echo".to_vec());
            answer
        })
    };
    let (answer, asked) = read(&mut device, "/led", never, |_| true);
    assert!(answer.is_err() && asked.len() < 5, "{answer:?} {}", asked.len());
}
