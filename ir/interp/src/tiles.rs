//! Sums of products over shifted rows, computed in register tiles.
//!
//! The matrix `B` is never stored explicitly. Its row `k` is the part of `b` that starts at `rows[k]`. All taps of a convolution
//! are rows of the same padded planes, so neither windows nor columns are copied.
//!
//! The order of each sum does not depend on the width of the CPU's vectors. [`accumulate`] adds the terms one after another, each
//! with one fused multiply-add. [`correlate`] does the same in 16 lanes and then sums the lanes as a tree. Results are therefore
//! the same on all CPUs with fused multiply-add. Other CPUs round each product.

use pulp::{Arch, Simd, WithSimd};

/// The number of columns that [`accumulate`] and [`correlate`] process together. The operands are padded to a multiple of it.
pub(crate) const LANES: usize = 16;
/// The number of rows of `A` that are packed together.
pub(crate) const BLOCK: usize = 8;

/// The operands of [`accumulate`].
pub(crate) struct Accumulate<'a> {
    /// `A` `[M / BLOCK][K][BLOCK]`.
    pub a: &'a [f32],
    /// The starts of the `K` rows of `B` in `b`.
    pub rows: &'a [usize],
    pub b: &'a [f32],
    /// `C` `[M, N]`, rows `c_row` apart.
    pub c: &'a mut [f32],
    pub c_row: usize,
    /// `N`, a multiple of [`LANES`].
    pub columns: usize,
    /// Whether to add to `C` instead of overwriting it.
    pub add: bool,
}

/// Computes `C = A B` or `C += A B`.
pub(crate) fn accumulate(work: Accumulate) {
    Arch::new().dispatch(work)
}

impl WithSimd for Accumulate<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::REGISTER_COUNT {
            0..32 => self.run::<S, 4>(simd),
            _ => self.run::<S, 8>(simd),
        }
    }
}

impl Accumulate<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize>(self, simd: S) {
        let k = self.rows.len();
        let vectors = self.columns.next_multiple_of(LANES) / S::F32_LANES;
        let mut first = 0;
        while first < vectors {
            let n = (vectors - first).min(3);
            let from = first * S::F32_LANES;
            for (i, a) in self.a.chunks_exact(k * BLOCK).enumerate() {
                for part in 0..BLOCK / M {
                    let c = &mut self.c[(i * BLOCK + part * M) * self.c_row + from..];
                    let a = &a[part * M..];
                    match n {
                        3 => simd.vectorize(Tile::<S, M, 3> {
                            simd,
                            a,
                            rows: self.rows,
                            b: &self.b[from..],
                            c,
                            c_row: self.c_row,
                            add: self.add,
                        }),
                        2 => simd.vectorize(Tile::<S, M, 2> {
                            simd,
                            a,
                            rows: self.rows,
                            b: &self.b[from..],
                            c,
                            c_row: self.c_row,
                            add: self.add,
                        }),
                        _ => simd.vectorize(Tile::<S, M, 1> {
                            simd,
                            a,
                            rows: self.rows,
                            b: &self.b[from..],
                            c,
                            c_row: self.c_row,
                            add: self.add,
                        }),
                    }
                }
            }
            first += n;
        }
    }
}

struct Tile<'a, S, const M: usize, const N: usize> {
    simd: S,
    a: &'a [f32],
    rows: &'a [usize],
    b: &'a [f32],
    c: &'a mut [f32],
    c_row: usize,
    add: bool,
}

impl<S: Simd, const M: usize, const N: usize> pulp::NullaryFnOnce for Tile<'_, S, M, N> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let simd = self.simd;
        let width = N * S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); N]; M];
        for (&row, a) in self.rows.iter().zip(self.a.chunks(BLOCK)) {
            let (b, _) = S::as_simd_f32s(&self.b[row..][..width]);
            let b: [S::f32s; N] = std::array::from_fn(|j| b[j]);
            let a = &a[..M];
            for i in 0..M {
                let a = simd.splat_f32s(a[i]);
                for j in 0..N {
                    sums[i][j] = simd.mul_add_e_f32s(a, b[j], sums[i][j]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let (c, _) = S::as_mut_simd_f32s(&mut self.c[i * self.c_row..][..width]);
            for (c, &sum) in c.iter_mut().zip(sums) {
                *c = if self.add { simd.add_f32s(*c, sum) } else { sum };
            }
        }
    }
}

/// The operands of [`correlate`].
pub(crate) struct Correlate<'a> {
    /// `Y` `[M, N]`, rows `y_row` apart.
    pub y: &'a [f32],
    pub y_row: usize,
    /// `M`, a multiple of [`BLOCK`].
    pub outputs: usize,
    /// `N`, a multiple of [`LANES`].
    pub columns: usize,
    /// The starts of the rows of `B` in `b`.
    pub rows: &'a [usize],
    pub b: &'a [f32],
    /// `D` `[M, K]`.
    pub d: &'a mut [f32],
}

