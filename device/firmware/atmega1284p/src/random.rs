//! Random numbers: a seed in EEPROM, the jitter of the watchdog, and SHA-256 to mix and to stretch them.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    eeprom::{Eeprom, SEED},
    registers::{TCCR1B, TCNT1L, sleep_until, watchdog},
};

/// Samples of the jitter where there is a seed: a quarter of a second.
const SAMPLES: u16 = 16;
/// Samples of the jitter where there is no seed: 16 s. Half a bit each would make 512.
const SAMPLES_UNSEEDED: u16 = 1024;

static SAMPLE: AtomicU8 = AtomicU8::new(0);
static COUNT: AtomicU8 = AtomicU8::new(0);

/// SHA-256 of a secret and a counter.
pub struct Random {
    state: Zeroizing<[u8; 32]>,
    blocks: u32,
}

/// Mixes what there is, and replaces the seed before anything is drawn from it.
pub(crate) fn start(eeprom: &mut Eeprom) -> Random {
    let seed = Zeroizing::new(eeprom.array::<32>(SEED));
    let is_seeded = seed.iter().any(|byte| *byte != 0xff);
    let mut pool = Sha256::new_with_prefix(*seed);
    jitter(if is_seeded { SAMPLES } else { SAMPLES_UNSEEDED }, &mut pool);
    let mixed = Zeroizing::new(<[u8; 32]>::from(pool.finalize()));
    let derive = |purpose: &[u8]| {
        let derived = Sha256::new_with_prefix(purpose).chain_update(*mixed).finalize();
        Zeroizing::new(<[u8; 32]>::from(derived))
    };
    eeprom.put(SEED, &*derive(b"seed"));
    Random { state: derive(b"numbers"), blocks: 0 }
}

/// The low byte of a timer that the crystal drives, each time the watchdog's oscillator has counted to 2048.
fn jitter(samples: u16, pool: &mut Sha256) {
    TCCR1B.write(1);
    let mut last = COUNT.load(Relaxed);
    for _ in 0..samples {
        watchdog(true);
        sleep_until(|| COUNT.load(Relaxed) != last);
        last = COUNT.load(Relaxed);
        pool.update([SAMPLE.load(Relaxed)]);
    }
    watchdog(false);
    TCCR1B.write(0);
}

fn take() {
    SAMPLE.store(TCNT1L.read(), Relaxed);
    COUNT.store(COUNT.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The watchdog.
// SAFETY: avr-libc's table of vectors has this name for it.
#[unsafe(no_mangle)]
extern "avr-interrupt" fn __vector_8() {
    take();
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = Sha256::new_with_prefix(*self.state).chain_update(self.blocks.to_le_bytes()).finalize();
            self.blocks = self.blocks.wrapping_add(1);
            chunk.iter_mut().zip(block).for_each(|(byte, random)| *byte = random);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Random {}
