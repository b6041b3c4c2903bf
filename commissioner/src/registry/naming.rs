//! Giving devices names for people.

use cbor_schemas::DeviceId;

use super::{
    change::Change,
    error::Error,
    handle::Registry,
    lookup::{Found, Nicknames, by_part},
    nickname::Nickname,
    record::LEAST,
    rows::Rows,
};

impl Registry {
    /// Gives a device a name for people.
    pub async fn set_nickname(&self, device: &DeviceId, nickname: &Nickname) -> Result<(), Error> {
        let mut change = Change::begin(self).await?;
        let nicknames = Nicknames::load(&mut change.rows).await?;
        if nickname_is_free(&mut change.rows, &nicknames, device, nickname).await? == Naming::Already {
            return Ok(());
        }
        let draft = change.draft(device).await?;
        let mut draft = draft.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        draft.call(nickname);
        change.keep(&draft).await
    }

    /// Takes a device's nickname away. Returns it, if there was one.
    pub async fn remove_nickname(&self, device: &DeviceId) -> Result<Option<String>, Error> {
        let mut change = Change::begin(self).await?;
        let draft = change.draft(device).await?;
        let mut draft = draft.ok_or_else(|| Error::UnknownDevice(device.to_string()))?;
        let nickname = draft.uncall();
        change.keep(&draft).await?;
        Ok(nickname)
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
    rows: &mut Rows,
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
    let others = if likely { by_part(rows, &read).await? } else { Found::new() };
    match others.into_keys().find(|other| other != device) {
        Some(other) => Err(Error::NicknameMisleads { nickname: name.to_owned(), device: other.to_string() }),
        None => Ok(Naming::Free),
    }
}
