//! A button that is held down on purpose: how somebody at the device shows that they are there.

/// How long a button has to be held down, in milliseconds: nothing that happens by accident.
pub const LONG_PRESS_MS: u64 = 3000;

/// Tells long presses of a button, from samples of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Button {
    /// Since when it is held down; [`u64::MAX`] once that was told.
    since: Option<u64>,
}

impl Button {
    /// A button that is up.
    pub const fn new() -> Self {
        Button { since: None }
    }

    /// Takes a sample at `now`, in milliseconds. True once for each press that has become a long one, so that a button that
    /// is stuck shows nobody for long.
    ///
    /// A contact that bounces starts anew, so samples should be farther apart than it bounces, and a good deal less than
    /// [`LONG_PRESS_MS`].
    pub fn sample(&mut self, is_down: bool, now: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        if !is_down {
            self.since = None;
            return false;
        }
        let is_long = now.saturating_sub(since) >= LONG_PRESS_MS;
        if is_long {
            self.since = Some(u64::MAX);
        }
        is_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which a press was told to be long, of a button that is down from one time to the other, in each of
    /// `presses`, sampled each 50 ms.
    fn told(presses: &[(u64, u64)]) -> Vec<u64> {
        let mut button = Button::new();
        let is_down = |now| presses.iter().any(|(from, to)| (*from..*to).contains(&now));
        (0..100_000).step_by(50).filter(|now| button.sample(is_down(*now), *now)).collect()
    }

    #[test]
    fn a_press_is_long_after_three_seconds_and_told_once() {
        assert_eq!(told(&[(1000, 4000)]), []);
        assert_eq!(told(&[(1000, 4001)]), [4000]);
        assert_eq!(told(&[(1000, 100_000)]), [4000], "stuck");
        assert_eq!(told(&[(0, 4000), (4050, 9000)]), [3000, 7050]);
        assert_eq!(told(&[(0, 2000), (2050, 4000), (4050, 6000)]), [], "short ones do not add up");
    }
}
