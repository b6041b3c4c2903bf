//! The table `tokens`: those of stations elsewhere.

use sqlx::{Row, any::AnyRow};

use super::{columns, transaction::Rows};
use crate::registry::{error::Error, record::StationToken};

impl Rows {
    /// Adds a token that is to be signed.
    pub(crate) async fn put_token(&mut self, token: &StationToken) -> Result<(), Error> {
        sqlx::query("INSERT INTO tokens (id, station, scope, issued_at, expires_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(token.id.clone())
            .bind(token.station.clone())
            .bind(token.scope.as_str())
            .bind(columns::signed(token.issued_at))
            .bind(columns::signed(token.expires_at))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Keeps a signed token.
    pub(crate) async fn put_signed_token(&mut self, id: &str, object: &[u8]) -> Result<(), Error> {
        let query = sqlx::query("UPDATE tokens SET object = $1 WHERE id = $2");
        query.bind(object.to_vec()).bind(id.to_owned()).execute(self.connection()).await?;
        Ok(())
    }

    /// All tokens, oldest first.
    pub(crate) async fn tokens(&mut self) -> Result<Vec<StationToken>, Error> {
        let query = "SELECT id, station, scope, issued_at, expires_at, revoked_at FROM tokens ORDER BY issued_at, id";
        sqlx::query(query).fetch_all(self.connection()).await?.iter().map(token_from).collect()
    }

    /// Notes since when the tokens of a station that are not revoked are.
    pub(crate) async fn revoke_tokens(&mut self, station: &str, at: u64) -> Result<(), Error> {
        let query = sqlx::query("UPDATE tokens SET revoked_at = $1 WHERE station = $2 AND revoked_at IS NULL");
        query.bind(columns::signed(at)).bind(station.to_owned()).execute(self.connection()).await?;
        Ok(())
    }

    /// The signed tokens that are revoked and end at `now` or later.
    pub(crate) async fn revoked_tokens(&mut self, now: u64) -> Result<Vec<Vec<u8>>, Error> {
        let query =
            "SELECT object FROM tokens WHERE revoked_at IS NOT NULL AND object IS NOT NULL AND expires_at >= $1";
        let rows = sqlx::query(query).bind(columns::signed(now)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("object")?)).collect()
    }

    /// When the newest token of those that are revoked was issued.
    pub(crate) async fn newest_revoked_token(&mut self) -> Result<Option<u64>, Error> {
        let query = "SELECT MAX(issued_at) AS newest FROM tokens WHERE revoked_at IS NOT NULL";
        let row = sqlx::query(query).fetch_one(self.connection()).await?;
        Ok(row.try_get::<Option<i64>, _>("newest")?.and_then(|newest| u64::try_from(newest).ok()))
    }

    /// Whether there ever was a token for the station whose key has this thumbprint.
    pub(crate) async fn has_token(&mut self, station: &str) -> Result<bool, Error> {
        let query = sqlx::query("SELECT 1 FROM tokens WHERE station = $1 LIMIT 1").bind(station.to_owned());
        Ok(query.fetch_optional(self.connection()).await?.is_some())
    }
}

fn token_from(row: &AnyRow) -> Result<StationToken, Error> {
    let revoked_at: Option<i64> = row.try_get("revoked_at")?;
    Ok(StationToken {
        id: row.try_get("id")?,
        station: row.try_get("station")?,
        scope: columns::word(row, "scope")?,
        issued_at: columns::unsigned(row, "issued_at")?,
        expires_at: columns::unsigned(row, "expires_at")?,
        revoked_at: revoked_at.map(u64::try_from).transpose().map_err(|_| Error::Corrupt("revoked_at"))?,
    })
}
