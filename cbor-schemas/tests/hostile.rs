//! Every frozen encoding, bent in every place: what the decoders must refuse, and that they and the CDDL agree.

mod common;

use commissioning_cbor::*;
use common::{Vector, WIRE_TYPES, WireType, cddl_accepts, to_hex, tree::Node, vector, vectors, wire_type};
use proptest::{
    prelude::*,
    sample::{Index, select},
};

#[test]
fn cut_anywhere() {
    for Case { vector, recode, .. } in cases() {
        let empty_means_a_map = usize::from(vector.rule == "RekeyRequest");
        for len in empty_means_a_map..vector.bytes.len() {
            assert_eq!(recode(&vector.bytes[..len]), Err(Error::Truncated), "{} cut to {len} bytes", vector.title);
        }
    }
}

#[test]
fn trailing_bytes() {
    for Case { vector, recode, .. } in cases() {
        for tail in [&[0x00], &[0xff], &vector.bytes[..1], &vector.bytes] {
            let bytes = [&vector.bytes, tail].concat();
            assert_eq!(recode(&bytes), Err(Error::TrailingBytes), "{}", to_hex(&bytes));
        }
    }
}

#[test]
fn longer_heads_than_needed() {
    all_refused(Error::NotDeterministic, |tree| tree.mutants(true, &Node::with_longer_heads));
}

#[test]
fn indefinite_lengths() {
    all_refused(Error::NotDeterministic, |tree| tree.mutants(true, &Node::with_indefinite_length));
}

#[test]
fn duplicate_keys() {
    all_refused(Error::DuplicateKey, |tree| {
        tree.mutants(false, &|node| {
            let Node::Map(entries) = node else { return Vec::new() };
            let twice = |i: usize| [&entries[..=i], &entries[i..]].concat();
            (0..entries.len()).map(|i| Node::Map(twice(i))).collect()
        })
    });
}

#[test]
fn keys_out_of_order() {
    all_refused(Error::NotDeterministic, |tree| {
        tree.mutants(false, &|node| {
            let Node::Map(entries) = node else { return Vec::new() };
            let swapped = |i: usize| {
                let mut entries = entries.clone();
                entries.swap(i - 1, i);
                Node::Map(entries)
            };
            (1..entries.len()).map(swapped).collect()
        })
    });
}

#[test]
fn missing_entries() {
    all_judged(|tree| {
        tree.mutants(false, &|node| {
            let Node::Map(entries) = node else { return Vec::new() };
            let without = |i: usize| Node::Map([&entries[..i], &entries[i + 1..]].concat());
            (0..entries.len()).map(without).collect()
        })
    });
}

#[test]
fn items_of_the_wrong_type() {
    let others = [
        Node::Uint(0),
        Node::Nint(0),
        Node::Bytes(vec![0; 32]),
        Node::Text("urn:dev:ops:1".into()),
        Node::Array(vec![]),
        Node::Map(vec![]),
        Node::Simple(21),
        Node::Simple(22),
        Node::Simple(200),
    ];
    all_judged(|tree| tree.mutants(false, &|node| others.iter().filter(|other| *other != node).cloned().collect()));
}

/// Apart from the CDDL, whose validator looks through tags inside arrays and takes undefined for null.
#[test]
fn tags_and_undefined_where_none_belongs() {
    for Case { vector, tree, recode, .. } in cases() {
        for bent in tree.mutants(false, &|node| vec![Node::Tag(18, Box::new(node.clone())), Node::Simple(23)]) {
            assert!(recode(&bent.bytes()).is_err(), "{} {}", vector.rule, to_hex(&bent.bytes()));
        }
    }
}

