use crate::{
    Ccs, CoseKey, DeviceId, Error, KeyOrigin, SCHEMA_VERSION, SlotState,
    choice::choice,
    codec::{Reader, Text, Wire, Writer, codec},
    map::{MapReader, MapWriter, Unknown},
};

choice! {
    /// What it takes to claim a device whose owner slot is empty.
    ClaimPolicy {
        /// Whoever comes first.
        Open = 0, "open";
        /// A voucher of the factory anchor.
        Voucher = 1, "voucher";
        /// Somebody at the device, who presses its button.
        Presence = 2, "presence";
        /// Both.
        VoucherAndPresence = 3, "voucher-and-presence";
    }
}

choice! {
    /// How much of the protocol a device speaks.
    Profile {
        /// All of it.
        Full = 0, "full";
        /// No EDHOC: a report line, and a write-once factory slot over the programming cable.
        Minimal = 1, "minimal";
    }
}

choice! {
    /// Whether a device's storage is sound.
    Condition {
        /// It is.
        Ok = 0, "ok";
        /// It is not: the device refuses claims and tokens, and makes no key.
        Fault = 1, "fault";
    }
}

/// What a device has, or does without, that the other members do not say: bits, of which those that nobody knows mean nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(pub u64);

impl Features {
    /// None of them: nothing is sent.
    pub const NONE: Self = Self(0);
    /// An owner slot, although the device keeps no list of devices ([`Limits::list_keys`] is 0).
    pub const OWNER_WITHOUT_LIST: Self = Self(16);

    /// Whether all bits of `features` are among these.
    pub const fn contains(self, features: Self) -> bool {
        self.0 & features.0 == features.0
    }
}

/// What a device says about itself to anyone who asks: `GET /comm`, and the report line. At most 257 bytes.
///
/// Nothing in it is proved. The map may grow: unknown keys are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo<'a> {
    /// The device's name.
    pub device: DeviceId,
    /// The device's key; absent only in [`Condition::Fault`].
    pub credential: Option<CoseKey>,
    /// Counts the device's keys since the last erase. Informational, never an order.
    pub generation: u32,
    /// Where the key came from.
    pub key_origin: KeyOrigin,
    /// The factory slot.
    pub factory: SlotState,
    /// The owner slot.
    pub owner: SlotState,
    /// What it takes to claim the device.
    pub claim_policy: ClaimPolicy,
    /// Counts fillings and emptyings of the owner slot.
    pub claim_counter: u32,
    /// The newest times the device has seen signed.
    pub watermarks: Watermarks,
    /// Fresh at each start; the `cnonce` of station tokens for a device without a clock.
    pub nonce: [u8; 8],
    /// Name and version of the firmware, at most [`MAX_FIRMWARE`](Self::MAX_FIRMWARE) bytes.
    pub firmware: &'a str,
    /// How much of the protocol the device speaks.
    pub profile: Profile,
    /// Sizes that the device can take.
    pub limits: Limits,
    /// How slow the device is: milliseconds for one P-256 operation.
    pub operation_ms: u32,
    /// Whether the device's storage is sound.
    pub condition: Condition,
    /// What the device has beside that.
    pub features: Features,
}

impl DeviceInfo<'_> {
    /// The longest encoding in bytes. A later version of the schema may have more to say.
    pub const MAX_LEN: usize = 257;
    /// The longest firmware name in bytes.
    pub const MAX_FIRMWARE: usize = 32;

    /// Whether the device can have an owner. One without an owner slot is certified by its maker alone.
    pub const fn has_owner_slot(&self) -> bool {
        self.limits.list_keys > 0 || self.features.contains(Features::OWNER_WITHOUT_LIST)
    }

    fn check(&self) -> Result<(), Error> {
        match (self.credential, self.condition) {
            (None, Condition::Ok) => Err(Error::MissingKey),
            _ => Ok(()),
        }
    }
}

codec!(DeviceInfo<'a>);

impl<'b> Wire<'b> for DeviceInfo<'b> {
    fn read(reader: &mut Reader<'b>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let version = map.required(0);
        if version != SCHEMA_VERSION {
            map.fail(Error::Version(version));
        }
        let info = Self {
            device: map.required(1),
            credential: map.optional_embedded::<Ccs>(2).map(|Ccs(key)| key),
            generation: map.required(3),
            key_origin: map.required(4),
            factory: map.required(5),
            owner: map.required(6),
            claim_policy: map.required(7),
            claim_counter: map.required(8),
            watermarks: map.required(9),
            nonce: map.required(10),
            firmware: map.required::<Firmware<'b>>(11).0,
            profile: map.required(12),
            limits: map.required(13),
            operation_ms: map.required(14),
            condition: map.required(15),
            features: Features(map.optional(16).unwrap_or_default()),
        };
        map.end();
        reader.must(info.check());
        info
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.must(self.check());
        let ccs = self.credential.map(|key| Ccs(key).to_bytes());
        let mut map = MapWriter::new(writer);
        map.entry(0, &SCHEMA_VERSION);
        map.entry(1, &self.device);
        map.optional(2, &ccs);
        map.entry(3, &self.generation);
        map.entry(4, &self.key_origin);
        map.entry(5, &self.factory);
        map.entry(6, &self.owner);
        map.entry(7, &self.claim_policy);
        map.entry(8, &self.claim_counter);
        map.entry(9, &self.watermarks);
        map.entry(10, &self.nonce);
        map.entry(11, &Text::<{ DeviceInfo::MAX_FIRMWARE }>(self.firmware));
        map.entry(12, &self.profile);
        map.entry(13, &self.limits);
        map.entry(14, &self.operation_ms);
        map.entry(15, &self.condition);
        map.optional(16, &Some(self.features.0).filter(|bits| *bits > 0));
        map.end();
    }
}

type Firmware<'a> = Text<'a, { DeviceInfo::MAX_FIRMWARE }>;

/// Per slot, the newest time of issue among the objects that verified under its anchor: Unix seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Under the factory anchor.
    pub factory: Option<u64>,
    /// Under the owner anchor.
    pub owner: Option<u64>,
}

impl Wire<'_> for Watermarks {
    fn read(reader: &mut Reader<'_>) -> Self {
        reader.array_of(2);
        Self { factory: Wire::read(reader), owner: Wire::read(reader) }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(2);
        self.factory.write(writer);
        self.owner.write(writer);
    }
}

/// Sizes that a device can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest CoAP datagram, in bytes.
    pub datagram: u16,
    /// The largest body sent block-wise, in bytes.
    pub body: u16,
    /// The number of keys that fit into the device list: 0 if there is none. See [`DeviceInfo::has_owner_slot`].
    pub list_keys: u16,
}

impl Wire<'_> for Limits {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut map = MapReader::new(reader, Unknown::IntSkipped);
        let limits = Self { datagram: map.required(0), body: map.required(1), list_keys: map.required(2) };
        map.end();
        limits
    }

    fn write(&self, writer: &mut Writer<'_>) {
        let mut map = MapWriter::new(writer);
        map.entry(0, &self.datagram);
        map.entry(1, &self.body);
        map.entry(2, &self.list_keys);
        map.end();
    }
}
