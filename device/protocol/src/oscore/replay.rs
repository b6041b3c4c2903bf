/// Which sequence numbers of the peer's requests were seen (RFC 8613, section 7.4), and which of their nonces have
/// sealed a response.
#[derive(Default)]
pub(super) struct ReplayWindow {
    highest: Option<u64>,
    // In both, bit i stands for the sequence number `highest - i`.
    received: u32,
    answered: u32,
}

impl ReplayWindow {
    /// Whether a request is neither a replay nor too old to tell. Changes nothing: anybody could have sent it.
    pub(super) fn is_fresh(&self, sequence: u64) -> bool {
        match self.highest {
            Some(highest) if sequence <= highest => bit(highest, sequence).is_some_and(|bit| self.received & bit == 0),
            _ => true,
        }
    }

    /// Notes a request that has been authenticated.
    pub(super) fn accept(&mut self, sequence: u64) {
        if self.highest.is_none_or(|highest| sequence > highest) {
            let distance = sequence.saturating_sub(self.highest.unwrap_or(sequence));
            self.received = shift(self.received, distance);
            self.answered = shift(self.answered, distance);
            self.highest = Some(sequence);
        }
        self.received |= self.bit(sequence).unwrap_or(0);
    }

    /// Whether the nonce of a request may seal a response: once, for a request that was accepted and is not too old.
    pub(super) fn take_nonce(&mut self, sequence: u64) -> bool {
        match self.bit(sequence) {
            Some(bit) if self.received & bit != 0 && self.answered & bit == 0 => {
                self.answered |= bit;
                true
            }
            _ => false,
        }
    }

    fn bit(&self, sequence: u64) -> Option<u32> {
        bit(self.highest?, sequence)
    }
}

fn bit(highest: u64, sequence: u64) -> Option<u32> {
    1_u32.checked_shl(u32::try_from(highest.checked_sub(sequence)?).ok()?)
}

fn shift(window: u32, distance: u64) -> u32 {
    u32::try_from(distance).ok().and_then(|distance| window.checked_shl(distance)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window_after(sequences: &[u64]) -> ReplayWindow {
        let mut window = ReplayWindow::default();
        sequences.iter().for_each(|&sequence| window.accept(sequence));
        window
    }

    #[test]
    fn accepts_each_number_once_in_any_order() {
        let mut window = ReplayWindow::default();
        for sequence in [5, 3, 4, 36, 7, 35, 34, 5 + 31 + 64] {
            assert!(window.is_fresh(sequence), "{sequence}");
            window.accept(sequence);
            assert!(!window.is_fresh(sequence), "{sequence}");
        }
    }

    #[test]
    fn reaches_31_numbers_back() {
        let window = window_after(&[100]);
        assert!(window.is_fresh(69));
        assert!(!window.is_fresh(68));
        assert!(!window.is_fresh(0));
    }

    #[test]
    fn forgets_nothing_inside_when_it_moves() {
        let window = window_after(&[10, 12, 41]);
        assert!(!window.is_fresh(10) && window.is_fresh(11) && !window.is_fresh(12));
        assert!(window_after(&[0]).is_fresh(1 << 39));
        assert!(!window_after(&[0, 1 << 39]).is_fresh(0));
    }

    #[test]
    fn gives_each_nonce_once_and_only_of_accepted_requests() {
        let mut window = window_after(&[7, 9]);
        assert!(window.take_nonce(7));
        assert!(!window.take_nonce(7));
        assert!(!window.take_nonce(8));
        window.accept(20);
        assert!(!window.take_nonce(7));
        assert!(window.take_nonce(9));
        window.accept(60);
        assert!(!window.take_nonce(20));
    }
}
