//! A reader of BTF, the kernel's description of its own types, that finds offsets of structure
//! members.
//!
//! The format is documented in the kernel's `Documentation/bpf/btf.rst`. aya reads BTF too, but
//! does not expose the types.

use std::{fs, io, ops::Range};

/// File with the BTF of the running kernel.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Error of reading the kernel's BTF.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error("{VMLINUX} cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The file is truncated or has an unknown format.
    #[error("{VMLINUX} is not understood: {0}")]
    Format(&'static str),
    /// A type or member is missing, or is of another kind than in all known kernels.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// BTF types, by their numbers.
#[derive(Debug)]
pub(super) struct Btf {
    bytes: Vec<u8>,
    strings: Range<usize>,
    /// Offset of each type's record. Number 0 is `void`, which has none.
    types: Vec<usize>,
}

/// Number of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type(u32);

/// A member of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Offset in the structure, in bytes.
    pub(super) offset: u32,
    /// Type of the member.
    pub(super) of: Type,
}

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const TYPE_LEN: usize = 12;

const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FORWARD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNCTION: u32 = 12;
const FUNCTION_PROTOTYPE: u32 = 13;
const VARIABLE: u32 = 14;
const DATA_SECTION: u32 = 15;
const FLOAT: u32 = 16;
const DECLARATION_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM_64: u32 = 19;

/// Limit on chains of typedefs and qualifiers, and on nested anonymous structures. No kernel comes
/// near it.
const DEPTH: usize = 32;

impl Btf {
    /// Reads the types of the running kernel.
    pub(super) fn of_this_kernel() -> Result<Self, BtfError> {
        Self::parse(fs::read(VMLINUX)?)
    }

