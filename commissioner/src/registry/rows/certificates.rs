//! The table `certificates`: device certificates, and how far they got.

use cbor_schemas::DeviceId;
use sqlx::{Row, any::AnyRow};

use super::{columns, keys::mine, transaction::Rows};
use crate::registry::{
    error::Error,
    record::{Certificate, Cti},
};

/// A certificate that is to be signed elsewhere.
pub(crate) struct Requested {
    /// The device.
    pub(crate) device: String,
    /// The x-coordinate of the key.
    pub(crate) x: [u8; 32],
    /// The generation of the key.
    pub(crate) generation: u32,
    /// What is wanted.
    pub(crate) certificate: Certificate,
}

impl Rows {
    /// Writes a certificate about a key.
    pub(crate) async fn put_certificate(&mut self, x: &[u8; 32], certificate: &Certificate) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO certificates (cti, x, slot, status, issued_at, key_origin, proof, object, receipt, transcript) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (cti) DO UPDATE SET status = excluded.status, \
             issued_at = excluded.issued_at, object = excluded.object, receipt = excluded.receipt, \
             transcript = excluded.transcript",
        )
        .bind(certificate.cti.0.to_vec())
        .bind(x.to_vec())
        .bind(certificate.slot.as_str())
        .bind(certificate.status.as_str())
        .bind(columns::signed(certificate.issued_at))
        .bind(certificate.key_origin.as_str())
        .bind(certificate.proof.as_str())
        .bind(certificate.object.clone())
        .bind(certificate.receipt.clone())
        .bind(certificate.transcript.map(|transcript| transcript.to_vec()))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// The device that a certificate is about.
    pub(crate) async fn subject(&mut self, cti: Cti) -> Result<Option<DeviceId>, Error> {
        let query = sqlx::query("SELECT keys.device FROM certificates c JOIN keys ON keys.x = c.x WHERE c.cti = $1");
        let row = query.bind(cti.0.to_vec()).fetch_optional(self.connection()).await?;
        row.map(|row| columns::word(&row, "device")).transpose()
    }

    /// The certificates that are to be signed elsewhere, by device.
    pub(crate) async fn requested(&mut self) -> Result<Vec<Requested>, Error> {
        let query = "SELECT c.*, keys.device, keys.generation FROM certificates c JOIN keys ON keys.x = c.x \
             WHERE c.status = 'intended' AND c.transcript IS NOT NULL ORDER BY keys.device, c.slot";
        let requested = |row: &AnyRow| {
            let (x, certificate) = certificate_from(row)?;
            let generation = columns::unsigned(row, "generation")?;
            let generation = generation.try_into().map_err(|_| Error::Corrupt("generation"))?;
            Ok(Requested { device: row.try_get("device")?, x, generation, certificate })
        };
        sqlx::query(query).fetch_all(self.connection()).await?.iter().map(requested).collect()
    }

    /// The signed certificates about keys that are not mine.
    pub(crate) async fn certificates_of_others(&mut self) -> Result<Vec<Vec<u8>>, Error> {
        let query = concat!(
            "SELECT object FROM certificates JOIN keys ON keys.x = certificates.x WHERE object IS NOT NULL AND NOT ",
            mine!()
        );
        let rows = sqlx::query(query).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get("object")?)).collect()
    }

    /// The signed certificates that bear a later time than this, with their devices.
    pub(crate) async fn signed_later_than(&mut self, time: u64) -> Result<Vec<(DeviceId, Certificate)>, Error> {
        let query = "SELECT c.*, keys.device FROM certificates c JOIN keys ON keys.x = c.x \
             WHERE c.object IS NOT NULL AND c.issued_at > $1";
        let rows = sqlx::query(query).bind(columns::signed(time)).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((columns::word(row, "device")?, certificate_from(row)?.1))).collect()
    }

    /// The devices that have a certificate in the factory slot about a key that is not revoked, by ID.
    pub(crate) async fn devices_with_factory_certificate(&mut self) -> Result<Vec<DeviceId>, Error> {
        let query = "SELECT DISTINCT keys.device FROM keys JOIN certificates c ON c.x = keys.x \
             WHERE keys.status <> 'revoked' AND c.slot = 'factory' AND c.status = 'installed' ORDER BY keys.device";
        let rows = sqlx::query(query).fetch_all(self.connection()).await?;
        rows.iter().map(|row| columns::word(row, "device")).collect()
    }
}

/// A certificate, and the x-coordinate of its key.
pub(super) fn certificate_from(row: &AnyRow) -> Result<([u8; 32], Certificate), Error> {
    let transcript = match row.try_get::<Option<Vec<u8>>, _>("transcript")? {
        Some(_) => Some(columns::bytes(row, "transcript")?),
        None => None,
    };
    let certificate = Certificate {
        cti: Cti(columns::bytes(row, "cti")?),
        slot: columns::word(row, "slot")?,
        status: columns::word(row, "status")?,
        issued_at: columns::unsigned(row, "issued_at")?,
        key_origin: columns::word(row, "key_origin")?,
        proof: columns::word(row, "proof")?,
        object: row.try_get("object")?,
        receipt: row.try_get("receipt")?,
        transcript,
    };
    Ok((columns::bytes(row, "x")?, certificate))
}
