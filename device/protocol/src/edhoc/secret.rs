//! lakers' states hold keys in plain arrays; here they are wiped when they go out of use.

use core::ops::Deref;

use lakers::{
    Completed, InitiatorStart, ProcessedM2, ProcessedM3, ProcessingM1, ProcessingM2, ProcessingM3, WaitM2, WaitM3,
    WaitM4,
};
use zeroize::Zeroize;

/// A state of lakers whose secrets are wiped on drop.
///
/// What lakers copies while it computes stays on the stack until something else is written there: its types are
/// `Copy` or plain, and no wrapper can reach those copies.
pub(super) struct Wiped<T: Secrets>(pub(super) T);

/// The secrets of a state.
pub(super) trait Secrets {
    fn wipe(&mut self);
}

impl<T: Secrets> Drop for Wiped<T> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl<T: Secrets> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

macro_rules! secrets {
    ($($state:ident { $($field:ident),+ })+) => {$(
        impl Secrets for $state {
            fn wipe(&mut self) {
                $(self.$field.zeroize();)+
            }
        }
    )+};
}

secrets! {
    InitiatorStart { x }
    WaitM2 { x }
    ProcessingM2 { x, prk_2e }
    ProcessedM2 { prk_3e2m, prk_4e3m }
    WaitM4 { prk_4e3m, prk_out, prk_exporter }
    ProcessingM1 { y }
    WaitM3 { y, prk_3e2m }
    ProcessingM3 { y, prk_3e2m }
    ProcessedM3 { prk_4e3m, prk_out, prk_exporter }
    Completed { prk_out, prk_exporter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wiping_clears_the_secrets_and_leaves_the_rest() {
        let mut state = WaitM3 { y: [1; 32], prk_3e2m: [2; 32], th_3: [3; 32] };
        state.wipe();
        assert_eq!((state.y, state.prk_3e2m, state.th_3), ([0; 32], [0; 32], [3; 32]));
    }
}