#[test]
fn wrong_lengths() {
    all_judged(|tree| {
        tree.mutants(false, &|node| match node {
            Node::Bytes(bytes) => {
                let shorter = bytes.get(1..).unwrap_or_default().to_vec();
                vec![Node::Bytes(shorter), Node::Bytes([&bytes[..], &[0]].concat())]
            }
            Node::Text(text) => {
                let shorter = text.get(..text.len().saturating_sub(1)).unwrap_or_default().to_owned();
                let longer = |len: usize| Node::Text(format!("{text:a<len$}"));
                vec![Node::Text(shorter), longer(text.len() + 1), longer(32), longer(48), longer(49), longer(129)]
            }
            Node::Array(items) => {
                let longer = items.iter().chain(items.last()).cloned().collect();
                vec![Node::Array(items.get(1..).unwrap_or_default().to_vec()), Node::Array(longer)]
            }
            _ => Vec::new(),
        })
    });
}

#[test]
fn numbers_out_of_range() {
    let numbers = [0, 1, 2, 3, 4, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
    all_judged(|tree| {
        tree.mutants(false, &|node| match node {
            Node::Uint(_) => numbers.map(Node::Uint).to_vec(),
            Node::Nint(_) => numbers.map(Node::Nint).to_vec(),
            Node::Tag(_, item) => [0, 17, 19, 98].map(|tag| Node::Tag(tag, item.clone())).to_vec(),
            _ => Vec::new(),
        })
    });
}

#[test]
fn unknown_keys() {
    let value = Node::parse(&common::from_hex("83a201c2410120f66568656c6c6f820102"));
    all_judged(|tree| {
        tree.mutants(false, &|node| match node {
            Node::Map(_) => unknown_keys_of_all_types().filter_map(|key| node.with_entry(&key, &value)).collect(),
            _ => Vec::new(),
        })
    });
}

#[test]
fn unknown_integer_keys_are_skipped_in_open_maps() {
    for Case { vector, tree, recode, .. } in cases().filter(|case| case.open) {
        for key in [Node::Uint(5000), Node::Uint(u64::MAX), Node::Nint(5000), Node::Nint(u64::MAX)] {
            let grown = tree.with_entry(&key, &Node::Text("news".into())).unwrap().bytes();
            assert_eq!(recode(&grown), Ok(vector.bytes.clone()), "{} {}", vector.rule, to_hex(&grown));
        }
    }
}

#[test]
fn problem_details_skip_unknown_keys_of_any_type() {
    let bytes = vector("ProblemDetails", "title and detail");
    for key in unknown_keys_of_all_types() {
        let grown = Node::parse(&bytes).with_entry(&key, &Node::Simple(22)).unwrap().bytes();
        assert_eq!(ProblemDetails::decode(&grown), ProblemDetails::decode(&bytes), "{}", to_hex(&grown));
    }
}

#[test]
fn unknown_values_must_be_deterministic_too() {
    let tree = Node::parse(&vector("PeersView", "no list"));
    let decode = |value: &str| {
        let grown = tree.with_entry(&Node::Uint(99), &Node::Raw(common::from_hex(value))).unwrap();
        PeersView::decode(&grown.bytes()).map(drop)
    };
    assert_eq!(decode("a2016161026162"), Ok(()));
    assert_eq!(decode("a2026162016161"), Err(Error::NotDeterministic));
    assert_eq!(decode("a2016161016161"), Err(Error::DuplicateKey));
    assert_eq!(decode("8118170000"), Err(Error::NotDeterministic));
    assert_eq!(decode("9f00ff"), Err(Error::NotDeterministic));
    assert_eq!(decode("f93c00"), Err(Error::WrongType), "floating-point numbers");
    assert_eq!(decode("fa3f800000"), Err(Error::WrongType), "floating-point numbers");
    assert_eq!(decode("fb3ff0000000000000"), Err(Error::WrongType), "floating-point numbers");
    assert_eq!(decode("f0"), Ok(()), "simple value 16");
    assert_eq!(decode("f820"), Ok(()), "simple value 32");
    assert_eq!(decode("f81f"), Err(Error::Malformed), "simple value 31");
    assert_eq!(decode("f814"), Err(Error::NotDeterministic), "false in two bytes");
    assert_eq!(decode("ff"), Err(Error::Malformed), "break");
    assert_eq!(decode("1c"), Err(Error::Malformed), "reserved head");
    assert_eq!(decode("62c328"), Err(Error::Malformed), "not UTF-8");
    assert_eq!(decode("9bffffffffffffffff00"), Err(Error::Truncated), "an array longer than anything");
    assert_eq!(decode("bbffffffffffffffff00"), Err(Error::Truncated), "a map longer than anything");
    assert_eq!(decode("5bffffffffffffffff00"), Err(Error::Truncated), "a string longer than anything");
}

#[test]
fn nesting_is_bounded() {
    let tree = Node::parse(&vector("PeersView", "no list"));
    let levels: [fn(Node) -> Node; 3] = [
        |item| Node::Array(vec![item]),
        |item| Node::Map(vec![(Node::Uint(0), item)]),
        |item| Node::Tag(1, Box::new(item)),
    ];
    for level in levels {
        let decode = |depth| {
            let value = (0..depth).fold(Node::Uint(0), |item, _| level(item));
            PeersView::decode(&tree.with_entry(&Node::Uint(99), &value).unwrap().bytes()).map(drop)
        };
        let inside_the_map = usize::from(MAX_DEPTH) - 1;
        assert_eq!(decode(inside_the_map), Ok(()));
        assert_eq!(decode(inside_the_map + 1), Err(Error::TooDeep));
    }
    assert_eq!(DeviceInfo::decode(&[0x81; 100_000]), Err(Error::TooDeep));
    assert!(common::SCHEMA.contains(&format!("at most {MAX_DEPTH} levels")));
}

/// Encodings inside byte strings pass the same checks.
#[test]
fn inner_encodings_are_strict() {
    let info = Node::parse(&vector("DeviceInfo", "fresh"));
    let credential = |bytes| DeviceInfo::decode(&with_value(&info, 2, Node::Bytes(bytes))).map(drop);
    inner_is_strict(&vector("Ccs", "the device's EDHOC credential"), credential);

    let token = Node::parse(&vector("StationTokenClaims", "for one device, with an expiry"));
    let scope = |bytes| StationTokenClaims::decode(&with_value(&token, 9, Node::Bytes(bytes))).map(drop);
    inner_is_strict(&common::from_hex("8182652f636f6d6d07"), scope);
}

#[test]
fn no_kind_passes_for_another() {
    for vector in vectors() {
        let Ok(object) = Sign1::decode(&vector.bytes) else { continue };
        for other in Kind::ALL.into_iter().filter(|other| *other != object.kind) {
            assert_eq!(Sign1::decode_as(other, &vector.bytes), Err(Error::WrongKind));
            let renamed = Sign1 { kind: other, ..object };
            let bytes = common::encode_with(|out| renamed.encode(out)).unwrap();
            assert!(cddl_accepts(&vector.rule, &bytes).is_err(), "{} as {other:?}", vector.rule);
        }
    }
}

#[test]
fn the_protected_header_has_one_encoding() {
    let Node::Tag(18, object) = Node::parse(&vector("DeviceCertificate", "of the issuer about the device")) else {
        panic!()
    };
    let Node::Array(parts) = *object else { panic!() };
    let decode = |protected: &Node, unprotected: &Node| {
        let parts = vec![Node::Bytes(protected.bytes()), unprotected.clone(), parts[2].clone(), parts[3].clone()];
        Sign1::decode(&Node::Tag(18, Box::new(Node::Array(parts))).bytes()).map(drop)
    };
    let header = Node::parse(Kind::DeviceCertificate.protected_header());
    let empty = Node::Map(vec![]);
    assert_eq!(decode(&header, &empty), Ok(()));
    let bent = [
        header.mutants(true, &Node::with_longer_heads),
        header.mutants(true, &|node| matches!(node, Node::Uint(_)).then_some(Node::Uint(5)).into_iter().collect()),
        unknown_keys_of_all_types().filter_map(|key| header.with_entry(&key, &Node::Uint(0))).collect(),
        vec![Node::Raw(vec![]), empty.clone(), Node::Raw([header.bytes(), vec![0]].concat())],
    ];
    for header in bent.concat() {
        assert_eq!(decode(&header, &empty), Err(Error::WrongKind), "{}", to_hex(&header.bytes()));
    }
    let kid = empty.with_entry(&Node::Uint(4), &Node::Bytes(vec![1])).unwrap();
    assert_eq!(decode(&header, &kid), Err(Error::UnknownKey));
}

#[test]
fn rules_that_the_cddl_cannot_say() {
    let bytes = vector("DeviceInfo", "fresh");
    let info = DeviceInfo { credential: None, ..DeviceInfo::decode(&bytes).unwrap() };
    assert_eq!(common::encode_with(|out| info.encode(out)), Err(Error::MissingKey), "no key, but no fault");
    assert_eq!(DeviceInfo::decode(&without(&bytes, 2)), Err(Error::MissingKey), "no key, but no fault");

    let bytes = vector("StationTokenClaims", "for one device, with an expiry");
    let token = StationTokenClaims::decode(&bytes).unwrap();
    let forever = StationTokenClaims { expires_at: None, ..token };
    assert_eq!(common::encode_with(|out| forever.encode(out)), Err(Error::MissingKey), "no expiry, no cnonce");
    assert_eq!(StationTokenClaims::decode(&without(&bytes, 4)), Err(Error::MissingKey), "no expiry, no cnonce");

    let elsewhere = StationTokenClaims { audience: Audience::All(IssuerId([0; 8])), ..token };
    assert_eq!(common::encode_with(|out| elsewhere.encode(out)), Err(Error::OutOfRange), "another issuer's devices");
    let elsewhere = with_value(&Node::parse(&bytes), 3, Node::Text("0".repeat(16)));
    assert_eq!(StationTokenClaims::decode(&elsewhere), Err(Error::OutOfRange), "another issuer's devices");
}

#[test]
fn other_schema_versions() {
    let info = Node::parse(&vector("DeviceInfo", "fresh"));
    for (version, error) in [
        (0, Error::Version(0)),
        (2, Error::Version(2)),
        (0xffff, Error::Version(0xffff)),
        (0x1_0000, Error::OutOfRange),
    ] {
        // Another version may have nothing else in common.
        let other = Node::Map(vec![(Node::Uint(0), Node::Uint(version)), (Node::Uint(1), Node::Simple(22))]);
        assert_eq!(DeviceInfo::decode(&other.bytes()), Err(error));
        assert_eq!(DeviceInfo::decode(&with_value(&info, 0, Node::Uint(version))), Err(error));
    }
    let text = Error::Version(2).to_string();
    assert!(text.contains("version 2") && text.contains("update"), "{text}");
}

#[test]
fn arbitrary_bytes() {
    proptest!(common::cases_of(2000), |(bytes in proptest::collection::vec(any::<u8>(), 0..400))| {
        never_panics(&bytes)?;
    });
}

/// Nearly right bytes get further into the decoders than arbitrary ones.
#[test]
fn bent_bytes() {
    let places = proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4);
    let cut = any::<(Index, Index)>();
    proptest!(common::cases_of(2000), |(vector in select(vectors()), places in places, cut in cut)| {
        let mut bytes = vector.bytes;
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        never_panics(&bytes)?;
        let (from, to) = (cut.0.index(bytes.len()), cut.1.index(bytes.len()));
        bytes.drain(from.min(to)..from.max(to));
        never_panics(&bytes)?;
    });
}

