//! How long to wait for what.

use std::time::Duration;

use protocol::conversation;
use rand_core::RngCore;

use crate::link::Link;

/// P-256 operations in the slowest answer of a device: the responder's side of an EDHOC handshake has about four.
const OPERATIONS_PER_ANSWER: u32 = 4;
/// However slow a device says it is, an answer is not waited for longer than by this much more.
const MOST_SLOWNESS: Duration = Duration::from_secs(120);

/// How long nobody has to answer until nobody is there. A device that was asked nothing may be at a P-256 operation of its
/// own: 4 s on an ATmega.
pub(super) const NOBODY: Duration = Duration::from_secs(6);
/// The same where something is said: a board that was reset by the opening of its port may take so long to start.
pub(super) const START: Duration = Duration::from_secs(12);

/// Transmission parameters (RFC 7252 section 4.8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timers {
    /// ACK_TIMEOUT: the least time after which a message is sent again.
    pub ack_timeout: Duration,
    /// ACK_RANDOM_FACTOR: by how much that time is stretched at most; 1 or more.
    pub ack_random_factor: f64,
    /// MAX_RETRANSMIT: how often it is sent again, waiting twice as long each time.
    pub max_retransmit: u32,
    /// How long a response may follow its acknowledgement.
    pub response: Duration,
}

impl Timers {
    /// The values of RFC 7252: for networks.
    pub const NETWORK: Self = Self {
        ack_timeout: Duration::from_secs(2),
        ack_random_factor: 1.5,
        max_retransmit: 4,
        response: Duration::from_secs(60),
    };

    /// For a serial line, which loses frames to noise but never delays them; gives up after 15 to 23 s.
    pub const SERIAL: Self = Self { ack_timeout: Duration::from_millis(500), ..Self::NETWORK };

    /// For one of several pings that find out whether anybody is there.
    pub const PROBE: Self = Self {
        ack_timeout: Duration::from_millis(500),
        ack_random_factor: 1.0,
        max_retransmit: 1,
        response: Duration::from_secs(3),
    };

    /// The timers that suit a link.
    pub fn for_link(link: &Link) -> Self {
        if link.is_serial() { Self::SERIAL } else { Self::NETWORK }
    }

    /// The same for a device that may think for `slowness` before it answers, in microseconds.
    pub(super) fn for_conversation(&self, slowness: Duration) -> conversation::client::Timers {
        conversation::client::Timers {
            ack_timeout: micros(self.ack_timeout + slowness),
            spread: micros(self.ack_timeout.mul_f64((self.ack_random_factor - 1.0).max(0.0))),
            max_retransmit: self.max_retransmit,
            response: micros(self.response + slowness * 2),
        }
    }

    /// A part of `duration`, another one each time; all of it where no wait is stretched by chance.
    pub(super) fn part_of(&self, duration: Duration, random: &mut (impl RngCore + ?Sized)) -> Duration {
        let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
        if self.ack_random_factor > 1.0 { duration.mul_f64(share) } else { duration }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How long a device may think about its slowest answer, by what it says of one P-256 operation.
pub(super) fn slowness(operation_ms: u32) -> Duration {
    (Duration::from_millis(operation_ms.into()) * OPERATIONS_PER_ANSWER).min(MOST_SLOWNESS)
}
