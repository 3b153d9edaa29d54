//! Reads the kernel's BTF: where fields stand, which functions can be traced.
//!
//! The agent has its own reader because aya keeps its types to itself and Rust
//! programs carry no CO-RE relocations. It follows
//! Documentation/bpf/btf.rst (kinds up to `ENUM64`, Linux 6.12) and is pure: any
//! bytes give an answer or a [`BtfError`], never a panic.

mod sought;

use sought::Sought;
use std::collections::{HashMap, HashSet};

/// Number of a type; 0 is `void`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId(pub u32);

/// Why bytes are no BTF.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    #[error("not BTF of this machine's byte order (magic {0:#06x})")]
    Magic(u16),
    #[error("BTF ends too early at byte {0}")]
    Short(usize),
    #[error("BTF type {id} has the unknown kind {kind}")]
    Kind { id: u32, kind: u8 },
}

/// What a type is, as far as this reader needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Pointer(TypeId),
    /// An array: element type and length.
    Array(TypeId, u32),
    /// A struct or union of this many bytes.
    Struct(u32),
    FunctionPrototype,
    Other,
}

const INT: u8 = 1;
pub(super) const PTR: u8 = 2;
const ARRAY: u8 = 3;
const STRUCT: u8 = 4;
const UNION: u8 = 5;
const ENUM: u8 = 6;
const TYPEDEF: u8 = 8;
const VOLATILE: u8 = 9;
const CONST: u8 = 10;
const RESTRICT: u8 = 11;
pub(super) const FUNC: u8 = 12;
const FUNC_PROTO: u8 = 13;
const TYPE_TAG: u8 = 18;
const ENUM64: u8 = 19;

/// How deep modifiers and arrays may nest before they count as bad.
const MAX_DEPTH: usize = 32;

/// Anonymous members that are looked into for one name: far more than a struct of the kernel
/// has. Types that contain themselves would be looked into for ever.
const MAX_ANONYMOUS: usize = 200;

/// A parsed BTF blob. Only the names that were asked for are indexed, since a
/// kernel has more than a hundred thousand types and the agent needs thirty.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins in `types`; index 0 is `void`.
    starts: Vec<u32>,
    structs: HashMap<&'a str, TypeId>,
    typedefs: HashMap<&'a str, TypeId>,
    functions: HashMap<&'a str, TypeId>,
    enumerators: HashMap<&'a str, u32>,
}

