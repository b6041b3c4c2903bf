//! The time of day, as an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

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
}
