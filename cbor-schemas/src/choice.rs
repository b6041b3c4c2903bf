//! Closed enumerations: a small unsigned integer on the wire, a word for people.

/// Declares an enumeration with its values on the wire and its names in the CDDL.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $value,)+
        }

        impl $name {
            /// All values, in the order of their numbers on the wire.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of the value in the CDDL.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl TryFrom<u8> for $name {
            type Error = crate::Error;

            fn try_from(value: u8) -> Result<Self, crate::Error> {
                match value {
                    $($value => Ok(Self::$variant),)+
                    _ => Err(crate::Error::OutOfRange),
                }
            }
        }

        impl core::str::FromStr for $name {
            type Err = crate::Error;

            fn from_str(text: &str) -> Result<Self, crate::Error> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(crate::Error::OutOfRange),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl<'b> crate::codec::Wire<'b> for $name {
            fn read(reader: &mut crate::codec::Reader<'b>) -> Self {
                const FIRST: $name = [$($name::$variant),+][0];
                let value = Self::try_from(u8::read(reader));
                reader.value(value, FIRST)
            }

            fn write(&self, writer: &mut crate::codec::Writer<'_>) {
                writer.u64(*self as u64);
            }
        }
    };
}
pub(crate) use choice;

#[cfg(test)]
mod tests {
    use crate::{ClaimPolicy, Error};

    #[test]
    fn numbers_and_names() {
        for (number, policy) in (0_u8..).zip(ClaimPolicy::ALL) {
            assert_eq!(ClaimPolicy::try_from(number), Ok(*policy));
            assert_eq!(policy.to_string().parse(), Ok(*policy));
        }
        assert_eq!(ClaimPolicy::VoucherAndPresence.as_str(), "voucher-and-presence");
        assert_eq!(ClaimPolicy::try_from(4), Err(Error::OutOfRange));
        assert_eq!("Open".parse::<ClaimPolicy>(), Err(Error::OutOfRange));
    }
}
