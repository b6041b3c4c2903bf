//! Attaching to this machine's own kernel, without TCP and without `usbip`: the module `vhci_hcd` takes a socket.
//!
//! It needs the right to write to sysfs, which is root's.

use std::{
    fs, io,
    os::{fd::AsRawFd, unix::net::UnixStream as Socket},
    path::{Path, PathBuf},
};

use embassy_usb_driver::Speed;
use tokio::net::UnixStream;

use crate::{
    port::{Error as PortError, Port},
    server::speed_number,
};

const CONTROLLER: &str = "/sys/devices/platform/vhci_hcd.0";
/// Bus 1, device 2, as `usbip` counts.
const DEVICE: u32 = 0x1_0002;
/// `VDEV_ST_NULL`: nothing is plugged into the port.
const FREE: &str = "004";

/// Why the kernel does not take the device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no virtual host controller.
    #[error("this kernel has no virtual USB host controller; load it: modprobe vhci-hcd")]
    NoController,
    /// It is not ours to use.
    #[error("no permission to plug into the virtual USB host controller; become root")]
    Permission,
    /// All of its ports are taken.
    #[error("no port of the virtual USB host controller is free; `usbip port` lists them, `usbip detach` frees one")]
    NoFreePort,
    /// The kernel refuses, or does not speak as it should.
    #[error("the virtual USB host controller does not take the device: {0}")]
    Io(io::Error),
    /// The device was attached, and then something failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Plugs the device into this machine's kernel, and serves it until the kernel lets go of it, or until it is
/// [unplugged](Port::unplug). When the future is dropped, the kernel sees the device vanish.
///
/// # Errors
/// As the kinds of [`Error`] say.
pub async fn serve(port: &Port) -> Result<(), Error> {
    Ok(port.serve(plug_in(Path::new(CONTROLLER), port.speed())?).await?)
}

fn plug_in(controller: &Path, speed: Speed) -> Result<UnixStream, Error> {
    let status = fs::read_to_string(controller.join("status")).map_err(failed)?;
    let free = free_port(&status).ok_or(Error::NoFreePort)?;
    let (ours, kernels) = Socket::pair().map_err(Error::Io)?;
    // The kernel takes all of it in one write. It holds the socket itself afterwards.
    let wish = format!("{free} {} {DEVICE} {}", kernels.as_raw_fd(), speed_number(speed));
    let attach: PathBuf = controller.join("attach");
    fs::write(attach, wish).map_err(failed)?;
    ours.set_nonblocking(true).map_err(Error::Io)?;
    UnixStream::from_std(ours).map_err(Error::Io)
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoController,
        io::ErrorKind::PermissionDenied => Error::Permission,
        _ => Error::Io(error),
    }
}

/// A free port, in lines of `hub port sta spd dev sockfd local_busid`. Of the two hubs, `hs` is for all speeds up to high,
/// and `ss` for SuperSpeed.
fn free_port(status: &str) -> Option<u32> {
    status.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["hs", port, FREE, ..] => port.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "hub port sta spd dev      sockfd local_busid\n\
        hs  0000 006 002 00010002 000003 1-1\nhs  0001 004 000 00000000 000000 0-0\nss  0008 004 000 00000000 000000 0-0\n";

    #[test]
    fn the_first_free_port_is_taken() {
        assert_eq!(free_port(STATUS), Some(1));
        assert_eq!(free_port(&STATUS.replace("hs  0001 004", "hs  0001 005")), None);
        assert_eq!(free_port(""), None);
    }

    #[test]
    fn a_kernel_without_the_module_is_told_apart() {
        let error = plug_in(Path::new("/nonexistent"), Speed::Full).unwrap_err();
        assert!(error.to_string().contains("modprobe vhci-hcd"), "{error}");
    }

    #[tokio::test]
    async fn the_kernel_is_told_port_socket_device_and_speed() {
        let controller = std::env::temp_dir().join(format!("vhci-{}", std::process::id()));
        fs::create_dir(&controller).unwrap();
        fs::write(controller.join("status"), STATUS).unwrap();
        plug_in(&controller, Speed::High).unwrap();
        let wish = fs::read_to_string(controller.join("attach")).unwrap();
        fs::remove_dir_all(&controller).unwrap();
        assert!(matches!(wish.split(' ').collect::<Vec<_>>()[..], ["1", _, "65538", "3"]), "{wish}");
    }
}
