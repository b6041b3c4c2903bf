//! Vouchers as they are handed around: a file with the signed object, or a text that fits a QR code.
//!
//! A voucher is no secret: it names one device and one new owner, and is good once.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cbor_schemas::{CoseKey, DeviceId, DeviceInfo, Kind, Sign1, VoucherClaims};
use qrcode::{EcLevel, QrCode, render, types::QrError};

use crate::{clock::rfc3339, files::Input};

/// What a voucher as text begins with; then come base45 digits (RFC 9285), which QR codes hold best.
const TEXT_PREFIX: &str = "COMM1:";
/// Longest file that is read, in bytes: a voucher as text.
const MAX_FILE: u64 = 1024;
/// How the name of a file with a voucher ends.
const EXTENSION: &str = "cwt";
/// Modules around a QR code that stay white (ISO/IEC 18004).
const QUIET_ZONE: u32 = 4;
/// Pixels of a module in an image.
const PIXELS: u32 = 8;

/// A voucher that decoded. Only its device knows whether it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    object: Vec<u8>,
    claims: VoucherClaims,
}

/// Why there is no image of a voucher.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It does not fit a QR code.
    #[error(transparent)]
    Code(#[from] QrError),
    /// It cannot be written as PNG.
    #[error(transparent)]
    Png(#[from] png::EncodingError),
}

/// Why a file gives no voucher.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read the voucher {path}: {source}; name a file that you can read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} holds no voucher; ask for what `commissioner voucher` or `commissioner transfer` writes")]
    NotAVoucher(PathBuf),
    /// A folder without one.
    #[error("there are no vouchers (*.cwt) in the folder {0}; name another one")]
    Empty(PathBuf),
}

/// Why a voucher will not let us in.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// None of them is for this device.
    #[error("there is no voucher for {0}; ask its maker, or its owner, for one")]
    OtherDevice(DeviceId),
    /// It is for somebody else.
    #[error(
        "the voucher for {0} is for another owner; ask for one for the key that `commissioner issuer show` prints here"
    )]
    OtherOwner(DeviceId),
    /// Its time is over.
    #[error("the voucher for {device} has expired, at {at}; ask for a new one")]
    Expired {
        /// The device.
        device: DeviceId,
        /// When.
        at: String,
    },
    /// The device shows another claim counter.
    #[error(
        "the voucher for {device} is for its claim counter {named}, and the device shows {shown}: it was used, or the \
         device had another owner since; ask for a new one"
    )]
    Used {
        /// The device.
        device: DeviceId,
        /// What the voucher names.
        named: u32,
        /// What the device shows.
        shown: u32,
    },
}

