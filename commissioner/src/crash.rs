//! A hook for tests, and for nothing else: the process dies at a named point, as by `kill -9` or a power failure, or
//! pauses there, so that others can overtake it.
//!
//! `COMMISSIONER_STOP_AT=NAME:COUNT` lets it die when it comes to the point NAME for the COUNTth time, from 1. Nothing is
//! flushed, dropped or said. With `NAME:COUNT:pause`, it stands still there until it gets a SIGCONT. Several stops are set
//! apart by commas. Builds without debug assertions, such as releases, do not have it.

/// Where a run can be stopped. Together they enclose every step of the journal, every protected request, and the steps of a
/// backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "registry"), expect(dead_code, reason = "most of them are passed by what the registry does"))]
pub(crate) enum Point {
    /// A change to the registry is complete, but not durable.
    BeforeCommit,
    /// A change to the registry is durable, and nothing was done about it.
    AfterCommit,
    /// A protected request is about to be sent.
    BeforeRequest,
    /// A protected request was answered, and nothing was done about it.
    AfterAnswer,
    /// A certificate is signed, and not written down.
    Signed,
    /// The registry is copied for a backup, and nothing is sealed.
    Copied,
    /// A backup is sealed, and has no name yet.
    Sealed,
    /// A backup is unpacked, and nothing is in its place.
    Unpacked,
}

/// Passes the point, or is stopped there.
#[cfg(not(all(debug_assertions, feature = "registry")))]
pub(crate) fn at(_: Point) {}

/// Passes the point, or is stopped there.
#[cfg(all(debug_assertions, feature = "registry"))]
pub(crate) fn at(point: Point) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static PASSED: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

    let Ok(stops) = std::env::var("COMMISSIONER_STOP_AT") else { return };
    let count = PASSED[point as usize].fetch_add(1, Ordering::SeqCst) + 1;
    let here = format!("{}:{count}", point.name());
    for stop in stops.split(',') {
        let signal = match stop.strip_prefix(&here) {
            Some("") => Signal::KILL,
            Some(":pause") => Signal::STOP,
            _ => continue,
        };
        // The thread that came here is to go no further. A signal to the process would be any thread's to take.
        let _ = kill_process(this_thread().unwrap_or_else(getpid), signal);
    }
}

#[cfg(all(debug_assertions, feature = "registry"))]
fn this_thread() -> Option<rustix::process::Pid> {
    let path = std::fs::read_link("/proc/thread-self").ok()?;
    rustix::process::Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)
}

#[cfg(all(debug_assertions, feature = "registry"))]
impl Point {
    fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeRequest => "before-request",
            Self::AfterAnswer => "after-answer",
            Self::Signed => "signed",
            Self::Copied => "copied",
            Self::Sealed => "sealed",
            Self::Unpacked => "unpacked",
        }
    }
}
