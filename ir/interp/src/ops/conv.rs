//! Convolution. The default method sums shifted planes. Recorded evaluations use a faster algorithm if it applies. Groups with
//! one input channel use direct loops.

use super::{Known, Prepared, Pullback, Reverse, Rule};
use crate::EvalError;
use crate::buffers::Buffers;
use crate::call::{Call, Input};
use crate::depthwise::Depthwise;
use crate::gemm::Matrix;
use crate::im2col::{Geometry, im2col};
use crate::shifted::{PhaseLayout, pack_weights};
use crate::winograd;
use catc_ir::Tensor;
use catc_ir::ops::Conv2d;
use catc_scalar::sum4;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The number of f32 elements of an im2col matrix that are held at once. They fill half of a typical L2 cache.
const COLUMN_BLOCK: usize = 1 << 18;

/// The sizes of a convolution over one image.
pub(crate) struct Plane {
    pub groups: usize,
    /// The number of input channels.
    pub channels: usize,
    /// The number of output channels.
    pub outputs: usize,
    pub geometry: Geometry,
}

impl Plane {
    /// The sizes for an input `[N,C,H,W]`, weights `[O,C/groups,KH,KW]` and an output `[N,O,H',W']`.
    pub fn new(conv: &Conv2d, x: &[usize], w: &[usize], out: &[usize]) -> Self {
        let geometry = Geometry { window: conv.window([w[2], w[3]]), input: [x[2], x[3]], output: [out[2], out[3]] };
        Plane { groups: conv.groups, channels: x[1], outputs: w[0], geometry }
    }

    /// The number of terms in each sum.
    pub fn depth(&self) -> usize {
        self.channels / self.groups * self.geometry.taps()
    }

    /// Whether there are several groups of one input channel each.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.channels == self.groups
    }

    /// The number of elements of an input image.
    pub fn input_len(&self) -> usize {
        self.channels * self.geometry.pixels()
    }

    /// The number of elements of an output image.
    pub fn output_len(&self) -> usize {
        self.outputs * self.geometry.positions()
    }

    /// The number of input elements of a group.
    fn group_len(&self) -> usize {
        self.channels / self.groups * self.geometry.pixels()
    }

    /// The number of output rows in a block of columns.
    fn block_rows(&self) -> usize {
        let [height, width] = self.geometry.output;
        if self.geometry.is_pointwise() {
            return height;
        }
        (COLUMN_BLOCK / (self.depth() * width).max(1)).clamp(1, height.max(1))
    }

    /// All pairs of a group and a block of output rows.
    fn blocks(&self) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (height, rows) = (self.geometry.output[0], self.block_rows());
        let starts = move || (0..height).step_by(rows);
        (0..self.groups).flat_map(move |g| starts().map(move |top| (g, top..(top + rows).min(height))))
    }

    /// The im2col matrix `[depth, positions]` of a block. It is written to `columns`, or it is `x` itself for pointwise
    /// convolutions.
    fn columns<'c>(&self, x: &'c [f32], group: usize, rows: &Range<usize>, columns: &'c mut [f32]) -> Matrix<'c> {
        let planes = &x[group * self.group_len()..][..self.group_len()];
        if self.geometry.is_pointwise() {
            return Matrix::rows(planes, self.geometry.positions());
        }
        im2col(planes, self.channels / self.groups, &self.geometry, rows.clone(), columns);
        Matrix::rows(columns, rows.len() * self.geometry.output[1])
    }

    /// A buffer for the columns of a block.
    fn column_space(&self, buffers: &mut Buffers) -> Vec<f32> {
        let needed = if self.geometry.is_pointwise() { 0 } else { self.block_rows() * self.geometry.output[1] };
        buffers.f32(self.depth() * needed)
    }

    /// Calls `f(group, first column, number of columns, matrix)` for blocks of the im2col matrix `[depth, positions]` of each
    /// group.
    pub fn column_blocks(
        &self,
        x: &[f32],
        buffers: &mut Buffers,
        mut f: impl FnMut(usize, usize, usize, Matrix, &mut Buffers),
    ) {
        let width = self.geometry.output[1];
        let mut space = self.column_space(buffers);
        for (group, rows) in self.blocks() {
            let matrix = self.columns(x, group, &rows, &mut space);
            f(group, rows.start * width, rows.len() * width, matrix, buffers);
        }
        buffers.give_f32(space);
    }

    /// Calls `f(output channel, depthwise)` for each output channel, with its input channel loaded. Only for depthwise
    /// convolutions.
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

/// The backward pass of a depthwise convolution for one image, with the gradient `dy` of the output. It computes `dx` and adds to
/// `dw`, each only if it is given.
fn pull_depthwise(
    p: &Plane,
    [x, w, dy]: [&[f32]; 3],
    mut dx: Option<&mut [f32]>,
    mut dw: Option<&mut [f32]>,
    buffers: &mut Buffers,
) {
    let (positions, depth, multiplier) = (p.geometry.positions(), p.depth(), p.outputs / p.groups);
    let size = p.geometry.pixels();
    let mut pixels = dx.is_some().then(|| Depthwise::new(&p.geometry, buffers));
    p.each_depthwise(x, buffers, |o, channel, _| {
        if let (Some(pixels), 0) = (&mut pixels, o % multiplier) {
            pixels.clear();
        }
        let dw = dw.as_deref_mut().map(|dw| &mut dw[o * depth..][..depth]);
        channel.pull(&w[o * depth..][..depth], &dy[o * positions..][..positions], dw, pixels.as_mut());
        if let (Some(dx), Some(pixels), 0) = (dx.as_deref_mut(), &pixels, (o + 1) % multiplier) {
            pixels.store(&mut dx[o / multiplier * size..][..size]);
        }
    });
    if let Some(pixels) = pixels {
        pixels.release(buffers);
    }
}

