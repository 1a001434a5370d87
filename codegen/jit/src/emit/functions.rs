//! Tanh, the error function, gelu and the logarithm, four lanes at a time, operation by operation as the reference
//! evaluator computes them. The coefficients are those of its `math`; tests over whole networks compare the two bit for bit.

use super::emitter::Emitter;
use super::math::{LN2_HIGH, LN2_LOW};
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32X4, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

const TANH_BOUND: f32 = 7.905311;
const TANH_LINEAR: f32 = 0.0004;
const TANH_NUMERATOR: [f32; 7] =
    [-2.7607684e-16, 2.000188e-13, -8.604672e-11, 5.1222973e-8, 1.485_722_4e-5, 6.372_619_5e-4, 4.893_524_6e-3];
const TANH_DENOMINATOR: [f32; 4] = [1.1982584e-6, 1.1853471e-4, 2.268_434_7e-3, 4.893_525e-3];
const ERF_BOUND: f32 = 4.0;
const ERF_NUMERATOR: [f32; 7] =
    [-2.7261424e-10, 2.7706815e-8, -2.101024e-6, -5.6925062e-5, -7.349_906_4e-4, -2.9546e-3, -1.609_603_3e-2];
const ERF_DENOMINATOR: [f32; 5] = [-1.456_607_1e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
const LOG_POLYNOMIAL: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_84e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_7e-1,
    2.000_071_4e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

impl Emitter<'_> {
    /// A polynomial from its highest power.
    fn horner(&mut self, coefficients: &[f32], x: Value) -> Value {
        let mut p = self.floats(coefficients[0]);
        for &c in &coefficients[1..] {
            let px = self.b.ins().fmul(p, x);
            p = self.add(px, c);
        }
        p
    }

    /// `condition ? x : y`, the condition a comparison.
    fn choose(&mut self, condition: Value, x: Value, y: Value) -> Value {
        let mask = self.cast(F32X4, condition);
        self.b.ins().bitselect(mask, x, y)
    }

    /// `c P(c²) / Q(c²)` of the argument cut to a bound.
    fn odd_rational(&mut self, x: Value, bound: f32, numerator: &[f32], denominator: &[f32]) -> Value {
        let high = self.floats(bound);
        let c = self.min(high, x);
        let low = self.floats(-bound);
        let c = self.max(low, c);
        let square = self.b.ins().fmul(c, c);
        let p = self.horner(numerator, square);
        let p = self.b.ins().fmul(c, p);
        let q = self.horner(denominator, square);
        self.b.ins().fdiv(p, q)
    }

    /// The hyperbolic tangent.
    pub fn tanh(&mut self, x: Value) -> Value {
        let y = self.odd_rational(x, TANH_BOUND, &TANH_NUMERATOR, &TANH_DENOMINATOR);
        let size = self.b.ins().fabs(x);
        let linear = self.floats(TANH_LINEAR);
        let small = self.b.ins().fcmp(FloatCC::LessThan, size, linear);
        self.choose(small, x, y)
    }

    /// The error function.
    pub fn erf(&mut self, x: Value) -> Value {
        self.odd_rational(x, ERF_BOUND, &ERF_NUMERATOR, &ERF_DENOMINATOR)
    }

    /// `(x * 0.5) * (erf(x * sqrt(1/2)) + 1)`.
    pub fn gelu(&mut self, x: Value) -> Value {
        let half = self.scale(x, 0.5);
        let y = self.scale(x, std::f32::consts::FRAC_1_SQRT_2);
        let y = self.erf(y);
        let y = self.add(y, 1.0);
        self.b.ins().fmul(half, y)
    }

    /// The natural logarithm.
    pub fn log(&mut self, x: Value) -> Value {
        let least = self.floats(f32::MIN_POSITIVE);
        let a = self.max(x, least);
        let bits = self.cast(I32X4, a);
        let fraction = self.ints(0x007f_ffff);
        let m = self.b.ins().band(bits, fraction);
        let half = self.ints(0x3f00_0000);
        let m = self.b.ins().bor(m, half);
        let m = self.cast(F32X4, m);
        let root = self.floats(std::f32::consts::FRAC_1_SQRT_2);
        let low = self.b.ins().fcmp(FloatCC::LessThan, m, root);
        let exponent = self.b.ins().sshr_imm_u(bits, 23);
        let bias = self.ints(126);
        let exponent = self.b.ins().isub(exponent, bias);
        let e = self.b.ins().fcvt_from_sint(F32X4, exponent);
        let less = self.add(e, -1.0);
        let e = self.choose(low, less, e);
        let double = self.b.ins().fadd(m, m);
        let m = self.choose(low, double, m);
        let m = self.add(m, -1.0);
        let z = self.b.ins().fmul(m, m);
        let p = self.horner(&LOG_POLYNOMIAL, m);
        let y = self.b.ins().fmul(p, m);
        let y = self.b.ins().fmul(y, z);
        let tail = self.scale(e, LN2_LOW);
        let y = self.b.ins().fadd(y, tail);
        let half = self.scale(z, 0.5);
        let y = self.b.ins().fsub(y, half);
        let y = self.b.ins().fadd(m, y);
        let head = self.scale(e, LN2_HIGH);
        let y = self.b.ins().fadd(y, head);
        let infinity = self.floats(f32::INFINITY);
        let infinite = self.b.ins().fcmp(FloatCC::Equal, x, infinity);
        let y = self.choose(infinite, infinity, y);
        let zero = self.floats(0.0);
        let empty = self.b.ins().fcmp(FloatCC::Equal, x, zero);
        let bottom = self.floats(f32::NEG_INFINITY);
        let y = self.choose(empty, bottom, y);
        let fine = self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, x, zero);
        let nan = self.floats(f32::NAN);
        self.choose(fine, y, nan)
    }
}
