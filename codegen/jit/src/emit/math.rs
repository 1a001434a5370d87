//! The f32 functions of the integer phase, four lanes at a time, operation by operation as the reference evaluator
//! computes them: one rounding each, nothing fused.

use super::emitter::Emitter;
use catc_program::{Activation, Binary};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32X4, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

const EXP_HIGHEST: f32 = 89.0;
const EXP_LOWEST: f32 = -104.0;
/// The leading 10 bits of `ln(2)`.
pub(super) const LN2_HIGH: f32 = 355.0 / 512.0;
pub(super) const LN2_LOW: f32 = -2.121_944_4e-4;
/// `exp(r) = 1 + r + r² P(r)`, from the highest power.
const EXP_POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

impl Emitter<'_> {
    /// `x > y ? x : y`, so `y` where either is NaN: one `maxps`.
    pub fn max(&mut self, x: Value, y: Value) -> Value {
        let greater = self.b.ins().fcmp(FloatCC::LessThan, y, x);
        let mask = self.cast(F32X4, greater);
        self.b.ins().bitselect(mask, x, y)
    }

    /// `x < y ? x : y`, so `y` where either is NaN: one `minps`.
    pub fn min(&mut self, x: Value, y: Value) -> Value {
        let less = self.b.ins().fcmp(FloatCC::LessThan, x, y);
        let mask = self.cast(F32X4, less);
        self.b.ins().bitselect(mask, x, y)
    }

    /// `t`, and 0 where it is NaN.
    pub fn without_nan(&mut self, t: Value) -> Value {
        let ordered = self.b.ins().fcmp(FloatCC::Equal, t, t);
        let mask = self.cast(F32X4, ordered);
        self.b.ins().band(t, mask)
    }

    /// `t * factor`.
    pub fn scale(&mut self, t: Value, factor: f32) -> Value {
        let factor = self.floats(factor);
        self.b.ins().fmul(t, factor)
    }

    /// `t + term`.
    pub fn add(&mut self, t: Value, term: f32) -> Value {
        let term = self.floats(term);
        self.b.ins().fadd(t, term)
    }

    fn clip(&mut self, t: Value, low: f32, high: f32) -> Value {
        let low = self.floats(low);
        let t = self.max(t, low);
        let high = self.floats(high);
        self.min(t, high)
    }

    /// An activation function.
    pub fn activation(&mut self, function: Activation, t: Value) -> Value {
        match function {
            Activation::Relu => {
                let zero = self.floats(0.0);
                self.max(t, zero)
            }
            Activation::LeakyRelu { alpha } => {
                let scaled = self.scale(t, alpha);
                let zero = self.floats(0.0);
                let above = self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, t, zero);
                let mask = self.cast(F32X4, above);
                self.b.ins().bitselect(mask, t, scaled)
            }
            Activation::Clip { min, max } => self.clip(t, min, max),
            Activation::Sigmoid => self.sigmoid(t),
            Activation::HardSigmoid { alpha, beta } => {
                let line = self.scale(t, alpha);
                let line = self.add(line, beta);
                self.clip(line, 0.0, 1.0)
            }
            Activation::HardSwish => {
                let line = self.scale(t, 1.0 / 6.0);
                let line = self.add(line, 0.5);
                let gate = self.clip(line, 0.0, 1.0);
                self.b.ins().fmul(t, gate)
            }
            Activation::Exp => self.exp(t),
            Activation::Log => self.log(t),
            Activation::Sqrt => self.b.ins().sqrt(t),
            Activation::Tanh => self.tanh(t),
            Activation::Erf => self.erf(t),
            Activation::Gelu => self.gelu(t),
            Activation::Abs => self.b.ins().fabs(t),
            Activation::Floor => self.b.ins().floor(t),
            Activation::Ceil => self.b.ins().ceil(t),
            Activation::Round => self.b.ins().nearest(t),
        }
    }

    /// A function of two.
    pub fn binary(&mut self, function: Binary, x: Value, y: Value) -> Value {
        match function {
            Binary::Add => self.b.ins().fadd(x, y),
            Binary::Sub => self.b.ins().fsub(x, y),
            Binary::Mul => self.b.ins().fmul(x, y),
            Binary::Div => self.b.ins().fdiv(x, y),
        }
    }

    /// `e^x`: the argument is cut to `2^n * e^r`, `e^r` is a polynomial, and `2^n` goes on in two factors because it need not be a
    /// normal number itself.
    pub fn exp(&mut self, x: Value) -> Value {
        // The bound comes first in both, so that NaN stays NaN.
        let high = self.floats(EXP_HIGHEST);
        let x = self.min(high, x);
        let low = self.floats(EXP_LOWEST);
        let x = self.max(low, x);
        let n = self.scale(x, std::f32::consts::LOG2_E);
        let n = self.b.ins().nearest(n);
        let high = self.scale(n, LN2_HIGH);
        let r = self.b.ins().fsub(x, high);
        let low = self.scale(n, LN2_LOW);
        let r = self.b.ins().fsub(r, low);
        let mut p = self.floats(EXP_POLYNOMIAL[0]);
        for &c in &EXP_POLYNOMIAL[1..] {
            let pr = self.b.ins().fmul(p, r);
            p = self.add(pr, c);
        }
        let square = self.b.ins().fmul(r, r);
        let y = self.b.ins().fmul(p, square);
        let y = self.b.ins().fadd(y, r);
        let y = self.add(y, 1.0);
        let n = self.b.ins().fcvt_to_sint_sat(I32X4, n);
        let half = self.b.ins().sshr_imm_u(n, 1);
        let rest = self.b.ins().isub(n, half);
        let half = self.power_of_two(half);
        let rest = self.power_of_two(rest);
        let y = self.b.ins().fmul(y, half);
        self.b.ins().fmul(y, rest)
    }

    fn power_of_two(&mut self, n: Value) -> Value {
        let bias = self.ints(127);
        let exponent = self.b.ins().iadd(n, bias);
        let bits = self.b.ins().ishl_imm_u(exponent, 23);
        self.cast(F32X4, bits)
    }

    /// `1 / (1 + exp(-x))`.
    pub fn sigmoid(&mut self, x: Value) -> Value {
        let minus = self.b.ins().fneg(x);
        let e = self.exp(minus);
        let below = self.add(e, 1.0);
        let one = self.floats(1.0);
        self.b.ins().fdiv(one, below)
    }

    /// `(l0 + l1) + (l2 + l3)` of a vector's lanes.
    pub fn sum_of_lanes(&mut self, v: Value) -> Value {
        let lanes: Vec<Value> = (0..4).map(|i| self.b.ins().extractlane(v, i)).collect();
        let low = self.b.ins().fadd(lanes[0], lanes[1]);
        let high = self.b.ins().fadd(lanes[2], lanes[3]);
        self.b.ins().fadd(low, high)
    }
}
