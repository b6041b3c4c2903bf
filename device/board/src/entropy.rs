//! A seed for a generator, from a source of noise that gives one raw bit at a time.
//!
//! For microcontrollers without a random number generator of their own. It follows NIST SP 800-90B as far as that goes
//! without measuring the source: health tests on every raw bit, then conditioning of many more bits than a good source
//! would need.
//!
//! - **Health** (section 4.4). The repetition count test and the adaptive proportion test, with the cutoffs for 1/4 bit of
//!   min-entropy per raw bit and one false alarm in 2^20. A source that is stuck, dead or almost always the same fails.
//!   Both are also run on whether a bit equals the one that came 1 to [`LAGS`] bits before it. So an oscillator that is
//!   locked to its sampling fails, or that drifts too little between two samples, which the bits alone would not show.
//! - **Conditioning** (section 3.1.5). SHA-256 over [`SAMPLES`] raw bits. A digest of 256 bits is as good as full entropy if
//!   what went in had 64 bits of min-entropy more, so it is enough that a raw bit has 1/25: a sixth of what the tests ask.
//!
//! Tests find a source that is broken. They do not show that one is good: that has to be measured on it.
//!
//! Nothing else goes into the seed, no serial number either: boards whose source is bad shall be found out by equal keys.
//! One seed is enough for the life of a ChaCha20 generator (2^64 blocks), so there is no reseeding.

use core::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Raw bits that go into one seed.
pub const SAMPLES: u32 = 8 << 10;

/// The longest period that is looked for, in raw bits.
pub const LAGS: u32 = 16;

/// So many equal bits in a row are an alarm: 1 + 20 / (1/4).
const REPETITIONS: u32 = 81;
/// The proportion is looked at in windows of so many bits.
const WINDOW: u32 = 1024;
/// So many bits of a window that equal its first one are an alarm: the smallest number that a source with 1/4 bit reaches
/// with a probability of at most 2^-20.
const PROPORTION: u32 = 915;

/// Why there is no seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unhealthy {
    /// Too many equal bits in a row.
    Repetition,
    /// Almost all bits are equal.
    Proportion,
    /// The bits repeat, or mirror, those that came this number of bits before.
    Period(u32),
}

/// Draws [`SAMPLES`] raw bits, and makes a seed of them. How far apart they are taken is up to `bit`.
///
/// # Errors
/// A health test failed: then make no key.
pub fn seed(mut bit: impl FnMut() -> bool) -> Result<Zeroizing<[u8; 32]>, Unhealthy> {
    let mut tests = [Health::new(); LAGS as usize + 1];
    let mut conditioner = Sha256::new();
    // The newest bit is the lowest one.
    let mut recent = 0_u32;
    for at in 1..=SAMPLES {
        let new = u32::from(bit());
        for (lag, test) in (0..).zip(&mut tests) {
            // The register holds `at - 1` bits so far.
            if lag < at {
                let old = if lag == 0 { 0 } else { (recent >> lag.saturating_sub(1)) & 1 };
                test.take(new ^ old).map_err(|alarm| if lag == 0 { alarm } else { Unhealthy::Period(lag) })?;
            }
        }
        recent = (recent << 1) | new;
        if at.is_multiple_of(8) {
            conditioner.update([recent as u8]);
        }
    }
    Ok(Zeroizing::new(conditioner.finalize().into()))
}

/// Both health tests, for one sequence of bits.
#[derive(Clone, Copy)]
struct Health {
    last: u32,
    repetitions: u32,
    first: u32,
    equal: u32,
    seen: u32,
}

impl Health {
    const fn new() -> Self {
        Health { last: 2, repetitions: 0, first: 0, equal: 0, seen: 0 }
    }

    fn take(&mut self, bit: u32) -> Result<(), Unhealthy> {
        self.repetitions = if bit == self.last { self.repetitions.saturating_add(1) } else { 1 };
        self.last = bit;
        if self.repetitions >= REPETITIONS {
            return Err(Unhealthy::Repetition);
        }
        if self.seen == 0 {
            (self.first, self.equal) = (bit, 0);
        }
        self.equal = self.equal.saturating_add(u32::from(bit == self.first));
        self.seen = if self.seen.saturating_add(1) == WINDOW { 0 } else { self.seen.saturating_add(1) };
        if self.equal >= PROPORTION { Err(Unhealthy::Proportion) } else { Ok(()) }
    }
}

impl Unhealthy {
    /// What is said of it to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unhealthy::Repetition => "the source of random numbers is stuck",
            Unhealthy::Proportion => "the source of random numbers gives almost always the same",
            Unhealthy::Period(_) => "the source of random numbers repeats itself",
        }
    }
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unhealthy::Period(bits) => write!(f, "{}, every {bits} bits", self.as_str()),
            _ => f.write_str(self.as_str()),
        }
    }
}

impl core::error::Error for Unhealthy {}

#[cfg(test)]
mod tests {
    use hexlit::hex;

    use super::*;

