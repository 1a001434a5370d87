//! Convolutions with kernels of three rows and strides of one, with half of the multiplications. They use F(4, 3) of Winograd's
//! minimal filtering (arXiv 1509.09308, section 4) along the columns only.
//!
//! A strip consists of four output lines and depends on six input lines. One transform maps the six input lines to six lines, and
//! another maps the three rows of the kernel to six rows. Products of corresponding lines and rows are summed over the channels
//! and along the rows of the kernel. A final transform maps the resulting six lines to the four output lines. The transforms add
//! whole lines, so they need no shuffles. [`crate::tiles`] computes the sums of products.
//!
//! In f32 the results are less accurate than direct sums: the error is within 4e-6 of the largest value, instead of 1e-6. They
//! are therefore used for gradients and recorded evaluations, but not for the reference.

use crate::buffers::Buffers;
use crate::im2col::Geometry;
use crate::ops::Plane;
use crate::strips::{
    Channels, IN, KernelGradient, Strips, TransformGradient, TransformInput, TransformOutput, transform,
};
use crate::tiles::{Accumulate, BLOCK, Correlate, LANES, accumulate, correlate};
use pulp::{Simd, WithSimd};

/// The number of f32 elements of the transformed planes that are held at once: `FACTORS` if they are multiplied by weights,
/// `PAIRS` if they are multiplied by each other.
const FACTORS: usize = 3 << 15;
const PAIRS: usize = 3 << 16;

impl Strips {
    fn of(g: &Geometry) -> Self {
        let w = &g.window;
        Strips { pads: [w.pads[0], w.pads[1]], input: g.input, output: g.output, columns: w.kernel[1] }
    }

    /// The convolution of the backward pass, in which the output becomes the input and the kernel is flipped.
    fn back(&self) -> Self {
        Strips {
            pads: [2 - self.pads[0], self.columns - 1 - self.pads[1]],
            input: self.output,
            output: self.input,
            columns: self.columns,
        }
    }

    /// The number of strips to transform at once. The transformed planes hold at most `reals` elements, unless more are needed to
    /// fill the tiles.
    fn at_once(&self, channels: usize, reals: usize, all: usize) -> usize {
        let most = (reals / (IN * channels.max(1))).max(12 * LANES) / self.width();
        most.clamp(1, all.max(1))
    }
}

/// Whether a convolution can use this algorithm and benefits from it.
pub(crate) fn suits(p: &Plane) -> bool {
    let g = &p.geometry;
    let w = &g.window;
    w.kernel[0] == 3
        && w.strides == [1, 1]
        && w.dilations == [1, 1]
        && w.pads[0] <= 2
        && w.pads[1] < w.kernel[1]
        && w.pads[2] <= 2
        && w.pads[3] < w.kernel[1]
        && g.output.iter().chain(&g.input).all(|&n| n >= 3)
        && p.channels / p.groups >= 8
        && p.outputs / p.groups >= 8
}

/// The layout of the kernels of one group: `m` rows and `k` columns of kernels, with element `(i, j, row, column)` at
/// `i * steps[0] + j * steps[1] + row * columns + column`. The kernels are flipped for the backward pass.
#[derive(Clone, Copy)]
struct Kernels<'a> {
    w: &'a [f32],
    m: usize,
    k: usize,
    columns: usize,
    steps: [usize; 2],
    flipped: bool,
}

/// Transforms kernels and packs them into six matrices `[M / BLOCK][K * columns][BLOCK]`.
struct Pack<'a> {
    kernels: Kernels<'a>,
    out: [&'a mut [f32]; IN],
}

