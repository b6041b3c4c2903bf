//! Datagrams of every size, over both functions: behind the USB stack of the device is an echo instead of a server.

use std::thread;

use commissioner::link::Link;
use device::DATAGRAM_LEN;
use device_embassy::usb::{FULL_SPEED, HIGH_SPEED};
use embassy_usb_usbip::{Speed, vhci};
use tokio::{runtime::Builder, sync::oneshot, time::timeout};

use crate::{ID, echo, plug};
use end_to_end::PATIENCE;

#[test]
#[ignore = "runs in the guest"]
fn datagrams_of_every_size_come_back_at_full_speed() {
    come_back::<FULL_SPEED>(Speed::Full, 1);
}

#[test]
#[ignore = "runs in the guest"]
fn datagrams_of_many_sizes_come_back_at_high_speed() {
    come_back::<HIGH_SPEED>(Speed::High, 7);
}

/// Sizes in steps over the network, and every size around the packets of the serial port.
fn come_back<const PACKET: usize>(speed: Speed, step: usize) {
    plug::gone();
    let (done, is_done) = oneshot::channel();
    // A thread of its own: who opens the port, and whoever closes it, waits for the device.
    let device = thread::spawn(move || block_on(plug_in::<PACKET>(speed, is_done)));
    let ways = plug::Ways::appear();
    ways.make_ready();
    let [udp, acm] = [ways.udp_link(ID), ways.acm_link()].map(|link| link.parse::<Link>().expect("a link"));
    block_on(async {
        echoed(&udp, (0..=DATAGRAM_LEN).step_by(step).chain([DATAGRAM_LEN])).await;
        // Framing adds five bytes, and one more for each byte that is escaped.
        let around = |packets: usize| packets * PACKET - 10..=packets * PACKET + 2;
        let multiples = [1, 2, 3, 4, DATAGRAM_LEN / PACKET].into_iter().flat_map(around);
        echoed(&acm, (1..130).step_by(step).chain(multiples).filter(|size| *size <= DATAGRAM_LEN)).await;
    });
    done.send(()).expect("the device is still there");
    assert_eq!(device.join().expect("the device did not panic"), 0, "frames are too long");
}

/// Plugs the echo in, until it is done. Returns how many frames were dropped.
async fn plug_in<const PACKET: usize>(speed: Speed, is_done: oneshot::Receiver<()>) -> u32 {
    let (driver, port) = embassy_usb_usbip::new(speed);
    let setup = echo::setup();
    tokio::select! {
        () = echo::serve::<PACKET>(driver, &setup) => unreachable!("it goes on for ever"),
        ended = vhci::serve(&port) => panic!("the host let go: {ended:?}"),
        _ = is_done => setup.counters.long_frames.get(),
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn echoed(link: &Link, sizes: impl Iterator<Item = usize>) {
    let mut line = link.open().await.expect("it opens");
    for size in sizes {
        // All kinds of bytes, those that slipmux escapes among them.
        let datagram: Vec<_> = (0..size).map(|n| (n * 31 + size) as u8).collect();
        line.send(&datagram).await.expect("it goes");
        let back = timeout(PATIENCE, line.receive()).await.unwrap_or_else(|_| panic!("{link}: {size} bytes are lost"));
        let turned: Vec<_> = datagram.iter().map(|byte| !byte).collect();
        assert!(back.expect("the link holds").bytes == turned, "{link}: {size} bytes were changed");
    }
}
