//! What happens to an output element between accumulator and store, on a few neighbouring elements at a time.

use super::emitter::Emitter;
use crate::storage::{Codes, LaneAccess};
use catc_program::{Activation, Binary};
use cranelift_codegen::ir::types::I32X4;
use cranelift_codegen::ir::{InstBuilder, Value};
use std::fmt;

/// A factor. Its value lies among the constants, four times in a row, so that layers which differ in their factors alone share
/// code: what it prints is its place, and whether it is 1, which code is left out for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Factor {
    /// The value.
    pub value: f32,
    /// Its number in the epilogue.
    pub number: usize,
}

impl Factor {
    /// Whether multiplying with it changes nothing.
    fn is_one(self) -> bool {
        self.value == 1.0
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.is_one() { " = 1" } else { "" })
    }
}

/// A step on the running value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum EpilogueStep {
    /// With the operand of that number, after its factor.
    Binary(Binary, usize, Factor),
    /// A function.
    Activation(Activation),
    /// A factor.
    Scale(Factor),
}

/// The steps of a layer, and how its results become codes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Epilogue {
    /// In order.
    pub steps: Vec<EpilogueStep>,
    /// Multiplied on before rounding.
    pub requantize: Option<Factor>,
    /// Slot of the factors.
    pub factor_slot: usize,
    /// Whether the values that are rounded are known to be no NaN and below `2^21`.
    pub small: bool,
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Output {
    /// How neighbouring results lie.
    pub access: LaneAccess,
    /// The codes, if they are codes.
    pub codes: Option<Codes>,
}

impl Epilogue {
    /// Leaves out a final ReLU that clamping to codes does anyway: nothing but positive factors follow it, and the lowest code
    /// stands for 0.
    pub fn simplify(&mut self, codes: Option<Codes>) {
        let Some(codes) = codes else { return };
        if codes.zero != 0 || self.requantize.is_some_and(|f| f.value.is_nan() || f.value <= 0.0) {
            return;
        }
        let tail = self.steps.iter().rev().take_while(|s| matches!(s, EpilogueStep::Scale(f) if f.value > 0.0)).count();
        let at = self.steps.len() - tail;
        if at > 0 && self.steps[at - 1] == EpilogueStep::Activation(Activation::Relu) {
            self.steps.remove(at - 1);
        }
    }
}

impl Emitter<'_> {
    /// Applies the steps. `operand` loads the operand of a number for the same elements, as f32.
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
                EpilogueStep::Activation(function) => {
                    values = values.into_iter().map(|v| self.activation(function, v)).collect();
                }
                EpilogueStep::Binary(function, number, factor) => {
                    let others = operand(self, number);
                    let others = self.multiply(epilogue, others, factor);
                    let pairs = values.into_iter().zip(others);
                    values = pairs.map(|(v, other)| self.binary(function, v, other)).collect();
                }
            }
        }
        values
    }

    fn multiply(&mut self, epilogue: &Epilogue, values: Vec<Value>, factor: Factor) -> Vec<Value> {
        if factor.is_one() {
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
                let t = self.add(t, MAGIC);
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

    /// To the range of the codes less their zero-point; NaN becomes 0.
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
