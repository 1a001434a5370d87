//! Code that leaves its memory, and code that does not.

/// Calls of precompiled kernels, which exist on x86-64 only.
#[cfg(target_arch = "x86_64")]
mod tiles;

use super::{Extent, Surroundings};
use crate::builder::constants::Constants;
use crate::code::CodeBuilder;
use crate::emit::emitter::Emitter;
use crate::emit::{SharedCode, StepCode};
use crate::error::JitError;
use crate::storage::Slot;
use catc_kernels::{KernelSet, Tier};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::types::{I32, I64};

/// Rows of 16 bytes in the memory of slot 0, and a constant in slot 1.
const ROWS: usize = 5;

/// What a step does with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rows {
    /// Writes eight bytes of each row, that many bytes from its start, rows that far apart.
    Write { at: i64, row: i64 },
    /// Reads eight bytes of each row.
    Read { at: i64 },
    /// Writes a row whose number it has read: limited to the rows, or not.
    Chosen { limited: bool },
    /// Writes to the constant.
    Constant,
    /// Writes a row after the last, in a loop that is not skipped where there is none.
    Unguarded,
    /// Two rows at a time, as often as there are pairs.
    Pairs,
}

impl StepCode for Rows {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (first, last) = (e.first, e.last);
        let base = e.slot(0);
        let value = e.int(0);
        match *self {
            Rows::Write { at, row } => {
                let start = e.index(base, first, row);
                e.range(first, last, &[(start, row)], vec![], |e, _, rows, _| {
                    e.store(value, rows[0], at);
                    vec![]
                });
            }
            Rows::Read { at } => {
                let start = e.index(base, first, 16);
                e.range(first, last, &[(start, 16)], vec![], |e, _, rows, _| {
                    e.load(I64, rows[0], at);
                    vec![]
                });
            }
            Rows::Chosen { limited } => {
                let index = e.load(I32, base, 0);
                let mut index = e.b.ins().sextend(I64, index);
                if limited {
                    let (zero, most) = (e.int(0), e.int(ROWS as i64 - 1));
                    index = e.b.ins().smax(index, zero);
                    index = e.b.ins().smin(index, most);
                }
                let row = e.index(base, index, 16);
                e.store(value, row, 0);
            }
            Rows::Constant => {
                let constant = e.slot(1);
                e.store(value, constant, 0);
            }
            Rows::Unguarded => {
                let at = e.index(base, last, 16);
                let again = e.b.create_block();
                let done = e.b.create_block();
                let index = e.b.append_block_param(again, I64);
                e.b.ins().jump(again, &[last.into()]);
                e.b.switch_to_block(again);
                e.store(value, at, 0);
                let next = e.offset(index, 1);
                let more = e.b.ins().icmp(cranelift_codegen::ir::condcodes::IntCC::SignedLessThan, next, last);
                e.b.ins().brif(more, again, &[next.into()], done, &[]);
                e.b.switch_to_block(done);
            }
            Rows::Pairs => {
                let count = e.b.ins().isub(last, first);
                let raised = e.offset(count, 1);
                let two = e.int(2);
                let pairs = e.b.ins().udiv(raised, two);
                e.range(value, pairs, &[], vec![], |e, pair, _, _| {
                    let done = e.times(pair, 2);
                    let start = e.b.ins().iadd(first, done);
                    let end = e.offset(start, 2);
                    let end = e.b.ins().smin(end, last);
                    let row = e.index(base, start, 16);
                    e.range(start, end, &[(row, 16)], vec![], |e, _, rows, _| {
                        e.store(value, rows[0], 8);
                        vec![]
                    });
                    vec![]
                });
            }
        }
    }
}

/// The outcome for a tier, with `slack` bytes behind the rows that may be read.
fn outcome(code: impl StepCode + 'static, slack: usize, tier: Tier) -> Result<(), String> {
    let mut constants = Constants::with_room(64).unwrap();
    let at = constants.push(&[0u8; 32]);
    let slots = [Slot::Region(0), Slot::Constant(at)];
    let extents = [
        Extent { bytes: 16 * ROWS, slack, writable: true },
        Extent { bytes: constants.entry(at).unwrap(), slack: 0, writable: false },
    ];
    let step = Surroundings { slots: &slots, constants: &constants, extents: &extents, units: ROWS };
    match CodeBuilder::new(KernelSet::all(tier), 1 << 20).unwrap().add("step", &SharedCode::new(code), &step) {
        Ok(_) => Ok(()),
        Err(JitError::Unproved { step, reason }) => {
            assert_eq!(step, "step");
            Err(reason)
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_stays_inside_is_compiled() {
    let Some(tier) = Tier::detect() else { return println!("skipped: no code for this CPU") };
    for code in [
        Rows::Write { at: 0, row: 16 },
        Rows::Write { at: 8, row: 16 },
        Rows::Write { at: 0, row: 18 },
        Rows::Read { at: 8 },
        Rows::Chosen { limited: true },
        Rows::Pairs,
    ] {
        assert_eq!(outcome(code, 0, tier), Ok(()), "{code:?}");
    }
    // Bytes behind a region are read, never written.
    assert_eq!(outcome(Rows::Read { at: 16 }, 8, tier), Ok(()));
}

#[test]
fn what_leaves_its_memory_is_refused() {
    let Some(tier) = Tier::detect() else { return println!("skipped: no code for this CPU") };
    for (code, reason) in [
        (Rows::Write { at: 9, row: 16 }, "write bytes 9..81"),
        (Rows::Write { at: -1, row: 16 }, "write bytes -1.."),
        (Rows::Write { at: 0, row: 20 }, "write bytes 0..88"),
        (Rows::Write { at: 0, row: -16 }, "write bytes -64..8"),
        (Rows::Read { at: 9 }, "read bytes 9..81"),
        (Rows::Chosen { limited: false }, "cannot be followed"),
        (Rows::Constant, "to be read only"),
        (Rows::Unguarded, "is not skipped then"),
    ] {
        let found = outcome(code, 0, tier);
        assert!(found.clone().is_err_and(|e| e.contains(reason)), "{code:?}: {found:?}");
    }
    assert!(outcome(Rows::Write { at: 16, row: 16 }, 64, tier).is_err());
}
