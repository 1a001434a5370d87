//! Vectors of 32-bit lanes, for bodies of kernels that differ only in vector width between instruction sets.
//!
//! A value of a vector type has no data; it proves that the CPU has the instruction set. Every method is inlined, so that a kernel's body
//! is compiled for the target features of the entry point that contains it.

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

/// Vectors of one width. `Real` has an f32 in every lane, `Int` an i32.
pub(crate) trait Vector: Arithmetic + Copy {
    /// The number of 32-bit lanes.
    const LANES: usize;
    /// A vector of four bytes per lane.
    type Bytes: Copy;

    /// Loads one f32 for each lane.
    ///
    /// # Safety
    /// All of them can be read.
    unsafe fn load_reals(self, from: *const f32) -> Self::Real;

    /// Loads the first `count` f32, which may be all or none; the other lanes are arbitrary.
    ///
    /// # Safety
    /// If `count` is positive, a whole vector can be read; the first `count` elements suffice if the instruction set has masked loads.
    unsafe fn load_some_reals(self, from: *const f32, count: i64) -> Self::Real;

    /// Loads one i32 for each lane.
    ///
    /// # Safety
    /// All of them can be read.
    unsafe fn load_ints(self, from: *const i32) -> Self::Int;

    /// Loads one byte for each lane, zero-extended.
    ///
    /// # Safety
    /// All of them can be read.
    unsafe fn load_bytes(self, from: *const u8) -> Self::Int;

    /// Loads the first `count` bytes, four per lane, the lowest bits first; the other bytes are arbitrary.
    ///
    /// # Safety
    /// A whole vector can be read; the first `count` bytes suffice if the instruction set has masked loads.
    unsafe fn load_packed_bytes(self, from: *const u8, count: i64) -> Self::Int;

    /// Stores the first `count` lanes, which may be all or none.
    ///
    /// # Safety
    /// The first `count` elements can be written.
    unsafe fn store_reals(self, to: *mut f32, values: Self::Real, count: i64);

    /// Stores the first `count` bytes of each of `RUNS` equal parts of the vector, `stride` bytes apart. `RUNS` is 1, 2 or 4.
    ///
    /// # Safety
    /// All of these bytes can be written, and `count` is at most the length of a part.
    unsafe fn store_runs<const RUNS: usize>(self, to: *mut u8, stride: i64, bytes: Self::Bytes, count: i64);

    /// Prefetches a cache line. Any address is allowed.
    fn prefetch(self, from: *const u8);

    /// `0, 1, 2, ..`.
    fn lane_numbers(self) -> Self::Int;
    /// The elements of `table` at the given indices, modulo [`Vector::LANES`].
    fn look_up(self, table: Self::Real, index: Self::Int) -> Self::Real;
    /// `a * b + c`, rounded once.
    fn fused_mul_add(self, a: Self::Real, b: Self::Real, c: Self::Real) -> Self::Real;
    /// `x`, or 0 where it is NaN.
    fn zero_where_nan(self, x: Self::Real) -> Self::Real;
    /// The nearest integer, halves to even; the lowest i32 for NaN and for values that do not fit 32 bits.
    fn round_to_int(self, x: Self::Real) -> Self::Int;

    /// The difference of the 16-bit halves of each lane, wrapping.
    fn sub_halves(self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The 16-bit halves of each lane, shifted left by 8.
    fn shift_halves_left_8(self, a: Self::Int) -> Self::Int;

    /// Codes as bytes, clamped to `0..=highest`, in the order of the vectors: all lanes of the first, then of the second, and so on.
    fn pack_vectors(self, codes: [Self::Int; 4], highest: u8) -> Self::Bytes;
    /// Codes as bytes, clamped to `0..=highest`, in the order of the lanes: the first lane of the four vectors, then the second, and so on.
    fn pack_lanes(self, codes: [Self::Int; 4], highest: u8) -> Self::Bytes;
}

#[cfg(test)]
mod tests;
