/// A number as text, in decimal digits: without the formatting of `core`, which takes 4 kB of a Cortex-M's flash.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    /// Digits, from `start` on.
    digits: [u8; Self::MAX_LEN],
    start: usize,
}

impl Decimal {
    const MAX_LEN: usize = 10;

    /// The text of `number`.
    pub fn new(number: u32) -> Self {
        let (mut digits, mut start, mut left) = ([b'0'; Self::MAX_LEN], Self::MAX_LEN, number);
        for (at, digit) in digits.iter_mut().enumerate().rev() {
            // At most 9.
            *digit = b'0'.wrapping_add((left % 10) as u8);
            (left, start) = (left / 10, at);
            if left == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    /// The digits, without zeros before them.
    pub fn as_str(&self) -> &str {
        self.digits.get(self.start..).and_then(|digits| str::from_utf8(digits).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_core_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 65_535, 1_000_000_000, u32::MAX] {
            assert_eq!(Decimal::new(number).as_str(), number.to_string());
        }
    }
}
