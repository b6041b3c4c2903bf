//! The table `meta`: what is true of the registry as a whole.

use super::transaction::Rows;
use crate::registry::error::Error;

impl Rows {
    /// The value of `name`.
    pub(crate) async fn meta(&mut self, name: &str) -> Result<Option<String>, Error> {
        let query = sqlx::query_as("SELECT value FROM meta WHERE name = $1").bind(name.to_owned());
        let row: Option<(String,)> = query.fetch_optional(self.connection()).await?;
        Ok(row.map(|(value,)| value))
    }

    /// Gives `name` a value, which it has not.
    pub(crate) async fn put_meta(&mut self, name: &str, value: String) -> Result<(), Error> {
        let query = sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2)");
        query.bind(name.to_owned()).bind(value).execute(self.connection()).await?;
        Ok(())
    }
}
