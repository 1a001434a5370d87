//! Convolution as a sum of shifted planes. The planes are padded copies of a few images. The strides split each plane into
//! phases, in which neighbouring elements are one stride apart in the image. Each tap of a kernel then reads a phase at a
//! constant shift, which is a row of the matrix that [`crate::tiles`] multiplies by. Positions beyond the output's width and
//! height, between its lines and between images, hold unused sums.

use crate::buffers::Buffers;
use crate::ops::Plane;
use crate::tiles::{Accumulate, BLOCK, Correlate, LANES, accumulate, correlate};
use std::ops::Range;

/// The numbers of f32 elements of the padded planes and of the sums that are held at once. Together they take less than a typical
/// L2 cache.
const PLANES: usize = 3 << 15;
const SUMS: usize = 1 << 16;
/// The number of terms that are summed before the result is added to the previous sum.
const TERMS: usize = 384;

/// One tap of the kernel: its phase, and its shift within the phase.
struct Tap {
    phase: usize,
    shift: usize,
}

/// The memory layout of the images of a convolution in its planes.
pub(crate) struct PhaseLayout<'p> {
    p: &'p Plane,
    /// The number of images in a plane.
    images: usize,
    /// The number of lines and columns of an image in a phase.
    lines: usize,
    width: usize,
    taps: Vec<Tap>,
}

/// The left factor of a product, with `m` rows. For each block of terms and each `BLOCK` rows, `packed` holds the terms with the
/// rows interleaved. `rows` holds the start of the right factor's row for each term.
struct Factor<'a> {
    m: usize,
    packed: &'a [f32],
    rows: &'a [usize],
    block: usize,
}

/// Packs `m` rows of `depth` terms. `weight(row, term)` provides the elements.
fn pack(m: usize, depth: usize, block: usize, weight: impl Fn(usize, usize) -> f32, packed: &mut [f32]) {
    let mut rest = packed;
    for first in (0..depth).step_by(block.max(1)) {
        let terms = block.min(depth - first);
        let (part, after) = rest.split_at_mut(m.next_multiple_of(BLOCK) * terms);
        for (top, lines) in (0..m).step_by(BLOCK).zip(part.chunks_exact_mut(terms * BLOCK)) {
            for i in 0..BLOCK {
                // Missing rows repeat the last row. Their results are unused.
                let row = (top + i).min(m - 1);
                lines.chunks_exact_mut(BLOCK).enumerate().for_each(|(k, line)| line[i] = weight(row, first + k));
            }
        }
        rest = after;
    }
}

/// [`pack`] for a row-major matrix `w` `[m, depth]`.
fn pack_matrix(m: usize, depth: usize, block: usize, w: &[f32], packed: &mut [f32]) {
    let mut rest = packed;
    for first in (0..depth).step_by(block.max(1)) {
        let terms = block.min(depth - first);
        let (part, after) = rest.split_at_mut(m.next_multiple_of(BLOCK) * terms);
        for (top, lines) in (0..m).step_by(BLOCK).zip(part.chunks_exact_mut(terms * BLOCK)) {
            let row = |i: usize| &w[(top + i).min(m - 1) * depth + first..][..terms];
            let [r0, r1, r2, r3, r4, r5, r6, r7]: [&[f32]; BLOCK] = std::array::from_fn(row);
            for (k, line) in lines.chunks_exact_mut(BLOCK).enumerate() {
                line.copy_from_slice(&[r0[k], r1[k], r2[k], r3[k], r4[k], r5[k], r6[k], r7[k]]);
            }
        }
        rest = after;
    }
}

/// Packs weights `[O, C / groups, taps]` for [`PhaseLayout::forward`].
pub(crate) fn pack_weights(p: &Plane, w: &[f32]) -> Vec<f32> {
    let (outputs, depth) = (p.outputs / p.groups, p.depth());
    let each = outputs.next_multiple_of(BLOCK) * depth;
    let mut packed = vec![0.0; p.groups * each];
    for (w, packed) in w.chunks_exact(outputs * depth).zip(packed.chunks_exact_mut(each)) {
        pack_matrix(outputs, depth, TERMS.max(p.geometry.taps()), w, packed);
    }
    packed
}