impl Voucher {
    /// Takes a signed object, or the text of a QR code.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let object = match str::from_utf8(bytes).ok().and_then(|text| text.trim_end().strip_prefix(TEXT_PREFIX)) {
            Some(digits) => base45::decode(digits).ok()?,
            None => bytes.to_vec(),
        };
        let claims = VoucherClaims::decode(Sign1::decode_as(Kind::Voucher, &object).ok()?.payload).ok()?;
        Some(Self { object, claims })
    }

    /// The signed object.
    pub fn object(&self) -> &[u8] {
        &self.object
    }

    /// What it says.
    pub fn claims(&self) -> &VoucherClaims {
        &self.claims
    }

    /// The text for a QR code.
    pub fn to_text(&self) -> String {
        format!("{TEXT_PREFIX}{}", base45::encode(&self.object))
    }

    /// The name of its file in a folder of many.
    pub fn file_name(&self) -> String {
        format!("{}.{EXTENSION}", self.claims.subject.as_str().replace(':', "-"))
    }

    /// Whether it can let the issuer with the key `owner` into the device that says `info`.
    ///
    /// # Errors
    /// See [`Unfit`]; [`Unfit::Used`] only if nothing else is wrong with it.
    pub fn fits(&self, info: &DeviceInfo<'_>, owner: &CoseKey, now: u64) -> Result<(), Unfit> {
        let VoucherClaims { subject: device, expires_at, key, claim_counter: named, .. } = self.claims;
        match expires_at {
            _ if device != info.device => Err(Unfit::OtherDevice(info.device)),
            _ if key != *owner => Err(Unfit::OtherOwner(device)),
            Some(at) if at < now => Err(Unfit::Expired { device, at: rfc3339(at) }),
            _ if named != info.claim_counter => Err(Unfit::Used { device, named, shown: info.claim_counter }),
            _ => Ok(()),
        }
    }

    /// The text as a QR code for a terminal.
    pub fn to_terminal(&self) -> Result<String, QrError> {
        let code = self.code()?;
        Ok(code
            .render::<render::unicode::Dense1x2>()
            .dark_color(render::unicode::Dense1x2::Light)
            .light_color(render::unicode::Dense1x2::Dark)
            .build())
    }

    /// Its QR code as an SVG image.
    pub fn to_svg(&self) -> Result<String, QrError> {
        Ok(self.code()?.render::<render::svg::Color<'_>>().module_dimensions(PIXELS, PIXELS).build())
    }

    /// Its QR code as a PNG image of one bit per pixel.
    ///
    /// # Errors
    /// The voucher does not fit a QR code, which no voucher of ours does.
    pub fn to_png(&self) -> Result<Vec<u8>, ImageError> {
        let code = self.code()?;
        let modules = u32::try_from(code.width()).map_err(|_| QrError::DataTooLong)?;
        let side = (modules + 2 * QUIET_ZONE) * PIXELS;
        let is_white = |x: u32, y: u32| {
            let module = |at: u32| (at / PIXELS).checked_sub(QUIET_ZONE).filter(|at| *at < modules);
            match (module(x), module(y)) {
                (Some(x), Some(y)) => code[(x as usize, y as usize)] == qrcode::Color::Light,
                _ => true,
            }
        };
        let rows = (0..side).flat_map(|y| {
            (0..side.div_ceil(8))
                .map(move |byte| (0..8).fold(0, |bits, bit| (bits << 1) | u8::from(is_white(byte * 8 + bit, y))))
        });
        let mut image = Vec::new();
        let mut encoder = png::Encoder::new(&mut image, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        encoder.write_header()?.write_image_data(&rows.collect::<Vec<_>>())?;
        Ok(image)
    }

    fn code(&self) -> Result<QrCode, QrError> {
        QrCode::with_error_correction_level(self.to_text(), EcLevel::L)
    }
}

/// Reads vouchers from files, and all in folders.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Voucher>, Error> {
    let mut vouchers = Vec::new();
    for path in paths {
        let read_error = |source| Error::Read { path: path.clone(), source };
        if !path.is_dir() {
            vouchers.push(load_file(path)?);
            continue;
        }
        let before = vouchers.len();
        for entry in fs::read_dir(path).map_err(read_error)? {
            let file = entry.map_err(read_error)?.path();
            if file.extension().is_some_and(|extension| extension == EXTENSION) {
                vouchers.push(load_file(&file)?);
            }
        }
        if vouchers.len() == before {
            return Err(Error::Empty(path.clone()));
        }
    }
    Ok(vouchers)
}

