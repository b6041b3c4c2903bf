//! Clients of what is at the links of this machine, and requests to several devices at a time.

use std::net::IpAddr;
use std::time::Duration;

use coap_message::ReadableMessage;
use protocol::coap::{self, Datagram, Type};
use rand_core::{OsRng, RngCore};
use tokio::time::{Instant, timeout_at};

use super::{Client, Code, Error, Request, Timers};
use crate::link::{self, Link};

/// Bytes of a token (RFC 7252 section 5.3.1 wants 32 bits of randomness where anybody may send).
pub(super) const TOKEN_LEN: usize = 4;

impl Client {
    /// Opens the link to a device, with the timers that suit it.
    pub async fn open(link: &Link) -> Result<Self, Error> {
        Self::open_to("device", link).await
    }

    /// The same to a server, which need not be a device.
    pub async fn open_to_server(link: &Link) -> Result<Self, Error> {
        Self::open_to("server", link).await
    }

    async fn open_to(whom: &str, link: &Link) -> Result<Self, Error> {
        let doubts = match link {
            Link::Serial { baud, .. } => {
                format!(
                    "is the {whom} running, is this its port, and is {baud} baud its speed (serial:PATH@BAUD names another)?"
                )
            }
            Link::Udp { .. } => format!("is the {whom} running, and is this its address and port?"),
        };
        Ok(Self { doubts, ..Self::new(link.open().await?, Timers::for_link(link)) })
    }
}

/// Asks a multicast group (RFC 7252 section 8): who answered, and with what. A `member` whose address is known is asked there
/// as well, which gets through where a firewall drops answers to multicast. Listens for `leisure`, and no longer than
/// `stragglers` after the first answer, or until there are `most` of them.
///
/// Answers can be forged by anybody on the link: ask each member by itself.
pub async fn ask_group(
    group: &Link,
    member: Option<IpAddr>,
    request: &Request,
    leisure: Duration,
    stragglers: Duration,
    most: usize,
) -> Result<Vec<(Link, Vec<u8>)>, Error> {
    let mut token = [0; TOKEN_LEN];
    OsRng.fill_bytes(&mut token);
    let header = coap::Header {
        type_: Type::Non,
        code: request.for_conversation().method,
        message_id: OsRng.next_u32() as u16,
        token: coap::Token::new(&token).unwrap_or(coap::Token::EMPTY),
    };
    let mut question = vec![0; link::MAX_DATAGRAM];
    let length = request.for_conversation().compose(&header, &mut question).map_err(|_| Error::TooLarge)?;
    question.truncate(length);

    let group = link::Group::open(group, member).await?;
    group.send(&question).await?;
    let mut deadline = Instant::now() + leisure;
    let mut members = Vec::<(Link, Vec<u8>)>::new();
    while members.len() < most && Instant::now() < deadline {
        let Ok(received) = timeout_at(deadline, group.receive()).await else { break };
        let (datagram, from) = received?;
        let Ok(answer) = Datagram::parse(&datagram) else { continue };
        let is_response = Code(answer.header.code).is_response() && answer.header.token == header.token;
        if is_response && members.iter().all(|(member, _)| *member != from) {
            members.push((from, answer.message().payload().to_vec()));
            deadline = deadline.min(Instant::now() + stragglers);
        }
    }
    Ok(members)
}