impl<'p> PhaseLayout<'p> {
    /// A layout for up to `batch` images.
    pub fn new(p: &'p Plane, batch: usize) -> Self {
        let w = &p.geometry.window;
        let size = |i: usize| p.geometry.output[i] + (w.kernel[i] - 1) * w.dilations[i] / w.strides[i];
        let (lines, width) = (size(0), size(1));
        let tap = |ky: usize, kx: usize| {
            let (y, x) = (ky * w.dilations[0], kx * w.dilations[1]);
            let phase = y % w.strides[0] * w.strides[1] + x % w.strides[1];
            Tap { phase, shift: y / w.strides[0] * width + x / w.strides[1] }
        };
        let taps = (0..w.kernel[0]).flat_map(|ky| (0..w.kernel[1]).map(move |kx| tap(ky, kx))).collect();
        let each = (p.channels * w.strides[0] * w.strides[1]).max(p.outputs) / p.groups.max(1) * lines * width;
        PhaseLayout { p, images: (PLANES / each.max(1)).clamp(1, batch.max(1)), lines, width, taps }
    }

    /// The ranges of images of a batch that are processed together.
    pub fn chunks(&self, batch: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = self.images;
        (0..batch).step_by(step).map(move |i| i..(i + step).min(batch))
    }

    fn image(&self) -> usize {
        self.lines * self.width
    }

    /// The number of elements of a phase of one channel, over all images.
    fn phase(&self) -> usize {
        self.images * self.image()
    }

    fn phases(&self) -> usize {
        self.p.geometry.window.strides.iter().product()
    }

    /// The number of positions from the first output of the first image to the last output of the last image.
    fn positions(&self, images: usize) -> usize {
        let [height, width] = self.p.geometry.output;
        (images - 1) * self.image() + (height - 1) * self.width + width
    }

    /// The largest shift of a tap.
    fn margin(&self) -> usize {
        self.taps.iter().map(|t| t.shift).max().unwrap_or(0)
    }

    /// A buffer for the channels of a group.
    pub fn input_space(&self, buffers: &mut Buffers) -> Vec<f32> {
        buffers.zeros(self.p.channels / self.p.groups * self.phases() * self.phase() + LANES)
    }

    /// A buffer for the output channels of a group, rounded up to whole blocks. Each channel starts with a margin of zeros.
    pub fn output_space(&self, buffers: &mut Buffers) -> Vec<f32> {
        let outputs = (self.p.outputs / self.p.groups).next_multiple_of(BLOCK);
        buffers.zeros(outputs * (self.margin() + self.phase() + LANES))
    }

    /// Calls `f(iy, phase, line, columns, ix)` for each line `iy` of an image and each phase along it. The pixels from `ix` on,
    /// in steps of `strides[1]`, are at `columns` of `line` in this phase.
    fn each_line(&self, mut f: impl FnMut(usize, usize, usize, Range<usize>, usize)) {
        let w = &self.p.geometry.window;
        let [sy, sx] = w.strides;
        let [height, width] = self.p.geometry.input;
        for iy in 0..height {
            let y = iy + w.pads[0];
            if y / sy >= self.lines {
                break;
            }
            for px in 0..sx {
                // The first column of this phase that lies in the input, and its column there.
                let column = w.pads[1].saturating_sub(px).div_ceil(sx);
                let first = column * sx + px - w.pads[1];
                if column < self.width && first < width {
                    let count = (width - first).div_ceil(sx).min(self.width - column);
                    f(iy, y % sy * sx + px, y / sy, column..column + count, first);
                }
            }
        }
    }

