//! The rows of the registry: all of its SQL, one file for each table.
//!
//! The files have verbs, such as load, put and find, and no rules: what is written, and why, is decided above them.
//!
//! The SQL is one text for SQLite and PostgreSQL, so it keeps to TEXT, BIGINT and BYTEA. What SQLite alone understands is in
//! `schema.rs`, `snapshot.rs` and `room.rs`. Two texts are compared by their order, byte by byte: `devices.device`, for pages,
//! and `keys.thumbprint`, to find the beginning of one. In PostgreSQL that takes the collation "C".

mod audit;
mod certificates;
mod columns;
mod devices;
mod escrow;
mod failure;
mod imported;
mod keys;
mod lists;
mod meta;
mod room;
pub(crate) mod schema;
mod seals;
mod snapshot;
mod tokens;
mod transaction;

pub(crate) use self::{
    audit::Head,
    certificates::Requested,
    transaction::{Database, Rows},
};
#[cfg(test)]
pub(crate) use self::{audit::PAGE as ENTRY_PAGE, room::PAGE_SIZE};
