//! A device for tests: EDHOC responder and OSCORE on one end of a link in memory, and behind them a function.

use coap_lite::{CoapOption, Packet};
use coap_numbers::option;
use std::sync::{Arc, Mutex};

use protocol::edhoc::{self, ConnId, Established, Responder};
use protocol::oscore::split_combined;
use rand_core::OsRng;
use tokio::task::JoinHandle;

use super::*;
use crate::client::{Code, summary, testing::to_packet};
use crate::link::Datagrams;
use crate::link::memory::{MemoryLink, pair};

/// What a request was protected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    Oscore(edhoc::Peer),
}

/// Answers requests: code, content format and payload.
pub(crate) type Handler = Box<dyn FnMut(&Packet, Protection) -> Packet + Send>;

/// How the device departs from what it should do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Misbehaviour {
    /// Forgets sessions: each protected request is answered with an unprotected 4.01.
    pub(crate) forgets_sessions: bool,
    /// Answers protected requests with an unprotected 2.05.
    pub(crate) answers_unprotected: bool,
    /// Changes a bit of each protected response.
    pub(crate) garbles_responses: bool,
    /// Takes nobody's credential.
    pub(crate) refuses_credentials: bool,
    /// Answers message_3 with a bare 4.00.
    pub(crate) refuses_message_3: bool,
    /// Forgets handshakes for others' before message_3 comes, so often.
    pub(crate) forgets_handshakes: u32,
    /// Hears nothing between two messages that it answers, so many times.
    pub(crate) overhears: u32,
}

/// The device. It serves until its link is closed.
pub(crate) struct TestDevice {
    pub(crate) key: PrivateKey,
    /// Keys that it knows by kid.
    pub(crate) known: Arc<Mutex<Vec<PublicKey>>>,
    pub(crate) misbehaviour: Misbehaviour,
    handler: Handler,
    waiting: Option<Responder>,
    session: Option<(edhoc::Peer, oscore::Context)>,
}

impl TestDevice {
    pub(crate) fn new(handler: impl FnMut(&Packet, Protection) -> Packet + Send + 'static) -> Self {
        Self {
            key: PrivateKey::generate(&mut OsRng),
            known: Arc::default(),
            misbehaviour: Misbehaviour::default(),
            handler: Box::new(handler),
            waiting: None,
            session: None,
        }
    }

    /// What the device answers, where that depends on the device.
    pub(crate) fn set_handler(&mut self, handler: impl FnMut(&Packet, Protection) -> Packet + Send + 'static) {
        self.handler = Box::new(handler);
    }

    /// Lets the device serve, and returns a client of it.
    pub(crate) fn serve(self) -> (Client, JoinHandle<()>) {
        let (ours, theirs) = pair();
        let client = Client::new(Box::new(ours), client::Timers::NETWORK);
        (client, tokio::spawn(self.serve_on(theirs)))
    }

    async fn serve_on(mut self, mut link: MemoryLink) {
        let mut overheard = 0;
        while let Ok(datagram) = link.receive().await {
            if overheard < self.misbehaviour.overhears {
                overheard += 1;
                continue;
            }
            overheard = 0;
            let request = Packet::from_bytes(&datagram.bytes).unwrap();
            let mut answer = self.answer(&request);
            answer.header.set_type(coap_lite::MessageType::Acknowledgement);
            answer.header.message_id = request.header.message_id;
            if request.header.code == coap_lite::MessageClass::Empty {
                answer.header.set_type(coap_lite::MessageType::Reset);
            } else {
                answer.set_token(request.get_token().to_vec());
            }
            if link.send(&answer.to_bytes().unwrap()).await.is_err() {
                break;
            }
        }
    }

