//! Convolution: im2col and a matrix product for each image and group, direct loops where a group has one input channel.

use super::Rule;
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::depthwise::Depthwise;
use crate::gemm::{Matrix, gemm_f32};
use crate::im2col::{Geometry, im2col};
use catc_ir::Tensor;
use catc_ir::ops::Conv2d;

/// Reals of an im2col matrix held at once: half of a usual second-level cache.
const COLUMN_BLOCK: usize = 1 << 18;

/// The sizes of a convolution over one image.
pub(crate) struct Plane {
    pub groups: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub outputs: usize,
    pub geometry: Geometry,
}

impl Plane {
    /// The sizes for an input `[N,C,H,W]`, weights `[O,C/groups,KH,KW]` and an output `[N,O,H',W']`.
    pub fn new(conv: &Conv2d, x: &[usize], w: &[usize], out: &[usize]) -> Self {
        let geometry = Geometry { window: conv.window([w[2], w[3]]), input: [x[2], x[3]], output: [out[2], out[3]] };
        Plane { groups: conv.groups, channels: x[1], outputs: w[0], geometry }
    }

    /// Terms of each sum.
    pub fn depth(&self) -> usize {
        self.channels / self.groups * self.geometry.taps()
    }

    /// Whether there are several groups of one input channel each.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.channels == self.groups
    }

    /// Elements of an input image.
    pub fn input_len(&self) -> usize {
        self.channels * self.geometry.pixels()
    }

    /// Elements of an output image.
    pub fn output_len(&self) -> usize {
        self.outputs * self.geometry.positions()
    }

    /// Calls `f(group, first column, columns, matrix)` for blocks of the im2col matrix `[depth, positions]` of each group.
    pub fn column_blocks(
        &self,
        x: &[f32],
        buffers: &mut Buffers,
        mut f: impl FnMut(usize, usize, usize, Matrix, &mut Buffers),
    ) {
        let g = &self.geometry;
        let depth = self.depth();
        let group_len = self.channels / self.groups * g.pixels();
        if g.is_pointwise() {
            for group in 0..self.groups {
                let planes = &x[group * group_len..][..group_len];
                f(group, 0, g.positions(), Matrix::rows(planes, g.positions()), buffers);
            }
            return;
        }
        let width = g.output[1].max(1);
        let rows = (COLUMN_BLOCK / (depth * width).max(1)).clamp(1, g.output[0].max(1));
        let mut columns = buffers.f32(depth * rows * width);
        for group in 0..self.groups {
            let planes = &x[group * group_len..][..group_len];
            for top in (0..g.output[0]).step_by(rows) {
                let block = top..(top + rows).min(g.output[0]);
                let n = block.len() * width;
                im2col(planes, self.channels / self.groups, g, block, &mut columns);
                f(group, top * width, n, Matrix::rows(&columns, n), buffers);
            }
        }
        buffers.give_f32(columns);
    }

    /// Calls `f(output channel, channels)` for each output channel, its input channel loaded. Depthwise only.
    pub fn each_depthwise(
        &self,
        x: &[f32],
        buffers: &mut Buffers,
        mut f: impl FnMut(usize, &mut Depthwise, &mut Buffers),
    ) {
        let mut channels = Depthwise::new(&self.geometry, buffers);
        let multiplier = self.outputs / self.groups;
        let pixels = self.geometry.pixels();
        for c in 0..self.channels {
            channels.load(&x[c * pixels..][..pixels]);
            (c * multiplier..(c + 1) * multiplier).for_each(|o| f(o, &mut channels, buffers));
        }
        channels.release(buffers);
    }
}

/// Convolves one image: `out` `[O,H',W']` from `x` `[C,H,W]`.
fn conv_image(p: &Plane, x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32], buffers: &mut Buffers) {
    let positions = p.geometry.positions();
    let start = |o: usize| bias.map_or(0.0, |b| b[o]);
    if p.is_depthwise() {
        let taps = p.geometry.taps();
        p.each_depthwise(x, buffers, |o, channel, _| {
            channel.sum(&w[o * taps..][..taps], 0..taps, start(o), &mut out[o * positions..][..positions]);
        });
        return;
    }
    out.chunks_exact_mut(positions).enumerate().for_each(|(o, plane)| plane.fill(start(o)));
    let (group_outputs, depth) = (p.outputs / p.groups, p.depth());
    p.column_blocks(x, buffers, |group, first, n, columns, _| {
        let weights = &w[group * group_outputs * depth..][..group_outputs * depth];
        let out = &mut out[group * group_outputs * positions + first..];
        gemm_f32([group_outputs, n, depth], out, positions, true, Matrix::rows(weights, depth), columns);
    });
}

impl Rule for Conv2d {
    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let p = Plane::new(self, inputs[0].shape(), inputs[1].shape(), call.shape);
        let (x, w) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let bias = inputs.get(2).map(|b| call.f32(b)).transpose()?;
        let mut out = buffers.f32(call.shape.iter().product());
        for (i, image) in out.chunks_exact_mut(p.output_len()).enumerate() {
            conv_image(&p, &x[i * p.input_len()..][..p.input_len()], w, bias, image, buffers);
        }
        Ok(call.output(out))
    }
}
