//! Epilogues in wide vectors, from sums to stored values: scale and bias, the steps, rounding to codes. Element-wise steps use them as well,
//! with floats or codes in the place of sums. This module has the arguments;
//! `cells` has the body for every width.
//!
//! Each f32 operation is the one that generated code would do, in the same order, and is rounded on its own. So the results are equal
//! bit for bit on every tier.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(any(test, target_arch = "x86_64"))]
mod cells;
pub mod function;
mod steps;
#[cfg(any(test, target_arch = "x86_64"))]
mod unary;

#[cfg(target_arch = "x86_64")]
pub(crate) use cells::{Row, small_codes};
pub use steps::{OperandAccess, OperandElement, OperandLayout, epilogue_steps};

use crate::choose::KernelSet;
use crate::function::{Contract, Function};

/// The functions that compute only an epilogue.
#[cfg(target_arch = "x86_64")]
pub(crate) fn functions() -> &'static [&'static Function] {
    const FUNCTIONS: &[&Function] = &[&avx2::EPILOGUE_256, &avx512::EPILOGUE_512];
    FUNCTIONS
}

/// The functions that compute only an epilogue.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn functions() -> &'static [&'static Function] {
    &[]
}

/// The most operands of a program.
pub const MAX_OPERANDS: usize = 2;

/// The most steps of a program.
pub const MAX_STEPS: usize = 8;

/// The widest function that computes only an epilogue, among those that the kernels include, and its lanes.
pub fn widest(kernels: KernelSet) -> Option<(&'static Function, usize)> {
    let lanes = |function: &&'static Function| match *function.contract() {
        Contract::Epilogue { lanes } if kernels.has_precompiled(function.tier()) => Some((*function, lanes)),
        _ => None,
    };
    functions().iter().rev().find_map(lanes)
}

/// Values of [`EpilogueProgram::load`].
pub mod load {
    /// i32 sums, or f32 if there are no multipliers. A channel has four bytes.
    pub const SUMS: u32 = 0;
    /// Codes, of which each gives `(code - load_zero) as f32 * load_scale`. A channel has one byte. There are no multipliers.
    pub const CODES: u32 = 1;
}

/// Values of [`EpilogueProgram::store`].
pub mod store {
    /// Stores the values as f32.
    pub const FLOATS: u32 = 0;
    /// Stores codes. The values to be rounded are below `2^21` in magnitude, and none is NaN.
    pub const SMALL_CODES: u32 = 1;
    /// Stores codes of any values. NaN becomes the zero-point.
    pub const CODES: u32 = 2;
    /// Stores codes of `sum as f32 * multiplier + bias` by a fused multiply-add. If there is a step, it is the only one, and it adds an
    /// operand of small codes. Multipliers and biases include the factor before rounding and the zero-point, which are not applied again.
    /// Not every function supports it.
    pub const AFFINE: u32 = 3;
}

/// One step on the running value `t`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct ProgramStep {
    /// The number of a [`function::StepFunction`].
    pub function: u32,
    /// Number of the operand.
    pub operand: u32,
    /// The factor, or the first parameter of a unary function.
    pub x: f32,
    /// The second parameter.
    pub y: f32,
    /// Zero-point of an operand of codes.
    pub zero: i32,
}

/// The steps of a layer. It never changes, so it is stored among the constants of the compiled program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct EpilogueProgram {
    /// The steps.
    pub steps: [ProgramStep; MAX_STEPS],
    /// How many there are.
    pub count: u32,
    /// One of [`store`].
    pub store: u32,
    /// Factor before rounding; 1 for none.
    pub requantize: f32,
    /// Zero-point minus the lowest code.
    pub zero: i32,
    /// Highest code minus the lowest.
    pub levels: u32,
    /// One of [`load`].
    pub load: u32,
    /// Zero-point of the loaded codes minus their lowest code.
    pub load_zero: i32,
    /// Scale of the loaded codes.
    pub load_scale: f32,
}

impl EpilogueProgram {
    /// Its 32-bit words in the order of its memory.
    pub fn words(&self) -> Vec<u32> {
        let steps =
            self.steps.iter().flat_map(|s| [s.function, s.operand, s.x.to_bits(), s.y.to_bits(), s.zero as u32]);
        let stored = [self.count, self.store, self.requantize.to_bits(), self.zero as u32, self.levels];
        steps.chain(stored).chain([self.load, self.load_zero as u32, self.load_scale.to_bits()]).collect()
    }