/// The constant weights of a convolution. Each algorithm packs them when it first needs them.
pub(crate) struct Kernels {
    weights: Arc<Tensor>,
    direct: OnceLock<Vec<f32>>,
    short: OnceLock<Vec<f32>>,
    short_back: OnceLock<Vec<f32>>,
}

impl Kernels {
    /// The cache of packed weights of one algorithm, if `w` are the constant weights. A given value may replace them.
    fn kept<'c>(call: &'c Call, w: &[f32], way: fn(&Kernels) -> &OnceLock<Vec<f32>>) -> Option<&'c OnceLock<Vec<f32>>> {
        match call.prepared {
            Prepared::Kernels(kernels) => {
                let own = kernels.weights.as_f32()?;
                (own.as_ptr() == w.as_ptr() && own.len() == w.len()).then(|| way(kernels))
            }
            _ => None,
        }
    }
}

/// The packed weights, from the cache if there is one.
fn packed<'c>(kept: Option<&'c OnceLock<Vec<f32>>>, pack: impl FnOnce() -> Vec<f32>) -> Cow<'c, [f32]> {
    match kept {
        Some(kept) => Cow::Borrowed(kept.get_or_init(pack)),
        None => Cow::Owned(pack()),
    }
}

impl Rule for Conv2d {
    fn prepare(&self, known: &Known) -> Prepared {
        match (known.before, &known.constants[1]) {
            (Prepared::Kernels(before), Some(w)) if Arc::ptr_eq(&before.weights, w) => known.before.clone(),
            (_, Some(w)) => {
                let empty = OnceLock::new;
                let weights = w.clone();
                Prepared::Kernels(Arc::new(Kernels { weights, direct: empty(), short: empty(), short_back: empty() }))
            }
            _ => Prepared::Nothing,
        }
    }

    fn forward(&self, call: &Call, inputs: &mut [Input], buffers: &mut Buffers) -> Result<Tensor, EvalError> {
        let p = Plane::new(self, inputs[0].shape(), inputs[1].shape(), call.shape);
        let (x, w) = (call.f32(&inputs[0])?, call.f32(&inputs[1])?);
        let bias = inputs.get(2).map(|b| call.f32(b)).transpose()?;
        let mut out = buffers.f32(call.shape.iter().product());
        let start = |o: usize| bias.map_or(0.0, |b| b[o]);
        let positions = p.geometry.positions();
        if p.is_depthwise() {
            let taps = p.geometry.taps();
            for (i, image) in out.chunks_exact_mut(p.output_len()).enumerate() {
                p.each_depthwise(&x[i * p.input_len()..][..p.input_len()], buffers, |o, channel, _| {
                    let out = &mut image[o * positions..][..positions];
                    channel.sum(&w[o * taps..][..taps], 0..taps, start(o), out);
                });
            }
        } else if p.depth() == 0 {
            out.chunks_exact_mut(positions).enumerate().for_each(|(i, plane)| plane.fill(start(i % p.outputs)));
        } else if call.recorded && winograd::suits(&p) {
            let kernels = packed(Kernels::kept(call, w, |k| &k.short), || winograd::pack_weights(&p, w, false));
            winograd::forward(&p, x, &kernels, bias, &mut out, buffers);
        } else {
            let kernels = packed(Kernels::kept(call, w, |k| &k.direct), || pack_weights(&p, w));
            PhaseLayout::new(&p, out.len() / p.output_len()).forward(x, &kernels, bias, &mut out, buffers);
        }
        Ok(call.output(out))
    }

    fn vjp(
        &self,
        call: &Call,
        reverse: &Reverse,
        grad: Vec<f32>,
        buffers: &mut Buffers,
    ) -> Result<Pullback, EvalError> {
        let p = Plane::new(self, reverse.inputs[0].shape(), reverse.inputs[1].shape(), call.shape);
        let (x, w) = (call.f32(reverse.inputs[0])?, call.f32(reverse.inputs[1])?);
        let mut dx = reverse.needs[0].then(|| buffers.f32(x.len()));
        let mut dw = reverse.needs[1].then(|| buffers.zeros(w.len()));
        if p.is_depthwise() {
            for (i, dy) in grad.chunks_exact(p.output_len()).enumerate() {
                let image = i * p.input_len()..(i + 1) * p.input_len();
                let dx = dx.as_mut().map(|dx| &mut dx[image.clone()]);
                pull_depthwise(&p, [&x[image], w, dy], dx, dw.as_deref_mut(), buffers);
            }
        } else if p.depth() > 0 {
            let short = winograd::suits(&p);
            let layout = PhaseLayout::new(&p, grad.len() / p.output_len());
            if let Some(dw) = &mut dw {
                match short {
                    true => winograd::pull_weights(&p, x, &grad, dw, buffers),
                    false => layout.pull_weights(x, &grad, dw, buffers),
                }
            }
            if let Some(dx) = &mut dx {
                match short {
                    true => {
                        let kept = Kernels::kept(call, w, |k| &k.short_back);
                        let kernels = packed(kept, || winograd::pack_weights(&p, w, true));
                        winograd::pull_input(&p, &grad, &kernels, dx, buffers);
                    }
                    false => layout.pull_input(&grad, w, dx, buffers),
                }
            }
        }
        let bias = reverse.needs.get(2).is_some_and(|&n| n).then(|| {
            let mut db = buffers.zeros(p.outputs);
            for (i, plane) in grad.chunks_exact(p.geometry.positions()).enumerate() {
                db[i % p.outputs] += sum4(plane);
            }
            db
        });
        buffers.give_f32(grad);
        Ok(Pullback::of([dx, dw, bias]))
    }
}
