//! `/comm/factory` and `/comm/owner`: what is shown of them, and what becomes of a PUT.

use cbor_schemas::{DeviceId, Receipt, SlotContents, SlotView};
use coap_numbers::code;
use embedded_storage::nor_flash::NorFlash;
use rand_core::CryptoRngCore;

use super::{Board, Device, Held, Storage};
use crate::{
    answer::Answer,
    lifecycle::{FactoryWrite, OwnerWrite, Request, Role, Voucher, decide},
    offer::{self, CONTENTS_LEN, Offer, VoucherVerifier},
    problem::Problem,
    resources::content_format,
    store::{Scratch, Slot},
};

impl<F: NorFlash, R: CryptoRngCore, B: Board> Device<F, R, B> {
    #[inline(never)]
    pub(super) fn show_slot(
        &mut self,
        slot: Slot,
        contents: Request,
        role: Role,
        answer: &mut Answer,
    ) -> Result<(), Problem> {
        let state = self.state();
        let shows_contents = decide(&state, role, contents).is_ok();
        let mut scratch = Scratch::new();
        let held = match shows_contents {
            true => self.whole()?.store.slot(slot, &mut scratch).map_err(|_| Problem::STORAGE)?,
            false => None,
        };
        let held = match held {
            Some(bytes) => Some(SlotContents::decode(bytes).map_err(|_| Problem::STORAGE)?),
            None => None,
        };
        let view = SlotView {
            state: if slot == Slot::Factory { state.factory } else { state.owner },
            anchor: held.map(|held| held.anchor),
            certificate: held.and_then(|held| held.certificate),
        };
        answer.set_body(code::CONTENT, content_format::CBOR, |out| view.encode(out))
    }

    #[inline(never)]
    pub(super) fn write_factory(&mut self, body: &[u8], role: Role, answer: &mut Answer) -> Result<(), Problem> {
        let (state, device) = (self.state(), self.config.device);
        let whole = self.whole()?;
        let own_key = *whole.own_key()?;
        let offer = Offer::parse(body, &own_key)?;
        if offer.voucher.is_some() {
            return Err(problem!(code::BAD_REQUEST, "malformed request", "vouchers are for the owner slot"));
        }
        let issued_at = offer.verify_certificate(&device, &own_key)?;
        let mut contents = [0; CONTENTS_LEN];
        let contents = offer.encode(&mut contents)?;
        let write = whole.classify(&offer, contents, issued_at)?;
        decide(&state, role, Request::WriteFactory(write))?;
        if write != FactoryWrite::Repeat {
            let before = whole.factory.as_ref().and(whole.store.snapshot().watermarks.factory);
            let written = whole.store.set_factory(contents, before.max(issued_at));
            self.committed(written, None)?;
        }
        self.answer_receipt(Slot::Factory, answer)
    }

    #[inline(never)]
    pub(super) fn write_owner(&mut self, body: &[u8], role: Role, answer: &mut Answer) -> Result<(), Problem> {
        let (state, device) = (self.state(), self.config.device);
        let whole = self.whole()?;
        let own_key = *whole.own_key()?;
        let offer = Offer::parse(body, &own_key)?;
        let same_anchor = whole.owner.as_ref().is_some_and(|held| held.anchor == offer.anchor);
        // Who may not write is told so before the costly part.
        let vouched = whole.voucher_verifier(device).verify(&offer)?;
        let voucher = vouched.map(|vouched| vouched.by);
        let write = OwnerWrite { certified: offer.certificate.is_some(), same_anchor, voucher };
        let next = decide(&state, role, Request::WriteOwner(write))?;
        let issued_at = offer.verify_certificate(&device, &own_key)?;
        let mut contents = [0; CONTENTS_LEN];
        let contents = offer.encode(&mut contents)?;
        let is_repeat = next.claim_counter == state.claim_counter
            && whole.store.snapshot().owner.as_ref().is_some_and(|held| held.digest == offer::digest(contents));
        if !is_repeat {
            let before = if same_anchor { whole.store.snapshot().watermarks.owner } else { None };
            let vouched_at = vouched.filter(|vouched| vouched.by == Voucher::Factory).map(|vouched| vouched.issued_at);
            let watermark = before.max(issued_at);
            // Whatever another owner wrote goes before this one is let in.
            let is_transfer = whole.owner.is_some() && next.claim_counter != state.claim_counter;
            let written = match is_transfer {
                true => whole.store.transfer(contents, next.claim_counter, watermark, vouched_at),
                false => whole.store.set_owner(contents, next.claim_counter, watermark, vouched_at),
            };
            self.committed(written, None)?;
        }
        self.answer_receipt(Slot::Owner, answer)
    }

    /// What a PUT to a slot is answered with: what was read back.
    #[inline(never)]
    fn answer_receipt(&mut self, slot: Slot, answer: &mut Answer) -> Result<(), Problem> {
        let whole = self.whole()?;
        let receipt = Receipt {
            device: *whole.own_key()?.x(),
            claim_counter: whole.store.snapshot().claim_counter,
            generation: whole.store.snapshot().generation,
            digest: whole.store.snapshot().contents(slot).ok_or(Problem::STORAGE)?.digest,
        };
        answer.set_body(code::CHANGED, content_format::CBOR, |out| receipt.encode(out))
    }
}

impl<F: NorFlash> Storage<F> {
    /// What a PUT to the factory slot comes to, with a certificate that was verified.
    fn classify(
        &mut self,
        offer: &Offer<'_>,
        contents: &[u8],
        issued_at: Option<u64>,
    ) -> Result<FactoryWrite, Problem> {
        let mut scratch = Scratch::new();
        let held = self.store.slot(Slot::Factory, &mut scratch).map_err(|_| Problem::STORAGE)?;
        let Some(held) = held else { return Ok(FactoryWrite::Fill { certified: offer.certificate.is_some() }) };
        if held == contents {
            return Ok(FactoryWrite::Repeat);
        }
        let held = SlotContents::decode(held).map_err(|_| Problem::STORAGE)?;
        let is_renewal = held.anchor == offer.anchor.cose_key() && issued_at > offer::issued_at(&held);
        Ok(if is_renewal { FactoryWrite::Renew } else { FactoryWrite::Replace })
    }

    fn voucher_verifier(&self, device: DeviceId) -> VoucherVerifier {
        let anchor = |held: &Option<Held>| held.as_ref().map(|held| held.anchor);
        VoucherVerifier {
            device,
            claim_counter: self.store.snapshot().claim_counter,
            factory: anchor(&self.factory),
            owner: anchor(&self.owner),
            min_iat: self.store.snapshot().list.map_or(0, |list| list.min_iat),
            watermarks: self.store.snapshot().watermarks,
        }
    }
}
