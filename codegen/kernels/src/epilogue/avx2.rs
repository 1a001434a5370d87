//! Epilogues in 256-bit vectors.

use super::cells::{self, EpilogueVector, Row};
use super::unary::apply_unary;
use super::{EpilogueTile, ProgramStep};
use crate::function::{Contract, Function};
use crate::tier::Tier;
use crate::vector::Avx2;
use std::arch::x86_64::__m256;

/// The epilogue of a row of sums as a function: its argument is an [`EpilogueTile`].
// SAFETY: `row` touches what the fields of the arguments describe, in whole vectors, but for stores, which are of channels that exist.
pub static EPILOGUE_256: Function =
    unsafe { Function::new("catc_epilogue_256", Tier::X86V3, Contract::Epilogue { lanes: 8 }, epilogue_256) };

/// The epilogue of a row of sums.
///
/// # Safety
/// The CPU has AVX2 and FMA. The block is a [`EpilogueTile`] whose pointers cover what its fields say.
unsafe extern "C" fn epilogue_256(block: *const u64) {
    // SAFETY: the caller's promise.
    unsafe { row(&(*block.cast::<EpilogueTile>()).row()) }
}

/// The epilogue of a row of sums.
///
/// # Safety
/// As [`epilogue_256`].
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn row(row: &Row<'_>) {
    // SAFETY: the caller's promise.
    unsafe { cells::row(Avx2::new(), row) }
}

impl EpilogueVector for Avx2 {
    #[inline(always)]
    fn unary(self, step: &ProgramStep, values: &mut [__m256; 4]) {
        // SAFETY: a value of this type exists only where the CPU has the instructions.
        unsafe { unary(self, step, values) }
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn unary(v: Avx2, step: &ProgramStep, values: &mut [__m256; 4]) {
    apply_unary(v, step, values);
}
