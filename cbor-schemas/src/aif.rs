use core::fmt;

use crate::{
    Error,
    codec::{Reader, Wire, Writer, codec},
};

/// The methods that a scope can name, with their bits in AIF-REST (RFC 9237 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Read.
    Get = 1,
    /// Act.
    Post = 2,
    /// Write.
    Put = 4,
    /// Delete.
    Delete = 8,
}

/// The scope of a station token: 1 to 8 entries of a path and the methods allowed on it (AIF-REST, RFC 9237).
///
/// An entry covers its path and all below it: `/comm` covers `/comm/owner`, not `/commx`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Aif {
    /// Zero after `len`.
    entries: [Entry; Self::MAX_ENTRIES],
    len: u8,
}

impl Aif {
    /// The most entries in a scope.
    pub const MAX_ENTRIES: usize = 8;
    /// The longest path in bytes.
    pub const MAX_PATH: usize = 32;
    /// The longest encoding in bytes.
    pub const MAX_LEN: usize = 297;

    /// GET, POST and PUT on `/comm` and all below: what an owner's own station gets.
    pub fn everything() -> Self {
        let mut scope = Self::EMPTY;
        // Cannot fail: one short path.
        let _ = scope.push("/comm", Method::Get as u8 | Method::Post as u8 | Method::Put as u8);
        scope
    }

    /// A scope of these paths and method bits.
    ///
    /// # Errors
    /// [`Error::WrongLength`] without entries or with an empty path, [`Error::TooLong`] with more than
    /// [`MAX_ENTRIES`](Self::MAX_ENTRIES) or a path of more than [`MAX_PATH`](Self::MAX_PATH) bytes.
    pub fn new(entries: &[(&str, u8)]) -> Result<Self, Error> {
        let mut scope = Self::EMPTY;
        entries.iter().try_for_each(|(path, methods)| scope.push(path, *methods))?;
        if scope.len == 0 { Err(Error::WrongLength) } else { Ok(scope) }
    }

    /// Whether `method` is allowed on `path`.
    ///
    /// `path` is absolute and literal: the caller has refused a path segment that itself contains a `/`.
    pub fn allows(&self, path: &str, method: Method) -> bool {
        self.entries().any(|(covered, methods)| methods & method as u8 != 0 && covers(covered, path))
    }

    /// The entries: path and method bits.
    pub fn entries(&self) -> impl Iterator<Item = (&str, u8)> {
        self.entries.iter().take(usize::from(self.len)).map(|entry| (entry.path(), entry.methods))
    }

    const EMPTY: Self = Self { entries: [Entry::EMPTY; Self::MAX_ENTRIES], len: 0 };

    fn push(&mut self, path: &str, methods: u8) -> Result<(), Error> {
        if path.is_empty() {
            return Err(Error::WrongLength);
        }
        let entry = self.entries.get_mut(usize::from(self.len)).ok_or(Error::TooLong)?;
        entry.path.get_mut(..path.len()).ok_or(Error::TooLong)?.copy_from_slice(path.as_bytes());
        entry.len = u8::try_from(path.len()).map_err(|_| Error::TooLong)?;
        entry.methods = methods;
        self.len = self.len.saturating_add(1);
        Ok(())
    }
}

codec!(Aif);

impl Wire<'_> for Aif {
    fn read(reader: &mut Reader<'_>) -> Self {
        let mut scope = Self::EMPTY;
        reader.items(|reader| {
            reader.array_of(2);
            let (path, methods) = (reader.str(), u8::read(reader));
            reader.must(scope.push(path, methods));
        });
        if scope.len == 0 {
            reader.fail(Error::WrongLength);
        }
        scope
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.array(u64::from(self.len));
        for (path, methods) in self.entries() {
            writer.array(2);
            writer.str(path);
            methods.write(writer);
        }
    }
}

impl fmt::Debug for Aif {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Zero after `len`.
    path: [u8; Aif::MAX_PATH],
    len: u8,
    methods: u8,
}

impl Entry {
    const EMPTY: Self = Self { path: [0; Aif::MAX_PATH], len: 0, methods: 0 };

    fn path(&self) -> &str {
        self.path.get(..usize::from(self.len)).and_then(|path| str::from_utf8(path).ok()).unwrap_or_default()
    }
}

fn covers(covered: &str, path: &str) -> bool {
    path.strip_prefix(covered).is_some_and(|below| below.is_empty() || below.starts_with('/') || covered.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Method; 4] = [Method::Get, Method::Post, Method::Put, Method::Delete];

    #[test]
    fn everything() {
        let scope = Aif::everything();
        assert!(scope.entries().eq([("/comm", 7)]));
        assert_eq!(ALL.map(|method| scope.allows("/comm/owner", method)), [true, true, true, false]);
    }

    #[test]
    fn an_entry_covers_its_path_and_all_below() {
        let scope = Aif::new(&[("/comm/slots", 1), ("/log/", 1)]).unwrap();
        for path in ["/comm/slots", "/comm/slots/wifi", "/comm/slots/wifi/key", "/comm/slots/", "/log/", "/log/today"] {
            assert!(scope.allows(path, Method::Get), "{path}");
        }
        for path in ["", "/", "/comm", "/comm/slot", "/comm/slotsx", "/comm/slots2/wifi", "comm/slots", "/log", "/logs"]
        {
            assert!(!scope.allows(path, Method::Get), "{path}");
        }
    }

    #[test]
    fn methods_count_per_entry() {
        let scope = Aif::new(&[("/comm", 1), ("/comm/owner", 4), ("/comm/identify", 0)]).unwrap();
        assert_eq!(ALL.map(|method| scope.allows("/comm/owner", method)), [true, false, true, false]);
        assert_eq!(ALL.map(|method| scope.allows("/comm/identify", method)), [true, false, false, false]);
        assert_eq!(ALL.map(|method| scope.allows("/comm/rekey", method)), [true, false, false, false]);
    }

    #[test]
    fn a_scope_is_not_empty() {
        assert_eq!(Aif::new(&[]), Err(Error::WrongLength));
        assert_eq!(Aif::new(&[("", 7)]), Err(Error::WrongLength));
        assert_eq!(Aif::decode(&[0x80]), Err(Error::WrongLength));
    }
}