    fn answer(&mut self, request: &Packet) -> Packet {
        if request.header.code == coap_lite::MessageClass::Empty {
            let mut reset = Packet::new();
            reset.header.code = coap_lite::MessageClass::Empty;
            return reset;
        }
        if request.get_option(CoapOption::Oscore).is_some() {
            return self.answer_protected(request).unwrap_or_else(|answer| answer);
        }
        match summary(request).as_str() {
            "POST /.well-known/edhoc"
                if self.misbehaviour.refuses_message_3 && request.payload.first() != Some(&0xf5) =>
            {
                bare(Code::BAD_REQUEST)
            }
            "POST /.well-known/edhoc" => self.answer_edhoc(request).unwrap_or_else(refuse_handshake),
            _ => (self.handler)(request, Protection::None),
        }
    }

    fn answer_edhoc(&mut self, request: &Packet) -> Result<Packet, edhoc::Error> {
        let answer = match edhoc::Request::parse(&request.payload)? {
            edhoc::Request::Message1(message_1) => {
                let c_r = ConnId::new(0x27).unwrap();
                let (responder, message_2) = Responder::start(message_1, &self.key, c_r, &mut OsRng)?;
                self.waiting = Some(responder);
                message_2
            }
            edhoc::Request::Message3 { message_3, .. } => self.finish(message_3, true)?.unwrap(),
        };
        Ok(response(Code::CHANGED, content_format::EDHOC, &answer))
    }

    fn finish(&mut self, message_3: &[u8], message_4: bool) -> Result<Option<edhoc::Message>, edhoc::Error> {
        let forgets = &mut self.misbehaviour.forgets_handshakes;
        if *forgets > 0 {
            *forgets -= 1;
            self.waiting = None;
        }
        let responder = self.waiting.take().ok_or(edhoc::Error::NoHandshake)?;
        let (known, refuses) = (self.known.lock().unwrap().clone(), self.misbehaviour.refuses_credentials);
        let resolve = |kid: &[u8]| known.iter().find(|key| key.kid() == kid && !refuses).copied();
        let Established { peer, context, message_4 } = responder.finish(message_3, resolve, message_4)?;
        self.session = Some((peer, context));
        Ok(message_4)
    }

    fn answer_protected(&mut self, request: &Packet) -> Result<Packet, Packet> {
        let unauthorized = || response(Code::UNAUTHORIZED, content_format::TEXT, b"who are you?");
        if self.misbehaviour.forgets_sessions {
            return Err(unauthorized());
        }
        if self.misbehaviour.refuses_message_3 {
            return Err(bare(Code::BAD_REQUEST));
        }
        if self.misbehaviour.answers_unprotected {
            return Err(response(Code::CONTENT, content_format::TEXT, b"believe me"));
        }
        let mut ciphertext = request.payload.as_slice();
        if request.get_option(CoapOption::Unknown(option::EDHOC)).is_some() {
            let (message_3, rest) = split_combined(&request.payload).unwrap();
            self.finish(message_3, false).map_err(refuse_handshake)?;
            ciphertext = rest;
        }
        let (peer, context) = self.session.as_mut().ok_or_else(unauthorized)?;
        let mut plaintext = vec![0; request.payload.len()];
        let (inner, correlation) = context
            .unprotect_request_payload(request, ciphertext, &mut plaintext)
            .map_err(|error| response(Code(error.code()), content_format::TEXT, b""))?;
        let answer = (self.handler)(&to_packet(&inner), Protection::Oscore(*peer));
        let mut outer = Packet::new();
        context.protect_response(&answer, &mut outer, &mut [0; 2048], &correlation).unwrap();
        if self.misbehaviour.garbles_responses {
            outer.payload[0] ^= 1;
        }
        Ok(outer)
    }
}

/// A response with a payload.
pub(crate) fn response(code: Code, content_format: u16, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code.0.into();
    packet.add_option(
        CoapOption::ContentFormat,
        content_format.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect(),
    );
    packet.payload = payload.to_vec();
    packet
}

/// A response with nothing but its code.
fn bare(code: Code) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = code.0.into();
    packet
}

fn refuse_handshake(error: edhoc::Error) -> Packet {
    response(Code(coap_numbers::code::BAD_REQUEST), content_format::EDHOC, &error.message())
}