impl<'a> Btf<'a> {
    /// Parses a blob such as `/sys/kernel/btf/vmlinux`, and indexes `names`.
    pub fn parse(bytes: &'a [u8], names: &HashSet<&str>) -> Result<Self, BtfError> {
        let magic = word(bytes, 0)? & 0xffff;
        if magic != 0xeb9f {
            return Err(BtfError::Magic(u16::try_from(magic).unwrap_or(0)));
        }
        let header = usize_of(word(bytes, 4)?);
        let section = |at: usize| -> Result<&'a [u8], BtfError> {
            let start = header.saturating_add(usize_of(word(bytes, at)?));
            let end = start.saturating_add(usize_of(word(bytes, at + 4)?));
            bytes.get(start..end).ok_or(BtfError::Short(end))
        };
        let mut btf = Btf {
            types: section(8)?,
            strings: section(16)?,
            starts: vec![0],
            structs: HashMap::new(),
            typedefs: HashMap::new(),
            functions: HashMap::new(),
            enumerators: HashMap::new(),
        };
        btf.index(&Sought::new(names))?;
        Ok(btf)
    }

    fn index(&mut self, sought: &Sought<'_>) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let id = u32::try_from(self.starts.len()).map_err(|_| BtfError::Short(at))?;
            self.starts.push(u32::try_from(at).map_err(|_| BtfError::Short(at))?);
            let info = word(self.types, at + 4)?;
            let (kind, count) = (kind_of(info), usize_of(info & 0xffff));
            // Most types are of other kinds.
            if [STRUCT, TYPEDEF, FUNC].contains(&kind)
                && let Some(name) = sought.find(self.strings_at(word(self.types, at)?))
            {
                match kind {
                    STRUCT => drop(self.structs.entry(name).or_insert(TypeId(id))),
                    TYPEDEF => drop(self.typedefs.entry(name).or_insert(TypeId(id))),
                    _ => drop(self.functions.entry(name).or_insert(TypeId(id))),
                }
            }
            let element = match kind {
                ENUM => 8,
                ENUM64 => 12,
                _ => 0,
            };
            for number in 0..if element == 0 { 0 } else { count } {
                let enumerator = at + 12 + number * element;
                if let Some(name) = sought.find(self.strings_at(word(self.types, enumerator)?)) {
                    self.enumerators.insert(name, word(self.types, enumerator + 4)?);
                }
            }
            at += 12 + tail_length(id, kind, count)?;
        }
        Ok(())
    }

    /// The strings from an offset on; none if there are none.
    fn strings_at(&self, offset: u32) -> &'a [u8] {
        self.strings.get(usize_of(offset)..).unwrap_or_default()
    }

    /// The string at an offset; empty if there is none or it is no UTF-8.
    fn string(&self, offset: u32) -> &'a str {
        let tail = self.strings_at(offset);
        let end = tail.iter().position(|byte| *byte == 0).unwrap_or(0);
        tail.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// The type of a function, if the kernel has it as one that can be traced.
    pub fn function(&self, name: &str) -> Option<TypeId> {
        self.functions.get(name).copied()
    }

    /// The value of an enumerator.
    pub fn enumerator(&self, name: &str) -> Option<u32> {
        self.enumerators.get(name).copied()
    }

    /// Offset in bytes and type of a member, looked for in anonymous structs
    /// and unions too. A dotted path goes into named members.
    pub fn member(&self, structure: &str, path: &str) -> Option<(u32, TypeId)> {
        let mut offset = 0u32;
        let mut id = *self.structs.get(structure)?;
        for name in path.split('.') {
            let mut left = MAX_ANONYMOUS;
            let (inner, member) = self.member_of(id, name, &mut left)?;
            offset = offset.checked_add(inner)?;
            id = member;
        }
        Some((offset, id))
    }

    /// Size of a struct, bytes.
    pub fn struct_size(&self, structure: &str) -> Option<u32> {
        self.size(*self.structs.get(structure)?)
    }

    fn member_of(&self, id: TypeId, name: &str, left: &mut usize) -> Option<(u32, TypeId)> {
        let (at, info) = self.resolve(id)?;
        *left = left.checked_sub(1)?;
        if !matches!(kind_of(info), STRUCT | UNION) {
            return None;
        }
        let bitfields = info >> 31 != 0;
        for number in 0..usize_of(info & 0xffff) {
            let member = at + 12 + number * 12;
            let found = self.string(word(self.types, member).ok()?);
            let kind = TypeId(word(self.types, member + 4).ok()?);
            let bits = word(self.types, member + 8).ok()?;
            // With bit fields about, the upper byte is the field's width.
            let bytes = if bitfields { bits & 0x00ff_ffff } else { bits } / 8;
            if found == name {
                return Some((bytes, kind));
            }
            if found.is_empty()
                && let Some((inner, kind)) = self.member_of(kind, name, left)
            {
                return Some((bytes.checked_add(inner)?, kind));
            }
        }
        None
    }

    /// What a type is, behind its typedefs and qualifiers.
    pub fn kind(&self, id: TypeId) -> Option<Kind> {
        let (at, info) = self.resolve(id)?;
        let operand = word(self.types, at + 8).ok()?;
        Some(match kind_of(info) {
            INT => Kind::Int,
            PTR => Kind::Pointer(TypeId(operand)),
            ARRAY => Kind::Array(
                TypeId(word(self.types, at + 12).ok()?),
                word(self.types, at + 20).ok()?,
            ),
            STRUCT | UNION => Kind::Struct(operand),
            FUNC_PROTO => Kind::FunctionPrototype,
            _ => Kind::Other,
        })
    }

    /// Size of a type, bytes.
    pub fn size(&self, mut id: TypeId) -> Option<u32> {
        let mut times = 1u32;
        for _ in 0..MAX_DEPTH {
            let one = match self.kind(id)? {
                Kind::Pointer(_) => 8,
                Kind::Array(element, length) => {
                    times = times.checked_mul(length)?;
                    id = element;
                    continue;
                }
                Kind::Struct(size) => size,
                Kind::Int => {
                    let (at, _) = self.resolve(id)?;
                    word(self.types, at + 8).ok()?
                }
                _ => return None,
            };
            return times.checked_mul(one);
        }
        None
    }

    /// What the `number`th argument of a tracepoint is, from 0, by the typedef
    /// that `DEFINE_EVENT` leaves in BTF (include/trace/bpf_probe.h); its own
    /// first argument is the `void *__data` of the caller.
    pub fn tracepoint_argument(&self, tracepoint: &str, number: usize) -> Option<Kind> {
        let typedef = *self.typedefs.get(format!("btf_trace_{tracepoint}").as_str())?;
        let Kind::Pointer(prototype) = self.kind(typedef)? else {
            return None;
        };
        let (at, info) = self.resolve(prototype)?;
        if kind_of(info) != FUNC_PROTO || number + 1 >= usize_of(info & 0xffff) {
            return None;
        }
        self.kind(TypeId(word(self.types, at + 12 + (number + 1) * 8 + 4).ok()?))
    }

    /// Where a type begins and its info word, behind typedefs and qualifiers.
    fn resolve(&self, mut id: TypeId) -> Option<(usize, u32)> {
        for _ in 0..MAX_DEPTH {
            if id.0 == 0 {
                return None;
            }
            let at = usize_of(*self.starts.get(usize_of(id.0))?);
            let info = word(self.types, at + 4).ok()?;
            match kind_of(info) {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => {
                    id = TypeId(word(self.types, at + 8).ok()?);
                }
                _ => return Some((at, info)),
            }
        }
        None
    }
}

fn kind_of(info: u32) -> u8 {
    (info >> 24 & 0x1f).to_le_bytes()[0]
}

/// Bytes that follow the three words which every type has.
fn tail_length(id: u32, kind: u8, count: usize) -> Result<usize, BtfError> {
    Ok(match kind {
        INT => 4,
        ARRAY => 12,
        STRUCT | UNION => count * 12,
        ENUM | FUNC_PROTO => count * 8,
        // FWD, FLOAT and what only wraps another type.
        PTR | 7 | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | 16 | TYPE_TAG => 0,
        // VAR and DECL_TAG.
        14 | 17 => 4,
        // DATASEC.
        15 | ENUM64 => count * 12,
        _ => return Err(BtfError::Kind { id, kind }),
    })
}

fn word(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    let four = bytes.get(at..).and_then(|tail| tail.first_chunk::<4>());
    four.map(|four| u32::from_ne_bytes(*four)).ok_or(BtfError::Short(at))
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
