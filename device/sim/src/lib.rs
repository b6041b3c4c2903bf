//! Devices on a host. `device-sim` runs the code of a board as a process of this machine; `device-emulator` runs the
//! firmware of a board, as it is flashed, in QEMU. Both are reached through the same kind of [`pty`].

pub mod pty;

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, or for a request to terminate.
pub async fn until_told_to_stop() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
