//! What came over the cable and was dropped, counted.

use core::{cell::Cell, fmt};

/// What came over the cable and was dropped. They stop at their largest value.
///
/// Whoever opens the serial port is told, in a line of the log, if it is not nothing.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests to the control endpoint that were answered with a stall: the device does not know them.
    pub refused_requests: Cell<u32>,
    /// Transfers of the network function without a frame in them: a header is wrong, or a length.
    pub malformed_transfers: Cell<u32>,
    /// Transfers of the network function that broke off: the host switched it off, slept, or was unplugged.
    pub broken_transfers: Cell<u32>,
    /// Ethernet frames that are longer than any of ours.
    pub long_frames: Cell<u32>,
    /// Ethernet frames that are neither CoAP over UDP on link-local addresses nor what IPv6 needs for that.
    pub foreign_frames: Cell<u32>,
    /// Frames and log lines to a serial port that no program on the host had open.
    pub unread: Cell<u32>,
}

impl Counters {
    pub(super) fn count(counter: &Cell<u32>) {
        counter.set(counter.get().saturating_add(1));
    }

    /// A frame came out of a transfer, which was counted as malformed until then.
    pub(super) fn carried(&self) {
        self.malformed_transfers.set(self.malformed_transfers.get().saturating_sub(1));
    }
}

impl fmt::Display for Counters {
    /// What is not nothing, as in `dropped: 2 malformed transfers, 1 foreign frames`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (&self.refused_requests, "refused requests"),
            (&self.malformed_transfers, "malformed transfers"),
            (&self.broken_transfers, "broken transfers"),
            (&self.long_frames, "long frames"),
            (&self.foreign_frames, "foreign frames"),
            (&self.unread, "unread lines"),
        ];
        let mut before = "dropped: ";
        for (count, name) in counts {
            if count.get() > 0 {
                write!(f, "{before}{} {name}", count.get())?;
                before = ", ";
            }
        }
        Ok(())
    }
}
