//! A device at a USB host that does what Linux never would: requests that make no sense, transfers whose lengths lie,
//! a bus that sleeps. The host is ours; the device's stack is the firmware's own.

use std::net::Ipv6Addr;

use device_embassy::usb::{Counters, FULL_SPEED, link_local, mac_addresses};
use embassy_usb_usbip::{Port, Speed};
use host::{Answer, EPIPE, Host, PATIENCE, Transfer, attach, block_on};
use slipmux::{Slipmux, encode_buffered};
use tokio::time::timeout;

#[path = "usb/echo.rs"]
mod echo;
#[allow(dead_code, reason = "not every test file uses all of the host")]
#[path = "../../device/usbip/tests/host/mod.rs"]
mod host;

const ID: &str = "urn:dev:ops:32473-sim-0024be";
/// The endpoints, in the order in which the functions allocate them.
const ACM_OUT: u8 = 1;
const ACM_IN: u8 = 2;
const NCM_NOTIFICATIONS: u8 = 3;
const NCM_OUT: u8 = 2;
const NCM_IN: u8 = 4;
/// Interfaces.
const ACM: u8 = 0;
const NCM_DATA: u8 = 3;

/// An Ethernet frame of the device's at most.
const MTU: usize = 1294;
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbeef);

#[test]
fn requests_that_make_no_sense_are_refused_and_counted() {
    with_device(async |port, counters| {
        let mut refused = 0;
        on_the_cable(port, async |host| {
            for kind in 0..=u8::MAX {
                for request in (0..=0x23).chain([0x40, 0x80, 0x85, 0x8a, 0xff]) {
                    for [value, index, length] in [[0, 0, 0], [1, 3, 2], [0xffff, 0xffff, 0xffff], [3, 2, 64]] {
                        refused += u32::from(!ask(host, kind, request, value, index, length).await);
                    }
                }
            }
            // Some of them made sense, and changed the configuration.
            set_up(host).await;
            is_alive(host).await;
        })
        .await;
        assert!(refused > 10_000, "{refused}");
        // Requests for no bytes are ended by the driver, and never counted.
        let counted = counters.refused_requests.get();
        assert!(counted >= refused * 9 / 10 && counted <= refused + 1000, "{counted} of {refused}");
    });
}

/// ModemManager's default policy opens a CDC-ACM port that nobody else speaks for only if its protocol says that it takes AT
/// commands: 1 to 6 (CDC PSTN 1.2, section 5.1, table 3: `bInterfaceProtocol`). This one is 0: none of them.
#[test]
fn the_serial_port_does_not_pass_for_a_modem() {
    with_device(async |port, _| {
        on_the_cable(port, async |host| {
            let configuration = host.control_in([0x80, 6, 0, 2, 0, 0], 255).await.expect("GET_DESCRIPTOR");
            let mut ports = Vec::new();
            let mut rest = &configuration[..];
            while let [length, kind, ..] = *rest {
                let (descriptor, more) = rest.split_at(length.into());
                rest = more;
                // An interface, of the class of communication, with an abstract control model.
                if kind == 4 && descriptor[5..7] == [2, 2] {
                    ports.push((descriptor[2], descriptor[7]));
                }
            }
            assert_eq!(ports, [(ACM, 0)], "{configuration:x?}");
        })
        .await;
    });
}

#[test]
fn transfers_whose_lengths_lie_are_dropped_and_counted() {
    with_device(async |port, counters| {
        on_the_cable(port, async |host| {
            set_up(host).await;
            is_alive(host).await;
            let good = ntb(&solicitation());
            let with = |at: usize, value: u16| {
                let mut bytes = good.clone();
                bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
                bytes
            };
            let len = u16::try_from(good.len()).unwrap();
            let malformed = [
                ("a byte", vec![0x4e]),
                ("half a header", good[..11].to_vec()),
                ("a header, and nothing else", good[..12].to_vec()),
                ("half a pointer", good[..23].to_vec()),
                ("another signature", with(0, 0x4e4d)),
                ("another pointer's signature", with(12, 0x4e4d)),
                ("a pointer that points to the header", with(10, 0)),
                ("a pointer beyond the end", with(10, len)),
                ("a pointer half beyond the end", with(10, len - 11)),
                ("a pointer far away", with(10, 0xffff)),
                ("a frame at nothing", with(20, 0)),
                ("a frame beyond the end", with(20, len)),
                ("a frame far away", with(20, 0xffff)),
                ("a frame of no bytes", with(22, 0)),
                ("a frame that is one byte too long", with(22, len - 27)),
                ("a frame without end", with(22, 0xffff)),
                ("as much as there may be", vec![0x4e; 2048]),
            ];
            for (count, (name, bytes)) in (1..).zip(&malformed) {
                send(host, bytes).await;
                is_alive(host).await;
                assert_eq!(counters.malformed_transfers.get(), count, "{name}");
            }
            // Two, and a rest.
            send(host, &[0x4e; 2 * 2048 + 5]).await;
            is_alive(host).await;
            assert_eq!(counters.malformed_transfers.get(), 3 + u32::try_from(malformed.len()).unwrap());
            // Nothing at all may end one that is as long as it may be.
            send(host, &[]).await;
            is_alive(host).await;
            assert_eq!(counters.malformed_transfers.get(), 3 + u32::try_from(malformed.len()).unwrap());
        })
        .await;
        assert_eq!((counters.long_frames.get(), counters.foreign_frames.get()), (0, 0));
    });
}

