//! The operations from which functions are built, and their definition for single numbers.

/// `a` if `a > b`, else `b`. The result is therefore `b` if either operand is NaN, and also if both are zeros. This is what x86
/// `maxps` does.
#[inline(always)]
pub fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `a` if `a < b`, else `b`. The result is therefore `b` if either operand is NaN, and also if both are zeros. This is what x86
/// `minps` does.
#[inline(always)]
pub fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The operations on f32 values, integers and booleans from which element-wise functions are built.
///
/// Functions are generic over this trait, so one definition works for single numbers ([`Scalar`]), for vectors and for generated
/// code. This is the "tagless final" style of Carette, Kiselyov and Shan, "Finally Tagless, Partially Evaluated", 2009. For each
/// element, every implementation must give the same bits as [`Scalar`], except that the bits of a NaN may differ, and that signaling NaNs
/// are not defined. A vector type must mark each method `#[inline(always)]`, because the target features are enabled in its callers.
pub trait Arithmetic {
    /// One or more f32.
    type Real: Copy;
    /// The same number of i32.
    type Int: Copy;
    /// The same number of booleans.
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
    /// `-x`. Flips the sign bit.
    fn neg(&mut self, x: Self::Real) -> Self::Real;
    /// `|x|`. Clears the sign bit.
    fn abs(&mut self, x: Self::Real) -> Self::Real;
    /// The square root. NaN below 0.
    fn sqrt(&mut self, x: Self::Real) -> Self::Real;
    /// The largest integer that is not greater than `x`.
    fn floor(&mut self, x: Self::Real) -> Self::Real;
    /// The smallest integer that is not less than `x`.
    fn ceil(&mut self, x: Self::Real) -> Self::Real;
    /// The nearest integer. Ties go to the even one.
    fn round_half_even(&mut self, x: Self::Real) -> Self::Real;

    /// `a < b`. False if either is NaN.
    fn less(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a >= b`. False if either is NaN.
    fn at_least(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a == b`. False if either is NaN.
    fn equal(&mut self, a: Self::Real, b: Self::Real) -> Self::Mask;
    /// `a` where the mask is true, else `b`.
    fn select(&mut self, mask: Self::Mask, a: Self::Real, b: Self::Real) -> Self::Real;

    /// Converts an integral f32 that fits in 32 bits to an integer. NaN may give any integer.
    fn convert_to_int(&mut self, x: Self::Real) -> Self::Int;
    /// The f32 nearest to an integer.
    fn convert_to_real(&mut self, n: Self::Int) -> Self::Real;
    /// Reinterprets the bits of an f32 as an integer.
    fn bits_to_int(&mut self, x: Self::Real) -> Self::Int;
    /// Reinterprets the bits of an integer as an f32.
    fn bits_to_real(&mut self, n: Self::Int) -> Self::Real;

    /// `a + b`, wrapping.
    fn add_int(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `a - b`, wrapping.
    fn sub_int(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The bits set in both.
    fn and(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// The bits set in either.
    fn or(&mut self, a: Self::Int, b: Self::Int) -> Self::Int;
    /// `n << count`. `count` is a constant below 32.
    fn shift_left(&mut self, n: Self::Int, count: u32) -> Self::Int;
    /// `n >> count`, with copies of the sign bit shifted in. `count` is a constant below 32.
    fn shift_right(&mut self, n: Self::Int, count: u32) -> Self::Int;
}

/// Arithmetic on one f32 at a time. It is the reference for all other implementations.
///
/// Loops over slices can still be vectorized, because every method is inlined and then free of branches.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

/// Defines the methods of [`Scalar`] as inlined functions.
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
