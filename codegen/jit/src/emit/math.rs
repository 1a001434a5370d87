//! The arithmetic of elementwise functions as instructions, four lanes at a time: each operation of `catc-scalar` is one
//! Cranelift operation, so that emitted functions equal the evaluator's bit for bit.

use super::emitter::Emitter;
use catc_scalar::Arithmetic;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32X4, I32X4};
use cranelift_codegen::ir::{InstBuilder, Value};

/// Methods of the emitter that are one instruction each.
macro_rules! instructions {
    ($($name:ident($($x:ident),+) $instruction:ident;)*) => {
        $(fn $name(&mut self, $($x: Value),+) -> Value {
            self.b.ins().$instruction($($x),+)
        })*
    };
}

impl Arithmetic for Emitter<'_> {
    type Real = Value;
    type Int = Value;
    type Mask = Value;

    fn real(&mut self, x: f32) -> Value {
        self.floats(x)
    }

    fn int(&mut self, n: i32) -> Value {
        self.ints(n)
    }

    instructions! {
        add(a, b) fadd;
        sub(a, b) fsub;
        mul(a, b) fmul;
        div(a, b) fdiv;
        neg(x) fneg;
        abs(x) fabs;
        sqrt(x) sqrt;
        floor(x) floor;
        ceil(x) ceil;
        round_half_even(x) nearest;
        add_int(a, b) iadd;
        sub_int(a, b) isub;
        and(a, b) band;
        or(a, b) bor;
    }

    /// One `maxps` on x86.
    fn max(&mut self, a: Value, b: Value) -> Value {
        let greater = self.less(b, a);
        self.select(greater, a, b)
    }

    /// One `minps` on x86.
    fn min(&mut self, a: Value, b: Value) -> Value {
        let less = self.less(a, b);
        self.select(less, a, b)
    }

    fn less(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(FloatCC::LessThan, a, b)
    }

    fn at_least(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(FloatCC::GreaterThanOrEqual, a, b)
    }

    fn equal(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(FloatCC::Equal, a, b)
    }

    fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let mask = self.cast(F32X4, mask);
        self.b.ins().bitselect(mask, a, b)
    }

    fn convert_to_int(&mut self, x: Value) -> Value {
        self.b.ins().fcvt_to_sint_sat(I32X4, x)
    }

    fn convert_to_real(&mut self, n: Value) -> Value {
        self.b.ins().fcvt_from_sint(F32X4, n)
    }

    fn bits_to_int(&mut self, x: Value) -> Value {
        self.cast(I32X4, x)
    }

    fn bits_to_real(&mut self, n: Value) -> Value {
        self.cast(F32X4, n)
    }

    fn shift_left(&mut self, n: Value, count: u32) -> Value {
        self.b.ins().ishl_imm_u(n, i64::from(count))
    }

    fn shift_right(&mut self, n: Value, count: u32) -> Value {
        self.b.ins().sshr_imm_u(n, i64::from(count))
    }
}

impl Emitter<'_> {
    /// `t`, and 0 where it is NaN.
    pub fn without_nan(&mut self, t: Value) -> Value {
        let ordered = self.equal(t, t);
        let mask = self.cast(F32X4, ordered);
        self.b.ins().band(t, mask)
    }

    /// `t * factor`.
    pub fn scale(&mut self, t: Value, factor: f32) -> Value {
        let factor = self.floats(factor);
        self.mul(t, factor)
    }

    /// `(l0 + l1) + (l2 + l3)` of a vector's lanes.
    pub fn sum_of_lanes(&mut self, v: Value) -> Value {
        let lanes: Vec<Value> = (0..4).map(|i| self.b.ins().extractlane(v, i)).collect();
        let low = self.add(lanes[0], lanes[1]);
        let high = self.add(lanes[2], lanes[3]);
        self.add(low, high)
    }
}
