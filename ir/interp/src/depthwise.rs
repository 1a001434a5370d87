//! Convolution of one channel with one kernel, computed by adding shifted planes.
//!
//! A padded copy of the channel is split by the strides into phases. Phases are planes of equal width in which neighbouring
//! elements are one stride apart in the image. Each tap of the kernel then reads a phase at a constant shift, and the sum over
//! the taps is a loop over contiguous memory. The columns beyond the output's width hold unused sums.

use crate::buffers::Buffers;
use crate::im2col::Geometry;
use catc_scalar::dot4;
use pulp::Arch;
use std::ops::Range;

/// Buffers for the phases of one channel and for the sums over its taps.
pub(crate) struct Depthwise<'g> {
    geometry: &'g Geometry,
    /// The number of rows and columns of a phase.
    rows: usize,
    width: usize,
    /// The index in `phases` of the first element that each tap is multiplied by.
    taps: Vec<usize>,
    phases: Vec<f32>,
    sums: Vec<f32>,
}

impl<'g> Depthwise<'g> {
    /// Allocates the buffers for channels of this geometry.
    pub fn new(geometry: &'g Geometry, buffers: &mut Buffers) -> Self {
        let w = &geometry.window;
        // The output size plus the largest shift of a tap.
        let size = |i: usize| geometry.output[i] + (w.kernel[i] - 1) * w.dilations[i] / w.strides[i];
        let (rows, width) = (size(0), size(1));
        let place = |ky: usize, kx: usize| {
            let (y, x) = (ky * w.dilations[0], kx * w.dilations[1]);
            let phase = y % w.strides[0] * w.strides[1] + x % w.strides[1];
            (phase * rows + y / w.strides[0]) * width + x / w.strides[1]
        };
        let taps = (0..w.kernel[0]).flat_map(|ky| (0..w.kernel[1]).map(move |kx| place(ky, kx))).collect();
        let mut phases = buffers.f32(w.strides[0] * w.strides[1] * rows * width);
        phases.fill(0.0);
        let sums = buffers.f32((geometry.output[0] - 1) * width + geometry.output[1]);
        Depthwise { geometry, rows, width, taps, phases, sums }
    }

    /// Returns the buffers to the pool.
    pub fn release(self, buffers: &mut Buffers) {
        buffers.give_f32(self.phases);
        buffers.give_f32(self.sums);
    }

    /// Loads the channel `[H,W]` that [`Depthwise::sum`] convolves.
    pub fn load(&mut self, plane: &[f32]) {
        let w = &self.geometry.window;
        let [sy, sx] = w.strides;
        for (iy, line) in plane.chunks_exact(self.geometry.input[1].max(1)).enumerate() {
            let y = iy + w.pads[0];
            if y / sy >= self.rows {
                break;
            }
            for px in 0..sx {
                // The first column of this phase that lies in the input, and its column there.
                let column = w.pads[1].saturating_sub(px).div_ceil(sx);
                let first = column * sx + px - w.pads[1];
                if column >= self.width || first >= line.len() {
                    continue;
                }
                let start = ((y % sy * sx + px) * self.rows + y / sy) * self.width;
                let to = &mut self.phases[start + column..start + self.width];
                if sx == 1 {
                    let n = to.len().min(line.len() - first);
                    to[..n].copy_from_slice(&line[first..][..n]);
                } else {
                    to.iter_mut().zip(line[first..].iter().step_by(sx)).for_each(|(t, s)| *t = *s);
                }
            }
        }
    }

    /// Writes to `out` `[H',W']` the sums over the taps `taps` with the weights `weights`. Taps are counted row by row. Each sum
    /// starts at `start`.
    pub fn sum(&mut self, weights: &[f32], taps: Range<usize>, start: f32, out: &mut [f32]) {
        self.sums.fill(start);
        let (sums, len) = (&mut self.sums, (self.geometry.output[0] - 1) * self.width + self.geometry.output[1]);
        let mut t = taps.start;
        while t < taps.end {
            let shifted = |i: usize| &self.phases[self.taps[t + i]..][..len];
            if taps.end - t >= 3 {
                let (a, b, c) = (shifted(0), shifted(1), shifted(2));
                let (wa, wb, wc) = (weights[t], weights[t + 1], weights[t + 2]);
                Arch::new().dispatch(|| {
                    for (((s, a), b), c) in sums.iter_mut().zip(a).zip(b).zip(c) {
                        *s = ((*s + wa * a) + wb * b) + wc * c;
                    }
                });
                t += 3;
            } else {
                let (a, wa) = (shifted(0), weights[t]);
                Arch::new().dispatch(|| sums.iter_mut().zip(a).for_each(|(s, a)| *s += wa * a));
                t += 1;
            }
        }
        for (line, sums) in out.chunks_exact_mut(self.geometry.output[1]).zip(sums.chunks(self.width)) {
            line.copy_from_slice(&sums[..line.len()]);
        }
    }
    /// The backward pass of a sum over all taps, with `dy` `[H',W']` as the gradient of the output. It adds the gradients of the
    /// weights to `dw`, with one element for each tap, and the gradient of the phases to `dx`. Each is computed only if it is
    /// given. The gradients of the weights use the loaded channel.
    pub fn pull(&mut self, weights: &[f32], dy: &[f32], dw: Option<&mut [f32]>, dx: Option<&mut Depthwise>) {
        // The gradients of the sums. They are 0 in the unused columns.
        self.sums.fill(0.0);
        for (line, sums) in dy.chunks_exact(self.geometry.output[1]).zip(self.sums.chunks_mut(self.width)) {
            sums[..line.len()].copy_from_slice(line);
        }
        let sums = &self.sums;
        if let Some(dw) = dw {
            for (d, &t) in dw.iter_mut().zip(&self.taps) {
                *d += dot4(&self.phases[t..][..sums.len()], sums);
            }
        }
        if let Some(dx) = dx {
            for (&w, &t) in weights.iter().zip(&self.taps) {
                let to = &mut dx.phases[t..][..sums.len()];
                Arch::new().dispatch(|| to.iter_mut().zip(sums).for_each(|(t, s)| *t += w * s));
            }
        }
    }

    /// Sets all phases, including the padding, to 0.
    pub fn clear(&mut self) {
        self.phases.fill(0.0);
    }

    /// Writes the pixels of the phases to `plane` `[H,W]`, as the inverse of [`Depthwise::load`]. Pixels that no tap reaches
    /// become 0.
    pub fn store(&self, plane: &mut [f32]) {
        let w = &self.geometry.window;
        let [sy, sx] = w.strides;
        for (iy, line) in plane.chunks_exact_mut(self.geometry.input[1].max(1)).enumerate() {
            let y = iy + w.pads[0];
            line.fill(0.0);
            if y / sy >= self.rows {
                continue;
            }
            for px in 0..sx {
                let column = w.pads[1].saturating_sub(px).div_ceil(sx);
                let first = column * sx + px - w.pads[1];
                if column >= self.width || first >= line.len() {
                    continue;
                }
                let start = ((y % sy * sx + px) * self.rows + y / sy) * self.width;
                let from = &self.phases[start + column..start + self.width];
                line[first..].iter_mut().step_by(sx).zip(from).for_each(|(d, s)| *d = *s);
            }
        }
    }
}