    /// The program with these words; `None` if their number is not that of a program.
    pub fn from_words(words: &[u32]) -> Option<EpilogueProgram> {
        let (steps, rest) = words.split_at_checked(MAX_STEPS * size_of::<ProgramStep>() / 4)?;
        let &[count, store, requantize, zero, levels, load, load_zero, load_scale] = rest else { return None };
        let mut program = EpilogueProgram {
            count,
            store,
            requantize: f32::from_bits(requantize),
            zero: zero as i32,
            levels,
            load,
            load_zero: load_zero as i32,
            load_scale: f32::from_bits(load_scale),
            ..EpilogueProgram::default()
        };
        for (step, &[function, operand, x, y, zero]) in program.steps.iter_mut().zip(steps.as_chunks().0) {
            *step = ProgramStep { function, operand, x: f32::from_bits(x), y: f32::from_bits(y), zero: zero as i32 };
        }
        Some(program)
    }
}

/// The epilogue of a block of channels, for a grid of pixels: rows `output_row` apart, pixels in a row `output_pixel` apart.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EpilogueArguments {
    /// The steps.
    pub program: *const EpilogueProgram,
    /// f32 of each channel: `sum as f32 * multiplier + bias`. Null if the sums are floats, to which no multiplier and bias apply.
    pub multiplier: *const f32,
    /// f32 of each channel.
    pub bias: *const f32,
    /// Where the first pixel's channels are stored.
    pub output: *mut u8,
    /// Bytes from pixel to pixel of the output.
    pub output_pixel: i64,
    /// Bytes from row to row of the output.
    pub output_row: i64,
    /// The operands at the first pixel.
    pub operands: [*const u8; MAX_OPERANDS],
    /// Their bytes from pixel to pixel.
    pub operand_pixel: [i64; MAX_OPERANDS],
    /// Their bytes from row to row.
    pub operand_row: [i64; MAX_OPERANDS],
    /// Channels: in an [`EpilogueTile`] 1 or more, in a tile of look-ups at most those of the tile, elsewhere 1 to 64. Sums, multipliers, biases and operands are read in whole vectors
    /// ([`crate::Contract`] has their length); only channels that exist are written.
    pub channels: i64,
}

/// A row of sums.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EpilogueTile {
    /// What to do.
    pub epilogue: EpilogueArguments,
    /// Sums or codes of the first pixel in whole vectors of channels, as [`EpilogueProgram::load`] says.
    pub sums: *const i32,
    /// Bytes from a pixel's sums to the next pixel's.
    pub sums_pixel: i64,
    /// Pixels.
    pub pixels: i64,
}

#[cfg(target_arch = "x86_64")]
impl EpilogueTile {
    /// Its sums and arguments as the row that [`cells::row`] takes.
    #[inline(always)]
    fn row(&self) -> cells::Row<'_> {
        // The caller stores each field shortly before the call. One wide load of several fields would have to wait until the stores have
        // reached the cache, so each field is loaded by itself.
        macro_rules! field {
            ($name:ident) => {
                // SAFETY: a reference may be read.
                unsafe { (&raw const self.$name).read_volatile() }
            };
        }
        cells::Row {
            arguments: &self.epilogue,
            sums: field!(sums),
            sums_pixel: field!(sums_pixel),
            number: 0,
            first: 0,
            pixels: field!(pixels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_memory_of_a_program() {
        let mut program =
            EpilogueProgram { count: 1, store: 2, requantize: 0.5, zero: -3, levels: 7, ..EpilogueProgram::default() };
        (program.load, program.load_zero, program.load_scale) = (1, -2, 0.125);
        program.steps[0] = ProgramStep { function: 8, operand: 1, x: 0.25, y: -0.0, zero: 5 };
        let words = program.words();
        assert_eq!(words.len() * 4, size_of::<EpilogueProgram>());
        assert_eq!(EpilogueProgram::from_words(&words), Some(program));
        assert_eq!(EpilogueProgram::from_words(&words[1..]), None);
        // SAFETY: the structure consists of 32-bit fields only, so it has no padding, and all its words are initialized.
        let memory = unsafe { std::slice::from_raw_parts((&raw const program).cast::<u32>(), words.len()) };
        assert_eq!(words, memory);
    }
}
