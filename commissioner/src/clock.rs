//! The time of day, as an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// The day of the newest release, 2026-11-01: moved on with each one.
const RELEASED: u64 = 1_793_491_200;

/// When this program was made, Unix seconds: what `SOURCE_DATE_EPOCH` said when it was built, else the day of the release,
/// so that the same sources give the same program. No clock that is right says less.
pub const BUILT: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(seconds) => seconds,
        Err(_) => RELEASED,
    },
    None => RELEASED,
};

/// How long after that a clock is taken to be right.
const TEN_YEARS: u64 = 3_653 * 24 * 60 * 60;

/// Where "now" comes from, in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// A clock that stands still until somebody sets it: for tests and simulations.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that stands at `seconds`.
    pub fn manual(seconds: u64) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(seconds)))
    }

    /// Seconds since 1970-01-01T00:00:00Z; 0 when the system's clock is before that.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            Self::Manual(seconds) => seconds.load(Ordering::SeqCst),
        }
    }

    /// Sets a manual clock; the system's clock is left alone.
    pub fn set(&self, seconds: u64) {
        if let Self::Manual(now) = self {
            now.store(seconds, Ordering::SeqCst);
        }
    }
}

/// `seconds` since 1970 as RFC 3339 text in UTC, for example `2026-11-22T15:24:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{seconds} s after 1970"), |time| time.to_string())
}

/// The reverse of [`rfc3339`]; none for what it did not write.
pub fn unix_seconds(text: &str) -> Option<u64> {
    text.parse::<jiff::Timestamp>().ok()?.as_second().try_into().ok()
}

/// Why a clock that says `now` is not likely to be right, in words; `None` for any other.
pub fn doubt(now: u64) -> Option<String> {
    let relation = match now {
        _ if now < BUILT => "which is before this program was made",
        _ if now > BUILT.saturating_add(TEN_YEARS) => "which is more than ten years after this program was made",
        _ => return None,
    };
    Some(format!("the clock says {}, {relation} ({})", rfc3339(now), rfc3339(BUILT)))
}

/// A number of seconds as people say it: `20 s`, `9 h`, `12 days`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_set() {
        let clock = Clock::manual(1_000);
        let same = clock.clone();
        assert_eq!(clock.now(), 1_000);
        clock.set(2_000);
        assert_eq!(same.now(), 2_000);
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_361_040), "2026-11-22T15:24:00Z");
        assert_eq!(unix_seconds("2026-11-22T15:24:00Z"), Some(1_795_361_040));
        assert_eq!(unix_seconds("1969-12-31T23:59:59Z"), None);
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615 s after 1970");
    }

    #[test]
    fn clocks_of_before_this_program_and_of_long_after_are_doubted() {
        assert_eq!(unix_seconds("2026-11-01T00:00:00Z"), Some(RELEASED));
        for right in [BUILT, BUILT + TEN_YEARS] {
            assert_eq!(doubt(right), None);
        }
        assert!(doubt(BUILT - 1).unwrap().contains("before this program"));
        assert!(doubt(0).unwrap().contains("1970-01-01T00:00:00Z"));
        assert!(doubt(BUILT + TEN_YEARS + 1).unwrap().contains("ten years"));
    }

    #[test]
    fn spans_are_short() {
        let said = [0, 119, 120, 7_199, 7_200, 9 * 3_600, 172_800].map(span);
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h", "9 h", "2 days"]);
    }
}