fn load_file(path: &Path) -> Result<Voucher, Error> {
    let mut contents = Vec::new();
    let read = Input::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut contents));
    let len = read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let voucher = if len as u64 <= MAX_FILE { Voucher::decode(&contents) } else { None };
    voucher.ok_or_else(|| Error::NotAVoucher(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        issuer::Issuer,
        keys::IssuerKey,
        registry::{
            Slot, VoucherRequest,
            testing::{Fixture, NOON, id, info, key},
        },
    };

    async fn voucher(lifetime: Option<u64>) -> (Voucher, CoseKey) {
        let issuer = Issuer::new(IssuerKey::generate());
        let fixture = Fixture::of_issuer(protocol::key::PublicKey::from_cose(&issuer.anchor()).unwrap()).await;
        let (device, owner) = (id("device"), key());
        fixture.commissioned(&device).await;
        let wanted = VoucherRequest { device, slot: Slot::Owner, owner, lifetime, claim_counter: None };
        let grant = fixture.registry.grant_voucher(&wanted).await.unwrap();
        let voucher = Voucher::decode(&issuer.voucher(&grant).unwrap()).unwrap();
        let object = Sign1::decode(voucher.object()).unwrap();
        assert_eq!(voucher.claims(), grant.claims());
        protocol::sign1::verify(&protocol::key::PublicKey::from_cose(&issuer.anchor()).unwrap(), &object).unwrap();
        (voucher, owner.cose_key())
    }

    #[tokio::test]
    async fn a_voucher_fits_one_device_one_owner_one_claim_and_its_time() {
        let (voucher, owner) = voucher(Some(10)).await;
        let device = id("device");
        let own = key();
        let shown = DeviceInfo { claim_counter: 1, ..info(&device, Some(&own)) };
        let end = NOON + 10;
        assert!(voucher.fits(&shown, &owner, end).is_ok());
        let elsewhere = id("other");
        let other = DeviceInfo { device: elsewhere, ..shown };
        assert!(matches!(voucher.fits(&other, &owner, end), Err(Unfit::OtherDevice(found)) if found == elsewhere));
        assert!(matches!(voucher.fits(&shown, &own.cose_key(), end), Err(Unfit::OtherOwner(_))));
        let expired = voucher.fits(&shown, &owner, end + 1).unwrap_err();
        assert!(expired.to_string().contains("has expired, at 20"), "{expired}");
        for counter in [0, 2] {
            let shown = DeviceInfo { claim_counter: counter, ..shown };
            assert!(
                matches!(voucher.fits(&shown, &owner, end), Err(Unfit::Used { named: 1, shown, .. }) if shown == counter)
            );
        }
    }

    #[tokio::test]
    async fn a_file_holds_the_object_or_the_text() {
        let (voucher, _) = voucher(None).await;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join(voucher.file_name());
        assert!(path.to_str().unwrap().ends_with("/urn-dev-ops-32473-test-device.cwt"));
        for contents in
            [voucher.object().to_vec(), voucher.to_text().into(), format!("{}\r\n", voucher.to_text()).into()]
        {
            fs::write(&path, contents).unwrap();
            for place in [path.clone(), temp.path().to_owned()] {
                assert_eq!(load(&[place]).unwrap(), std::slice::from_ref(&voucher));
            }
        }
        let mut longer = voucher.object().to_vec();
        longer.push(0);
        for contents in [&b""[..], b"COMM1:", b"COMM1:::", b"COMM1:00", &[b'A'; 2000], &longer, &voucher.object()[1..]]
        {
            fs::write(&path, contents).unwrap();
            assert!(matches!(load(std::slice::from_ref(&path)), Err(Error::NotAVoucher(_))), "{contents:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&[path]), Err(Error::Read { .. })));
        assert!(matches!(load(&[temp.path().to_owned()]), Err(Error::Empty(_))));
    }

    /// What a reader of QR codes that is not ours makes of an image.
    fn scanned(side: usize, is_white: impl Fn(usize, usize) -> bool) -> String {
        let shade = |x, y| if is_white(x, y) { 255 } else { 0 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, shade);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        grids[0].decode().unwrap().1
    }

    #[tokio::test]
    async fn each_image_says_the_text() {
        let (voucher, _) = voucher(Some(u64::from(u32::MAX))).await;
        let image = voucher.to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((frame.bit_depth, frame.color_type), (png::BitDepth::One, png::ColorType::Grayscale));
        let is_white = |x: usize, y: usize| pixels[y * frame.line_size + x / 8] & (0x80 >> (x % 8)) != 0;
        assert_eq!(scanned(frame.width as usize, is_white), voucher.to_text());

        // Two modules above each other are one character; on a dark terminal, what is drawn is light.
        let lines: Vec<Vec<char>> = voucher.to_terminal().unwrap().lines().map(|line| line.chars().collect()).collect();
        let is_white = |x: usize, y: usize| match lines.get(y / 8).and_then(|line| line.get(x / 4)) {
            Some('█') | None => true,
            Some('▀') => y % 8 < 4,
            Some('▄') => y % 8 >= 4,
            _ => false,
        };
        assert_eq!(scanned(lines[0].len() * 4, is_white), voucher.to_text());

        // The same modules, as squares: in the order of rows.
        let svg = voucher.to_svg().unwrap();
        assert!(svg.starts_with("<?xml") && svg.contains("<svg"));
        let side = (voucher.code().unwrap().width() + 8) * PIXELS as usize;
        assert!(svg.contains(&format!("width=\"{side}\"")), "{}", &svg[..300]);
    }
}
