use crate::{
    Claims, CoseKey, DeviceId, Error, Flaw, IssuerId, KeyOrigin, Kind, Sign1,
    choice::choice,
    codec::{Reader, Wire, Writer, codec},
    cose_key::Cnf,
    map::{MapReader, MapWriter, Unknown},
};

choice! {
    /// Whether a device proved possession of the key in its certificate.
    ProofLevel {
        /// It did not: reported one-way, or of the minimal profile.
        Unproven = 0, "unproven";
        /// It did, by EDHOC.
        Proved = 1, "proved";
    }
}

/// The claims of a device certificate: an issuer says whose key this is. At most 190 bytes; the map may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceCertificateClaims {
    /// iss
    pub issuer: IssuerId,
    /// sub
    pub subject: DeviceId,
    /// iat, Unix seconds.
    pub issued_at: u64,
    /// cti: the certificate's own identifier.
    pub cti: [u8; 8],
    /// cnf: the device's key.
    pub key: CoseKey,
    /// Where that key came from.
    pub key_origin: KeyOrigin,
    /// Whether possession of it was proved.
    pub proof: ProofLevel,
}

impl DeviceCertificateClaims {
    /// The longest encoding of the claims in bytes.
    pub const MAX_LEN: usize = 190;
    /// The longest device certificate in bytes.
    pub const MAX_SIGNED_LEN: usize = Sign1::encoded_len(Kind::DeviceCertificate, Self::MAX_LEN);

    /// Whether they are about the `device` with `key`. Says nothing about who signed them, and costs less than to find out:
    /// a device asks this first, to verify no signature in vain; the host last, since a stranger's claims are about nobody.
    ///
    /// # Errors
    /// [`Flaw::OtherDevice`], [`Flaw::OtherKey`].
    pub fn check_subject(&self, device: &DeviceId, key: &CoseKey) -> Result<(), Flaw> {
        if self.subject != *device {
            return Err(Flaw::OtherDevice);
        }
        if self.key == *key { Ok(()) } else { Err(Flaw::OtherKey) }
    }
}

impl Claims<'_> for DeviceCertificateClaims {
    const KIND: Kind = Kind::DeviceCertificate;

    fn read(payload: &[u8]) -> Result<Self, Error> {
        Self::decode(payload)
    }

    fn issuer(&self) -> IssuerId {
        self.issuer
    }
}

codec!(DeviceCertificateClaims);

impl Wire<'_> for DeviceCertificateClaims {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let claims = Self {
            issuer: map.required(1),
            subject: map.required(2),
            issued_at: map.required(6),
            cti: map.required(7),
            key: map.required::<Cnf>(8).0,
            key_origin: map.required(-70001),
            proof: map.required(-70002),
        };
        map.end();
        claims
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.issuer);
        map.entry(2, &self.subject);
        map.entry(6, &self.issued_at);
        map.entry(7, &self.cti);
        map.entry(8, &Cnf(self.key));
        map.entry(-70001, &self.key_origin);
        map.entry(-70002, &self.proof);
        map.end();
    }
}
