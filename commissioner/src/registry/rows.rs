//! The database behind the registry.

pub(super) mod columns;
mod failure;
pub(super) mod schema;
