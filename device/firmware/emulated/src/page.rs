//! What an emulated board cannot have of its own: a unique number, and randomness.
//!
//! The emulator writes a page of [`LEN`] bytes behind the end of RAM (`device-emulator` does, with a seed of the host's
//! random numbers that is new at each start). Without it the firmware does not start.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Random numbers from the seed.
pub type Generator = ChaCha20Rng;

/// Bytes of the page: [`MARK`], the unique number, the seed.
pub const LEN: usize = 48;
/// Shows that the page was written.
pub const MARK: [u8; 8] = *b"EMULATED";

#[repr(C)]
struct Page {
    mark: [u8; 8],
    uid: [u8; 8],
    seed: [u8; 32],
}

const _: () = assert!(size_of::<Page>() == LEN);

unsafe extern "C" {
    /// Defined by the `memory.x` of emulated boards, and of no others.
    #[link_name = "_emulated_page"]
    static mut PAGE: Page;
}

/// Takes the unique number and the generator, once: the seed is wiped. `None` if the emulator wrote no page.
pub fn take() -> Option<([u8; 8], Generator)> {
    let page = &raw mut PAGE;
    // SAFETY: the page is RAM that the linker gives to nothing else; it is read here only, before interrupts are enabled.
    let Page { mark, uid, seed } = unsafe { page.read_volatile() };
    // SAFETY: the same.
    unsafe { page.write_volatile(Page { mark: [0; 8], uid: [0; 8], seed: [0; 32] }) };
    (mark == MARK).then(|| (uid, ChaCha20Rng::from_seed(seed)))
}
