//! Values of a lamp.

use device::values::{Declared, Octets, Text, Value, ValueKind, Values};

pub(crate) const FLASHES: Declared<Flashes> = Declared::new("/comm/slots/identify-flashes", 1);
pub(crate) const SENDER_ID: Declared<Octets<8>> = Declared::new("/comm/slots/sender-id", 8).write_once();
pub(crate) const WIFI_PASSPHRASE: Declared<Text> = Declared::new("/comm/slots/wifi-passphrase", 64).secret();
pub(crate) const VALUES: &[Value] = &[FLASHES.value(), SENDER_ID.value(), WIFI_PASSPHRASE.value()];

/// How often the lamp flashes to be noticed: 1 to 20 times.
pub(crate) struct Flashes;

impl ValueKind for Flashes {
    type Is<'v> = u8;

    fn read(bytes: &[u8]) -> Option<u8> {
        match bytes {
            [flashes @ 1..=20] => Some(*flashes),
            _ => None,
        }
    }
}

/// How often the lamp is to flash, 10 times unless its owner wants something else.
pub(crate) fn flashes(values: &Values<'_>) -> u8 {
    values.get(&FLASHES).unwrap_or(10)
}