/// No decoder panics; and whatever one accepts, the CDDL accepts, and it is stable under decoding again.
fn never_panics(bytes: &[u8]) -> Result<(), TestCaseError> {
    let _ = Sign1::decode(bytes);
    let _ = DeviceId::decode(bytes);
    let _ = IssuerId::decode(bytes);
    let _ = report::find(&String::from_utf8_lossy(bytes), &mut [0; 300]);
    for WireType { rule, recode, .. } in WIRE_TYPES {
        let Ok(recoded) = recode(bytes) else { continue };
        let verdict = if bytes.is_empty() { Ok(()) } else { cddl_accepts(rule, bytes) };
        prop_assert_eq!(verdict, Ok(()), "{} {}", rule, to_hex(bytes));
        prop_assert_eq!(recode(&recoded), Ok(recoded));
    }
    Ok(())
}

struct Case {
    vector: Vector,
    tree: Node,
    recode: fn(&[u8]) -> Result<Vec<u8>, Error>,
    open: bool,
}

fn cases() -> impl Iterator<Item = Case> {
    vectors().into_iter().map(|vector| {
        let WireType { recode, open, .. } = *wire_type(&vector.rule);
        Case { tree: Node::parse(&vector.bytes), vector, recode, open }
    })
}

fn all_refused(error: Error, bend: impl Fn(&Node) -> Vec<Node>) {
    let mut count = 0;
    for Case { vector, tree, recode, .. } in cases() {
        for bent in bend(&tree) {
            let bytes = bent.bytes();
            assert_eq!(recode(&bytes), Err(error), "{} {}", vector.rule, to_hex(&bytes));
            count += 1;
        }
    }
    assert!(count > 100, "only {count} encodings tried");
}