    /// Finds the records of all types.
    fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let cut = || BtfError::Format("it ends early");
        if bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic)) != Some(MAGIC) {
            return Err(BtfError::Format("it does not begin like BTF"));
        }
        let header = |at| u32_at(&bytes, at).map(|word| word as usize).ok_or_else(cut);
        let begin = header(4)?;
        if begin < HEADER_LEN {
            return Err(BtfError::Format("its header is too short"));
        }
        let section = |at| -> Result<Range<usize>, BtfError> {
            let start = begin.checked_add(header(at)?).ok_or_else(cut)?;
            let end = start.checked_add(header(at + 4)?).filter(|end| *end <= bytes.len());
            Ok(start..end.ok_or_else(cut)?)
        };
        let (section, strings) = (section(8)?, section(16)?);
        let mut types = vec![section.start];
        let mut at = section.start;
        while at < section.end {
            types.push(at);
            at += TYPE_LEN + Record::at(&bytes, at).ok_or_else(cut)?.tail()?;
        }
        Ok(Self { bytes, strings, types })
    }

    /// Structure with this name.
    pub(super) fn structure(&self, name: &str) -> Result<Type, BtfError> {
        self.named(STRUCT, name).ok_or_else(|| BtfError::Missing(format!("struct {name}")))
    }

    /// Argument types of a tracepoint.
    pub(super) fn tracepoint(&self, name: &str) -> Result<Vec<Type>, BtfError> {
        let missing = || BtfError::Missing(format!("tracepoint {name} for eBPF"));
        let typedef = self.named(TYPEDEF, &format!("btf_trace_{name}")).ok_or_else(missing)?;
        let prototype = self.target(typedef).ok_or_else(missing)?;
        let record = self.record(prototype).filter(|record| record.kind == FUNCTION_PROTOTYPE);
        let count = record.ok_or_else(missing)?.len;
        // The first parameter belongs to the tracepoint itself.
        (1..count)
            .map(|number| self.word(prototype, number * 2 + 1).map(Type).ok_or_else(missing))
            .collect()
    }

    /// Names and values of an enumeration. Empty if this kernel does not have it.
    pub(super) fn enumerators(&self, name: &str) -> Vec<(&str, u32)> {
        let Some(of) = self.named(ENUM, name) else { return Vec::new() };
        let len = self.record(of).map_or(0, |record| record.len);
        (0..len)
            .filter_map(|number| {
                Some((self.string(self.word(of, number * 2)?)?, self.word(of, number * 2 + 1)?))
            })
            .collect()
    }

    /// Type that a pointer points to, without typedefs and qualifiers of either.
    pub(super) fn target(&self, of: Type) -> Option<Type> {
        let pointer = self.bare(of)?;
        let record = self.record(pointer).filter(|record| record.kind == POINTER)?;
        self.bare(Type(record.size_or_type))
    }

    /// Member of a structure or of its anonymous members. `a.b` is the member `b` of the member
    /// `a`.
    pub(super) fn member(&self, of: Type, path: &str) -> Result<Member, BtfError> {
        let missing = || {
            let name = self.record(of).and_then(|record| self.string(record.name)).unwrap_or("");
            BtfError::Missing(format!("{name}.{path}"))
        };
        let mut member = Member { offset: 0, of };
        for name in path.split('.') {
            let of = self.bare(member.of).ok_or_else(missing)?;
            let inner = self.find_member(of, name, DEPTH).ok_or_else(missing)?;
            let offset = member.offset.checked_add(inner.offset).ok_or_else(missing)?;
            member = Member { offset, of: inner.of };
        }
        Ok(member)
    }

    /// Member with this name; `depth` limits the nesting of anonymous members.
    fn find_member(&self, of: Type, name: &str, depth: usize) -> Option<Member> {
        const BITFIELDS: u32 = 1 << 31;
        let record =
            self.record(of).filter(|record| record.kind == STRUCT || record.kind == UNION)?;
        let members = (0..record.len).map_while(|number| {
            let word = |field| self.word(of, number * 3 + field);
            let (at, bits) = (word(0)?, word(2)?);
            // If the structure has bit fields, the upper byte of the offset is a width.
            let bits = if record.info & BITFIELDS == 0 { bits } else { bits & 0x00ff_ffff };
            Some((self.string(at)?, Member { offset: bits / 8, of: Type(word(1)?) }))
        });
        for (its, member) in members {
            if its == name {
                return Some(member);
            }
            if its.is_empty() && depth > 0 {
                let inner = self.find_member(self.bare(member.of)?, name, depth - 1);
                if let Some(inner) = inner {
                    return Some(Member {
                        offset: member.offset.checked_add(inner.offset)?,
                        ..inner
                    });
                }
            }
        }
        None
    }

    /// Type without typedefs and qualifiers.
    fn bare(&self, mut of: Type) -> Option<Type> {
        for _ in 0..DEPTH {
            let record = self.record(of)?;
            match record.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => of = Type(record.size_or_type),
                _ => return Some(of),
            }
        }
        None
    }

    /// Type with this kind and name. Forward declarations without members are skipped.
    fn named(&self, kind: u32, name: &str) -> Option<Type> {
        (1..self.types.len() as u32).map(Type).find(|of| {
            self.record(*of).is_some_and(|record| {
                record.kind == kind
                    && (record.len > 0 || kind == TYPEDEF)
                    && self.is_called(record.name, name.as_bytes())
            })
        })
    }

    /// Record of a type; `None` for `void` and unknown numbers.
    fn record(&self, of: Type) -> Option<Record> {
        let at = *self.types.get(of.0 as usize).filter(|_| of.0 != 0)?;
        Record::at(&self.bytes, at)
    }

    /// Word `number` of the data after a type's record.
    fn word(&self, of: Type, number: usize) -> Option<u32> {
        u32_at(&self.bytes, self.types.get(of.0 as usize)? + TYPE_LEN + number * 4)
    }

    /// Returns whether the string at `at` is `name`.
    fn is_called(&self, at: u32, name: &[u8]) -> bool {
        self.strings_from(at)
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    /// String section from `at` on.
    fn strings_from(&self, at: u32) -> Option<&[u8]> {
        self.bytes.get(self.strings.clone())?.get(at as usize..)
    }

    /// String at `at`; `None` if it is not UTF-8.
    fn string(&self, at: u32) -> Option<&str> {
        let rest = self.strings_from(at)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

/// Fixed part of a type.
#[derive(Clone, Copy, Debug)]
struct Record {
    name: u32,
    info: u32,
    kind: u32,
    /// Number of members, enumerators or parameters.
    len: usize,
    size_or_type: u32,
}

impl Record {
    /// Reads the record at an offset.
    fn at(bytes: &[u8], at: usize) -> Option<Self> {
        let info = u32_at(bytes, at + 4)?;
        Some(Self {
            name: u32_at(bytes, at)?,
            info,
            kind: info >> 24 & 0x1f,
            len: (info & 0xffff) as usize,
            size_or_type: u32_at(bytes, at + 8)?,
        })
    }

    /// Number of bytes that follow the record.
    fn tail(&self) -> Result<usize, BtfError> {
        Ok(match self.kind {
            INT | VARIABLE | DECLARATION_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATA_SECTION | ENUM_64 => self.len * 12,
            ENUM | FUNCTION_PROTOTYPE => self.len * 8,
            POINTER | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNCTION | FLOAT
            | TYPE_TAG => 0,
            _ => return Err(BtfError::Format("it has a kind of type that is new")),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with these types and strings. The first string must be empty.
    fn btf(types: &[u32], strings: &str) -> Vec<u8> {
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let sizes = [HEADER_LEN, 0, types.len(), types.len(), strings.len()]
            .map(|size| (size as u32).to_ne_bytes());
        [&MAGIC.to_ne_bytes(), [1, 0].as_slice(), &sizes.concat(), &types, strings.as_bytes()]
            .concat()
    }

    const STRINGS: &str = "\0outer\0first\0inner\0deep\0btf_trace_event\0why\0NONE\0SOME\0";

    fn at(name: &str) -> u32 {
        STRINGS.find(&format!("\0{name}\0")).unwrap() as u32 + 1
    }

    const fn info(kind: u32, len: u32) -> u32 {
        kind << 24 | len
    }

    /// `struct outer { int first; const struct { int deep; } *inner; union { struct inner_type; };
    /// }` and others.
    fn sample() -> Vec<u8> {
        let int = [0, info(INT, 0), 4, 32];
        // 2: a structure with a member at byte 4
        let inner = [0, info(STRUCT, 1), 8, at("deep"), 1, 32];
        let constant = [0, info(CONST, 0), 2];
        let pointer = [0, info(POINTER, 0), 3];
        // 5: a union without a name around the structure without a name
        let union = [0, info(UNION, 1), 8, 0, 2, 0];
        let outer =
            [at("outer"), info(STRUCT, 3), 24, at("first"), 1, 0, at("inner"), 4, 64, 0, 5, 128];
        let outer_pointer = [0, info(POINTER, 0), 6];
        let prototype = [0, info(FUNCTION_PROTOTYPE, 3), 0, 0, 4, 0, 7, 0, 1];
        let prototype_pointer = [0, info(POINTER, 0), 8];
        let tracepoint = [at("btf_trace_event"), info(TYPEDEF, 0), 9];
        let enumeration = [at("why"), info(ENUM, 2), 4, at("NONE"), 0, at("SOME"), 7];
        let types = [
            &int[..],
            &inner,
            &constant,
            &pointer,
            &union,
            &outer,
            &outer_pointer,
            &prototype,
            &prototype_pointer,
            &tracepoint,
            &enumeration,
        ];
        btf(&types.concat(), STRINGS)
    }

    #[test]
    fn members_are_found_through_pointers_qualifiers_and_what_has_no_name() {
        let btf = Btf::parse(sample()).unwrap();
        let outer = btf.structure("outer").unwrap();
        assert_eq!(btf.member(outer, "first").unwrap(), Member { offset: 0, of: Type(1) });
        let inner = btf.member(outer, "inner").unwrap();
        assert_eq!(inner.offset, 8);
        assert_eq!(btf.member(btf.target(inner.of).unwrap(), "deep").unwrap().offset, 4);
        assert_eq!(btf.member(outer, "deep").unwrap().offset, 16 + 4);
        assert!(btf.member(outer, "inner.deep").is_err(), "a pointer is no structure");
        assert_eq!(
            btf.member(outer, "fir").unwrap_err().to_string(),
            "this kernel has no outer.fir"
        );
    }

    #[test]
    fn tracepoints_and_enumerations_are_read() {
        let btf = Btf::parse(sample()).unwrap();
        let arguments = btf.tracepoint("event").unwrap();
        assert_eq!(arguments.len(), 2);
        assert_eq!(btf.target(arguments[0]), Some(btf.structure("outer").unwrap()));
        assert_eq!(btf.enumerators("why"), [("NONE", 0), ("SOME", 7)]);
        assert!(btf.enumerators("why_not").is_empty());
        assert!(btf.tracepoint("nothing").is_err());
    }

    #[test]
    fn truncated_or_garbled_bytes_do_not_panic() {
        let whole = sample();
        for len in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..len].to_vec()) {
                let _ = btf.structure("outer").map(|outer| btf.member(outer, "deep"));
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut garbled = whole.clone();
                garbled[at] = value;
                if let Ok(btf) = Btf::parse(garbled) {
                    let _ = btf.structure("outer").map(|outer| btf.member(outer, "deep"));
                    let _ = btf.tracepoint("event");
                    let _ = btf.enumerators("why");
                }
            }
        }
    }
}
