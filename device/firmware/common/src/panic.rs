use core::panic::PanicInfo;

/// Starts over: storage is in the old state or the new one, whatever was under way. Nothing that a peer sends should lead
/// here; `docs/security.md` says what is known about that.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
