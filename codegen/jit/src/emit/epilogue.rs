//! What happens to an output element between accumulator and store, on a few neighbouring elements at a time.

use super::emitter::Emitter;
use crate::storage::{Codes, LaneAccess};
use catc_scalar::{Arithmetic, Binary};
use cranelift_codegen::ir::types::I32X4;
use cranelift_codegen::ir::{InstBuilder, Value};
use std::hash::{Hash, Hasher};

/// A factor. Its value lies among the constants, repeated four times. Code depends on the place of a factor and not on its value, so
/// layers that differ in their factors alone share code. A factor of 1 is the exception: no multiplication is emitted for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Factor {
    /// Its number among the factors of the epilogue.
    pub number: usize,
    /// Whether multiplying with it changes nothing.
    pub is_one: bool,
}

/// A step on the running value, with the number of its operand.
pub(crate) type EpilogueStep = catc_scalar::EpilogueStep<usize, Factor>;

/// The steps of a layer, and how its results become codes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epilogue {
    /// In order.
    pub steps: Vec<EpilogueStep>,
    /// The factor that results are multiplied by before they are rounded to codes.
    pub requantize: Option<Factor>,
    /// Slot of the factors.
    pub factor_slot: usize,
    /// Whether no value that is rounded can be NaN or reach a magnitude of `2^21`.
    pub small: bool,
}

/// Everything that the code of a step depends on. Parameters of functions are compared by their bits, because 0 and -0 give different code.
#[derive(PartialEq, Eq, Hash)]
enum StepKey {
    Binary(Binary, usize, Factor),
    Unary(&'static str, Vec<u32>),
    Scale(Factor),
}

impl Epilogue {
    fn key(&self) -> (Vec<StepKey>, Option<Factor>, usize, bool) {
        let step = |step: &EpilogueStep| match *step {
            EpilogueStep::Binary { op, operand, scale } => StepKey::Binary(op, operand, scale),
            EpilogueStep::Unary(f) => StepKey::Unary(f.name(), f.params().iter().map(|(_, x)| x.to_bits()).collect()),
            EpilogueStep::Scale(factor) => StepKey::Scale(factor),
        };
        (self.steps.iter().map(step).collect(), self.requantize, self.factor_slot, self.small)
    }
}

impl PartialEq for Epilogue {
    fn eq(&self, other: &Epilogue) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Epilogue {}

impl Hash for Epilogue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Output {
    /// How neighbouring results lie.
    pub access: LaneAccess,
    /// The codes, if they are codes.
    pub codes: Option<Codes>,
}

impl Emitter<'_> {
    /// Applies the steps. `operand` loads the operand with a given number for the same elements, as f32.
    pub fn apply(
        &mut self,
        epilogue: &Epilogue,
        mut values: Vec<Value>,
        mut operand: impl FnMut(&mut Self, usize) -> Vec<Value>,
    ) -> Vec<Value> {
        for step in &epilogue.steps {
            match *step {
                EpilogueStep::Scale(factor) => {
                    values = self.multiply(epilogue, values, factor);
                }
                EpilogueStep::Unary(function) => {
                    values = values.into_iter().map(|v| function.value(self, v)).collect();
                }
                EpilogueStep::Binary { op, operand: number, scale } => {
                    let others = operand(self, number);
                    let others = self.multiply(epilogue, others, scale);
                    let pairs = values.into_iter().zip(others);
                    values = pairs.map(|(v, other)| op.value(self, v, other)).collect();
                }
            }
        }
        values
    }

    fn multiply(&mut self, epilogue: &Epilogue, values: Vec<Value>, factor: Factor) -> Vec<Value> {
        if factor.is_one {
            return values;
        }
        let multiply = |v| {
            let vector = self.factor(epilogue.factor_slot, factor.number);
            self.b.ins().fmul(v, vector)
        };
        values.into_iter().map(multiply).collect()
    }

    /// Stores `count` results: as they are, or rounded to codes.
    pub fn store_results(
        &mut self,
        output: &Output,
        epilogue: &Epilogue,
        pointer: Value,
        displacement: i64,
        count: usize,
        values: Vec<Value>,
    ) {
        match output.codes {
            None => self.store_words(output.access.step, pointer, displacement, count, &values),
            Some(codes) => {
                let bytes = self.quantize(codes, epilogue, values);
                self.store_bytes(output.access, pointer, displacement, count, bytes);
            }
        }
    }

    /// `clamp(round_half_even(t), min - zero, max - zero) + zero - min`, as bytes.
    fn quantize(&mut self, codes: Codes, epilogue: &Epilogue, values: Vec<Value>) -> Value {
        // Adding 1.5 * 2^23 to a small float leaves its value, rounded half to even, in the low bits.
        const MAGIC: f32 = 12_582_912.0;
        let zero = i32::from(codes.zero);
        let values = match epilogue.requantize {
            Some(factor) => self.multiply(epilogue, values, factor),
            None => values,
        };
        let vectors: Vec<Value> = values
            .into_iter()
            .map(|t| {
                let t = if epilogue.small { t } else { self.clamp(codes, t) };
                let magic = self.floats(MAGIC);
                let t = self.add(t, magic);
                let bits = self.cast(I32X4, t);
                let offset = self.ints(MAGIC.to_bits() as i32 - zero);
                self.b.ins().isub(bits, offset)
            })
            .collect();
        // Narrowing saturates to 0..=255.
        let bytes = self.narrow_to_bytes(&vectors);
        if epilogue.small && codes.levels < u8::MAX {
            let highest = self.bytes(codes.levels);
            return self.b.ins().umin(bytes, highest);
        }
        bytes
    }

    /// Clamps values to the range of the codes less their zero-point; NaN becomes 0.
    fn clamp(&mut self, codes: Codes, t: Value) -> Value {
        let zero = f32::from(codes.zero);
        // The maximum turns NaN into the lowest code, which is right if it is the zero-point.
        let t = if codes.zero != 0 { self.without_nan(t) } else { t };
        let low = self.floats(0.0 - zero);
        let t = self.max(t, low);
        let high = self.floats(f32::from(codes.levels) - zero);
        self.min(t, high)
    }
}