#[test]
fn frames_that_are_too_long_or_not_for_it_are_dropped_and_counted() {
    with_device(async |port, counters| {
        on_the_cable(port, async |host| {
            set_up(host).await;
            let padded = |len: usize| {
                let mut frame = solicitation();
                frame.resize(len, 0);
                ntb(&frame)
            };
            send(host, &padded(MTU)).await;
            assert!(is_advertisement(&frame(host).await), "the longest one is heard");
            for (count, len) in (1..).zip([MTU + 1, MTU + 2, 1500, 1514, 2048 - 28]) {
                send(host, &padded(len)).await;
                is_alive(host).await;
                assert_eq!(counters.long_frames.get(), count);
            }
            assert_eq!(counters.foreign_frames.get(), 0);

            let foreign = [
                ("less than a header", vec![0; 13]),
                ("ARP", ethernet(0x0806, &[0; 28])),
                ("IPv4", ethernet(0x0800, &[0x45; 40])),
                ("mDNS", udp(HOST, 5353, b"who is there?")),
                ("another port", udp(HOST, 5684, b"DTLS")),
                ("a source that is no link-local one", udp("2001:db8::1".parse().unwrap(), 5683, b"\x40\x01\0\0")),
                ("a source of another link-local prefix", udp("fe80:1::1".parse().unwrap(), 5683, b"\x40\x01\0\0")),
                ("a router solicitation", icmp(HOST, 133, &[0; 4])),
                ("a router advertisement", icmp(HOST, 134, &[0; 12])),
                ("TCP", ipv6(HOST, 6, &[0; 20])),
                ("IPv6 without a header", ethernet(0x86dd, &[])),
            ];
            for (count, (name, bytes)) in (1..).zip(&foreign) {
                send(host, &ntb(bytes)).await;
                is_alive(host).await;
                assert_eq!(counters.foreign_frames.get(), count, "{name}");
            }
        })
        .await;
        assert_eq!(counters.malformed_transfers.get(), 0);
    });
}

/// A host goes to sleep, resets the bus, and is pulled out in the middle of a transfer. No program on it tells the port so.
#[test]
fn sleep_reset_and_a_pulled_cable_are_survived() {
    with_device(async |port, _| {
        for cut in [1, 27, 64, 90] {
            let again = port.clone();
            on_the_cable(port, async |host| {
                set_up(host).await;
                is_alive(host).await;
                again.suspend();
                again.resume();
                is_alive(host).await;
                // A whole packet of a transfer that never ends.
                host.submit(NCM_OUT, [0; 8], Transfer::Out(&[0x4e; 64])).await;
                again.reset();
                set_up(host).await;
                is_alive(host).await;
                host.submit(NCM_OUT, [0; 8], Transfer::Out(&ntb(&solicitation())[..cut])).await;
                host.submit(ACM_OUT, [0; 8], Transfer::Out(&SLIPMUX[..4])).await;
                again.unplug();
            })
            .await;
        }
        on_the_cable(port, async |host| {
            set_up(host).await;
            is_alive(host).await;
        })
        .await;
    });
}

/// Runs a device, whose server is an echo, beside what is done to it.
fn with_device(test: impl AsyncFnOnce(&Port, &Counters)) {
    let (driver, port) = embassy_usb_usbip::new(Speed::Full);
    let setup = echo::setup();
    block_on(async {
        tokio::select! {
            () = echo::serve::<FULL_SPEED>(driver, &setup) => unreachable!("it goes on for ever"),
            done = timeout(PATIENCE, test(&port, &setup.counters)) => done.expect("done in time"),
        }
    });
}

async fn on_the_cable(port: &Port, test: impl AsyncFnOnce(&mut Host)) {
    let ((), ended) = attach(port, test).await;
    ended.expect("a host that lets go is no error");
}

/// Configures both functions as a host does, and opens the port.
async fn set_up(host: &mut Host) {
    host.control_out([0x00, 9, 0, 0, 0, 0], &[]).await.expect("SET_CONFIGURATION, to none");
    host.configure().await;
    host.control_out([0x01, 11, 1, 0, NCM_DATA, 0], &[]).await.expect("SET_INTERFACE");
    let connected = transfer(host, NCM_NOTIFICATIONS, Transfer::In(8)).await;
    assert_eq!(connected.data[..4], [0xa1, 0, 1, 0], "NETWORK_CONNECTION");
    for dtr in [0, 1] {
        host.control_out([0x21, 0x22, dtr, 0, ACM, 0], &[]).await.expect("SET_CONTROL_LINE_STATE");
    }
}

