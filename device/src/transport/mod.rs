//! Datagrams in, datagrams out. A serial line becomes datagrams through slipmux ([`serial`]); UDP already is.
//!
//! Nothing above this module knows the cable.

pub mod group;
pub mod serial;

use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

pub use protocol::conversation::Source;

use crate::DATAGRAM_LEN;

/// A line of the device's log, at most 368 bytes of text: the longest report line fits.
pub type LogLine = heapless::String<368>;

/// A channel of datagrams to peers with addresses of type `A`.
pub trait Datagrams<A> {
    /// Why the link is of no use any more.
    type Error;

    /// Waits for one datagram, and lends it. One that is longer than [`DATAGRAM_LEN`] may be cut, but stays longer than that,
    /// so that its sender can be told. Returns the sender, too.
    ///
    /// Cancelling the future loses no part of a datagram.
    fn receive(&mut self) -> impl Future<Output = Result<(&mut [u8], A), Self::Error>>;

    /// Sends one datagram.
    fn send(&mut self, to: A, datagram: &[u8]) -> impl Future<Output = Result<(), Self::Error>>;

    /// Sends a line of the log, where the link has a place for it.
    fn log(&mut self, line: &str) -> impl Future<Output = Result<(), Self::Error>>;
}

/// What answers datagrams: the device.
pub trait Service<A> {
    /// Handles a datagram, in place, at `now` (milliseconds since start), and writes the answer to `out`.
    ///
    /// Returns the length of the answer, if there is one.
    fn handle(&mut self, from: A, datagram: &mut [u8], now: u64, out: &mut [u8]) -> Option<usize>;

    /// Makes ahead, at `now`, what the next handshake would have to wait for, if nothing has come for a while.
    ///
    /// Returns in how many milliseconds to ask again; `None`: not before the next datagram was handled.
    fn prepare(&mut self, now: u64) -> Option<u64> {
        let _ = now;
        None
    }
}

/// Serves `service` over `link` until the link fails. Several links may share one service on one executor.
///
/// # Errors
/// What the link failed with.
pub async fn serve<A: Copy, L: Datagrams<A>, S: Service<A>>(
    service: &RefCell<S>,
    link: &mut L,
    clock: impl Fn() -> u64,
    mut next_log_line: impl AsyncFnMut() -> LogLine,
) -> Result<(), L::Error> {
    let mut answer = [0; DATAGRAM_LEN];
    loop {
        let event = {
            let (mut received, mut line) = (pin!(link.receive()), pin!(next_log_line()));
            poll_fn(|context| match received.as_mut().poll(context) {
                Poll::Ready(received) => Poll::Ready(Event::Received(received)),
                Poll::Pending => line.as_mut().poll(context).map(Event::Line),
            })
            .await
        };
        match event {
            Event::Received(received) => {
                let (datagram, from) = received?;
                // The borrow ends before the next await, so on one executor it is always free.
                let answered = match service.try_borrow_mut() {
                    Ok(mut service) => service.handle(from, datagram, clock(), &mut answer),
                    Err(_) => None,
                };
                if let Some(answer) = answered.and_then(|len| answer.get(..len)) {
                    link.send(from, answer).await?;
                }
            }
            Event::Line(line) => link.log(&line).await?,
        }
    }
}

/// What [`serve`] waits for.
enum Event<R, L> {
    Received(R),
    Line(L),
}
