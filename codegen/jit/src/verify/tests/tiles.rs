//! Calls of a precompiled tile.

use super::outcome;
use crate::emit::StepCode;
use crate::emit::emitter::Emitter;
use catc_kernels::Tier;
use catc_kernels::dot::{self, DotTile};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use std::mem::{offset_of, size_of};

/// Calls a kernel that reads four bytes of each pixel; a pixel is a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    /// The tile has that many pixels.
    Pixels(i64),
    /// Only one of two paths to the call sets the number of pixels.
    PixelsUnset,
}

impl StepCode for Call {
    fn emit(&self, e: &mut Emitter<'_>) {
        let (base, constant) = (e.slot(0), e.slot(1));
        let call = e.prepare(dot::avx2::MADDUBS_256.tile, size_of::<DotTile>());
        let sums = e.stack(32 * 12);
        for (at, pointer) in [
            (offset_of!(DotTile, input), base),
            (offset_of!(DotTile, weights), constant),
            (offset_of!(DotTile, start), constant),
            (offset_of!(DotTile, sums), sums),
        ] {
            e.set(&call, at, pointer);
        }
        for (at, number) in [
            (offset_of!(DotTile, input_pixel), 16),
            (offset_of!(DotTile, sums_pixel), 32),
            (offset_of!(DotTile, vectors), 1),
            (offset_of!(DotTile, rows), 1),
            (offset_of!(DotTile, row_bytes), 0),
            (offset_of!(DotTile, taps), 1),
            (offset_of!(DotTile, tap_bytes), 0),
            (offset_of!(DotTile, steps), 1),
            (offset_of!(DotTile, drain), 1),
        ] {
            e.set_int(&call, at, number);
        }
        match *self {
            Call::Pixels(pixels) => e.set_int(&call, offset_of!(DotTile, pixels), pixels),
            Call::PixelsUnset => {
                let first = e.first;
                let some = e.b.ins().icmp_imm_s(IntCC::Equal, first, 0);
                e.when(some, |e| e.set_int(&call, offset_of!(DotTile, pixels), 1));
            }
        }
        e.call(&call);
    }
}

#[test]
fn a_tile_that_stays_inside_is_compiled() {
    let Some(tier) = Tier::detect().filter(|tier| tier.includes(Tier::X86V3)) else {
        return println!("skipped: needs AVX2");
    };
    assert_eq!(outcome(Call::Pixels(5), 0, tier), Ok(()));
}

#[test]
fn a_tile_that_leaves_its_memory_is_refused() {
    let Some(tier) = Tier::detect().filter(|tier| tier.includes(Tier::X86V3)) else {
        return println!("skipped: needs AVX2");
    };
    for (call, reason) in [
        (Call::Pixels(6), "read bytes 0..84"),
        (Call::Pixels(13), "no tile of 13 pixels"),
        (Call::Pixels(0), "no tile of 0 pixels"),
        (Call::PixelsUnset, "may not be set"),
    ] {
        let found = outcome(call, 0, tier);
        assert!(found.clone().is_err_and(|e| e.contains(reason)), "{call:?}: {found:?}");
    }
}
