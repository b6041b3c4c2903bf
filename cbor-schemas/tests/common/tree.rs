//! CBOR as a tree that can be bent: written apart from the library, and able to encode what the library must refuse.

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Uint(u64),
    /// -1 - n
    Nint(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Node>),
    /// In the order given, which may be wrong.
    Map(Vec<(Node, Node)>),
    Tag(u64, Box<Node>),
    Simple(u8),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
}

impl Node {
    /// Parses one item of deterministic CBOR without floating-point numbers; panics on anything else.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let node = parse(&mut rest);
        assert!(rest.is_empty(), "trailing bytes");
        node
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Node::Uint(n) => head(0, *n),
            Node::Nint(n) => head(1, *n),
            Node::Bytes(bytes) => [head(2, bytes.len() as u64), bytes.clone()].concat(),
            Node::Text(text) => [head(3, text.len() as u64), text.clone().into_bytes()].concat(),
            Node::Array(items) => [head(4, items.len() as u64), self.content()].concat(),
            Node::Map(entries) => [head(5, entries.len() as u64), self.content()].concat(),
            Node::Tag(tag, _) => [head(6, *tag), self.content()].concat(),
            Node::Simple(value @ 0..=23) => vec![7 << 5 | value],
            Node::Simple(value) => vec![0xf8, *value],
            Node::Raw(bytes) => bytes.clone(),
        }
    }

    /// All trees that differ from this one in one node: `mutate` names its replacements. Keys count as nodes only
    /// `with_keys`.
    pub(crate) fn mutants(&self, with_keys: bool, mutate: &dyn Fn(&Node) -> Vec<Node>) -> Vec<Node> {
        let mut all = mutate(self);
        match self {
            Node::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    all.extend(item.mutants(with_keys, mutate).into_iter().map(|mutant| {
                        let mut items = items.clone();
                        items[i] = mutant;
                        Node::Array(items)
                    }));
                }
            }
            Node::Map(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    let replace = |entry| {
                        let mut entries = entries.clone();
                        entries[i] = entry;
                        Node::Map(entries)
                    };
                    if with_keys {
                        all.extend(key.mutants(true, mutate).into_iter().map(|key| replace((key, value.clone()))));
                    }
                    let values = value.mutants(with_keys, mutate).into_iter();
                    all.extend(values.map(|value| replace((key.clone(), value))));
                }
            }
            Node::Tag(tag, item) => {
                let items = item.mutants(with_keys, mutate).into_iter();
                all.extend(items.map(|item| Node::Tag(*tag, Box::new(item))));
            }
            _ => {}
        }
        all
    }

    /// This item with longer heads than needed.
    pub(crate) fn with_longer_heads(&self) -> Vec<Node> {
        let (major, argument) = match self {
            Node::Uint(n) => (0, *n),
            Node::Nint(n) => (1, *n),
            Node::Bytes(bytes) => (2, bytes.len() as u64),
            Node::Text(text) => (3, text.len() as u64),
            Node::Array(items) => (4, items.len() as u64),
            Node::Map(entries) => (5, entries.len() as u64),
            Node::Tag(tag, _) => (6, *tag),
            Node::Simple(_) | Node::Raw(_) => return Vec::new(),
        };
        let shortest = head(major, argument).len();
        let heads = [(24, 1), (25, 2), (26, 4), (27, 8)].into_iter().filter(|(_, size)| 1 + size > shortest);
        let heads = heads.map(|(info, size)| [&[major << 5 | info], &argument.to_be_bytes()[8 - size..]].concat());
        heads.map(|head| Node::Raw([head, self.content()].concat())).collect()
    }

    /// This item with an indefinite length, if its type can have one.
    pub(crate) fn with_indefinite_length(&self) -> Vec<Node> {
        let (first, content) = match self {
            Node::Bytes(_) => (0x5f, self.bytes()),
            Node::Text(_) => (0x7f, self.bytes()),
            Node::Array(_) => (0x9f, self.content()),
            Node::Map(_) => (0xbf, self.content()),
            _ => return Vec::new(),
        };
        vec![Node::Raw([vec![first], content, vec![0xff]].concat())]
    }

    /// This map with one more entry, where deterministic encoding wants it. [`None`] if the key is already there.
    pub(crate) fn with_entry(&self, key: &Node, value: &Node) -> Option<Node> {
        let Node::Map(entries) = self else { panic!("not a map") };
        let mut entries = entries.clone();
        let place = entries.binary_search_by_key(&key.bytes(), |(key, _)| key.bytes()).err()?;
        entries.insert(place, (key.clone(), value.clone()));
        Some(Node::Map(entries))
    }

    /// What follows the head.
    fn content(&self) -> Vec<u8> {
        match self {
            Node::Bytes(bytes) => bytes.clone(),
            Node::Text(text) => text.clone().into_bytes(),
            Node::Array(items) => items.iter().flat_map(Node::bytes).collect(),
            Node::Map(entries) => {
                entries.iter().flat_map(|(key, value)| [key.bytes(), value.bytes()].concat()).collect()
            }
            Node::Tag(_, item) => item.bytes(),
            _ => Vec::new(),
        }
    }
}

fn parse(rest: &mut &[u8]) -> Node {
    let first = take(rest, 1)[0];
    let argument = match first & 0x1f {
        info @ 0..=23 => u64::from(info),
        info @ 24..=27 => take(rest, 1 << (info - 24)).iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
        info => panic!("additional information {info}"),
    };
    match first >> 5 {
        0 => Node::Uint(argument),
        1 => Node::Nint(argument),
        2 => Node::Bytes(take(rest, argument as usize).to_vec()),
        3 => Node::Text(String::from_utf8(take(rest, argument as usize).to_vec()).unwrap()),
        4 => Node::Array((0..argument).map(|_| parse(rest)).collect()),
        5 => Node::Map((0..argument).map(|_| (parse(rest), parse(rest))).collect()),
        6 => Node::Tag(argument, Box::new(parse(rest))),
        _ => Node::Simple(argument as u8),
    }
}

fn take<'b>(rest: &mut &'b [u8], len: usize) -> &'b [u8] {
    let (taken, after) = rest.split_at(len);
    *rest = after;
    taken
}

fn head(major: u8, argument: u64) -> Vec<u8> {
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => vec![major << 5 | bytes[7]],
        24..0x100 => vec![major << 5 | 24, bytes[7]],
        0x100..0x1_0000 => [&[major << 5 | 25], &bytes[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[major << 5 | 26], &bytes[4..]].concat(),
        _ => [&[major << 5 | 27], &bytes[..]].concat(),
    }
}
