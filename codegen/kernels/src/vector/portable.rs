//! Vectors of any width as arrays: the reference for the vectors of instruction sets.

use super::Vector;
use catc_scalar::{Arithmetic, Scalar};
use std::array::from_fn;

/// `N` lanes, computed one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable<const N: usize>;

/// Defines methods of [`Arithmetic`] by those of [`Scalar`], lane by lane.
macro_rules! lanes {
    ($($name:ident($($x:ident: $t:ty),*) -> $out:ty;)*) => {
        $(fn $name(&mut self, $($x: [$t; N]),*) -> [$out; N] {
            from_fn(|lane| Scalar.$name($($x[lane]),*))
        })*
    };
}

impl<const N: usize> Arithmetic for Portable<N> {
    type Real = [f32; N];
    type Int = [i32; N];
    type Mask = [bool; N];

    lanes! {
        add(a: f32, b: f32) -> f32;
        sub(a: f32, b: f32) -> f32;
        mul(a: f32, b: f32) -> f32;
        div(a: f32, b: f32) -> f32;
        max(a: f32, b: f32) -> f32;
        min(a: f32, b: f32) -> f32;
        neg(x: f32) -> f32;
        abs(x: f32) -> f32;
        sqrt(x: f32) -> f32;
        floor(x: f32) -> f32;
        ceil(x: f32) -> f32;
        round_half_even(x: f32) -> f32;
        less(a: f32, b: f32) -> bool;
        at_least(a: f32, b: f32) -> bool;
        equal(a: f32, b: f32) -> bool;
        select(mask: bool, a: f32, b: f32) -> f32;
        convert_to_int(x: f32) -> i32;
        convert_to_real(n: i32) -> f32;
        bits_to_int(x: f32) -> i32;
        bits_to_real(n: i32) -> f32;
        add_int(a: i32, b: i32) -> i32;
        sub_int(a: i32, b: i32) -> i32;
        and(a: i32, b: i32) -> i32;
        or(a: i32, b: i32) -> i32;
    }

    fn real(&mut self, x: f32) -> [f32; N] {
        [x; N]
    }

    fn int(&mut self, n: i32) -> [i32; N] {
        [n; N]
    }

    fn shift_left(&mut self, n: [i32; N], count: u32) -> [i32; N] {
        n.map(|n| n << count)
    }

    fn shift_right(&mut self, n: [i32; N], count: u32) -> [i32; N] {
        n.map(|n| n >> count)
    }
}

impl<const N: usize> Vector for Portable<N> {
    const LANES: usize = N;
    type Bytes = [[u8; 4]; N];

    unsafe fn load_reals(self, from: *const f32) -> [f32; N] {
        // SAFETY: the caller's promise; the same holds below.
        unsafe { from.cast::<[f32; N]>().read_unaligned() }
    }

    unsafe fn load_some_reals(self, from: *const f32, count: i64) -> [f32; N] {
        // SAFETY: see `load_reals`.
        from_fn(|lane| if (lane as i64) < count { unsafe { from.add(lane).read() } } else { f32::NAN })
    }

    unsafe fn load_ints(self, from: *const i32) -> [i32; N] {
        // SAFETY: see `load_reals`.
        unsafe { from.cast::<[i32; N]>().read_unaligned() }
    }

    unsafe fn load_bytes(self, from: *const u8) -> [i32; N] {
        // SAFETY: see `load_reals`.
        unsafe { from.cast::<[u8; N]>().read() }.map(i32::from)
    }

    unsafe fn load_packed_bytes(self, from: *const u8, count: i64) -> [i32; N] {
        // SAFETY: see `load_reals`.
        let byte = |at: usize| if (at as i64) < count { unsafe { from.add(at).read() } } else { 0xaa };
        from_fn(|lane| i32::from_le_bytes(from_fn(|i| byte(4 * lane + i))))
    }

    unsafe fn store_reals(self, to: *mut f32, values: [f32; N], count: i64) {
        for (lane, value) in values.into_iter().enumerate().take(count.max(0) as usize) {
            // SAFETY: see `load_reals`.
            unsafe { to.add(lane).write(value) }
        }
    }

    unsafe fn store_runs<const RUNS: usize>(self, to: *mut u8, stride: i64, bytes: [[u8; 4]; N], count: i64) {
        for (run, part) in bytes.as_flattened().chunks_exact(4 * N / RUNS).enumerate() {
            for (at, &byte) in part[..count as usize].iter().enumerate() {
                // SAFETY: see `load_reals`.
                unsafe { to.offset(run as isize * stride as isize).add(at).write(byte) }
            }
        }
    }

    fn prefetch(self, _: *const u8) {}

    fn lane_numbers(self) -> [i32; N] {
        from_fn(|lane| lane as i32)
    }

    fn look_up(self, table: [f32; N], index: [i32; N]) -> [f32; N] {
        index.map(|index| table[index as usize % N])
    }

    fn fused_mul_add(self, a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    fn zero_where_nan(self, x: [f32; N]) -> [f32; N] {
        x.map(|x| if x.is_nan() { 0.0 } else { x })
    }

    fn round_to_int(self, x: [f32; N]) -> [i32; N] {
        let fits = |x: f32| (-2147483648.0..2147483648.0).contains(&x);
        x.map(|x| if fits(x) { x.round_ties_even() as i32 } else { i32::MIN })
    }

    fn sub_halves(self, a: [i32; N], b: [i32; N]) -> [i32; N] {
        from_fn(|lane| {
            let [a, b] = [a[lane].cast_unsigned(), b[lane].cast_unsigned()];
            let low = (a as u16).wrapping_sub(b as u16);
            let high = ((a >> 16) as u16).wrapping_sub((b >> 16) as u16);
            (u32::from(high) << 16 | u32::from(low)).cast_signed()
        })
    }

    fn shift_halves_left_8(self, a: [i32; N]) -> [i32; N] {
        a.map(|a| ((a.cast_unsigned() & 0x00ff_00ff) << 8).cast_signed())
    }

    fn pack_vectors(self, codes: [[i32; N]; 4], highest: u8) -> [[u8; 4]; N] {
        let all: Vec<u8> = codes.as_flattened().iter().map(|&code| (code.clamp(0, 255) as u8).min(highest)).collect();
        from_fn(|lane| from_fn(|i| all[4 * lane + i]))
    }

    fn pack_lanes(self, codes: [[i32; N]; 4], highest: u8) -> [[u8; 4]; N] {
        from_fn(|lane| from_fn(|vector| (codes[vector][lane].clamp(0, 255) as u8).min(highest)))
    }
}
