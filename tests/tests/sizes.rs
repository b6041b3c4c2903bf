//! The sizes that the protocol promises, from a whole session over a real serial line.

use std::process::Command;

use end_to_end::program;

/// The messages of a session, in order: whoever changes one of them changes docs/protocol.md too (`make bytes`).
const FIRST_VISIT: &[&str] = &[
    "CON GET /comm |",
    "ACK 2.05 Content |",
    "EDHOC message_1, 37 bytes",
    "EDHOC message_2, 53 bytes",
    "EDHOC message_3, 110 bytes + GET /comm",
    "2.05 Content",
    "PUT /comm/owner",
    "2.04 Changed",
];
const LATER_VISIT: &[&str] =
    &["EDHOC message_1, 37 bytes", "EDHOC message_2, 53 bytes", "EDHOC message_3, 28 bytes + GET /comm"];

#[test]
fn messages_have_the_sizes_that_are_promised() {
    let output = Command::new(program("message-sizes")).output().expect("message-sizes runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = String::from_utf8(output.stdout).expect("UTF-8");
    let (first, later) = tables.split_once("### Bytes of a later visit").expect("two tables");
    let rows: Vec<_> = first.lines().filter(|line| line.contains('→') || line.contains('←')).collect();
    assert_eq!(rows.len(), FIRST_VISIT.len(), "{tables}");
    for (row, expected) in rows.iter().zip(FIRST_VISIT) {
        assert!(row.contains(expected), "{expected:?} is not in {row:?}");
    }
    for expected in LATER_VISIT {
        assert!(later.contains(expected), "{expected:?} is not in {later}");
    }
}