    /// Bits that are 1 with a probability of `ones` in 2^16, by a xorshift generator.
    fn noise(mut state: u64, ones: u64) -> impl FnMut() -> bool {
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 48 < ones
        }
    }

    const HALF: u64 = 1 << 15;

    /// Computed by Python's hashlib over the same bits, eight to a byte, the first one highest.
    #[test]
    fn the_seed_is_the_digest_of_the_bits_in_their_order() {
        let digest = hex!("f63e6e559b8047ef4959cdc6203307c3a73ec9293cc5d020b027242ed3622fe0");
        assert_eq!(seed(noise(1, HALF)).map(|seed| *seed), Ok(digest));
    }

    #[test]
    fn noise_makes_seeds_and_each_bit_counts() {
        let plain = seed(noise(1, HALF)).expect("noise is healthy");
        assert_eq!(plain, seed(noise(1, HALF)).expect("noise is healthy"));
        for flipped in [0, 1, 7, 8, 4095, SAMPLES - 1] {
            let (mut bit, mut at) = (noise(1, HALF), 0);
            let other = seed(|| {
                at += 1;
                bit() ^ (at - 1 == flipped)
            });
            assert_ne!(other.expect("noise is healthy"), plain, "bit {flipped}");
        }
    }

    /// Boards were seen to give one of the values in 55 of 100 bits (`docs/hardware.md`).
    #[test]
    fn a_slight_bias_is_healthy_and_a_strong_one_is_not() {
        for state in 1..20 {
            assert!(seed(noise(state, HALF * 110 / 100)).is_ok(), "{state}");
            assert!(seed(noise(state, HALF * 90 / 100)).is_ok(), "{state}");
            assert!(seed(noise(state, HALF * 186 / 100)).is_err(), "{state}");
            assert!(seed(noise(state, HALF * 14 / 100)).is_err(), "{state}");
        }
    }

    #[test]
    fn a_source_that_is_stuck_is_noticed_at_once_and_whenever_it_happens() {
        for value in [false, true] {
            for good in [0, 1, 1000, SAMPLES - REPETITIONS] {
                let (mut bit, mut taken) = (noise(1, HALF), 0);
                let result = seed(|| {
                    taken += 1;
                    if taken > good { value } else { bit() }
                });
                assert_eq!(result, Err(Unhealthy::Repetition), "{value} after {good}");
                // Some bits before may have been equal by chance.
                assert!(taken <= good + REPETITIONS && taken + 20 > good + REPETITIONS, "{taken} after {good}");
            }
        }
    }

    #[test]
    fn a_source_that_sticks_with_short_breaks_is_noticed() {
        let mut taken = 0_u32;
        let result = seed(|| {
            taken += 1;
            !taken.is_multiple_of(REPETITIONS - 1)
        });
        assert_eq!(result, Err(Unhealthy::Proportion));
        assert!(taken <= WINDOW);
    }

    #[test]
    fn a_source_that_is_locked_to_its_sampling_is_noticed() {
        for period in 2..=LAGS {
            let (mut bit, mut taken) = (noise(u64::from(period), HALF), 0_u32);
            // Half of the period is noise, the other half its mirror image, so that no bit is rare.
            let half: Vec<bool> = (0..period.div_ceil(2)).map(|_| bit()).collect();
            let result = seed(|| {
                let at = taken as usize % period as usize;
                taken += 1;
                half.get(at).copied().unwrap_or_else(|| !half[at - half.len()])
            });
            assert!(matches!(result, Err(Unhealthy::Period(lag)) if lag <= period), "{period}: {result:?}");
        }
        // Beyond what is looked for, and a reminder that tests do not prove a source good.
        let mut bit = noise(1, HALF);
        let half: Vec<bool> = (0..50).map(|_| bit()).collect();
        let mut taken = 0_usize;
        let result = seed(|| {
            taken += 1;
            half[taken % half.len()] ^ (taken / half.len()).is_multiple_of(2)
        });
        assert!(result.is_ok(), "{result:?}");
    }

    /// The state of an oscillator that makes `periods` of itself between two samples, with a jitter of that many periods.
    fn oscillator(periods: f64, jitter: f64) -> impl FnMut() -> bool {
        let (mut bit, mut phase) = (noise(7, HALF), 0.0_f64);
        // The sum of 64 coins is close to a normal distribution with a standard deviation of 4.
        let mut normal = move || f64::from((0..64).map(|_| i32::from(bit())).sum::<i32>() - 32) / 4.0;
        move || {
            phase = (phase + periods + jitter * normal()).rem_euclid(1.0);
            phase < 0.5
        }
    }

    #[test]
    fn an_oscillator_is_healthy_only_if_its_phase_gets_lost_between_samples() {
        for step in 0..20 {
            let periods = 5200.0 + f64::from(step) / 20.0;
            assert!(seed(oscillator(periods, 0.25)).is_ok(), "{periods}");
            assert!(seed(oscillator(periods, 0.01)).is_err(), "{periods}");
        }
    }

    /// The definition of the cutoff, by the binomial distribution.
    #[test]
    fn the_cutoffs_are_those_of_a_quarter_bit_and_one_alarm_in_a_million() {
        let most_likely = 2_f64.powf(-0.25);
        let alarm = 2_f64.powi(-20);
        let repetition = |cutoff: u32| most_likely.powi(cutoff as i32 - 1);
        assert!(repetition(REPETITIONS) <= alarm * 1.000_001 && repetition(REPETITIONS - 1) > alarm * 1.000_001);
        let proportion = |cutoff: u32| -> f64 {
            let (mut probability, mut tail) = (most_likely.powi(WINDOW as i32), 0.0);
            for count in (cutoff..=WINDOW).rev() {
                tail += probability;
                probability *= f64::from(count) / f64::from(WINDOW - count + 1) * (1.0 - most_likely) / most_likely;
            }
            tail
        };
        assert!(proportion(PROPORTION) <= alarm && proportion(PROPORTION - 1) > alarm);
    }
}
