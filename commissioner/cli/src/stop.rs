//! The signals that end a command: Ctrl-C (SIGINT), SIGTERM as supervisors send it, and a terminal that is closed.
//!
//! Most commands leave that to the system. One that would go on for ever listens for them before it does anything else, and
//! then gives up at once whatever it is waiting for: nothing that it does needs more to end well than the death of the process
//! would leave it. A container's only process is number 1, which these signals do not end of themselves: there they do by us.

use std::{
    io, process,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the command takes itself: bit n is set for signal n.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Listens for a signal: from now on it does nothing else.
///
/// # Errors
/// If the system does not let us.
pub(crate) fn take(kind: SignalKind) -> io::Result<Signal> {
    let signal = signal(kind)?;
    TAKEN.fetch_or(bit(kind), Ordering::Relaxed);
    Ok(signal)
}

fn bit(kind: SignalKind) -> u64 {
    1 << kind.as_raw_value()
}

/// Lets the signals end this process if it is number 1, as they end any other: at once, with the exit code that a shell gives
/// for them. But for those that the command takes.
///
/// # Errors
/// If the system does not let us.
pub fn end_as_others_do() -> io::Result<()> {
    if process::id() != 1 {
        return Ok(());
    }
    for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()] {
        let mut signal = signal(kind)?;
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if TAKEN.load(Ordering::Relaxed) & bit(kind) == 0 {
                    process::exit(128 + kind.as_raw_value());
                }
            }
        });
    }
    Ok(())
}

/// Listens for the signals to stop.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// From now on, the signals do nothing else.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    /// Waits for one of them.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
