//! Loops that kernels before 6.7 refuse, found in the finished object instead of by booting such a
//! kernel.
//!
//! The verifier of those kernels accepts a back edge as a loop only if it is a jump (`check_cfg`;
//! kernel commit 10e14e9652bf lifted this). If the last instruction of a loop falls through into
//! the first one, Linux 5.10 and 6.1 refuse the program: "back-edge from insn 830 to 831".

use anyhow::{Context as _, Result};

use crate::elf;

const INSTRUCTION_LEN: usize = 8;
/// Opcode of the 64-bit immediate load, which takes two instruction slots.
const LOAD_WIDE: u8 = 0x18;
const CLASS: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP_32: u8 = 0x06;
const OPERATION: u8 = 0xf0;
const ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;

/// A loop that is closed by fall-through instead of by a jump.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SilentLoop {
    pub(crate) function: String,
    /// Index of its first instruction within the function.
    pub(crate) head: usize,
}

/// The fall-through loops of all functions.
pub(crate) fn silent_loops(object: &[u8]) -> Result<Vec<SilentLoop>> {
    let functions = elf::functions(object).context("the object is no 64-bit ELF file")?;
    let loops = functions.iter().flat_map(|function| {
        let head_of = |head| SilentLoop { function: function.name.to_owned(), head };
        heads(function.code).into_iter().map(head_of)
    });
    Ok(loops.collect())
}

/// A successor of an instruction, and true if a jump leads to it.
#[derive(Clone, Copy)]
struct Edge {
    to: usize,
    jump: bool,
}

fn edges(code: &[u8], at: usize) -> [Option<Edge>; 2] {
    let Some(&[opcode, _, low, high, a, b, c, d]) =
        code.get(at * INSTRUCTION_LEN..).and_then(|rest| rest.first_chunk::<INSTRUCTION_LEN>())
    else {
        return [None; 2];
    };
    let next = |jump| Some(Edge { to: at + 1, jump });
    let jump =
        |distance: isize| Some(Edge { to: (at + 1).wrapping_add_signed(distance), jump: true });
    let near = i16::from_le_bytes([low, high]) as isize;
    let far = i32::from_le_bytes([a, b, c, d]) as isize;
    match (opcode & CLASS, opcode & OPERATION) {
        _ if opcode == LOAD_WIDE => [Some(Edge { to: at + 2, jump: false }), None],
        (JUMP | JUMP_32, EXIT) => [None; 2],
        (JUMP | JUMP_32, CALL) => [next(false), None],
        (JUMP, ALWAYS) => [jump(near), None],
        (JUMP_32, ALWAYS) => [jump(far), None],
        (JUMP | JUMP_32, _) => [next(true), jump(near)],
        _ => [next(false), None],
    }
}

/// The first instructions of fall-through loops, found by the verifier's depth-first walk.
fn heads(code: &[u8]) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum State {
        New,
        OnTheWay,
        Done,
    }
    let mut states = vec![State::New; code.len() / INSTRUCTION_LEN];
    let mut heads = Vec::new();
    let mut way = Vec::new();
    let enter = |at: usize, states: &mut [State], way: &mut Vec<_>| {
        states[at] = State::OnTheWay;
        way.push((at, edges(code, at).into_iter().flatten()));
    };
    if !states.is_empty() {
        enter(0, &mut states, &mut way);
    }
    while let Some((at, open)) = way.last_mut() {
        let Some(edge) = open.next() else {
            states[*at] = State::Done;
            way.pop();
            continue;
        };
        match states.get(edge.to) {
            Some(State::New) => enter(edge.to, &mut states, &mut way),
            Some(State::OnTheWay) if !edge.jump => heads.push(edge.to),
            _ => {}
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOVE: [u8; 8] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
    const LEAVE: [u8; 8] = [JUMP | EXIT, 0, 0, 0, 0, 0, 0, 0];
    const HELPER: [u8; 8] = [JUMP | CALL, 0, 0, 0, 1, 0, 0, 0];

    fn goto(distance: i16) -> [u8; 8] {
        let [low, high] = distance.to_le_bytes();
        [JUMP | ALWAYS, 0, low, high, 0, 0, 0, 0]
    }

    fn goto_far(distance: i32) -> [u8; 8] {
        let [a, b, c, d] = distance.to_le_bytes();
        [JUMP_32 | ALWAYS, 0, 0, 0, a, b, c, d]
    }

    fn goto_if(distance: i16) -> [u8; 8] {
        let [low, high] = distance.to_le_bytes();
        [JUMP | 0x10, 0, low, high, 0, 0, 0, 0]
    }

    #[test]
    fn a_loop_that_is_closed_by_a_jump_is_no_finding() {
        let check = |code: &[[u8; 8]]| assert_eq!(heads(&code.concat()), [0; 0], "{code:x?}");
        check(&[]);
        check(&[MOVE, LEAVE]);
        check(&[MOVE, goto_if(-2), LEAVE]);
        check(&[goto_if(1), goto(-2), LEAVE]);
        check(&[goto_if(1), goto_far(-2), LEAVE]);
        check(&[HELPER, goto_if(-2), LEAVE]);
    }

    #[test]
    fn a_loop_whose_last_instruction_runs_on_into_its_first_is_found() {
        // into the middle; then the condition, whose way back leads in front of the first
        // instruction
        for last in [MOVE, HELPER] {
            assert_eq!(heads(&[goto(1), last, goto_if(-2), LEAVE].concat()), [2], "{last:x?}");
        }
    }

    #[test]
    fn the_second_half_of_a_wide_load_is_no_instruction() {
        let wide = [[LOAD_WIDE, 0, 0, 0, 0, 0, 0, 0], goto(-1)];
        assert_eq!(heads(&[wide[0], wide[1], LEAVE].concat()), [0; 0]);
    }

    #[test]
    fn what_is_no_elf_is_an_error() {
        assert!(silent_loops(b"\x7fELF\x02\x01 cut").is_err());
    }
}
