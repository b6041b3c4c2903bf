//! What may be wrong with a serial line over which no answer came, in words.

use std::fmt;

use crate::text;

/// Lines of text that are told.
const MOST_LINES: usize = 3;
/// Characters of a line that are told.
const MOST_CHARACTERS: usize = 80;

/// A process that has a port open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub(super) name: String,
    pub(super) process: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

/// What is wrong with a line, by what came over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Others have the port open, too.
    Shared {
        /// Who.
        readers: Vec<Holder>,
    },
    /// All that came back is what was sent.
    Loop,
    /// Something answers, and some byte values do not arrive as they were sent.
    Altered(Vec<(u8, Harm)>),
    /// Something answers, and what is lost depends on no byte values.
    Lossy {
        /// Pings without an answer.
        lost: usize,
        /// Pings that were sent.
        sent: usize,
        /// The port's device file.
        port: String,
    },
    /// Short messages pass, and longer ones do not.
    Short {
        /// In which direction.
        way: Way,
        /// The longest message that passed, in bytes.
        carried: usize,
        /// One that did not, in bytes, or more.
        lost: usize,
    },
    /// A device was heard, and answers nothing.
    Deaf,
    /// A device was heard without the eighth bit of its bytes.
    SevenBits,
    /// Nothing answers, and what comes is text.
    Text {
        /// The latest lines, fit to be shown.
        lines: Vec<String>,
    },
    /// Nothing answers, and what comes is neither text nor a frame.
    Unreadable {
        /// How much of it.
        bytes: u64,
    },
}

/// A direction on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Answers.
    FromDevice,
    /// Requests.
    ToDevice,
}

/// What a line does to a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harm {
    /// It does not arrive.
    Lost,
    /// Something else arrives.
    Becomes(Vec<u8>),
    /// What carries it arrives in no order that could be told.
    Damaged,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { readers } => {
                let (have, takes) = if readers.len() == 1 { ("has", "takes") } else { ("have", "take") };
                let names: Vec<_> = readers.iter().map(Holder::to_string).collect();
                let names = names.join(" and ");
                write!(f, "{names} {have} the port open too, and {takes} part of what the device says; end it, then try again")
            }
            Self::Loop => f.write_str(
                "all that comes back is what was sent, so nobody is there: are TX and RX connected with each other, or is \
                 it an RS-485 line without a device?",
            ),
            Self::Altered(values) => {
                write!(f, "a device answers, but what is said arrives damaged: {}", altered(values))
            }
            Self::Lossy { lost, sent, port } => write!(
                f,
                "a device answers, but {lost} of {sent} pings came to nothing: does another program read from the port (`sudo \
                 fuser -v {port}` names it), is the cable loose, or the speed not quite right?"
            ),
            Self::Short { way, carried, lost } => write!(
                f,
                "a device answers, but long messages {way} do not arrive: one of {carried} bytes did, one of {lost} did not; a buffer \
                 on the way (adapter, terminal server, driver) is smaller than that, or drops what comes too fast"
            ),
            Self::Deaf => f.write_str(
                "the device is heard (it printed its report), and answers nothing that is sent to it: is the wire from the \
                 adapter's TX to the device's RX connected? Or did its firmware stop after that?",
            ),
            Self::SevenBits => f.write_str(
                "the device is heard (it printed its report), but without the eighth bit of each byte, and so neither side \
                 understands the other: have the line set to 8 bits without parity (8N1) wherever it passes (adapter, terminal \
                 server, multiplexer)",
            ),
            Self::Text { lines } => {
                let latest = lines.len().saturating_sub(MOST_LINES);
                let cut = |line: &String| line.chars().take(MOST_CHARACTERS).collect::<String>();
                let lines: Vec<_> = lines[latest..].iter().map(|line| format!("\"{}\"", text::line(&cut(line)))).collect();
                write!(
                    f,
                    "something is there that answers nothing and prints {}; is this the device's port, and does its firmware \
                     have the commissioning resource?",
                    lines.join(", ")
                )
            }
            Self::Unreadable { bytes } => write!(
                f,
                "{bytes} bytes came that are neither text nor frames; is this the device's port, and its speed \
                 (serial:PATH@BAUD names another)?"
            ),
        }
    }
}

/// What does that to these values, and what to do about it.
fn altered(values: &[(u8, Harm)]) -> String {
    let becomes = |value: u8, bytes: &[u8]| {
        values.iter().any(|(it, harm)| *it == value && *harm == Harm::Becomes(bytes.to_vec()))
    };
    let only = |set: &[u8]| values.iter().all(|(value, _)| set.contains(value));
    let list: Vec<_> = values.iter().map(|(value, harm)| format!("byte {value:#04x} {harm}")).collect();
    let list = list.join(", ");
    if only(&[0x11, 0x13]) {
        return format!(
            "{list}: flow control by XON/XOFF takes it for its own; switch that off wherever the line passes \
             (terminal server, adapter, driver)"
        );
    }
    if becomes(0xff, &[0xff, 0xff]) {
        return format!("{list}: a terminal server speaks telnet (RFC 854); use its raw TCP port");
    }
    if only(b"\r\n") {
        return format!(
            "{list}: line ends are converted on the way; switch that off, for bytes are to pass as they are"
        );
    }
    format!("{list}; the line has to carry all bytes as they are: 8 bits, no flow control, nothing converted")
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromDevice => "from the device",
            Self::ToDevice => "to the device",
        })
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("is lost"),
            Self::Becomes(bytes) => {
                let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:#04x}")).collect();
                write!(f, "arrives as {}", bytes.join(" "))
            }
            Self::Damaged => f.write_str("does not arrive whole"),
        }
    }
}
