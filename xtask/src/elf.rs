//! Functions of a finished eBPF object, and their calls of the compiler's memory routines.
//!
//! LLVM turns the copy of a large struct into a call of `memcpy`, which is a loop over bytes on
//! this target.

use std::iter;

use anyhow::{Context as _, Result};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex,
    SectionKind, SymbolKind, read::elf::ElfFile64,
};

const ROUTINES: [&str; 4] = ["memcpy", "memmove", "memset", "memcmp"];

const INSTRUCTION_LEN: usize = 8;
/// Opcode of the 64-bit immediate load, which takes two instruction slots.
const LOAD_WIDE: u8 = 0x18;
const CALL: u8 = 0x85;
/// The number of the helper `bpf_tail_call`.
const TAIL_CALL: i32 = 12;
/// Source register of a call instruction that calls a function of the object instead of a helper.
const CALL_FUNCTION: u8 = 1;

/// A function of the object that calls a memory routine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryCall {
    pub(crate) caller: String,
    pub(crate) routine: String,
}

/// Calls of memory routines by all functions except memory routines.
pub(crate) fn memory_calls(object: &[u8]) -> Result<Vec<MemoryCall>> {
    let object: ElfFile64<'_> =
        ElfFile64::parse(object).context("the object is no 64-bit ELF file")?;
    let mut found = Vec::new();
    for section in object.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data().context("a section is cut")?;
        for call in calls(code).filter(|call| call.of_function) {
            let (target_section, target) = target(&object, &section, &call);
            let routine = function_at(&object, target_section, target);
            let caller = function_at(&object, section.index(), call.offset as u64);
            if ROUTINES.contains(&routine) && !ROUTINES.contains(&caller) {
                found.push(MemoryCall { caller: caller.to_owned(), routine: routine.to_owned() });
            }
        }
    }
    Ok(found)
}

/// Section and offset of a call's target: relative to the call, or to a symbol if there is a
/// relocation.
fn target<'a>(
    object: &ElfFile64<'a>,
    section: &impl object::ObjectSection<'a>,
    call: &Call,
) -> (SectionIndex, u64) {
    let mut relocations = section.relocations();
    let symbol = relocations.find_map(|(offset, relocation)| match relocation.target() {
        RelocationTarget::Symbol(index) if offset == call.offset as u64 => {
            object.symbol_by_index(index).ok()
        }
        _ => None,
    });
    let place = symbol.and_then(|symbol| Some((symbol.section_index()?, symbol.address())));
    let (section, base) = place.unwrap_or((section.index(), call.offset as u64));
    let step = (i64::from(call.immediate) + 1) * INSTRUCTION_LEN as i64;
    (section, base.wrapping_add_signed(step))
}

fn function_at<'a>(object: &ElfFile64<'a>, section: SectionIndex, offset: u64) -> &'a str {
    let mut functions = object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    let function = functions.find(|symbol| {
        symbol.section_index() == Some(section)
            && (symbol.address()..symbol.address() + symbol.size()).contains(&offset)
    });
    function.and_then(|function| function.name().ok()).unwrap_or("an unnamed function")
}

/// A function of the object.
pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) code: &'a [u8],
}

/// All functions; `None` if this is not an ELF file.
pub(crate) fn functions(object: &[u8]) -> Option<Vec<Function<'_>>> {
    let object: ElfFile64<'_> = ElfFile64::parse(object).ok()?;
    let functions =
        object.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    functions
        .map(|symbol| {
            let section = object.section_by_index(symbol.section_index()?).ok()?;
            let code = section.data_range(symbol.address(), symbol.size()).ok()??;
            Some(Function { name: symbol.name().ok()?, code })
        })
        .collect()
}

/// Programs that both make tail calls and call functions.
pub(crate) fn mixed_calls(object: &[u8]) -> Result<Vec<String>> {
    let functions = functions(object).context("the object is no 64-bit ELF file")?;
    let mixed = functions.iter().filter(|it| {
        let goes_on = calls(it.code).any(|call| !call.of_function && call.immediate == TAIL_CALL);
        goes_on && calls(it.code).any(|call| call.of_function)
    });
    Ok(mixed.map(|function| function.name.to_owned()).collect())
}

struct Call {
    offset: usize,
    /// True for a call of a function, false for a call of a helper.
    of_function: bool,
    immediate: i32,
}

