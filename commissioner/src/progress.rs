//! What is happening, step by step: one stream, and several ways to look at it.
//!
//! The work tells its steps to a [`Progress`]. People see them as lines on standard error, scripts as JSON Lines
//! (`{"step": "authenticated", ...}`), tests read them back from a [`Recording`].

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use crate::{clock::span, text};

/// One step. Everything but [`Step::Working`] has happened when it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Something that takes a while has begun; `what` is in the present tense ("waiting for the device").
    Working {
        /// What is being done.
        what: String,
    },
    /// A link is open.
    LinkOpened,
    /// A device answered `GET /comm` or the equivalent.
    DeviceFound {
        /// The device ID.
        device: String,
        /// Firmware name and version, as the device claims them.
        firmware: String,
        /// How many keys the device made since its last erase.
        generation: u32,
        /// `full` or `minimal`.
        profile: String,
    },
    /// A report line was read.
    Reported {
        /// The device ID.
        device: String,
        /// Thumbprint of the key that it names, hex.
        thumbprint: String,
    },
    /// EDHOC is done, and an OSCORE response verified: the device has the private key.
    Authenticated {
        /// Thumbprint of the device's key, hex.
        thumbprint: String,
    },
    /// The same of a server, which need not be a device.
    #[serde(rename = "authenticated")]
    ServerAuthenticated {
        /// Thumbprint of the server's key, hex.
        thumbprint: String,
    },
    /// `/comm`, read again under OSCORE, says what it said without.
    Confirmed,
    /// A key became the device's active one.
    KeyActive {
        /// Thumbprint, hex.
        thumbprint: String,
    },
    /// A key was revoked.
    KeyRevoked {
        /// Thumbprint, hex.
        thumbprint: String,
    },
    /// A sealed copy of a key that was made for the device is durable in the registry.
    Escrowed {
        /// Thumbprint, hex.
        thumbprint: String,
    },
    /// The device has its former key again.
    Restored {
        /// Thumbprint, hex.
        thumbprint: String,
    },
    /// The intent to issue a certificate is durable in the registry.
    Intended {
        /// CWT ID of the certificate, hex.
        cti: String,
        /// `factory` or `owner`.
        slot: String,
    },
    /// The certificate is to be signed where the issuer's key is; the request is durable in the registry.
    Requested {
        /// CWT ID of the certificate, hex.
        cti: String,
    },
    /// An intent of an earlier, interrupted run is taken up again.
    Resumed {
        /// CWT ID of the certificate, hex.
        cti: String,
    },
    /// The certificate is signed and durable in the registry.
    Issued {
        /// CWT ID of the certificate, hex.
        cti: String,
    },
    /// The certificate is on its way to the device.
    Sent {
        /// CWT ID of the certificate, hex.
        cti: String,
    },
    /// The device's receipt is right, and recorded.
    Installed {
        /// CWT ID of the certificate, hex.
        cti: String,
    },
    /// A certificate that was begun will never be installed.
    Voided {
        /// CWT ID of the certificate, hex.
        cti: String,
        /// Why.
        reason: String,
    },
    /// The list of "my devices" is signed and durable in the registry.
    ListSigned {
        /// Its version.
        version: u64,
        /// `members` or `revoked`.
        mode: String,
        /// How many keys it has.
        keys: usize,
    },
    /// The device holds the list.
    ListInstalled {
        /// Its version.
        version: u64,
    },
    /// Devices hold a list of before a key was revoked; or none does.
    OlderLists {
        /// How many.
        devices: u64,
    },
    /// A device of ours made a key that does not count yet.
    KeyPending {
        /// Thumbprint, hex.
        thumbprint: String,
    },
    /// Where devices are programmed, an ID that was known by another key showed up with a new one: the same board with an
    /// erased flash, or another board.
    OtherKey {
        /// The device ID.
        device: String,
        /// The thumbprint of the key that it had, hex.
        former: String,
        /// How long ago that was seen, in seconds.
        seconds: u64,
    },
    /// The nickname of another device is a part of the ID of the device that was commissioned: alone it names neither of them.
    NicknameAmbiguous {
        /// The nickname.
        nickname: String,
        /// The ID of the device that is called so.
        device: String,
    },
    /// There was nothing to do.
    AlreadyDone,
    /// A link failed, and the device answers at another one.
    FellBack {
        /// The link that it goes on over.
        to: String,
        /// What was wrong with the one before.
        because: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Working { what } => write!(f, "{what} ..."),
            Self::LinkOpened => write!(f, "link open"),
            Self::DeviceFound { device, firmware, generation, profile } => {
                write!(f, "found {device} ({}, {profile} profile, key generation {generation})", text::line(firmware))
            }
            Self::Reported { device, thumbprint } => write!(f, "{device} reports key {}", short(thumbprint)),
            Self::Authenticated { thumbprint } => write!(f, "the device proved its key {}", short(thumbprint)),
            Self::ServerAuthenticated { thumbprint } => write!(f, "the server proved its key {}", short(thumbprint)),
            Self::Confirmed => write!(f, "the device's own account is confirmed under OSCORE"),
            Self::KeyActive { thumbprint } => write!(f, "key {} is active", short(thumbprint)),
            Self::KeyRevoked { thumbprint } => write!(f, "key {} is revoked", short(thumbprint)),
            Self::Escrowed { thumbprint } => {
                write!(f, "key {} was made for the device, and a sealed copy of it is kept", short(thumbprint))
            }
            Self::Restored { thumbprint } => write!(f, "the device has its key {} again", short(thumbprint)),
            Self::Intended { cti, slot } => write!(f, "certificate {cti} for the {slot} slot is in the journal"),
            Self::Resumed { cti } => write!(f, "certificate {cti} was begun by an earlier run; going on with it"),
            Self::Issued { cti } => write!(f, "certificate {cti} is signed"),
            Self::Sent { cti } => write!(f, "certificate {cti} is sent"),
            Self::Installed { cti } => write!(f, "certificate {cti} is installed: the device's receipt is right"),
            Self::Requested { cti } => write!(f, "certificate {cti} is to be signed where the issuer's key is"),
            Self::Voided { cti, reason } => write!(f, "certificate {cti} is void: {reason}"),
            Self::ListSigned { version, mode, keys } => {
                let keys = text::count(*keys, "key", "keys");
                write!(f, "version {version} of the list is signed ({mode}, {keys})")
            }
            Self::ListInstalled { version } => write!(f, "version {version} of the list is installed"),
            Self::OlderLists { devices: 0 } => write!(f, "no device holds a list of before"),
            Self::OlderLists { devices: 1 } => {
                write!(f, "1 device holds a list of before; `commissioner distribute` brings it the next one")
            }
            Self::OlderLists { devices } => {
                write!(f, "{devices} devices hold a list of before; `commissioner distribute` brings them the next one")
            }
            Self::KeyPending { thumbprint } => write!(f, "key {} is pending", short(thumbprint)),
            Self::OtherKey { device, former, seconds } => write!(
                f,
                "{device} was here {} ago with another key, {}, which is revoked now: if that was another board, two boards have \
                 one ID, and the first one is not yours any more",
                span(*seconds),
                short(former)
            ),
            Self::NicknameAmbiguous { nickname, device } => write!(
                f,
                "the nickname {} of {device} is a part of this ID, too, and from now on names neither of them; `commissioner nickname \
                 {device} NAME` gives another one",
                text::line(nickname)
            ),
            Self::AlreadyDone => write!(f, "nothing to do"),
            Self::FellBack { to, because } => write!(f, "{because}; going on over {to}"),
        }
    }
}