impl WithSimd for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        let Kernels { w, m, k, columns, steps, flipped } = self.kernels;
        let taps = 3 * columns;
        let mut place = 0;
        for top in (0..m).step_by(BLOCK) {
            let rows = BLOCK.min(m - top);
            for j in 0..k {
                for column in 0..columns {
                    let mut g = [[0f32; BLOCK]; 3];
                    for i in 0..rows {
                        let kernel = &w[(top + i) * steps[0] + j * steps[1]..][..taps];
                        for (r, g) in g.iter_mut().enumerate() {
                            let at = r * columns + column;
                            g[i] = kernel[if flipped { taps - 1 - at } else { at }];
                        }
                    }
                    let mut all = [[0f32; BLOCK]; IN];
                    for i in 0..BLOCK {
                        let [a, b, c] = [g[0][i], g[1][i], g[2][i]];
                        let (even, odd) = ((a + c) * (-1.0 / 6.0), b * (-1.0 / 6.0));
                        let (even2, odd2) = (a * (1.0 / 24.0) + c * (1.0 / 6.0), b * (1.0 / 12.0));
                        all[0][i] = a * 0.25;
                        all[1][i] = even + odd;
                        all[2][i] = even - odd;
                        all[3][i] = even2 + odd2;
                        all[4][i] = even2 - odd2;
                        all[5][i] = c;
                    }
                    for (out, all) in self.out.iter_mut().zip(&all) {
                        out[place..place + BLOCK].copy_from_slice(all);
                    }
                    place += BLOCK;
                }
            }
        }
    }
}

