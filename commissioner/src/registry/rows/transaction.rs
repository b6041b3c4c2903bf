//! Transactions, through which all rows are read and written.

use sqlx::{Any, AnyConnection, AnyPool, Transaction};

use crate::registry::error::Error;

/// The database of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Database(pub(super) AnyPool);

/// The rows of a registry, as one transaction sees them. What it wrote is there once it is committed; dropped, it leaves
/// nothing.
///
/// SQLite gives each transaction one state of the database, and lets one write at a time. In PostgreSQL a transaction that
/// reads has to be REPEATABLE READ READ ONLY: a check of the audit trail, an export or a backup that saw another's commit
/// halfway would take it for a forgery. One that writes can be READ COMMITTED, since its first statement locks the one row of
/// `audit_head` ([`Rows::lock_head`]), which makes writers wait for each other; else it has to be SERIALIZABLE.
pub(crate) struct Rows(pub(super) Transaction<'static, Any>);

impl Database {
    /// Begins a transaction that reads: all that it reads is of one time.
    pub(crate) async fn read(&self) -> Result<Rows, Error> {
        Ok(Rows(self.0.begin().await?))
    }

    /// Begins a transaction that writes.
    pub(crate) async fn write(&self) -> Result<Rows, Error> {
        Ok(Rows(self.0.begin().await?))
    }

    /// Closes it, for all who have it.
    pub(crate) async fn close(&self) {
        self.0.close().await;
    }

    /// Runs some statements, as somebody does who has the database in hand.
    #[cfg(test)]
    pub(crate) async fn run(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&self.0).await.unwrap();
    }
}

impl Rows {
    /// Makes durable what was written.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.0
    }
}