/// The decoder accepts what the CDDL accepts, and refuses what it refuses.
fn all_judged(bend: impl Fn(&Node) -> Vec<Node>) {
    let (mut accepted, mut refused) = (0, 0);
    for Case { vector, tree, recode, .. } in cases() {
        for bent in bend(&tree) {
            let bytes = bent.bytes();
            match (recode(&bytes), cddl_accepts(&vector.rule, &bytes)) {
                (Ok(_), Ok(())) => accepted += 1,
                (Err(_), Err(_)) => refused += 1,
                (Err(error), Ok(())) if beyond_cddl(&vector.rule, error) => refused += 1,
                (ours, cddl) => panic!("{} {}: we say {ours:?}, the CDDL {cddl:?}", vector.rule, to_hex(&bytes)),
            }
        }
    }
    assert!(refused > 100, "only {refused} encodings refused, {accepted} accepted");
}

/// Whether this refusal rests on a rule that CDDL, or its validator, does not know.
fn beyond_cddl(rule: &str, error: Error) -> bool {
    match error {
        // A byte behind the protected header makes it another header.
        Error::TrailingBytes | Error::NotDeterministic | Error::WrongKind => true,
        Error::MissingKey => rule == "DeviceInfo" || rule.starts_with("StationToken"),
        Error::OutOfRange => rule.starts_with("StationToken"),
        _ => false,
    }
}

