//! The transforms of [`crate::winograd`]. They are element-wise functions of a few lines at a time.

use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

/// The number of lines in a strip of the output, and in the corresponding strip of the input.
pub(crate) const OUT: usize = 4;
pub(crate) const IN: usize = 6;

/// A convolution cut into strips of four output lines.
#[derive(Clone, Copy)]
pub(crate) struct Strips {
    /// The padding rows above and the padding columns to the left.
    pub pads: [usize; 2],
    pub input: [usize; 2],
    pub output: [usize; 2],
    /// The number of columns of the kernel.
    pub columns: usize,
}

impl Strips {
    /// The number of strips of an image.
    pub fn per_image(&self) -> usize {
        self.output[0].div_ceil(OUT)
    }

    /// The number of columns of a transformed line.
    pub fn width(&self) -> usize {
        self.output[1] + self.columns - 1
    }

    /// The image of a strip and its first output line.
    #[inline(always)]
    fn place(&self, strip: usize) -> (usize, usize) {
        (strip / self.per_image(), strip % self.per_image() * OUT)
    }
}

/// Some channels of a batch of images. Images are `stride` elements apart, and the channels start at element `first` of an image.
#[derive(Clone, Copy)]
pub(crate) struct Channels {
    pub count: usize,
    pub stride: usize,
    pub first: usize,
}

/// Computes columns `at..at + W` of `to = f(from)`.
#[inline(always)]
fn block<const W: usize, const A: usize, const B: usize>(
    at: usize,
    from: &[&[f32]; A],
    to: &mut [&mut [f32]; B],
    f: impl Fn([f32; A]) -> [f32; B] + Copy,
) {
    let mut x = [[0f32; W]; A];
    for i in 0..A {
        x[i].copy_from_slice(&from[i][at..at + W]);
    }
    let mut y = [[0f32; W]; B];
    for l in 0..W {
        let mut column = [0f32; A];
        for i in 0..A {
            column[i] = x[i][l];
        }
        let out = f(column);
        for j in 0..B {
            y[j][l] = out[j];
        }
    }
    for j in 0..B {
        to[j][at..at + W].copy_from_slice(&y[j]);
    }
}

/// Computes `to = f(from)` for each column. All lines have the same length.
#[inline(always)]
fn each_column<const A: usize, const B: usize>(
    from: [&[f32]; A],
    mut to: [&mut [f32]; B],
    f: impl Fn([f32; A]) -> [f32; B] + Copy,
) {
    let n = from[0].len();
    let mut at = 0;
    while at + 16 <= n {
        block::<16, A, B>(at, &from, &mut to, f);
        at += 16;
    }
    if at + 8 <= n {
        block::<8, A, B>(at, &from, &mut to, f);
        at += 8;
    }
    while at < n {
        block::<1, A, B>(at, &from, &mut to, f);
        at += 1;
    }
}

/// The line `start..start + n` of each plane.
#[inline(always)]
fn lines<'a, const B: usize>(planes: &'a mut [&mut [f32]; B], start: usize, n: usize) -> [&'a mut [f32]; B] {
    planes.each_mut().map(|p| &mut p[start..start + n])
}

/// Transforms strips of the input by `B^T d` into six planes of `[channels][row]`.
pub(crate) struct TransformInput<'a> {
    pub strips: Strips,
    pub x: &'a [f32],
    pub channels: Channels,
    pub which: Range<usize>,
    pub out: [&'a mut [f32]; IN],
    pub row: usize,
    /// A line of zeros.
    pub zeros: &'a [f32],
}

impl WithSimd for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let s = self.strips;
        let [height, width] = s.input;
        let n = width.min(s.width() - s.pads[1]);
        for (at, strip) in self.which.enumerate() {
            let (image, top) = s.place(strip);
            let image = &self.x[image * self.channels.stride + self.channels.first..];
            for c in 0..self.channels.count {
                let plane = &image[c * height * width..][..height * width];
                let mut from = [&self.zeros[..n]; IN];
                for (j, line) in from.iter_mut().enumerate() {
                    if let Some(y) = (top + j).checked_sub(s.pads[0])
                        && y < height
                    {
                        *line = &plane[y * width..][..n];
                    }
                }
                let to = lines(&mut self.out, c * self.row + at * s.width() + s.pads[1], n);
                each_column(
                    from,
                    to,
                    #[inline(always)]
                    |[d0, d1, d2, d3, d4, d5]| {
                        let (even, odd) = (d4 - 4.0 * d2, d3 - 4.0 * d1);
                        let (even2, odd2) = (d4 - d2, 2.0 * (d3 - d1));
                        [
                            4.0 * d0 + (d4 - 5.0 * d2),
                            even + odd,
                            even - odd,
                            even2 + odd2,
                            even2 - odd2,
                            4.0 * d1 + (d5 - 5.0 * d3),
                        ]
                    },
                );
            }
        }
    }
}

