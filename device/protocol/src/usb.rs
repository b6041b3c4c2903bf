//! What a device at a USB cable is known by before it has said a word: its vendor and product ID, and its serial number,
//! which is the device ID. Its hardware addresses come from that, so that both ends of the cable keep theirs over restarts,
//! and a host knows the device's address at once.
//!
//! The numbers are of the space that [pid.codes](https://pid.codes/1209/000C/) leaves to tests (1209:0001 to 1209:0010): good for
//! development and for demonstrations, and not for products that are sold. A product brings its own pair, here and in
//! the udev rule; nothing else knows these numbers. A device with other numbers is found as well, by asking it.

use core::net::Ipv6Addr;

use cbor_schemas::DeviceId;
use sha2::{Digest, Sha256};

/// `idVendor` of the device descriptor (USB 2.0, section 9.6.1): pid.codes.
pub const VENDOR_ID: u16 = 0x1209;
/// `idProduct` of the device descriptor: one of the test products.
pub const PRODUCT_ID: u16 = 0x000c;

/// The hardware addresses (EUI-48) of the two ends of the cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddresses {
    /// The device's own.
    pub device: [u8; 6],
    /// What the host is told to use (`iMACAddress`, CDC ECM 1.2, section 5.4).
    pub host: [u8; 6],
}

/// Locally administered addresses, the first bytes of SHA-256 over the end's name and the device ID.
///
/// Two devices of one host have the same ones with a chance of 2^-46.
pub fn mac_addresses(device: &DeviceId) -> MacAddresses {
    let of = |end: &str| {
        let digest = Sha256::new().chain_update(end).chain_update(device.as_str()).finalize();
        let [a, b, c, d, e, f, ..] = <[u8; 32]>::from(digest);
        [a & !0b01 | 0b10, b, c, d, e, f]
    };
    MacAddresses { device: of("usb-device "), host: of("usb-host ") }
}

/// The device's address: link-local, with its hardware address as EUI-64 (RFC 4291 section 2.5.1 and appendix A).
pub fn link_local(device: &DeviceId) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac_addresses(device).device;
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 0b10, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(id: &str) -> DeviceId {
        id.parse().unwrap()
    }

    /// Computed by another program.
    #[test]
    fn a_device_has_the_same_addresses_for_ever() {
        let device = device("urn:dev:ops:32473-sim-0024be");
        assert_eq!(mac_addresses(&device).device, [0xb6, 0x21, 0x89, 0x8e, 0xe9, 0x82]);
        assert_eq!(mac_addresses(&device).host, [0xa6, 0x7d, 0xcb, 0xad, 0x2a, 0xcf]);
        assert_eq!(link_local(&device).to_string(), "fe80::b421:89ff:fe8e:e982");
    }

    #[test]
    fn addresses_are_unicast_and_local_and_differ() {
        let mut all = Vec::new();
        for number in 0..100 {
            let device = device(&format!("urn:dev:ops:32473-test-{number}"));
            let MacAddresses { device: own, host } = mac_addresses(&device);
            assert!([own, host].iter().all(|mac| mac[0] & 0b11 == 0b10));
            assert!(link_local(&device).is_unicast_link_local());
            all.extend([own, host]);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 200);
    }
}
