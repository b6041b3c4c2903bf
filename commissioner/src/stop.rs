//! The signals that end a command that would go on for ever: Ctrl-C (SIGINT), and SIGTERM as supervisors send it.
//!
//! A container's only process is number 1, which these signals do not end of themselves. So such a command listens for them
//! before it does anything else, and then gives up at once whatever it is waiting for: nothing that it does needs more to end
//! well than the death of the process would leave it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CommandError;

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
    pub fn listen() -> Result<Self, CommandError> {
        let listen = || -> io::Result<Self> {
            Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
        };
        listen().map_err(CommandError::internal)
    }

    /// Waits for one of them.
    pub async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