/// Computes `D += Y B^T`.
pub(crate) fn correlate(work: Correlate) {
    Arch::new().dispatch(work)
}

impl WithSimd for Correlate<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.run::<S, 8, 1>(simd),
            8 => self.run::<S, 2, 2>(simd),
            4 => self.run::<S, 2, 4>(simd),
            _ => self.run::<S, 1, 16>(simd),
        }
    }
}

impl Correlate<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const W: usize>(self, simd: S) {
        let k = self.rows.len();
        let columns = self.columns.next_multiple_of(LANES);
        for o in (0..self.outputs).step_by(M) {
            let y = &self.y[o * self.y_row..];
            let mut first = 0;
            for rows in self.rows.chunks(3) {
                let d = &mut self.d[o * k + first..];
                match *rows {
                    [r0, r1, r2] => simd.vectorize(Dots::<S, M, 3, W> {
                        simd,
                        y,
                        y_row: self.y_row,
                        columns,
                        rows: [r0, r1, r2],
                        b: self.b,
                        d,
                        d_row: k,
                    }),
                    [r0, r1] => simd.vectorize(Dots::<S, M, 2, W> {
                        simd,
                        y,
                        y_row: self.y_row,
                        columns,
                        rows: [r0, r1],
                        b: self.b,
                        d,
                        d_row: k,
                    }),
                    [r0] => simd.vectorize(Dots::<S, M, 1, W> {
                        simd,
                        y,
                        y_row: self.y_row,
                        columns,
                        rows: [r0],
                        b: self.b,
                        d,
                        d_row: k,
                    }),
                    _ => {}
                }
                first += rows.len();
            }
        }
    }
}

struct Dots<'a, S, const M: usize, const K: usize, const W: usize> {
    simd: S,
    y: &'a [f32],
    y_row: usize,
    columns: usize,
    rows: [usize; K],
    b: &'a [f32],
    d: &'a mut [f32],
    d_row: usize,
}

impl<S: Simd, const M: usize, const K: usize, const W: usize> pulp::NullaryFnOnce for Dots<'_, S, M, K, W> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let simd = self.simd;
        let b: [&[S::f32s]; K] = std::array::from_fn(|j| S::as_simd_f32s(&self.b[self.rows[j]..][..self.columns]).0);
        let y: [&[S::f32s]; M] = std::array::from_fn(|i| S::as_simd_f32s(&self.y[i * self.y_row..][..self.columns]).0);
        let mut sums = [[[simd.splat_f32s(0.0); W]; K]; M];
        let steps = self.columns / LANES;
        let len = steps * W;
        let b: [&[S::f32s]; K] = std::array::from_fn(|j| &b[j][..len]);
        let y: [&[S::f32s]; M] = std::array::from_fn(|i| &y[i][..len]);
        for n in 0..steps {
            for w in 0..W {
                let b: [S::f32s; K] = std::array::from_fn(|j| b[j][n * W + w]);
                for i in 0..M {
                    let y = y[i][n * W + w];
                    for j in 0..K {
                        sums[i][j][w] = simd.mul_add_e_f32s(y, b[j], sums[i][j][w]);
                    }
                }
            }
        }
        let mut lanes = [[0f32; LANES]; 24];
        for i in 0..M {
            for j in 0..K {
                S::as_mut_simd_f32s(&mut lanes[i * K + j]).0.copy_from_slice(&sums[i][j]);
            }
        }
        let mut totals = [0f32; 24];
        for (rows, totals) in lanes.chunks_exact(8).zip(totals.chunks_exact_mut(8)).take((M * K).div_ceil(8)) {
            let Ok(rows) = <&[[f32; LANES]; 8]>::try_from(rows) else { continue };
            totals.copy_from_slice(&sum_rows::<S>(rows));
        }
        for i in 0..M {
            let d = &mut self.d[i * self.d_row..][..K];
            for j in 0..K {
                d[j] += totals[i * K + j];
            }
        }
    }
}

