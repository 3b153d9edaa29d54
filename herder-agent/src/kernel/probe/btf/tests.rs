use super::*;

/// Builds small BTF blobs, as the kernel would have made them.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Builder { types: Vec::new(), strings: vec![0] }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    /// A type with `count` elements in its tail.
    fn kind(&mut self, name: &str, kind: u8, count: u32, operand: u32, tail: &[u32]) {
        let name = self.string(name);
        self.words(&[name, u32::from(kind) << 24 | count, operand]);
        self.words(tail);
    }

    fn members(&mut self, members: &[(&str, u32, u32)]) -> Vec<u32> {
        let named = members.iter();
        named.flat_map(|(name, kind, bits)| [self.string(name), *kind, *bits]).collect()
    }

    fn finish(self) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (length(&self.types), length(&self.strings));
        let header = [0x0001_eb9f, 24, 0, types, types, strings];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(self.types);
        bytes.extend(self.strings);
        bytes
    }
}

/// 1 int, 2 an anonymous struct {b @0, c @4}, 3 outer {a @0, anonymous @8,
/// pointer @16, array @24}, 4 pointer to outer, 5 int[3], 6 and 7 for a
/// tracepoint, 8 its typedef, 9 a function, 10 an enum.
fn sample() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.kind("int", INT, 0, 4, &[32]);
    let members = builder.members(&[("b", 1, 0), ("c", 1, 32)]);
    builder.kind("", STRUCT, 2, 8, &members);
    let members =
        builder.members(&[("a", 1, 0), ("", 2, 64), ("pointer", 4, 128), ("array", 5, 192)]);
    builder.kind("outer", STRUCT, 4, 40, &members);
    builder.kind("", PTR, 0, 3, &[]);
    builder.kind("", ARRAY, 0, 0, &[1, 1, 3]);
    builder.kind("", FUNC_PROTO, 2, 0, &[0, 0, 0, 4]);
    builder.kind("", PTR, 0, 6, &[]);
    builder.kind("btf_trace_event", TYPEDEF, 0, 7, &[]);
    builder.kind("function", FUNC, 0, 6, &[]);
    let name = builder.string("SECOND");
    builder.kind("", ENUM, 1, 4, &[name, 7]);
    builder.finish()
}

fn names() -> HashSet<&'static str> {
    HashSet::from(["outer", "btf_trace_event", "function", "SECOND"])
}

#[test]
fn members_are_found_through_anonymous_structs() {
    let bytes = sample();
    let btf = Btf::parse(&bytes, &names()).unwrap();
    let offset = |path| btf.member("outer", path).map(|(offset, _)| offset);
    assert_eq!(offset("a"), Some(0));
    assert_eq!(offset("b"), Some(8));
    assert_eq!(offset("c"), Some(12));
    assert_eq!(offset("pointer"), Some(16));
    assert_eq!(offset("missing"), None);
    assert_eq!(offset("pointer.a"), None, "a pointer is not followed");
    assert_eq!(btf.member("int", "a"), None, "only names that were asked for");
}

#[test]
fn sizes_kinds_functions_and_enumerators() {
    let bytes = sample();
    let btf = Btf::parse(&bytes, &names()).unwrap();
    assert_eq!(btf.struct_size("outer"), Some(40));
    let (_, array) = btf.member("outer", "array").unwrap();
    assert_eq!(btf.kind(array), Some(Kind::Array(TypeId(1), 3)));
    assert_eq!(btf.size(array), Some(12));
    assert_eq!((btf.function("function"), btf.function("outer")), (Some(TypeId(9)), None));
    assert_eq!(btf.enumerator("SECOND"), Some(7));
    assert_eq!(btf.tracepoint_argument("event", 0), Some(Kind::Pointer(TypeId(3))));
    assert_eq!(btf.tracepoint_argument("event", 1), None);
    assert_eq!(btf.tracepoint_argument("other", 0), None);
}

#[test]
fn cut_or_changed_bytes_never_panic() {
    let bytes = sample();
    for length in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..length], &names()).is_err(), "{length}");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(btf) = Btf::parse(&changed, &names()) {
                for path in ["a", "b", "array", "missing"] {
                    let _ = btf.member("outer", path).and_then(|(_, id)| btf.size(id));
                }
                let _ = btf.tracepoint_argument("event", 0);
            }
        }
    }
}

#[test]
fn other_byte_order_and_unknown_kinds_are_named() {
    let mut bytes = sample();
    bytes.swap(0, 1);
    assert_eq!(Btf::parse(&bytes, &names()).err(), Some(BtfError::Magic(0x9feb)));
    let mut builder = Builder::new();
    builder.kind("", 25, 0, 0, &[]);
    let bytes = builder.finish();
    let error = Btf::parse(&bytes, &names()).err();
    assert_eq!(error, Some(BtfError::Kind { id: 1, kind: 25 }));
}

/// A type that contains itself must not be followed for ever.
#[test]
fn cycles_end() {
    let mut builder = Builder::new();
    let members = builder.members(&[("", 1, 0)]);
    builder.kind("outer", STRUCT, 1, 8, &members);
    builder.kind("", TYPEDEF, 0, 2, &[]);
    let bytes = builder.finish();
    let btf = Btf::parse(&bytes, &names()).unwrap();
    assert_eq!(btf.member("outer", "x"), None);
    assert_eq!(btf.kind(TypeId(2)), None);
}

/// No compiler makes these bytes. The search still ends.
#[test]
fn types_that_contain_themselves() {
    let mut builder = Builder::new();
    let members = builder.members(&[("", 1, 0), ("", 1, 0), ("", 1, 0)]);
    builder.kind("outer", STRUCT, 3, 8, &members);
    builder.kind("", ARRAY, 0, 0, &[2, 2, 1]);
    let bytes = builder.finish();
    let btf = Btf::parse(&bytes, &HashSet::from(["outer"])).unwrap();
    assert_eq!(btf.member("outer", "a"), None);
    assert_eq!(btf.size(TypeId(2)), None);
}
