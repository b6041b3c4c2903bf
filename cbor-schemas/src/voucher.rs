use crate::{
    CoseKey, DeviceId, IssuerId, Kind, Sign1,
    codec::{Reader, Wire, Writer, codec},
    cose_key::Cnf,
    map::{MapReader, MapWriter, Unknown},
};

/// The claims of a voucher: an anchor lets a new owner fill, or take over, the owner slot once. At most 188 bytes; the
/// map may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoucherClaims {
    /// iss: the factory anchor, or for a transfer the owner anchor.
    pub issuer: IssuerId,
    /// sub: the device.
    pub subject: DeviceId,
    /// exp, Unix seconds, as far as a device without a clock can know.
    pub expires_at: Option<u64>,
    /// iat, Unix seconds.
    pub issued_at: u64,
    /// cnf: the new owner's issuer key.
    pub key: CoseKey,
    /// The claim counter that the device must show.
    pub claim_counter: u32,
}

impl VoucherClaims {
    /// The longest encoding of the claims in bytes.
    pub const MAX_LEN: usize = 188;
    /// The longest voucher in bytes.
    pub const MAX_SIGNED_LEN: usize = Sign1::encoded_len(Kind::Voucher, Self::MAX_LEN);
}

codec!(VoucherClaims);

impl Wire<'_> for VoucherClaims {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let claims = Self {
            issuer: map.required(1),
            subject: map.required(2),
            expires_at: map.optional(4),
            issued_at: map.required(6),
            key: map.required::<Cnf>(8).0,
            claim_counter: map.required(-70003),
        };
        map.end();
        claims
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.issuer);
        map.entry(2, &self.subject);
        map.optional(4, &self.expires_at);
        map.entry(6, &self.issued_at);
        map.entry(8, &Cnf(self.key));
        map.entry(-70003, &self.claim_counter);
        map.end();
    }
}
