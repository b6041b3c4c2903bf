//! How secrets reach a command: from a file or a prompt, never on the command line.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use clap::Args as ClapArgs;
use commissioner::escrow::{self, OpenWith, SealTo};
use commissioner::files::{self, Input};
use commissioner::hsm;
use commissioner::state_dir::StateDir;
use zeroize::Zeroizing;

use super::{confirm, exit::CommandError};

/// Longest passphrase or PIN, in bytes.
const MAX_LINE: usize = 4096;

/// A passphrase.
#[derive(Debug, ClapArgs)]
pub(super) struct Passphrase {
    /// A file whose first line is the passphrase; left out, it is asked for
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// Reads it, or asks for it: twice, where something is to be sealed by it.
    pub(super) fn get(&self, again: bool) -> Result<SecretString, CommandError> {
        let passphrase = match &self.passphrase_file {
            Some(path) => first_line(path)?,
            None => ask(again)?,
        };
        if again && passphrase.is_empty() {
            return Err(CommandError::usage("an empty passphrase seals nothing; choose another one"));
        }
        not_empty(&passphrase)
    }
}

/// What unlocks the issuer's key, where it is in an HSM or sealed.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Unlock {
    /// A file whose first line is the PIN of the HSM, or the passphrase of the issuer's key; left out, it is asked for
    #[arg(long, global = true, value_name = "FILE", env = "COMMISSIONER_UNLOCK_FILE")]
    unlock_file: Option<PathBuf>,
    /// The PKCS#11 module that a restored backup names is yours, and may be loaded; left out, it is asked for
    #[arg(long, global = true)]
    trust_module: bool,
}

impl Unlock {
    /// Whether the module at `place` may be loaded: a backup that was put back named it, and may be anybody's.
    pub(super) fn may_load(&self, dir: &StateDir, place: &hsm::Place) -> Result<(), CommandError> {
        if self.confirms(dir, place)? {
            return Ok(());
        }
        Err(CommandError::usage(format!(
            "the PKCS#11 module {:?} came with a backup, and nobody has confirmed it; loading it runs it as you. If it is \
             yours, repeat the command with --trust-module",
            place.module
        )))
    }

    /// Whether it was confirmed, or is now.
    pub(super) fn confirms(&self, dir: &StateDir, place: &hsm::Place) -> Result<bool, CommandError> {
        let mark = dir.unconfirmed_module();
        if !mark.try_exists().map_err(CommandError::internal)? {
            return Ok(true);
        }
        let question = format!(
            "The backup says that the issuer's key is behind the PKCS#11 module {:?}. Loading it runs it as you. Is it yours?",
            place.module
        );
        let is_confirmed = self.trust_module || (std::io::stdin().is_terminal() && confirm::is_so(&question)?);
        if !is_confirmed {
            return Ok(false);
        }
        fs::remove_file(&mark).map_err(CommandError::internal)?;
        files::sync_parent(&mark).map_err(CommandError::from)?;
        Ok(true)
    }

    /// The PIN of the token at `place`.
    pub(super) fn pin(&self, place: &hsm::Place) -> Result<SecretString, CommandError> {
        Ok(SecretString::from(self.get(&format!("PIN of the token {}: ", place.token))?.as_str()))
    }

    /// The passphrase of the issuer's key.
    pub(super) fn passphrase(&self) -> Result<SecretString, CommandError> {
        not_empty(&self.get("Passphrase of the issuer's key: ")?)
    }

    /// A new passphrase, asked for twice.
    pub(super) fn new_passphrase(&self) -> Result<SecretString, CommandError> {
        Passphrase { passphrase_file: self.unlock_file.clone() }.get(true)
    }

    fn get(&self, question: &str) -> Result<Zeroizing<String>, CommandError> {
        match &self.unlock_file {
            Some(path) => first_line(path),
            None if std::io::stdin().is_terminal() => prompt(question),
            None => Err(CommandError::usage(
                "there is no terminal to ask for what unlocks the issuer's key; give --unlock-file FILE",
            )),
        }
    }
}

/// What the copies of keys are sealed to.
#[derive(Debug, ClapArgs)]
pub(super) struct Sealing {
    /// Seal the copy to this recipient of age (age1...), instead of a passphrase
    #[arg(long, value_name = "RECIPIENT", value_parser = escrow::recipient, conflicts_with = "passphrase_file")]
    recipient: Option<age::x25519::Recipient>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Sealing {
    /// The recipient, or the passphrase.
    pub(super) fn get(&self) -> Result<SealTo, CommandError> {
        match &self.recipient {
            Some(recipient) => Ok(SealTo::Recipient(recipient.clone())),
            None => self.passphrase.get(true).map(SealTo::Passphrase),
        }
    }
}

/// What opens the copy of a key.
#[derive(Debug, ClapArgs)]
pub(super) struct Opening {
    /// A file with the identity of age that the copy was sealed to, instead of a passphrase
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity: Option<PathBuf>,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Opening {
    /// The identities, or the passphrase.
    pub(super) fn get(&self) -> Result<OpenWith, CommandError> {
        match &self.identity {
            Some(path) => escrow::identities(path).map_err(|error| {
                CommandError::usage(format!(
                    "cannot use the identity file {}: {error}; name another one",
                    path.display()
                ))
            }),
            None => self.passphrase.get(false).map(OpenWith::Passphrase),
        }
    }
}

/// What is to open something.
fn not_empty(passphrase: &str) -> Result<SecretString, CommandError> {
    match passphrase.is_empty() {
        true => Err(CommandError::usage("an empty passphrase opens nothing; give the one that it was sealed by")),
        false => Ok(SecretString::from(passphrase)),
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, CommandError> {
    read_line(path).map_err(|error| {
        CommandError::usage(format!("cannot read {}: {error}; name a file that you can read", path.display()))
    })
}

/// The first line of a file, or of what a pipe gives; what comes behind it is not waited for.
fn read_line(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut file = Input::open(path)?;
    // With its final capacity from the start, so that growing leaves no copy behind.
    let (mut line, mut len) = (Zeroizing::new(vec![0; MAX_LINE]), 0);
    while let room @ [_, ..] = line.get_mut(len..).unwrap_or_default() {
        let read = match file.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let end = room.iter().take(read).position(|byte| *byte == b'\n');
        len += end.unwrap_or(read);
        if read == 0 || end.is_some() {
            let line = str::from_utf8(line.get(..len).unwrap_or_default()).map_err(io::Error::other)?;
            return Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()));
        }
    }
    Err(io::Error::other(format!("its first line has more than {MAX_LINE} bytes")))
}

fn ask(again: bool) -> Result<Zeroizing<String>, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage("there is no terminal to ask for the passphrase; give --passphrase-file FILE"));
    }
    let passphrase = prompt("Passphrase: ")?;
    if again && *prompt("Once more: ")? != *passphrase {
        return Err(CommandError::usage("these were two different passphrases; try again"));
    }
    Ok(passphrase)
}

/// Asks for what to write to `path`.
pub(super) fn value(path: &str) -> Result<Vec<u8>, CommandError> {
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "there is no terminal to ask for the value; give --file FILE, or - for standard input",
        ));
    }
    let value = prompt(&format!("{path}: "))?;
    if *prompt("Once more: ")? != *value {
        return Err(CommandError::usage("these were two different values; try again"));
    }
    Ok(value.as_bytes().to_vec())
}

fn prompt(text: &str) -> Result<Zeroizing<String>, CommandError> {
    rpassword::prompt_password(text).map(Zeroizing::new).map_err(CommandError::internal)
}
