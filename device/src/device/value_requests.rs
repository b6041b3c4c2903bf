//! `/comm/slots/NAME`: the product's values, as the owner reads and writes them, and as the application does.

use coap_numbers::code;
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

use super::{Board, Device};
use crate::{
    answer::Answer,
    problem::Problem,
    resources::content_format,
    store::{MAX_CONTENTS_LEN, Scratch},
    values::{Declared, Value, ValueKind, Values, fit},
};

impl<F: NorFlash, R: CryptoRngCore, B: Board> Device<F, R, B> {
    /// The value that the owner gave to a declaration of [`Board::VALUES`], handed to `with`, which should not keep what is
    /// secret; `None` if there is none.
    pub fn value<K: ValueKind, T>(&mut self, declared: &Declared<K>, with: impl FnOnce(K::Is<'_>) -> T) -> Option<T> {
        let mut scratch = Scratch::new();
        let stored = self.whole().ok()?.store.values(&mut scratch).ok()?;
        Values::stored(stored).get(declared).map(with)
    }

    #[inline(never)]
    pub(super) fn show_value(&mut self, value: &Value, answer: &mut Answer) -> Result<(), Problem> {
        let mut scratch = Scratch::new();
        let stored = self.whole()?.store.values(&mut scratch).map_err(|_| Problem::STORAGE)?;
        let bytes = Values::stored(stored).bytes(value);
        let bytes = bytes.ok_or(problem!(code::NOT_FOUND, "no such resource", "it was not written yet"))?;
        answer.set_body(code::CONTENT, content_format::OCTET_STREAM, |out| {
            out.get_mut(..bytes.len()).ok_or(Problem::STORAGE)?.copy_from_slice(bytes);
            Ok::<_, Problem>(bytes.len())
        })
    }

    /// Writes the value at the place `at` of [`Board::VALUES`].
    #[inline(never)]
    pub(super) fn write_value(
        &mut self,
        at: usize,
        value: &Value,
        body: &[u8],
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        const { assert!(fit(B::VALUES), "the values of this board may take more than there is room for") };
        let (mut scratch, mut encoded) = (Scratch::new(), Scratch::new());
        let whole = self.whole()?;
        let stored = whole.store.values(&mut scratch).map_err(|_| Problem::STORAGE)?;
        let values = Values::stored(stored);
        if values.check(value, body)? {
            let out = encoded.bytes_mut().get_mut(..MAX_CONTENTS_LEN).ok_or(Problem::STORAGE)?;
            let len = values.encode_with(B::VALUES, at, body, out).ok_or(Problem::STORAGE)?;
            let written = whole.store.set_values(out.get(..len).ok_or(Problem::STORAGE)?);
            self.committed(written, None)?;
        }
        answer.set(code::CHANGED);
        Ok(())
    }

    /// Tells the board what its values are.
    #[inline(never)]
    pub(super) fn configure_board(&mut self) {
        let mut scratch = Scratch::new();
        let stored = self.whole().ok().and_then(|whole| whole.store.values(&mut scratch).ok()).flatten();
        self.board.configure(&Values::stored(stored));
    }
}
