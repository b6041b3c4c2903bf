//! Power cuts, systematically: wherever the power fails, the device that starts again is the old one or the new one.
//!
//! The flash is filmed during a commit: one frame for each write and erase. Each byte that changes from one frame to the
//! next is a place for a cut, and the word around it may be left as anything ([`film::Tear`]). Each image that comes of
//! that is given to a device that starts. The tests print how many cuts they tried: see them with `--no-capture`.

extern crate commissionable_device as device;

#[path = "rules/common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests of the device use the rest")]
mod common;
#[path = "power_cuts/film.rs"]
mod film;
#[path = "power_cuts/pairs.rs"]
mod pairs;
#[path = "power_cuts/whole_device.rs"]
mod whole_device;

/// Says how much was tried.
#[expect(clippy::print_stdout, reason = "the number of cuts is what these tests have to report")]
fn tell(line: &str) {
    println!("{line}");
}
