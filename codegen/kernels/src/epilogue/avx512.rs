//! Epilogues in 512-bit vectors.

use super::cells::{self, Channels, EpilogueVector, Row};
use super::unary::apply_unary;
use super::{EpilogueTile, ProgramStep};
use crate::function::{Contract, Function};
use crate::tier::Tier;
use crate::vector::Avx512;
use std::arch::x86_64::__m512;

/// The epilogue of a row of sums as a function, whose argument is an [`EpilogueTile`].
// SAFETY: `row` reads only the memory that the fields of the tile describe, in whole vectors, and writes only channels that exist.
pub static EPILOGUE_512: Function =
    unsafe { Function::new("catc_epilogue_512", Tier::Avx512Vnni, Contract::Epilogue { lanes: 16 }, epilogue_512) };

/// The epilogue of a row of sums.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The block is an [`EpilogueTile`] whose pointers cover the memory that its fields describe.
unsafe extern "C" fn epilogue_512(block: *const u64) {
    // SAFETY: the caller's promise, which the verifier in catc-jit proves for the block of every generated call (`Contract::Epilogue`).
    unsafe { row(&(*block.cast::<EpilogueTile>()).row()) }
}

/// The epilogue of a row of sums.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ and VL. The pointers of the row cover the memory that its fields describe.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(crate) unsafe fn row(row: &Row<'_>) {
    // SAFETY: the caller's promise.
    unsafe { cells::row(Avx512::new(), row) }
}

// The methods carry `inline(never)`, because the compiler ignores it on functions with target features.
impl EpilogueVector for Avx512 {
    #[inline(never)]
    fn unary(self, step: &ProgramStep, values: &mut [__m512; 4]) {
        // SAFETY: a value of this type exists only where the CPU has the instructions.
        unsafe { unary(self, step, values) }
    }

    #[inline(never)]
    unsafe fn cells<const N: usize, const P: usize, const KIND: u8>(
        self,
        row: &Row<'_>,
        channels: &Channels,
        from: i64,
        to: i64,
    ) {
        // SAFETY: the caller's promise.
        unsafe { some_cells::<N, P, KIND>(self, row, channels, from, to) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn some_cells<const N: usize, const P: usize, const KIND: u8>(
    v: Avx512,
    row: &Row<'_>,
    channels: &Channels,
    from: i64,
    to: i64,
) {
    // SAFETY: the caller's promise.
    unsafe { cells::cells::<Avx512, N, P, KIND>(v, row, channels, from, to) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn unary(v: Avx512, step: &ProgramStep, values: &mut [__m512; 4]) {
    apply_unary(v, step, values);
}
