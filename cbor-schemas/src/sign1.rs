use minicbor::data::Tag;

use crate::{
    Error,
    codec::{Reader, Wire, Writer, codec},
    map::{MapReader, Unknown},
};

/// The four kinds of signed objects. The kind stands in the protected header, so none passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An issuer about a device's key: [`DeviceCertificateClaims`](crate::DeviceCertificateClaims).
    DeviceCertificate,
    /// An issuer about a station's key: [`StationTokenClaims`](crate::StationTokenClaims).
    StationToken,
    /// An anchor about a new owner's issuer key: [`VoucherClaims`](crate::VoucherClaims).
    Voucher,
    /// An issuer about its devices: [`DeviceListClaims`](crate::DeviceListClaims).
    DeviceList,
}

impl Kind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::DeviceCertificate, Self::StationToken, Self::Voucher, Self::DeviceList];

    /// The `typ` header (RFC 9596).
    pub const fn typ(self) -> &'static str {
        match self {
            Self::DeviceCertificate => "application/comm-cert+cwt",
            Self::StationToken => "application/comm-token+cwt",
            Self::Voucher => "application/comm-voucher+cwt",
            Self::DeviceList => "application/comm-list+cwt",
        }
    }

    /// The one encoding of the protected header `{1: -7, 16: typ}`: 31 to 34 bytes.
    pub const fn protected_header(self) -> &'static [u8] {
        match self {
            Self::DeviceCertificate => b"\xa2\x01\x26\x10\x78\x19application/comm-cert+cwt",
            Self::StationToken => b"\xa2\x01\x26\x10\x78\x1aapplication/comm-token+cwt",
            Self::Voucher => b"\xa2\x01\x26\x10\x78\x1capplication/comm-voucher+cwt",
            Self::DeviceList => b"\xa2\x01\x26\x10\x78\x19application/comm-list+cwt",
        }
    }
}

/// A signed object: COSE_Sign1 (RFC 9052 section 4.2) with tag 18, ES256.
///
/// Nothing here verifies: until the signature has been, the payload is a stranger's. Then decode it with the claims type
/// of its [`Kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign1<'a> {
    /// Which of the four it is.
    pub kind: Kind,
    /// The encoded claims.
    pub payload: &'a [u8],
    /// r and s, 32 bytes each, big-endian.
    pub signature: [u8; 64],
}

impl<'a> Sign1<'a> {
    /// The number of bytes that a payload of `payload` bytes makes as a signed object.
    pub const fn encoded_len(kind: Kind, payload: usize) -> usize {
        const TAG_AND_ARRAY: usize = 2;
        const UNPROTECTED: usize = 1;
        const SIGNATURE: usize = 66;
        let protected = bstr_len(kind.protected_header().len());
        let fixed = TAG_AND_ARRAY.saturating_add(protected).saturating_add(UNPROTECTED).saturating_add(SIGNATURE);
        fixed.saturating_add(bstr_len(payload))
    }

    /// Reads an object of one kind: a verifier accepts exactly one per use.
    ///
    /// # Errors
    /// [`Error::WrongKind`] if it is another, and those of [`Sign1::decode`].
    pub fn decode_as(kind: Kind, bytes: &'a [u8]) -> Result<Self, Error> {
        let object = Self::decode(bytes)?;
        if object.kind == kind { Ok(object) } else { Err(Error::WrongKind) }
    }

    /// Passes the bytes that are signed to `sink`, piece by piece: the Sig_structure of RFC 9052 section 4.4 with empty
    /// external_aad.
    pub fn to_be_signed(kind: Kind, payload: &[u8], sink: &mut dyn FnMut(&[u8])) {
        sink(b"\x84\x6aSignature1");
        sink_bstr(kind.protected_header(), sink);
        sink_bstr(b"", sink);
        sink_bstr(payload, sink);
    }
}

codec!(Sign1<'a>);

impl<'b> Wire<'b> for Sign1<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        reader.tag(COSE_SIGN1);
        reader.array_of(4);
        let protected = reader.bytes();
        let kind = Kind::ALL.into_iter().find(|kind| kind.protected_header() == protected).ok_or(Error::WrongKind);
        let kind = reader.value(kind, Kind::DeviceCertificate);
        MapReader::new(reader, Unknown::Refused).end();
        Self { kind, payload: reader.bytes(), signature: Wire::read(reader) }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.tag(COSE_SIGN1);
        writer.array(4);
        writer.bytes(self.kind.protected_header());
        writer.map(0);
        writer.bytes(self.payload);
        writer.bytes(&self.signature);
    }
}

const COSE_SIGN1: Tag = Tag::new(18);

fn sink_bstr(bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let mut head = [0; 9];
    let mut writer = Writer::new(&mut head);
    // Cannot fail: nine bytes hold any head.
    writer.bytes_len(bytes.len() as u64);
    sink(writer.written());
    sink(bytes);
}

const fn bstr_len(content: usize) -> usize {
    // As u64, because usize has 16 bits on the smallest targets.
    let head = match content as u64 {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        _ => 5,
    };
    content.saturating_add(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The constants are what an encoder would write.
    #[test]
    fn protected_headers() {
        for kind in Kind::ALL {
            let mut buffer = [0; 64];
            let mut header = minicbor::Encoder::new(&mut buffer[..]);
            header.map(2).unwrap().u8(1).unwrap().i8(-7).unwrap().u8(16).unwrap().str(kind.typ()).unwrap();
            let left = header.writer().len();
            assert_eq!(buffer[..buffer.len() - left], *kind.protected_header());
        }
    }

    #[test]
    fn heads_of_long_payloads() {
        for (len, head) in [
            (23, &[0x57][..]),
            (24, &[0x58, 24]),
            (255, &[0x58, 255]),
            (256, &[0x59, 1, 0]),
            (0xffff, &[0x59, 0xff, 0xff]),
            (0x1_0000, &[0x5a, 0, 1, 0, 0]),
        ] {
            let payload = vec![0; len];
            let mut signed = Vec::new();
            Sign1::to_be_signed(Kind::DeviceList, &payload, &mut |piece| signed.extend_from_slice(piece));
            assert_eq!(signed[signed.len() - len - head.len()..][..head.len()], *head);

            let object = Sign1 { kind: Kind::DeviceList, payload: &payload, signature: [0; 64] };
            let mut out = vec![0; len + 200];
            assert_eq!(object.encode(&mut out), Ok(Sign1::encoded_len(Kind::DeviceList, len)));
        }
    }
}
