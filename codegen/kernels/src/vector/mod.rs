//! Vectors of 32-bit lanes: what the bodies of kernels are written in where instruction sets differ in width only.
//!
//! A vector type is a value without fields that proves its instruction set. Every method is inlined: the body of a kernel is
//! compiled for an instruction set in an entry point that carries its target features.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(test)]
pub(crate) use portable::Portable;

use catc_scalar::Arithmetic;

/// Vectors of one width. `Real` is f32 in every lane, `Int` i32.
pub(crate) trait Vector: Arithmetic + Copy {
    /// Lanes of 32 bits.
    const LANES: usize;
    /// A vector as four bytes for each lane.
    type Bytes: Copy;

    /// One f32 for each lane.
    ///
    /// # Safety
    /// They are there to read.
    unsafe fn load_reals(self, from: *const f32) -> Self::Real;

    /// The first `count` f32, which may be all or none; the other lanes are any.
    ///
    /// # Safety
    /// The whole vector is there to read, or, where the instruction set has masks, those that are counted.
    unsafe fn load_some_reals(self, from: *const f32, count: i64) -> Self::Real;

    /// One i32 for each lane.
    ///
    /// # Safety
    /// They are there to read.
    unsafe fn load_ints(self, from: *const i32) -> Self::Int;

    /// One byte for each lane, widened without sign.
    ///
    /// # Safety
    /// They are there to read.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Int;

    /// The first `count` bytes, four for each lane, the lowest bits first; the other bytes are any.
    ///
    /// # Safety
    /// As [`Vector::load_some_reals`].
    unsafe fn load_packed_bytes(self, from: *const u8, count: i64) -> Self::Int;

    /// Stores the first `count` lanes, which may be all or none.
    ///
    /// # Safety
    /// They are there to write.
    unsafe fn store_reals(self, to: *mut f32, values: Self::Real, count: i64);

    /// Stores the first `count` bytes of each of `RUNS` equal parts of the vector, `stride` bytes apart. `RUNS` is 1, 2 or 4.
    ///
    /// # Safety
    /// They are there to write, and `count` is not more than a part has.
    unsafe fn store_runs<const RUNS: usize>(self, to: *mut u8, stride: i64, bytes: Self::Bytes, count: i64);

    /// Asks for a line of the cache. Any address will do.
    fn prefetch(self, from: *const u8);

    /// `0, 1, 2, ..`.
    fn lane_numbers(self) -> Self::Int;
    /// The element of `table` that the lowest bits of each index say, as many as [`Vector::LANES`] needs.
    fn look_up(self, table: Self::Real, index: Self::Int) -> Self::Real;
    /// `a * b + c`, rounded once.
    fn fused_mul_add(self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// `x`, or 0 where it is NaN.
    fn zero_where_nan(self, x: Self::Real) -> Self::Real;
    /// The nearest integer, halves to even; of NaN and of what does not fit 32 bits, the lowest i32.
    fn round_to_int(self, x: Self::Real) -> Self::Int;

    /// The difference of each half of a lane, wrapping in 16 bits.
    fn sub_halves(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// Each half of a lane `<< 8`.
    fn shift_halves_left_8(self, a: Self::Int) -> Self::Int;

    /// Codes cut to 0..=255 and the given highest, vector by vector: those of the first, then of the second, and so on.
    fn pack_vectors(self, codes: [Self::Int; 4], highest: u8) -> Self::Bytes;
    /// Codes cut to 0..=255 and the given highest, lane by lane: those of the first lanes of the four vectors, then of the second, and
    /// so on.
    fn pack_lanes(self, codes: [Self::Int; 4], highest: u8) -> Self::Bytes;
}

#[cfg(test)]
mod tests;
