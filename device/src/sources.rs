//! Who makes the device verify signatures: each source has an allowance, in RAM only.
//!
//! Anybody can present a token that nobody signed, and its signature takes a while to be found wrong. Where all have one
//! allowance, one of them keeps out the others. On a network an address costs nothing, though, and would be another source:
//! where the places are taken by sources that were busy just now, a new one has to prove that it gets what is sent to its
//! address (RFC 9175), which takes the device no time. So whoever forges addresses has as many allowances as there are
//! places, and whoever has a real one always gets in.

use heapless::Vec;

use crate::{authz::RateLimit, problem::Problem};

/// Sources that are told apart at the same time.
pub(crate) const CAPACITY: usize = 4;

/// Allowances by source. `A` is the address of a peer.
pub(crate) struct Sources<A> {
    /// Least recently used first.
    held: Vec<(A, RateLimit), CAPACITY>,
}

impl<A: Copy + Eq> Sources<A> {
    /// None.
    pub(crate) const fn new() -> Self {
        Sources { held: Vec::new() }
    }

    /// Takes one from the allowance of `from`, whose address is proved or not. `now` is in milliseconds.
    ///
    /// # Errors
    /// 4.29 where nothing is left; [`Problem::PROVE_ADDRESS`].
    pub(crate) fn take(&mut self, from: A, is_proved: bool, now: u64) -> Result<(), Problem> {
        let known = self.held.iter().position(|(address, _)| *address == from);
        // Who has all of an allowance again is as good as new.
        let idle = self.held.iter().position(|(_, allowance)| allowance.is_full(now));
        let mut allowance = match (known, idle) {
            (Some(at), _) => self.held.remove(at).1,
            (None, _) if !self.held.is_full() => RateLimit::new(),
            (None, Some(idle)) => self.held.remove(idle).1,
            (None, None) if is_proved => {
                self.held.remove(0);
                RateLimit::new()
            }
            (None, None) => return Err(Problem::PROVE_ADDRESS),
        };
        let taken = allowance.take(now);
        // There is room now.
        let _ = self.held.push((from, allowance));
        taken
    }
}

impl<A: Copy + Eq> Default for Sources<A> {
    fn default() -> Self {
        Sources::new()
    }
}

#[cfg(test)]
mod tests {
    use coap_numbers::code;

    use super::*;

    /// How many are taken in a row, and what ends that.
    fn taken(sources: &mut Sources<u8>, from: u8, is_proved: bool, now: u64) -> (usize, u8) {
        let mut count = 0;
        loop {
            match sources.take(from, is_proved, now) {
                Ok(()) => count += 1,
                Err(problem) => return (count, problem.code()),
            }
        }
    }

    #[test]
    fn one_source_does_not_use_up_what_is_anothers() {
        let mut sources = Sources::new();
        for from in 0..CAPACITY as u8 {
            assert_eq!(taken(&mut sources, from, false, 0), (4, code::TOO_MANY_REQUESTS));
        }
        assert_eq!(taken(&mut sources, 1, false, 1000), (1, code::TOO_MANY_REQUESTS));
    }

    #[test]
    fn a_new_source_takes_the_place_of_an_idle_one_or_proves_its_address() {
        let mut sources = Sources::new();
        for from in 0..4 {
            sources.take(from, false, 0).unwrap();
        }
        assert_eq!(sources.take(9, false, 0), Err(Problem::PROVE_ADDRESS));
        // As often as it likes: whoever gets the mail of many addresses cannot be told from many.
        for from in 100..120 {
            assert_eq!(taken(&mut sources, from, true, 0), (4, code::TOO_MANY_REQUESTS));
        }
        assert_eq!(taken(&mut sources, 119, true, 0), (0, code::TOO_MANY_REQUESTS));
        assert_eq!(sources.take(9, false, 3_999), Err(Problem::PROVE_ADDRESS));
        assert_eq!(taken(&mut sources, 9, false, 4_000), (4, code::TOO_MANY_REQUESTS));
    }

    #[test]
    fn an_address_that_is_forged_anew_each_time_costs_no_more_than_the_places() {
        let mut sources = Sources::new();
        let verified = (0..=255).filter(|from| sources.take(*from, false, 0).is_ok()).count();
        assert_eq!(verified, CAPACITY);
        assert_eq!(taken(&mut sources, 77, true, 0).0, 4, "and whoever is there gets in");
    }
}
