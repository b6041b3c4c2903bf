//! Giving devices names for people.

use cbor_schemas::DeviceId;
use sqlx::AnyConnection;

use super::{
    change::Change,
    error::Error,
    event::Event,
    handle::Registry,
    lookup::{self, Found, Nicknames, by_part},
    nickname::Nickname,
    record::LEAST,
};

impl Registry {
    /// Gives a device a name for people.
    pub async fn set_nickname(&self, device: &DeviceId, nickname: &Nickname) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let nicknames = Nicknames::load(&mut change.tx).await?;
        if nickname_is_free(&mut change.tx, &nicknames, device, nickname).await? == Naming::Already {
            return Ok(());
        }
        let changed = sqlx::query("UPDATE devices SET nickname = $1 WHERE device = $2")
            .bind(nickname.as_str())
            .bind(device.as_str())
            .execute(&mut *change.tx)
            .await?;
        if changed.rows_affected() == 0 {
            return Err(Error::UnknownDevice(device.to_string()));
        }
        change.record(Some(device), &Event::Nickname { nickname: nickname.as_str().to_owned() }).await?;
        change.commit().await
    }

    /// Takes a device's nickname away. Returns it, if there was one.
    pub async fn remove_nickname(&self, device: &DeviceId) -> Result<Option<String>, Error> {
        let mut change = Change::begin(self).await?;
        let known = lookup::load(&mut change.tx, device).await?;
        let known = known.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        let Some(nickname) = known.nickname else { return Ok(None) };
        sqlx::query("UPDATE devices SET nickname = NULL WHERE device = $1")
            .bind(device.as_str())
            .execute(&mut *change.tx)
            .await?;
        change.record(Some(device), &Event::NicknameRemoved { nickname: nickname.clone() }).await?;
        change.commit().await?;
        Ok(Some(nickname))
    }
}

/// Whether a device may have a nickname.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It has that one.
    Already,
    /// Nobody has it.
    Free,
}

/// Whether `device` may be called `nickname`.
///
/// # Errors
/// [`Error::NicknameTaken`]; [`Error::NicknameMisleads`] if it reads like another device, by its ID or a key.
pub(super) async fn nickname_is_free(
    connection: &mut AnyConnection,
    nicknames: &Nicknames,
    device: &DeviceId,
    nickname: &Nickname,
) -> Result<Naming, Error> {
    let (name, read) = (nickname.as_str(), nickname.folded());
    let holders = nicknames.holders(&read);
    if let Some(holder) = holders.keys().find(|holder| *holder != device) {
        return Err(Error::NicknameTaken { nickname: name.to_owned(), device: holder.to_string() });
    }
    if holders.get(device).is_some_and(|held| held.as_deref() == Some(name)) {
        return Ok(Naming::Already);
    }
    let likely = read.len() >= LEAST && read.bytes().all(|byte| byte.is_ascii_graphic());
    let others = if likely { by_part(connection, &read).await? } else { Found::new() };
    match others.into_keys().find(|other| other != device) {
        Some(other) => Err(Error::NicknameMisleads { nickname: name.to_owned(), device: other.to_string() }),
        None => Ok(Naming::Free),
    }
}