/// Transforms strips of the output's gradient by `A y` into six planes of `[channels][row]`.
pub(crate) struct TransformGradient<'a> {
    pub strips: Strips,
    pub dy: &'a [f32],
    pub channels: Channels,
    pub which: Range<usize>,
    pub out: [&'a mut [f32]; IN],
    pub row: usize,
    /// A line of zeros.
    pub zeros: &'a [f32],
}

impl WithSimd for TransformGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let s = self.strips;
        let [height, width] = s.output;
        for (at, strip) in self.which.enumerate() {
            let (image, top) = s.place(strip);
            let image = &self.dy[image * self.channels.stride + self.channels.first..];
            for o in 0..self.channels.count {
                let plane = &image[o * height * width..][..height * width];
                let mut from = [&self.zeros[..width]; OUT];
                for (j, line) in from.iter_mut().enumerate().take(height - top) {
                    *line = &plane[(top + j) * width..][..width];
                }
                let to = lines(&mut self.out, o * self.row + at * s.width(), width);
                each_column(
                    from,
                    to,
                    #[inline(always)]
                    |[y0, y1, y2, y3]| {
                        let (even, odd) = (y0 + y2, y1 + y3);
                        let (even2, odd2) = (y0 + 4.0 * y2, 2.0 * y1 + 8.0 * y3);
                        [y0, even + odd, even - odd, even2 + odd2, even2 - odd2, y3]
                    },
                );
            }
        }
    }
}

/// Transforms six planes of sums, each `[channels][row]`, by `A^T m` to the lines of the output, and adds a bias.
pub(crate) struct TransformOutput<'a> {
    pub strips: Strips,
    pub sums: [&'a [f32]; IN],
    pub row: usize,
    pub which: Range<usize>,
    pub bias: Option<&'a [f32]>,
    pub y: &'a mut [f32],
    pub channels: Channels,
}

impl WithSimd for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let s = self.strips;
        let [height, width] = s.output;
        for (at, strip) in self.which.enumerate() {
            let (image, top) = s.place(strip);
            let image = &mut self.y[image * self.channels.stride + self.channels.first..];
            for o in 0..self.channels.count {
                let from = self.sums.map(|m| &m[o * self.row + at * s.width()..][..width]);
                let bias = self.bias.map_or(0.0, |b| b[o]);
                let plane = &mut image[o * height * width..][..height * width];
                if top + OUT <= height {
                    let (a, b) = plane[top * width..][..OUT * width].split_at_mut(2 * width);
                    let ((a, b), (c, d)) = (a.split_at_mut(width), b.split_at_mut(width));
                    each_column(
                        from,
                        [a, b, c, d],
                        #[inline(always)]
                        |m| output_column(m, bias),
                    );
                    continue;
                }
                for line in 0..height - top {
                    let to = [&mut plane[(top + line) * width..][..width]];
                    each_column(
                        from,
                        to,
                        #[inline(always)]
                        |m| [output_column(m, bias)[line]],
                    );
                }
            }
        }
    }
}

/// `A^T m + bias` of one column.
#[inline(always)]
fn output_column([m0, m1, m2, m3, m4, m5]: [f32; IN], bias: f32) -> [f32; OUT] {
    let (sum, difference) = (m1 + m2, m1 - m2);
    let (sum2, difference2) = (m3 + m4, m3 - m4);
    [
        (m0 + sum + sum2) + bias,
        (difference + 2.0 * difference2) + bias,
        (sum + 4.0 * sum2) + bias,
        (difference + 8.0 * difference2 + m5) + bias,
    ]
}

/// Transforms the gradients of six transformed kernel elements by `G^T u` to gradients of the three rows of the kernel, `[3, K]`,
/// for each column of the product.
pub(crate) struct KernelGradient<'a> {
    pub sums: [&'a [f32]; IN],
    pub row: &'a mut [f32],
}

impl WithSimd for KernelGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let n = self.sums[0].len();
        let (a, rest) = self.row.split_at_mut(n);
        let (b, c) = rest.split_at_mut(n);
        each_column(
            self.sums,
            [a, b, c],
            #[inline(always)]
            |[u0, u1, u2, u3, u4, u5]| {
                let (sum, sum2) = ((u1 + u2) * (-1.0 / 6.0), u3 + u4);
                [
                    u0 * 0.25 + sum + sum2 * (1.0 / 24.0),
                    (u2 - u1) * (1.0 / 6.0) + (u3 - u4) * (1.0 / 12.0),
                    sum + sum2 * (1.0 / 6.0) + u5,
                ]
            },
        );
    }
}

/// Runs a transform on the widest vectors of the CPU. The operations on each element are the same for every vector width.
pub(crate) fn transform(work: impl WithSimd<Output = ()>) {
    Arch::new().dispatch(work)
}
