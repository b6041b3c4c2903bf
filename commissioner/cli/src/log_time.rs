//! When something was logged: the times that stand in a log, as programs and terminals write them.
//!
//! Read are dates with a time of day (`2026-11-22T16:38:57Z`, `2026/11/22 16:38:57,123 +0100`) and those of syslog
//! (`Nov 22 16:38:57`), anywhere in the beginning of a line. Where no zone is named, it is that of this machine. A board's
//! time since its start is none, nor is what a clock says that was never set.

use jiff::{civil::DateTime, tz::TimeZone};

/// How much of a line is looked at, in bytes.
const LOOKED_AT: usize = 256;
/// 2020-01-01: what is before that is a clock that was never set.
const EARLIEST: i64 = 1_577_836_800;
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Follows the times of a log.
pub(crate) struct LogTime {
    line: Vec<u8>,
    last: Option<i64>,
    /// When the log was written to for the last time, Unix seconds: nothing in it is newer.
    limit: i64,
    zone: TimeZone,
}

impl LogTime {
    /// For a log whose times are of this machine's zone, where they name none.
    pub(crate) fn in_local_zone() -> Self {
        Self::in_zone(TimeZone::system())
    }

    fn in_zone(zone: TimeZone) -> Self {
        Self { line: Vec::with_capacity(LOOKED_AT), last: None, limit: i64::MAX, zone }
    }

    /// Takes what follows in the log, at most to the end of a line. It was written to at `limit` for the last time, Unix
    /// seconds.
    pub(crate) fn push(&mut self, bytes: &[u8], limit: u64) {
        self.limit = limit.try_into().unwrap_or(i64::MAX);
        let room = LOOKED_AT.saturating_sub(self.line.len());
        self.line.extend(bytes.iter().take(room));
    }

    /// A line ends where `bytes` do, if it does.
    pub(crate) fn end_line(&mut self, bytes: &[u8]) {
        if bytes.ends_with(b"\n") {
            self.last = self.of_line().or(self.last);
            self.line.clear();
        }
    }

    /// The time of what comes next, Unix seconds: what the line says, or else the last one that had a time, or else when the
    /// log was written to.
    pub(crate) fn now(&self) -> u64 {
        let time = self.of_line().or(self.last).unwrap_or(self.limit);
        time.min(self.limit).try_into().unwrap_or_default()
    }

    /// The last time in the line so far.
    fn of_line(&self) -> Option<i64> {
        let times = (0..self.line.len()).rev().filter_map(|at| self.read(self.line.get(at..)?));
        times.into_iter().find(|time| *time >= EARLIEST)
    }

    fn read(&self, text: &[u8]) -> Option<i64> {
        match text.first()? {
            b'2' => self.dated(text),
            b'A'..=b'S' => self.of_syslog(text),
            _ => None,
        }
    }

    /// `2026-11-22T16:38:57`, and perhaps a zone.
    fn dated(&self, text: &[u8]) -> Option<i64> {
        let (date, rest) = text.split_at_checked(11)?;
        let [year @ .., b1, m1, m2, b2, d1, d2, b'T' | b't' | b' ' | b'_'] = date else { return None };
        if b1 != b2 || !matches!(b1, b'-' | b'/') {
            return None;
        }
        let (time, zone) = rest.split_at_checked(8)?;
        let [hour, minute, second] = time_of_day(time)?;
        let (year, month, day) = (number(year)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
        let date = DateTime::new(year, month.try_into().ok()?, day.try_into().ok()?, hour, minute, second, 0).ok()?;
        match offset(zone)? {
            Some(offset) => Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second() - offset),
            None => self.here(date),
        }
    }

    /// `Nov 22 16:38:57`: of the year that makes it the newest that is not newer than the log.
    fn of_syslog(&self, text: &[u8]) -> Option<i64> {
        let (date, rest) = text.split_at_checked(7)?;
        let [month @ .., b' ', d1, d2, b' '] = date else { return None };
        let month = i8::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
        let day = number(if *d1 == b' ' { std::slice::from_ref(d2) } else { date.get(4..6)? })?;
        let [hour, minute, second] = time_of_day(rest.get(..8)?)?;
        let newest = jiff::Timestamp::from_second(self.limit).ok()?.to_zoned(self.zone.clone()).year();
        let in_year = |year| self.here(DateTime::new(year, month, day.try_into().ok()?, hour, minute, second, 0).ok()?);
        in_year(newest).filter(|time| *time <= self.limit).or_else(|| in_year(newest - 1))
    }

    fn here(&self, date: DateTime) -> Option<i64> {
        Some(self.zone.to_ambiguous_zoned(date).compatible().ok()?.timestamp().as_second())
    }
}