fn calls(code: &[u8]) -> impl Iterator<Item = Call> {
    let mut next = 0;
    let instructions = iter::from_fn(move || {
        let offset = next;
        let &[opcode, registers, _, _, a, b, c, d] = code.get(offset..offset + INSTRUCTION_LEN)?
        else {
            return None;
        };
        next += if opcode == LOAD_WIDE { 2 * INSTRUCTION_LEN } else { INSTRUCTION_LEN };
        let of_function = registers >> 4 == CALL_FUNCTION;
        Some((opcode, Call { offset, of_function, immediate: i32::from_le_bytes([a, b, c, d]) }))
    });
    instructions.filter(|(opcode, _)| *opcode == CALL).map(|(_, call)| call)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SHF_ALLOC` and `SHF_EXECINSTR`.
    const EXECUTABLE: u64 = 6;
    const SECTION_SYMBOLS: u32 = 2;
    const SECTION_RELOCATIONS: u32 = 9;

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn call(immediate: i32) -> [u8; 8] {
        let [a, b, c, d] = immediate.to_le_bytes();
        [CALL, CALL_FUNCTION << 4, 0, 0, a, b, c, d]
    }

    fn helper(number: u8) -> [u8; 8] {
        [CALL, 0, 0, 0, number, 0, 0, 0]
    }

    /// An object with `.text` = `lost` (one instruction, given), an exit, `memcpy`; and a program
    /// section (given) whose first instruction has a relocation against the section symbol of
    /// `.text`.
    fn object(lost: [u8; 8], program: &[[u8; 8]]) -> Vec<u8> {
        let names = b"\0lost\0memcpy\0observe\0";
        let text = [lost, EXIT, EXIT].concat();
        let program = program.concat();
        let symbol = |name: u32, info: u8, section: u16, value: u64, size: u64| {
            let mut bytes = name.to_le_bytes().to_vec();
            bytes.extend([info, 0]);
            bytes.extend(section.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            bytes.extend(size.to_le_bytes());
            bytes
        };
        let symbols = [
            symbol(0, 0, 0, 0, 0),
            symbol(0, 3, 1, 0, 0),
            symbol(1, 2, 1, 0, 16),
            symbol(6, 2, 1, 16, 8),
            symbol(13, 2, 2, 0, program.len() as u64),
        ]
        .concat();
        let relocation = [0_u64.to_le_bytes(), ((1_u64 << 32) | 0xa).to_le_bytes()].concat();

        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(64, 0);
        let mut sections = vec![0_u8; 64];
        let mut add = |kind: u32, flags: u64, data: &[u8], link: u32, info: u32| {
            sections.extend(0_u32.to_le_bytes());
            sections.extend(kind.to_le_bytes());
            sections.extend(flags.to_le_bytes());
            sections.extend(0_u64.to_le_bytes());
            sections.extend((bytes.len() as u64).to_le_bytes());
            sections.extend((data.len() as u64).to_le_bytes());
            sections.extend(link.to_le_bytes());
            sections.extend(info.to_le_bytes());
            sections.extend([0; 16]);
            bytes.extend(data);
        };
        add(1, EXECUTABLE, &text, 0, 0);
        add(1, EXECUTABLE, &program, 0, 0);
        add(SECTION_SYMBOLS, 0, &symbols, 4, 0);
        add(3, 0, names, 0, 0);
        add(SECTION_RELOCATIONS, 0, &relocation, 3, 2);
        let table = bytes.len() as u64;
        bytes[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        bytes[0x14] = 1;
        bytes[0x3a] = 64;
        bytes[0x3c] = 6;
        bytes[0x3e] = 4;
        bytes.extend(sections);
        bytes
    }

    fn callers(object: &[u8]) -> Vec<String> {
        memory_calls(object)
            .unwrap()
            .into_iter()
            .map(|it| format!("{} → {}", it.caller, it.routine))
            .collect()
    }

    #[test]
    fn a_memory_routine_that_nobody_calls_is_no_finding() {
        // The program calls `lost`, at the start of `.text`.
        assert!(callers(&object(EXIT, &[call(-1), EXIT])).is_empty());
    }

    #[test]
    fn a_call_through_a_relocation_is_found() {
        assert_eq!(callers(&object(EXIT, &[call(1), EXIT])), ["observe → memcpy"]);
    }

    #[test]
    fn a_call_within_the_section_is_found() {
        assert_eq!(callers(&object(call(1), &[call(-1), EXIT])), ["lost → memcpy"]);
    }

    #[test]
    fn a_helper_and_the_second_half_of_a_wide_load_are_no_calls() {
        let load = [[LOAD_WIDE, 0, 0, 0, 0, 0, 0, 0], call(1)];
        assert!(callers(&object(helper(1), &[load[0], load[1], EXIT])).is_empty());
    }

    #[test]
    fn a_program_that_goes_on_and_has_functions_is_found() {
        let mixed = |program: &[[u8; 8]]| mixed_calls(&object(EXIT, program)).unwrap();
        assert_eq!(mixed(&[call(-1), helper(12), EXIT]), ["observe"]);
        assert!(
            mixed(&[helper(12), EXIT]).is_empty() && mixed(&[call(-1), helper(1), EXIT]).is_empty()
        );
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        assert!(memory_calls(b"").is_err());
        assert!(memory_calls(b"\x7fELF\x02\x01 cut").is_err());
    }
}
