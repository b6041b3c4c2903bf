//! What a device at a USB cable is known by before it has said a word: its vendor and product ID.
//!
//! They are of the space that [pid.codes](https://pid.codes/1209/000C/) leaves to tests (1209:0001 to 1209:0010): good for
//! development and for demonstrations, and not for products that are sold. A product brings its own pair, here and in
//! the udev rule; nothing else knows these numbers. A device with other numbers is found as well, by asking it.

/// `idVendor` of the device descriptor (USB 2.0, section 9.6.1): pid.codes.
pub const VENDOR_ID: u16 = 0x1209;
/// `idProduct` of the device descriptor: one of the test products.
pub const PRODUCT_ID: u16 = 0x000c;