/// The first 12 hex digits of a thumbprint: enough for people to tell keys apart.
pub fn short(thumbprint: &str) -> &str {
    thumbprint.get(..12).unwrap_or(thumbprint)
}

/// A step together with where it happened: links are worked on in parallel.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    /// The link, as the user would write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'a str>,
    /// What happened there.
    #[serde(flatten)]
    pub step: &'a Step,
}

/// Somebody who looks at the steps.
pub trait Sink: Send + Sync {
    /// Takes one step.
    fn event(&self, event: &Event<'_>);
}

/// The stream of steps. Clones feed the same sink.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Sink>,
    link: Option<Arc<str>>,
}

impl Progress {
    /// Steps go to `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink, link: None }
    }

    /// Steps that nobody looks at.
    pub fn unseen() -> Self {
        Self::new(Arc::new(Unseen))
    }

    /// The same stream, for the work on `link`.
    #[must_use]
    pub fn on_link(&self, link: &impl fmt::Display) -> Self {
        Self { sink: Arc::clone(&self.sink), link: Some(link.to_string().into()) }
    }

    /// Tells a step.
    pub fn step(&self, step: Step) {
        self.sink.event(&Event { link: self.link.as_deref(), step: &step });
    }

    /// Tells that something begins that takes a while.
    pub fn working(&self, what: impl Into<String>) {
        self.step(Step::Working { what: what.into() });
    }
}

struct Unseen;

impl Sink for Unseen {
    fn event(&self, _: &Event<'_>) {}
}

/// Tests: every step, in order.
#[derive(Default)]
pub struct Recording(Mutex<Vec<(Option<String>, Step)>>);

impl Recording {
    /// The links and steps told so far.
    pub fn steps(&self) -> Vec<(Option<String>, Step)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Recording {
    fn event(&self, event: &Event<'_>) {
        let entry = (event.link.map(str::to_owned), event.step.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// For people: a step is one line, whatever a device has to do with it.
impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.to_string();
        match self.link {
            Some(link) => write!(f, "{}: {}", text::line(link), text::line(&step)),
            None => f.write_str(&text::line(&step)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_people_see_the_same_steps() {
        let step = Step::Issued { cti: "0102030405060708".to_owned() };
        let event = Event { link: Some("serial:/dev/ttyACM0"), step: &step };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"link":"serial:/dev/ttyACM0","step":"issued","cti":"0102030405060708"}"#
        );
        assert_eq!(event.to_string(), "serial:/dev/ttyACM0: certificate 0102030405060708 is signed");
    }

    #[test]
    fn a_recording_keeps_links_apart() {
        let recording = Arc::new(Recording::default());
        let progress = Progress::new(recording.clone());
        progress.step(Step::AlreadyDone);
        progress.on_link(&"udp:[::1]").step(Step::LinkOpened);
        assert_eq!(recording.steps(), [(None, Step::AlreadyDone), (Some("udp:[::1]".to_owned()), Step::LinkOpened)]);
    }
}