    /// Copies the channels of a group of the images `images` of `x` `[N,C,H,W]` to the planes.
    pub fn load_input(&self, x: &[f32], images: &Range<usize>, group: usize, planes: &mut [f32]) {
        if images.len() < self.images {
            planes.fill(0.0);
        }
        let channels = self.p.channels / self.p.groups;
        let (pixels, stride) = (self.p.geometry.pixels(), self.p.geometry.window.strides[1]);
        for (i, c) in (0..images.len()).flat_map(|i| (0..channels).map(move |c| (i, c))) {
            let image = &x[(images.start + i) * self.p.input_len()..][..self.p.input_len()];
            let plane = &image[(group * channels + c) * pixels..][..pixels];
            let to = &mut planes[c * self.phases() * self.phase()..];
            self.each_line(|iy, phase, line, columns, first| {
                let from = &plane[iy * self.p.geometry.input[1] + first..(iy + 1) * self.p.geometry.input[1]];
                let start = phase * self.phase() + i * self.image() + line * self.width;
                let to = &mut to[start + columns.start..start + columns.end];
                match stride {
                    1 => to.copy_from_slice(&from[..to.len()]),
                    _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(t, f)| *t = *f),
                }
            });
        }
    }

    /// Copies the channels of a group of the images `images` of `dy` `[N,O,H',W']` to the planes.
    pub fn load_output(&self, dy: &[f32], images: &Range<usize>, group: usize, planes: &mut [f32]) {
        if images.len() < self.images {
            planes.fill(0.0);
        }
        let outputs = self.p.outputs / self.p.groups;
        let (positions, width) = (self.p.geometry.positions(), self.p.geometry.output[1]);
        let row = self.margin() + self.phase() + LANES;
        for (i, o) in (0..images.len()).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
            let image = &dy[(images.start + i) * self.p.output_len()..][..self.p.output_len()];
            let plane = &image[(group * outputs + o) * positions..][..positions];
            let to = &mut planes[o * row + self.margin() + i * self.image()..];
            for (line, from) in to.chunks_mut(self.width).zip(plane.chunks_exact(width)) {
                line[..width].copy_from_slice(from);
            }
        }
    }

    /// The starts of the rows of all taps in the planes of the input, channel by channel.
    fn rows(&self) -> Vec<usize> {
        let channels = self.p.channels / self.p.groups;
        let row = |c: usize, t: &Tap| (c * self.phases() + t.phase) * self.phase() + t.shift;
        (0..channels).flat_map(|c| self.taps.iter().map(move |t| row(c, t))).collect()
    }

    /// Multiplies `factor` by the planes `b`, for all images together. Calls `f(line, sums, row)` for blocks of lines, where
    /// `sums` `[m, row]` begins with line `line`.
    fn multiply(
        &self,
        factor: &Factor,
        b: &[f32],
        count: usize,
        sums: &mut [f32],
        mut f: impl FnMut(Range<usize>, &[f32], usize),
    ) {
        let lines = count.div_ceil(self.width);
        let m = factor.m.next_multiple_of(BLOCK);
        let step = (SUMS / (m * self.width)).max(1);
        for first in (0..lines).step_by(step) {
            let last = (first + step).min(lines);
            let columns = (count.min(last * self.width) - first * self.width).next_multiple_of(LANES);
            let mut rest = factor.packed;
            for (i, rows) in factor.rows.chunks(factor.block).enumerate() {
                let (a, after) = rest.split_at(m * rows.len());
                rest = after;
                let b = &b[first * self.width..];
                accumulate(Accumulate { a, rows, b, c: sums, c_row: columns, columns, add: i > 0 });
            }
            f(first..last, sums, columns);
        }
    }

    fn sums_space(&self, m: usize, buffers: &mut Buffers) -> Vec<f32> {
        let m = m.next_multiple_of(BLOCK);
        let lines = (SUMS / (m * self.width)).clamp(1, self.images * self.lines);
        buffers.f32(m * (lines * self.width).next_multiple_of(LANES))
    }

    /// Convolves a batch. The input is `x` `[N,C,H,W]`, the output is `out` `[N,O,H',W']`, and [`pack_weights`] packed the
    /// weights.
    pub fn forward(&self, x: &[f32], packed: &[f32], bias: Option<&[f32]>, out: &mut [f32], buffers: &mut Buffers) {
        let p = self.p;
        let (outputs, depth) = (p.outputs / p.groups, p.depth());
        let ([height, width], positions) = (p.geometry.output, p.geometry.positions());
        let mut planes = self.input_space(buffers);
        let mut sums = self.sums_space(outputs, buffers);
        let rows = self.rows();
        for group in 0..p.groups {
            let each = outputs.next_multiple_of(BLOCK) * depth;
            let packed = &packed[group * each..][..each];
            let factor = Factor { m: outputs, packed, rows: &rows, block: TERMS.max(self.taps.len()) };
            for images in self.chunks(out.len() / p.output_len()) {
                self.load_input(x, &images, group, &mut planes);
                self.multiply(&factor, &planes, self.positions(images.len()), &mut sums, |lines, sums, row| {
                    for line in lines.clone() {
                        let (image, oy) = (images.start + line / self.lines, line % self.lines);
                        if oy >= height {
                            continue;
                        }
                        for o in 0..outputs {
                            let channel = group * outputs + o;
                            let to = &mut out[image * p.output_len() + channel * positions + oy * width..][..width];
                            let from = &sums[o * row + (line - lines.start) * self.width..][..width];
                            match bias {
                                None => to.copy_from_slice(from),
                                Some(b) => to.iter_mut().zip(from).for_each(|(t, f)| *t = f + b[channel]),
                            }
                        }
                    }
                });
            }
        }
        buffers.give_f32(planes);
        buffers.give_f32(sums);
    }

    /// Computes the gradient `dx` `[N,C,H,W]` of the input from the gradient `dy` `[N,O,H',W']` of the output.
    pub fn pull_input(&self, dy: &[f32], w: &[f32], dx: &mut [f32], buffers: &mut Buffers) {
        let p = self.p;
        let (outputs, channels, depth) = (p.outputs / p.groups, p.channels / p.groups, p.depth());
        let ([sy, sx], [height, width]) = (p.geometry.window.strides, p.geometry.input);
        let (top, left) = (p.geometry.window.pads[0], p.geometry.window.pads[1]);
        let (pixels, row) = (p.geometry.pixels(), self.margin() + self.phase() + LANES);
        dx.fill(0.0);
        let mut planes = self.output_space(buffers);
        let mut sums = self.sums_space(channels, buffers);
        for group in 0..p.groups {
            let w = &w[group * outputs * depth..][..outputs * depth];
            // The taps that read each phase. In the backward pass their shifts are reversed.
            let phases: Vec<(Vec<usize>, Vec<f32>, usize)> = (0..sy * sx)
                .map(|phase| {
                    let taps: Vec<_> = (0..self.taps.len()).filter(|&t| self.taps[t].phase == phase).collect();
                    let place = |o: usize, t: usize| o * row + self.margin() - self.taps[t].shift;
                    let rows: Vec<usize> = (0..outputs).flat_map(|o| taps.iter().map(move |&t| place(o, t))).collect();
                    let weight = |c: usize, k: usize| {
                        let (o, t) = (k / taps.len(), taps[k % taps.len()]);
                        w[o * depth + c * self.taps.len() + t]
                    };
                    let block = TERMS.max(taps.len());
                    let mut packed = vec![0.0; channels.next_multiple_of(BLOCK) * rows.len()];
                    pack(channels, rows.len(), block, weight, &mut packed);
                    (rows, packed, block)
                })
                .collect();
            for images in self.chunks(dy.len() / p.output_len()) {
                self.load_output(dy, &images, group, &mut planes);
                for (phase, (rows, packed, block)) in
                    phases.iter().enumerate().filter(|(_, (rows, ..))| !rows.is_empty())
                {
                    let factor = Factor { m: channels, packed, rows, block: *block };
                    let (py, px) = (phase / sx, phase % sx);
                    let column = left.saturating_sub(px).div_ceil(sx);
                    let first = column * sx + px - left;
                    if column >= self.width || first >= width {
                        continue;
                    }
                    let count = images.len() * self.image();
                    self.multiply(&factor, &planes, count, &mut sums, |lines, sums, columns| {
                        for line in lines.clone() {
                            let image = images.start + line / self.lines;
                            let y = line % self.lines * sy + py;
                            if y < top || y - top >= height {
                                continue;
                            }
                            for c in 0..channels {
                                let start = image * p.input_len() + (group * channels + c) * pixels;
                                let to = &mut dx[start + (y - top) * width..][..width];
                                let from = &sums[c * columns + (line - lines.start) * self.width..][..self.width];
                                let (to, from) = (&mut to[first..], &from[column..]);
                                match sx {
                                    1 => {
                                        let n = to.len().min(from.len());
                                        to[..n].copy_from_slice(&from[..n]);
                                    }
                                    _ => to.iter_mut().step_by(sx).zip(from).for_each(|(t, f)| *t = *f),
                                }
                            }
                        }
                    });
                }
            }
        }
        buffers.give_f32(planes);
        buffers.give_f32(sums);
    }

    /// Adds the gradient of the weights to `dw` `[O, C / groups, taps]`.
    pub fn pull_weights(&self, x: &[f32], dy: &[f32], dw: &mut [f32], buffers: &mut Buffers) {
        let p = self.p;
        let (outputs, depth) = (p.outputs / p.groups, p.depth());
        let (mut inputs, mut gradients) = (self.input_space(buffers), self.output_space(buffers));
        let mut sums = buffers.f32(outputs.next_multiple_of(BLOCK) * depth);
        let rows = self.rows();
        for group in 0..p.groups {
            sums.fill(0.0);
            for images in self.chunks(dy.len() / p.output_len()) {
                self.load_input(x, &images, group, &mut inputs);
                self.load_output(dy, &images, group, &mut gradients);
                correlate(Correlate {
                    y: &gradients[self.margin()..],
                    y_row: self.margin() + self.phase() + LANES,
                    outputs: outputs.next_multiple_of(BLOCK),
                    columns: self.positions(images.len()).next_multiple_of(LANES),
                    rows: &rows,
                    b: &inputs,
                    d: &mut sums,
                });
            }
            dw[group * outputs * depth..][..outputs * depth].iter_mut().zip(&sums).for_each(|(d, s)| *d += s);
        }
        [inputs, gradients, sums].into_iter().for_each(|v| buffers.give_f32(v));
    }
}
