//! What reaches the commissioner.

use std::{collections::VecDeque, future::pending};

use commissioner::{
    client::{Client, Request, Timers},
    link::{Datagram, Datagrams, Io},
};
use protocol::{
    edhoc::{ConnId, Initiator, Responder, Transfer, parse_error},
    key::PrivateKey,
};

use crate::bench::{SameNumbers, owner};

/// message_2, or an EDHOC error message, to an initiator.
pub(crate) fn initiator(input: &[u8]) {
    let _ = parse_error(input);
    let own = PrivateKey::generate(&mut SameNumbers(20));
    let c_i = ConnId::new(0).expect("a connection identifier");
    let (initiator, _) = Initiator::start(&own, c_i, &mut SameNumbers(21)).expect("it starts");
    let finished = initiator.finish(input, Transfer::ByValue, |_| Some(*owner().public()));
    assert!(finished.is_err(), "nobody holds the key for that");
}

pub(crate) fn initiator_seeds() -> Vec<Vec<u8>> {
    let other = PrivateKey::generate(&mut SameNumbers(22));
    let c_i = ConnId::new(0).expect("a connection identifier");
    let (_, message_1) = Initiator::start(&other, c_i, &mut SameNumbers(23)).expect("it starts");
    let c_r = ConnId::new(2).expect("a connection identifier");
    let (_, message_2) = Responder::start(&message_1, &owner(), c_r, &mut SameNumbers(24)).expect("it answers");
    vec![message_2.to_vec(), b"\x01\x65hello".to_vec(), b"\x02\x82\x02\x03".to_vec()]
}

/// Datagrams to a client that waits for the answer to `GET /comm`. Each has two bytes in front: an odd first one lets the
/// Message ID and the token fit, the second is the length. Whatever comes, the client ends.
pub(crate) fn client(mut input: &[u8]) {
    let mut answers = VecDeque::new();
    while let [fits, len, more @ ..] = input {
        let (datagram, behind) = more.split_at(usize::from(*len).min(more.len()));
        answers.push_back((fits % 2 == 1, datagram.to_vec()));
        input = behind;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let link = Answers { answers, sent: Vec::new() };
        let mut client = Client::new(Box::new(link), Timers::NETWORK);
        let _ = client.request(&Request::get("/comm")).await;
        let _ = client.ping().await;
    });
}

pub(crate) fn client_seeds() -> Vec<Vec<u8>> {
    let answers: [&[u8]; 5] = [
        b"\x64\x45\x00\x00\x01\x02\x03\x04\xc1\x3c\xff\xa0",
        b"\x60\x00\x00\x00",
        b"\x44\x84\x12\x34\x01\x02\x03\x04\xc2\x01\x01\xff\xa1\x20\x61x",
        b"\x64\x45\x00\x00\x01\x02\x03\x04\x44abcd\x81\x3c\xb1\x0c\xff0123456789abcdef",
        b"\x70\x00\x00\x00",
    ];
    answers.map(|answer| [&[1, answer.len() as u8], answer].concat()).to_vec()
}

/// A link that has its answers ready.
struct Answers {
    answers: VecDeque<(bool, Vec<u8>)>,
    sent: Vec<u8>,
}

impl Datagrams for Answers {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        self.sent = datagram.to_vec();
        Box::pin(async move { Ok(datagram.len()) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            let Some((fits, mut bytes)) = self.answers.pop_front() else { return pending().await };
            if fits {
                // Message ID and token of what was sent last, as far as there is room for them.
                for at in [2, 3, 4, 5, 6, 7] {
                    if let (Some(to), Some(from)) = (bytes.get_mut(at), self.sent.get(at)) {
                        *to = *from;
                    }
                }
            }
            Ok(Datagram { line_bytes: bytes.len(), bytes })
        })
    }
}
