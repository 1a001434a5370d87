//! The quantization of an input image from f32 planes (channels first) to pixels of codes (channels last): the first step of most networks.

#[cfg(target_arch = "x86_64")]
pub mod avx512;

use crate::choose::KernelSet;
use crate::function::Function;

/// All functions that quantize planes.
#[cfg(target_arch = "x86_64")]
pub(crate) fn functions() -> &'static [&'static Function] {
    const FUNCTIONS: &[&Function] = &[&avx512::PLANES_512];
    FUNCTIONS
}

/// All functions that quantize planes.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn functions() -> &'static [&'static Function] {
    &[]
}

/// The function of a kernel set that quantizes planes, if it has one; arguments [`PlanesRow`].
pub fn function(kernels: KernelSet) -> Option<&'static Function> {
    functions().iter().copied().find(|function| kernels.has_precompiled(function.tier()))
}

/// The quantization of a value: `round(x * scale * requantize) + zero`, clamped to the range of codes; NaN becomes the zero-point. It never
/// changes, so it is stored among the constants of the compiled program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Quantization {
    /// First factor.
    pub scale: f32,
    /// Second factor; each product is rounded to f32 on its own.
    pub requantize: f32,
    /// Zero-point minus the lowest code.
    pub zero: i32,
    /// Highest code minus the lowest.
    pub levels: u32,
}

impl Quantization {
    /// Its 32-bit words in the order of its memory.
    pub fn words(&self) -> [u32; 4] {
        [self.scale.to_bits(), self.requantize.to_bits(), self.zero as u32, self.levels]
    }
}

/// The most planes of an image.
pub const MAX_PLANES: usize = 4;

/// A row of pixels, one byte for each channel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PlanesRow {
    /// The quantization of each value.
    pub quantization: *const Quantization,
    /// The row of the first plane.
    pub input: *const f32,
    /// Bytes from plane to plane.
    pub plane_bytes: i64,
    /// Planes, 1 to [`MAX_PLANES`].
    pub planes: i64,
    /// Pixels of the row.
    pub pixels: i64,
    /// Where the pixels are stored: `planes` bytes for each, without gaps.
    pub output: *mut u8,
}