fn six_mut(x: &mut [f32], each: usize) -> [&mut [f32]; IN] {
    let mut parts = x.chunks_exact_mut(each.max(1));
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn six(x: &[f32], each: usize) -> [&[f32]; IN] {
    let mut parts = x.chunks_exact(each.max(1));
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Computes `y = kernels * x + bias` for one group.
fn convolve(
    s: Strips,
    kernels: &[f32],
    (x, from): (&[f32], Channels),
    bias: Option<&[f32]>,
    (y, to): (&mut [f32], Channels),
    buffers: &mut Buffers,
) {
    let strips = y.len() / to.stride * s.per_image();
    let step = s.at_once(from.count, FACTORS, strips);
    let row = (step * s.width()).next_multiple_of(LANES);
    let outputs = to.count.next_multiple_of(BLOCK);
    let (inner, outer) = (from.count * row + s.columns + LANES, outputs * row);
    let (mut lines, mut sums) = (buffers.zeros(IN * inner), buffers.f32(IN * outer));
    let rows: Vec<usize> = (0..from.count).flat_map(|c| (0..s.columns).map(move |t| c * row + t)).collect();
    let zeros = vec![0f32; s.input[1]];
    for first in (0..strips).step_by(step) {
        let which = first..(first + step).min(strips);
        let columns = (which.len() * s.width()).next_multiple_of(LANES);
        transform(TransformInput {
            strips: s,
            x,
            channels: from,
            which: which.clone(),
            out: six_mut(&mut lines, inner),
            row,
            zeros: &zeros,
        });
        let kernels = six(kernels, outputs * rows.len());
        for ((a, b), c) in kernels.into_iter().zip(six(&lines, inner)).zip(six_mut(&mut sums, outer)) {
            accumulate(Accumulate { a, rows: &rows, b, c, c_row: row, columns, add: false });
        }
        transform(TransformOutput { strips: s, sums: six(&sums, outer), row, which, bias, y, channels: to });
    }
    buffers.give_f32(lines);
    buffers.give_f32(sums);
}

/// The input channels and the output channels of a group.
fn channels(p: &Plane, group: usize) -> [Channels; 2] {
    let (inputs, outputs) = (p.channels / p.groups, p.outputs / p.groups);
    [
        Channels { count: inputs, stride: p.input_len(), first: group * inputs * p.geometry.pixels() },
        Channels { count: outputs, stride: p.output_len(), first: group * outputs * p.geometry.positions() },
    ]
}

/// Transforms weights `[O, C / groups, taps]` for [`forward`], or for [`pull_input`] if `flipped` is true.
pub(crate) fn pack_weights(p: &Plane, w: &[f32], flipped: bool) -> Vec<f32> {
    let (inputs, outputs, depth, columns) =
        (p.channels / p.groups, p.outputs / p.groups, p.depth(), p.geometry.window.kernel[1]);
    let (m, k, steps) = match flipped {
        false => (outputs, inputs, [depth, 3 * columns]),
        true => (inputs, outputs, [3 * columns, depth]),
    };
    let each = m.next_multiple_of(BLOCK) * k * columns;
    let mut packed = vec![0.0; p.groups * IN * each];
    for (w, packed) in w.chunks_exact(outputs * depth).zip(packed.chunks_exact_mut(IN * each)) {
        transform(Pack { kernels: Kernels { w, m, k, columns, steps, flipped }, out: six_mut(packed, each) });
    }
    packed
}

/// Convolves a batch. The input is `x` `[N,C,H,W]`, the output is `out` `[N,O,H',W']`, and [`pack_weights`] packed the weights.
pub(crate) fn forward(
    p: &Plane,
    x: &[f32],
    packed: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    buffers: &mut Buffers,
) {
    let (s, outputs) = (Strips::of(&p.geometry), p.outputs / p.groups);
    for (group, kernels) in packed.chunks_exact(packed.len() / p.groups).enumerate() {
        let [from, to] = channels(p, group);
        let bias = bias.map(|b| &b[group * outputs..][..outputs]);
        convolve(s, kernels, (x, from), bias, (&mut *out, to), buffers);
    }
}

/// Computes the gradient `dx` `[N,C,H,W]` of the input from the gradient `dy` `[N,O,H',W']` of the output, with weights that were
/// packed with `flipped`.
pub(crate) fn pull_input(p: &Plane, dy: &[f32], packed: &[f32], dx: &mut [f32], buffers: &mut Buffers) {
    let s = Strips::of(&p.geometry).back();
    for (group, kernels) in packed.chunks_exact(packed.len() / p.groups).enumerate() {
        let [to, from] = channels(p, group);
        convolve(s, kernels, (dy, from), None, (&mut *dx, to), buffers);
    }
}

/// Adds the gradient of the weights to `dw` `[O, C / groups, taps]`.
pub(crate) fn pull_weights(p: &Plane, x: &[f32], dy: &[f32], dw: &mut [f32], buffers: &mut Buffers) {
    let s = Strips::of(&p.geometry);
    let (inputs, outputs, depth) = (p.channels / p.groups, p.outputs / p.groups, p.depth());
    let strips = dy.len() / p.output_len() * s.per_image();
    let blocks = outputs.next_multiple_of(BLOCK);
    let step = s.at_once(inputs.max(outputs), PAIRS, strips);
    let row = (step * s.width()).next_multiple_of(LANES);
    let (inner, outer) = (inputs * row + s.columns + LANES, blocks * row);
    let (mut lines, mut gradients) = (buffers.zeros(IN * inner), buffers.zeros(IN * outer));
    let rows: Vec<usize> = (0..inputs).flat_map(|c| (0..s.columns).map(move |t| c * row + t)).collect();
    let each = blocks * rows.len();
    let mut sums = buffers.f32(IN * each);
    let mut row_of_three = buffers.f32(3 * rows.len());
    let zeros = vec![0f32; s.input[1].max(s.output[1])];
    for group in 0..p.groups {
        sums.fill(0.0);
        let [from, to] = channels(p, group);
        for first in (0..strips).step_by(step) {
            let which = first..(first + step).min(strips);
            if which.len() < step {
                gradients.fill(0.0);
            }
            let columns = (which.len() * s.width()).next_multiple_of(LANES);
            transform(TransformInput {
                strips: s,
                x,
                channels: from,
                which: which.clone(),
                out: six_mut(&mut lines, inner),
                row,
                zeros: &zeros,
            });
            transform(TransformGradient {
                strips: s,
                dy,
                channels: to,
                which,
                out: six_mut(&mut gradients, outer),
                row,
                zeros: &zeros,
            });
            for ((y, b), d) in six(&gradients, outer).into_iter().zip(six(&lines, inner)).zip(six_mut(&mut sums, each))
            {
                correlate(Correlate { y, y_row: row, outputs: blocks, columns, rows: &rows, b, d });
            }
        }
        let dw = &mut dw[group * outputs * depth..][..outputs * depth];
        let u = six(&sums, each);
        for (o, dw) in dw.chunks_exact_mut(depth).enumerate() {
            transform(KernelGradient { sums: u.map(|u| &u[o * rows.len()..][..rows.len()]), row: &mut row_of_three });
            let parts = row_of_three.chunks_exact(rows.len());
            for (r, part) in parts.enumerate() {
                for (from, to) in part.chunks_exact(s.columns).zip(dw.chunks_exact_mut(3 * s.columns)) {
                    to[r * s.columns..][..s.columns].iter_mut().zip(from).for_each(|(t, f)| *t += f);
                }
            }
        }
    }
    [lines, gradients, sums, row_of_three].into_iter().for_each(|v| buffers.give_f32(v));
}
