//! A hook for tests, and for nothing else: the process dies at a named point, as by `kill -9` or a power failure.
//!
//! `COMMISSIONER_STOP_AT=NAME:COUNT` lets it die when it comes to the point NAME for the COUNTth time, from 1. Nothing is
//! flushed, dropped or said. Builds without debug assertions, such as releases, do not have it.

/// Where a run can die. Together they enclose every step of the journal and every protected request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// Passes the point, or dies there.
#[cfg(not(debug_assertions))]
pub(crate) fn at(_: Point) {}

/// Passes the point, or dies there.
#[cfg(debug_assertions)]
pub(crate) fn at(point: Point) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static PASSED: AtomicUsize = AtomicUsize::new(0);

    let Ok(wanted) = std::env::var("COMMISSIONER_STOP_AT") else { return };
    let Some((name, count)) = wanted.split_once(':') else { return };
    if name == point.name() && count.parse() == Ok(PASSED.fetch_add(1, Ordering::SeqCst) + 1) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(debug_assertions)]
impl Point {
    fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforeRequest => "before-request",
            Self::AfterAnswer => "after-answer",
            Self::Signed => "signed",
        }
    }
}