/// `16:38:57`
fn time_of_day(text: &[u8]) -> Option<[i8; 3]> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = text else { return None };
    let part = |digits: [&u8; 2]| number(&digits.map(|digit| *digit)).and_then(|value| value.try_into().ok());
    Some([part([h1, h2])?, part([m1, m2])?, part([s1, s2])?])
}

/// What stands behind a time of day: perhaps parts of a second, then perhaps a zone. Its distance from UTC in seconds; none if what
/// looks like one is 24 hours or more, or has 60 minutes or more.
fn offset(text: &[u8]) -> Option<Option<i64>> {
    let parts = match text {
        [b'.' | b',', rest @ ..] => rest.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        _ => 0,
    };
    let zone = text.get(parts..).unwrap_or_default();
    match zone.strip_prefix(b" ").unwrap_or(zone) {
        [b'Z' | b'z', ..] | [b'U', b'T', b'C', ..] | [b'G', b'M', b'T', ..] => Some(Some(0)),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = rest.strip_prefix(b":").unwrap_or(rest).get(..2).and_then(number);
            let (Some(hours), Some(minutes)) = (number(&[*h1, *h2]), minutes) else { return Some(None) };
            let seconds = (i64::from(hours) * 60 + i64::from(minutes)) * 60;
            (hours < 24 && minutes < 60).then_some(Some(if *sign == b'-' { -seconds } else { seconds }))
        }
        _ => Some(None),
    }
}

fn number(digits: &[u8]) -> Option<i16> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use commissioner::clock::{rfc3339, unix_seconds};

    const WRITTEN: &str = "2026-11-29T12:00:00Z";

    fn at(log: &str) -> String {
        let zone = TimeZone::fixed(jiff::tz::offset(-5));
        let (mut time, written) = (LogTime::in_zone(zone), unix_seconds(WRITTEN).unwrap());
        time.push(b"", written);
        for line in log.as_bytes().split_inclusive(|byte| *byte == b'\n') {
            time.push(line, written);
            time.end_line(line);
        }
        rfc3339(time.now())
    }

    #[test]
    fn times_are_read_as_programs_write_them() {
        for (log, time) in [
            ("2026-11-22T16:38:57Z ", "2026-11-22T16:38:57Z"),
            ("[2026-11-22T16:38:57.123456+01:00] ", "2026-11-22T15:38:57Z"),
            ("2026-11-22 16:38:57,123 +0100 INFO ", "2026-11-22T15:38:57Z"),
            ("Sun 2026-11-22 16:38:57 UTC host app[1]: ", "2026-11-22T16:38:57Z"),
            ("{\"time\":\"2026-11-22T16:38:57-00:30\",\"msg\":\"", "2026-11-22T17:08:57Z"),
            // No zone: this machine's, five hours behind.
            ("[2026-11-22 16:38:57.123] ", "2026-11-22T21:38:57Z"),
            ("2026/11/22 16:38:57 main.go:7: ", "2026-11-22T21:38:57Z"),
            ("Nov 22 16:38:57 host app[1]: ", "2026-11-22T21:38:57Z"),
            ("Nov  2 16:38:57 host app[1]: ", "2026-11-02T21:38:57Z"),
            // A month that is still to come was last year's.
            ("Dec 31 16:38:57 host app[1]: ", "2025-12-31T21:38:57Z"),
            // The last one in the line, and the last line that has one.
            ("Nov 23 00:00:00 relay: 2026-11-22T16:38:57Z ", "2026-11-22T16:38:57Z"),
            ("2026-11-22T16:38:57Z boot\nmore\n", "2026-11-22T16:38:57Z"),
            ("2026-11-22T16:38:57Z boot\n2026-11-22T16:38:59Z ", "2026-11-22T16:38:59Z"),
        ] {
            assert_eq!(at(log), time, "{log}");
        }
    }

    #[test]
    fn what_is_no_time_is_when_the_log_was_written() {
        let long = format!("{}2026-11-22T16:38:57Z ", " ".repeat(LOOKED_AT));
        for log in [
            "",
            "0.001234 INFO ",
            "[00:00:05.123,456] <inf> ",
            "16:38:57 ",
            "2026-13-22T16:38:57Z ",
            "2026-11-22T16:38 ",
            "2026-11-22T25:38:57Z ",
            "2026-11/22 16:38:57 ",
            "Nov 31 16:38:57 ",
            // No such distance from UTC.
            "2026-11-22T16:38:57+99:99 ",
            "2026-11-22T16:38:57.123-24:00 ",
            "2026-11-22 16:38:57 +0160 ",
            "Nov 22 16:38",
            "1970-01-01T00:00:05Z ",
            "2000-01-01 00:00:05 ",
            // Newer than the log.
            "2026-11-29T12:00:01Z ",
            "2106-02-07T06:28:15Z ",
            &long,
        ] {
            assert_eq!(at(log), WRITTEN, "{log}");
        }
    }
}