/// A frame of slipmux, and the one that the echo sends back, with each bit of the datagram turned.
const SLIPMUX: [u8; 9] = [0xc0, 0xa9, 0x40, 0x01, 0x00, 0x00, 0xbc, 0x38, 0xc0];
fn echo_of_slipmux() -> Vec<u8> {
    encode_buffered(Slipmux::Configuration([0x40, 0x01, 0, 0].map(|byte: u8| !byte).to_vec()))
}

/// Both functions do what they are for.
async fn is_alive(host: &mut Host) {
    send(host, &ntb(&solicitation())).await;
    while !is_advertisement(&frame(host).await) {}
    // The device says its lines first: it reads on when they are read.
    host.submit(ACM_OUT, [0; 8], Transfer::Out(&SLIPMUX)).await;
    let (mut said, echo) = (Vec::new(), echo_of_slipmux());
    while !said.windows(echo.len()).any(|window| window == echo) {
        said.extend(transfer(host, ACM_IN, Transfer::In(64)).await.data);
    }
}

async fn send(host: &mut Host, bytes: &[u8]) {
    assert_eq!(transfer(host, NCM_OUT, Transfer::OutAndZero(bytes)).await.status, 0);
}

/// The next frame from the device.
async fn frame(host: &mut Host) -> Vec<u8> {
    let answer = transfer(host, NCM_IN, Transfer::In(2048)).await;
    assert_eq!(answer.data[..4], *b"NCMH");
    answer.data[28..].to_vec()
}

/// A transfer to its end.
async fn transfer(host: &mut Host, endpoint: u8, transfer: Transfer<'_>) -> Answer {
    let number = host.submit(endpoint, [0; 8], transfer).await;
    host.answer_to(number).await
}

/// Makes a request to the control endpoint. Returns whether it was accepted.
async fn ask(host: &mut Host, kind: u8, request: u8, value: u16, index: u16, length: u16) -> bool {
    let ([a, b], [c, d]) = (value.to_le_bytes(), index.to_le_bytes());
    let setup = [kind, request, a, b, c, d];
    let result = match kind & 0x80 {
        0 => host.control_out(setup, &vec![0x5a; length.into()]).await,
        _ => host.control_in(setup, length).await.map(|_| ()),
    };
    assert!(matches!(result, Ok(()) | Err(EPIPE)), "{setup:x?}: {result:?}");
    result.is_ok()
}

/// A transfer block with a frame in it (CDC NCM 1.0, section 3).
fn ntb(frame: &[u8]) -> Vec<u8> {
    let word = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
    let header = [word(12), word(0), word(28 + frame.len()), word(12)].concat();
    let pointer = [word(16), word(0), word(28), word(frame.len()), word(0), word(0)].concat();
    [b"NCMH", &header[..], b"NCM0", &pointer, frame].concat()
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let macs = mac_addresses(&ID.parse().unwrap());
    [&macs.device[..], &macs.host, &kind.to_be_bytes(), payload].concat()
}

fn ipv6(source: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let destination = link_local(&ID.parse().unwrap());
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [0x60, 0, 0, 0, high, low, next_header, 255];
    ethernet(0x86dd, &[&header[..], &source.octets(), &destination.octets(), payload].concat())
}

/// With a checksum over the pseudo-header (RFC 8200 section 8.1), for which there is room at `at`.
fn summed(source: Ipv6Addr, next_header: u8, mut payload: Vec<u8>, at: usize) -> Vec<u8> {
    let destination = link_local(&ID.parse().unwrap());
    let numbers = [u16::try_from(payload.len()).unwrap(), next_header.into()].map(u16::to_be_bytes).concat();
    let summands = [&source.octets()[..], &destination.octets(), &numbers, &payload].concat();
    let mut sum: u32 =
        summands.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into())).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    payload[at..at + 2].copy_from_slice(&(!sum as u16).to_be_bytes());
    ipv6(source, next_header, &payload)
}

fn icmp(source: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    summed(source, 58, [&[kind, 0, 0, 0], body].concat(), 2)
}

fn udp(source: Ipv6Addr, port: u16, datagram: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + datagram.len()).unwrap();
    let header = [40_000, port, length, 0].map(u16::to_be_bytes).concat();
    summed(source, 17, [&header[..], datagram].concat(), 6)
}

/// A neighbour solicitation from the host (RFC 4861 section 4.3): the device answers it.
fn solicitation() -> Vec<u8> {
    let id = ID.parse().unwrap();
    let (target, macs) = (link_local(&id).octets(), mac_addresses(&id));
    icmp(HOST, 135, &[&[0; 4][..], &target, &[1, 1], &macs.host].concat())
}

fn is_advertisement(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&58) && frame.get(54) == Some(&136)
}
