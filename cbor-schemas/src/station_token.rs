use crate::{
    Aif, Claims, CoseKey, DeviceId, Error, IssuerId, Kind, Sign1,
    codec::{Reader, Wire, Writer, codec},
    cose_key::Cnf,
    map::{MapReader, MapWriter, Unknown},
};

/// The claims of a station token: an issuer lets a station act as owner, within a scope. At most 490 bytes; the map may
/// grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StationTokenClaims {
    /// iss
    pub issuer: IssuerId,
    /// aud: where the token is good.
    pub audience: Audience,
    /// exp, Unix seconds; only a token with a [`cnonce`](Self::cnonce) may go without.
    pub expires_at: Option<u64>,
    /// iat, Unix seconds.
    pub issued_at: u64,
    /// cnf: the station's key.
    pub key: CoseKey,
    /// What the station may do.
    pub scope: Aif,
    /// The nonce that the device showed in [`DeviceInfo`](crate::DeviceInfo) (RFC 9200 section 5.3.1).
    pub cnonce: Option<[u8; 8]>,
}

/// The devices for which a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// One device.
    Device(DeviceId),
    /// All devices of the token's own issuer, who is named again.
    All(IssuerId),
}

impl StationTokenClaims {
    /// The longest encoding of the claims in bytes. With one scope entry, as in [`Aif::everything`], it is 200.
    pub const MAX_LEN: usize = 490;
    /// The longest station token in bytes.
    pub const MAX_SIGNED_LEN: usize = Sign1::encoded_len(Kind::StationToken, Self::MAX_LEN);

    fn check(&self) -> Result<(), Error> {
        if self.expires_at.is_none() && self.cnonce.is_none() {
            return Err(Error::MissingKey);
        }
        match self.audience {
            Audience::All(issuer) if issuer != self.issuer => Err(Error::OutOfRange),
            _ => Ok(()),
        }
    }
}

impl Claims<'_> for StationTokenClaims {
    const KIND: Kind = Kind::StationToken;

    fn read(payload: &[u8]) -> Result<Self, Error> {
        Self::decode(payload)
    }

    fn issuer(&self) -> IssuerId {
        self.issuer
    }
}

codec!(StationTokenClaims);

impl Wire<'_> for StationTokenClaims {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let claims = Self {
            issuer: map.required(1),
            audience: map.required(3),
            expires_at: map.optional(4),
            issued_at: map.required(6),
            key: map.required::<Cnf>(8).0,
            scope: map.required_embedded(9),
            cnonce: map.optional(39),
        };
        map.end();
        reader.must(claims.check());
        claims
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.must(self.check());
        let mut buffer = [0; Aif::MAX_LEN];
        let encoded = self.scope.encode(&mut buffer);
        let len = encoded.unwrap_or_default();
        writer.must(encoded.map(drop));
        let mut map = MapWriter::new(writer);
        map.entry(1, &self.issuer);
        map.entry(3, &self.audience);
        map.optional(4, &self.expires_at);
        map.entry(6, &self.issued_at);
        map.entry(8, &Cnf(self.key));
        map.entry(9, &buffer.get(..len).unwrap_or_default());
        map.optional(39, &self.cnonce);
        map.end();
    }
}

impl Wire<'_> for Audience {
    fn read(reader: &mut Reader<'_>) -> Self {
        let text = reader.str();
        match text.parse() {
            Ok(issuer) => Self::All(issuer),
            Err(_) => Self::Device(reader.value(text.parse(), DeviceId::NONE)),
        }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Device(device) => device.write(writer),
            Self::All(issuer) => issuer.write(writer),
        }
    }
}
