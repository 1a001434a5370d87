//! The quantization of an image of f32 planes, as callers hand it in, to pixels of codes: the first step of most networks.

#[cfg(target_arch = "x86_64")]
pub mod avx512;

use crate::choose::KernelSet;
use crate::function::Function;

/// All functions of planes.
#[cfg(target_arch = "x86_64")]
pub(crate) fn functions() -> &'static [&'static Function] {
    const FUNCTIONS: &[&Function] = &[&avx512::PLANES_512];
    FUNCTIONS
}

/// All functions of planes.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn functions() -> &'static [&'static Function] {
    &[]
}

/// The function of planes that a set has; arguments [`PlanesRow`].
pub fn function(kernels: KernelSet) -> Option<&'static Function> {
    functions().iter().copied().find(|function| kernels.has_precompiled(function.tier()))
}

/// What is done to each value: `round(x * scale * requantize) + zero`, limited to the codes; NaN becomes the zero-point. Constant; its
/// words lie in the layer's constants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Quantization {
    /// First factor.
    pub scale: f32,
    /// Second factor; each product is rounded to f32 on its own.
    pub requantize: f32,
    /// Zero-point less the lowest code.
    pub zero: i32,
    /// Highest code less the lowest.
    pub levels: u32,
}

impl Quantization {
    /// The 32-bit words as they lie in memory.
    pub fn words(&self) -> [u32; 4] {
        [self.scale.to_bits(), self.requantize.to_bits(), self.zero as u32, self.levels]
    }
}

/// The most planes.
pub const MAX_PLANES: usize = 4;

/// A row of pixels, a byte for each channel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PlanesRow {
    /// What is done to each value.
    pub quantization: *const Quantization,
    /// The row in the first plane.
    pub input: *const f32,
    /// Bytes from plane to plane.
    pub plane_bytes: i64,
    /// Planes, 1 to [`MAX_PLANES`].
    pub planes: i64,
    /// Pixels of the row.
    pub pixels: i64,
    /// Where the row goes.
    pub output: *mut u8,
}
