//! Between SQL's types and ours.

use std::str::FromStr;

use sqlx::{Row, any::AnyRow};

use crate::registry::Error;

/// Times and counters are BIGINT, which is signed. None of ours comes near the limit.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A BIGINT that was never negative.
pub(crate) fn unsigned(row: &AnyRow, column: &'static str) -> Result<u64, Error> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Error::Corrupt(column))
}

/// A BYTEA of exactly `N` bytes.
pub(crate) fn bytes<const N: usize>(row: &AnyRow, column: &'static str) -> Result<[u8; N], Error> {
    row.try_get::<Vec<u8>, _>(column)?.try_into().map_err(|_| Error::Corrupt(column))
}

/// A TEXT that is one of a fixed set of words, or otherwise restricted.
pub(crate) fn word<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<T, Error> {
    row.try_get::<String, _>(column)?.parse().map_err(|_| Error::Corrupt(column))
}
