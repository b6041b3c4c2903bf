//! Report lines as logs really hold them.

mod common;

use commissioning_cbor::{DeviceInfo, Error, report};
use common::{tree::Node, values, vector};
use proptest::prelude::*;

#[test]
fn anywhere_in_a_line() {
    let (report, info) = fresh();
    for (before, after) in [
        ("", ""),
        ("", "\r\n"),
        ("INFO  [main.rs:12] ", ""),
        ("\u{1b}[32mINFO\u{1b}[0m ", "\u{1b}[0m"),
        ("log: \"", "\", next"),
        ("\u{fffd}\u{fffd}\0garbage", " 100 %"),
        ("commissioning-report", ""),
        ("commissioning-report: follows ", "="),
    ] {
        let line = format!("{before}{report}{after}");
        assert_eq!(report::find(&line, &mut [0; 400]), Some(Ok(info)), "{line}");
    }
}

#[test]
fn no_report() {
    for line in ["", "booting", "commissioning-report", "commissioning report: yes", "Commissioning-Report:sAAB"] {
        assert_eq!(report::find(line, &mut [0; 400]), None, "{line}");
    }
}

#[test]
fn cut_anywhere() {
    let (report, _) = fresh();
    for len in report::PREFIX.len()..report.len() {
        assert_eq!(report::find(&report[..len], &mut [0; 400]), Some(Err(Error::Truncated)), "{}", &report[..len]);
    }
}

#[test]
fn the_last_of_several_counts() {
    let (report, info) = fresh();
    let restarted = format!("{}{report}", &report[..100]);
    assert_eq!(report::find(&restarted, &mut [0; 400]), Some(Ok(info)));
    let cut_after_it = format!("{report} {}", &report[..100]);
    assert_eq!(report::find(&cut_after_it, &mut [0; 400]), Some(Err(Error::Truncated)));
}

#[test]
fn interrupted_by_other_output() {
    let (report, _) = fresh();
    let (begin, end) = report.split_at(120);
    assert_eq!(report::find(&format!("{begin} tick {end}"), &mut [0; 400]), Some(Err(Error::Truncated)));
    let (begin, end) = report.split_at(122);
    assert!(matches!(report::find(&format!("{begin}tick{end}"), &mut [0; 400]), Some(Err(_))));
    assert_eq!(report::find(&format!("{report}AAAA"), &mut [0; 400]), Some(Err(Error::TrailingBytes)));
}

#[test]
fn another_schema_version() {
    let Node::Map(mut entries) = Node::parse(&vector("DeviceInfo", "fresh")) else { panic!() };
    entries[0].1 = Node::Uint(2);
    entries.push((Node::Uint(17), Node::Text("news".repeat(20))));
    let line = line_of(&Node::Map(entries).bytes());
    assert_eq!(report::find(&line, &mut [0; 400]), Some(Err(Error::Version(2))));
}

#[test]
fn more_than_this_version_knows() {
    let (_, info) = fresh();
    let tree = Node::parse(&vector("DeviceInfo", "fresh"));
    let line = line_of(&tree.with_entry(&Node::Uint(17), &Node::Text("news".repeat(20))).unwrap().bytes());
    assert_eq!(report::find(&line, &mut [0; 400]), Some(Ok(info)));
}

#[test]
fn too_long() {
    let (report, info) = fresh();
    let len = vector("DeviceInfo", "fresh").len();
    assert_eq!(report::find(&report, &mut vec![0; len - 1]), Some(Err(Error::TooLong)));
    assert_eq!(report::find(&report, &mut []), Some(Err(Error::TooLong)));
    assert_eq!(report::find(&report, &mut vec![0; len]), Some(Ok(info)), "just long enough");
    let endless = format!("{}{}", report::PREFIX, "A".repeat(10_000));
    assert_eq!(report::find(&endless, &mut [0; 400]), Some(Err(Error::TooLong)));
}

#[test]
fn a_writer_that_refuses() {
    struct Full;
    impl std::fmt::Write for Full {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            Err(std::fmt::Error)
        }
    }
    let bytes = vector("DeviceInfo", "fresh");
    assert_eq!(report::write(&DeviceInfo::decode(&bytes).unwrap(), &mut Full), Err(Error::NoSpace));
}

#[test]
fn any_device() {
    proptest!(common::cases_of(100), |(info in values::device_info(), before in ".*", after in "([^0-9A-Za-z_-].*)?")| {
        let mut line = before;
        report::write(&info, &mut line).unwrap();
        line.push_str(&after);
        let mut buffer = [0; 400];
        prop_assert_eq!(report::find(&line, &mut buffer), Some(Ok(info)));
    });
}

fn fresh() -> (String, DeviceInfo<'static>) {
    let bytes = vector("DeviceInfo", "fresh").leak();
    let mut line = String::new();
    let info = DeviceInfo::decode(bytes).unwrap();
    report::write(&info, &mut line).unwrap();
    (line, info)
}

fn line_of(bytes: &[u8]) -> String {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let mut text = vec![0; bytes.len() * 2];
    format!("{}{}", report::PREFIX, Base64UrlUnpadded::encode(bytes, &mut text).unwrap())
}