fn unknown_keys_of_all_types() -> impl Iterator<Item = Node> {
    [
        Node::Uint(99),
        Node::Uint(u64::MAX),
        Node::Nint(98),
        Node::Nint(80_000),
        Node::Nint(u64::MAX),
        Node::Bytes(vec![1]),
        Node::Text("1".into()),
        Node::Array(vec![Node::Uint(1)]),
        Node::Simple(22),
    ]
    .into_iter()
}

fn inner_is_strict(inner: &[u8], decode: impl Fn(Vec<u8>) -> Result<(), Error>) {
    assert_eq!(decode(inner.to_vec()), Ok(()));
    let tree = Node::parse(inner);
    for len in 0..inner.len() {
        assert_eq!(decode(inner[..len].to_vec()), Err(Error::Truncated));
    }
    for bent in tree.mutants(true, &Node::with_longer_heads) {
        assert_eq!(decode(bent.bytes()), Err(Error::NotDeterministic));
    }
    assert_eq!(decode([inner, &[0]].concat()), Err(Error::TrailingBytes));
}

/// The map with this value under this key.
fn with_value(map: &Node, key: u64, value: Node) -> Vec<u8> {
    let Node::Map(mut entries) = map.clone() else { panic!() };
    entries.iter_mut().find(|(found, _)| *found == Node::Uint(key)).unwrap().1 = value;
    Node::Map(entries).bytes()
}

/// The encoded map without this key.
fn without(map: &[u8], key: u64) -> Vec<u8> {
    let Node::Map(mut entries) = Node::parse(map) else { panic!() };
    entries.retain(|(found, _)| *found != Node::Uint(key));
    Node::Map(entries).bytes()
}