/// The sum of each row. It first adds lanes that are eight apart, then pairs of neighbours, then pairs of these sums, and finally
/// the two halves.
#[inline(always)]
fn sum_rows<S: Simd>(rows: &[[f32; LANES]; 8]) -> [f32; 8] {
    #[cfg(target_arch = "x86_64")]
    if S::F32_LANES >= 8 {
        // SAFETY: on x86-64, vectors of eight or more lanes imply AVX.
        return unsafe { sum_rows_avx(rows) };
    }
    rows.map(|x| {
        let h: [f32; 8] = std::array::from_fn(|i| x[i] + x[i + 8]);
        ((h[0] + h[1]) + (h[2] + h[3])) + ((h[4] + h[5]) + (h[6] + h[7]))
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
#[inline]
fn sum_rows_avx(rows: &[[f32; LANES]; 8]) -> [f32; 8] {
    use std::arch::x86_64::*;
    let half = |i: usize| {
        let (low, high) = rows[i].split_at(8);
        // SAFETY: both halves hold eight elements.
        unsafe { _mm256_add_ps(_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())) }
    };
    let pairs = |i: usize| _mm256_hadd_ps(half(i), half(i + 1));
    let (a, b) = (_mm256_hadd_ps(pairs(0), pairs(2)), _mm256_hadd_ps(pairs(4), pairs(6)));
    let sums = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
    let mut out = [0f32; 8];
    // SAFETY: the array holds eight elements.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sums) };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::Scalar;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    /// Computes both products with one vector width. The sizes leave a remainder for every tile.
    fn products(run: &dyn Fn(Accumulate), pull: &dyn Fn(Correlate)) -> [Vec<f32>; 2] {
        const M: usize = 16;
        let columns = 7 * LANES;
        let rows: Vec<usize> = (0..11).map(|k| k / 3 * 150 + k % 3 * 7).collect();
        let (a, b) = (numbers(M * rows.len(), 1), numbers(900, 2));
        let mut c = numbers(M * 120, 3);
        for add in [false, true] {
            run(Accumulate { a: &a, rows: &rows, b: &b, c: &mut c, c_row: 120, columns, add });
        }
        let y = numbers(M * 130, 4);
        let mut d = numbers(M * rows.len(), 5);
        pull(Correlate { y: &y, y_row: 130, outputs: M, columns, rows: &rows, b: &b, d: &mut d });
        for m in 0..M {
            for (k, &row) in rows.iter().enumerate() {
                let dot: f64 = (0..columns).map(|n| f64::from(y[m * 130 + n]) * f64::from(b[row + n])).sum();
                let expected = dot + f64::from(numbers(M * rows.len(), 5)[m * rows.len() + k]);
                assert!((f64::from(d[m * rows.len() + k]) - expected).abs() < 1e-5);
            }
            for n in 0..columns {
                let term = |k: usize| {
                    f64::from(a[(m / BLOCK * rows.len() + k) * BLOCK + m % BLOCK]) * f64::from(b[rows[k] + n])
                };
                let expected = 2.0 * (0..rows.len()).map(term).sum::<f64>();
                assert!((f64::from(c[m * 120 + n]) - expected).abs() < 1e-5);
            }
        }
        [c, d]
    }

    #[test]
    fn every_width_of_vectors_gives_the_same_sums() {
        let widest = products(&accumulate, &correlate);
        products(&|work| work.with_simd(Scalar), &|work| work.with_simd(Scalar));
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            let narrow = products(&|work| v3.vectorize(OnV3(work, v3)), &|work| v3.vectorize(OnV3(work, v3)));
            assert!(narrow == widest);
        }
        assert_eq!(widest, products(&accumulate, &correlate));
    }

    #[cfg(target_arch = "x86_64")]
    struct OnV3<W>(W, pulp::x86::V3);

    #[cfg(target_arch = "x86_64")]
    impl<W: WithSimd> pulp::NullaryFnOnce for OnV3<W> {
        type Output = W::Output;
        #[inline(always)]
        fn call(self) -> W::Output {
            self.0.with_simd(self.1)
        }
    }
}
