//! The operations that functions are written in, and their meaning for plain numbers.

/// `a` if `a > b`, else `b`: so `b` where either is NaN, and `b` where both are zeros (x86 `maxps`).
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `a` if `a < b`, else `b`: so `b` where either is NaN, and `b` where both are zeros (x86 `minps`).
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The operations on reals, integers and truth values that elementwise functions consist of.
///
/// Functions are generic over it, so that one definition serves for numbers ([`Scalar`]), for vectors and for generated code
/// (the "tagless final" form of Carette, Kiselyov and Shan, "Finally Tagless, Partially Evaluated", 2009). Every implementation
/// must give, for each element, the same bits as [`Scalar`]; the bits of a NaN are free. A vector type implements each
/// method as `#[inline(always)]`, since its callers carry the target features.
pub trait Arithmetic {
    /// One or more f32.
    type Real: Copy;
    /// As many i32.
    type Int: Copy;
    /// As many truth values.
    type Mask: Copy;

    /// The constant `x` in every element.
    fn real(&mut self, x: f32) -> Self::Real;
    /// The constant `n` in every element.
    fn int(&mut self, n: i32) -> Self::Int;

    /// `a + b`.
    fn add(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a - b`.
    fn sub(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a * b`.
    fn mul(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `a / b`.
    fn div(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// [`max`].
    fn max(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// [`min`].
    fn min(&mut self, a: Self::Real, b: Self::Real) -> Self::Real;
    /// `-x`: the sign bit flipped.
    fn neg(&mut self, x: Self::Real) -> Self::Real;
    /// `|x|`: the sign bit cleared.
    fn abs(&mut self, x: Self::Real) -> Self::Real;
    /// The square root; NaN below 0.
    fn sqrt(&mut self, x: Self::Real) -> Self::Real;
    /// The largest whole number that is not above `x`.
    fn floor(&mut self, x: Self::Real) -> Self::Real;
    /// The smallest whole number that is not below `x`.
    fn ceil(&mut self, x: Self::Real) -> Self::Real;
    /// The nearest whole number, halves to even.
    fn round_half_even(&mut self, x: Self::Real) -> Self::Real;

    /// `a < b`; false where either is NaN.
    fn less(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a >= b`; false where either is NaN.
    fn at_least(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a == b`; false where either is NaN.
    fn equal(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a` where the mask is true, else `b`.
    fn select(&mut self, mask: Self::Mask, a: Self::Real, b: Self::Real) -> Self::Real;

    /// The integer equal to a whole number that fits 32 bits; of NaN any integer.
    fn convert_to_int(&mut self, x: Self::Real) -> Self::Int;
    /// The real nearest to an integer.
    fn convert_to_real(&mut self, n: Self::Int) -> Self::Real;
    /// The integer with the bits of a real.
    fn bits_to_int(&mut self, x: Self::Real) -> Self::Int;
    /// The real with the bits of an integer.
    fn bits_to_real(&mut self, n: Self::Int) -> Self::Real;

    /// `a + b`, wrapping.
    fn add_int(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a - b`, wrapping.
    fn sub_int(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The bits set in both.
    fn and(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The bits set in either.
    fn or(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `n << count`, with `count` a constant below 32.
    fn shift_left(&mut self, n: Self::Int, count: u32) -> Self::Int;
    /// `n >> count`, copying the sign bit, with `count` a constant below 32.
    fn shift_right(&mut self, n: Self::Int, count: u32) -> Self::Int;
}

/// One f32 at a time: what every other implementation must agree with.
///
/// A loop over a slice is still compiled to vector instructions, as every method is inlined and free of branches after that.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Methods of [`Scalar`], each inlined.
macro_rules! scalar {
    ($($name:ident($($x:ident: $t:ty),*) -> $out:ty { $body:expr })*) => {
        $(#[inline(always)]
        fn $name(&mut self, $($x: $t),*) -> $out {
            $body
        })*
    };
}

impl Arithmetic for Scalar {
    type Real = f32;
    type Int = i32;
    type Mask = bool;

    scalar! {
        real(x: f32) -> f32 { x }
        int(n: i32) -> i32 { n }
        add(a: f32, b: f32) -> f32 { a + b }
        sub(a: f32, b: f32) -> f32 { a - b }
        mul(a: f32, b: f32) -> f32 { a * b }
        div(a: f32, b: f32) -> f32 { a / b }
        max(a: f32, b: f32) -> f32 { max(a, b) }
        min(a: f32, b: f32) -> f32 { min(a, b) }
        neg(x: f32) -> f32 { -x }
        abs(x: f32) -> f32 { x.abs() }
        sqrt(x: f32) -> f32 { x.sqrt() }
        floor(x: f32) -> f32 { x.floor() }
        ceil(x: f32) -> f32 { x.ceil() }
        round_half_even(x: f32) -> f32 { x.round_ties_even() }
        less(a: f32, b: f32) -> bool { a < b }
        at_least(a: f32, b: f32) -> bool { a >= b }
        equal(a: f32, b: f32) -> bool { a == b }
        select(mask: bool, a: f32, b: f32) -> f32 { if mask { a } else { b } }
        convert_to_int(x: f32) -> i32 { x as i32 }
        convert_to_real(n: i32) -> f32 { n as f32 }
        bits_to_int(x: f32) -> i32 { x.to_bits().cast_signed() }
        bits_to_real(n: i32) -> f32 { f32::from_bits(n.cast_unsigned()) }
        add_int(a: i32, b: i32) -> i32 { a.wrapping_add(b) }
        sub_int(a: i32, b: i32) -> i32 { a.wrapping_sub(b) }
        and(a: i32, b: i32) -> i32 { a & b }
        or(a: i32, b: i32) -> i32 { a | b }
        shift_left(n: i32, count: u32) -> i32 { n << count }
        shift_right(n: i32, count: u32) -> i32 { n >> count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_takes_the_second_operand() {
        assert_eq!(max(f32::NAN, 1.0), 1.0);
        assert!(max(1.0, f32::NAN).is_nan());
        assert_eq!(min(f32::NAN, 1.0), 1.0);
        assert!(min(1.0, f32::NAN).is_nan());
    }
}
