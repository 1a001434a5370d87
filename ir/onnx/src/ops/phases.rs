//! Transposed convolutions as convolutions. Output position `s m + r` of an axis with stride `s` belongs to phase `r`. It sums
//! the products of tap `t` and input `m + e` for all `t` with `d t + s e = s m + r` before cropping, where `d` is the dilation. So
//! each phase is a convolution with stride 1, whose taps are those with `d t = r` modulo `s`.
//!
//! Where all phases can have one window at little more work, one convolution computes all of them in as many channels. Otherwise each
//! phase has a convolution of its own. The phases are then interleaved: with channels last, this moves the channels of each pixel
//! as a whole.

use super::build::{Built, concat, permute, pick, reshape, slice};
use crate::error::NodeProblem;
use crate::node::NodeContext;
use crate::tensor::MAX_ELEMENTS;
use crate::value::Value;
use catc_ir::ops::{Conv2d, Pad};
use catc_ir::{Dim, Op, Shape};

/// The most convolutions for one node. More phases than that are computed by one convolution in any case.
const MOST: usize = 16;

/// How many quarters of the products of separate phases one convolution for all of them may take: with few output channels more, because
/// kernels compute several channels at once.
const QUARTERS: [usize; 2] = [5, 8];

/// Output channels below which there are few.
const FEW: usize = 16;

/// The taps of one phase of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// The taps in the order of the input elements that they multiply. `None` is a tap of weight 0.
    taps: Vec<Option<usize>>,
    /// Input elements between neighbouring taps.
    dilation: usize,
    /// The position of the input element that the first tap multiplies, for output 0 of the phase. It may lie outside the input.
    start: i64,
}

/// One axis of a transposed convolution.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Outputs of each phase.
    count: usize,
    /// The number of the first of these outputs, before cropping.
    first: i64,
    /// The interleaved outputs to drop at the start.
    dropped: usize,
    /// The outputs that stay.
    outputs: usize,
}

impl Axis {
    /// The axis that crops `crop` of its outputs at the start (or adds as many, if negative) and then has `outputs` of them.
    pub fn new(
        input: usize,
        kernel: usize,
        (stride, dilation): (usize, usize),
        crop: i64,
        outputs: usize,
    ) -> Result<Self, NodeProblem> {
        let s = stride as i64;
        let end = i64::try_from(outputs).ok().and_then(|n| n.checked_add(crop)).and_then(|n| n.checked_add(s - 1));
        let Some(end) = end else { return Err(NodeProblem::invalid("its output is too large")) };
        let (first, last) = (crop.div_euclid(s), end.div_euclid(s));
        let (count, dropped) = ((last - first) as usize, crop.rem_euclid(s) as usize);
        Ok(Axis { input, kernel, stride, dilation, count, first, dropped, outputs })
    }

    /// The taps of phase `r`.
    fn phase(&self, r: usize) -> Phase {
        let (s, d) = (self.stride, self.dilation);
        let taps: Vec<usize> = (0..self.kernel).rev().filter(|t| t * d % s == r).collect();
        let Some(&last) = taps.first() else { return self.empty() };
        // Tap t multiplies input m + (r - d t) / s for output m, and d t is r or more.
        let start = self.first - ((last * d - r) / s) as i64;
        let dilation = match taps[..] {
            [a, b, ..] => (a - b) * d / s,
            _ => 1,
        };
        let reach = start + ((taps.len() - 1) * dilation) as i64 + self.count as i64 - 1;
        if reach < 0 || start >= self.input as i64 {
            return self.empty();
        }
        Phase { taps: taps.into_iter().map(Some).collect(), dilation, start }
    }

    /// A phase without products: one tap of weight 0, at any place inside the input.
    fn empty(&self) -> Phase {
        Phase { taps: vec![None], dilation: 1, start: 0 }
    }

    /// The number of taps of a window that holds the taps of all phases.
    fn common_taps(&self) -> usize {
        // With stride 1 there is one phase, whose taps may stay apart.
        if self.stride == 1 { self.kernel } else { ((self.kernel - 1) * self.dilation + 1).div_ceil(self.stride) }
    }

    /// A window that holds the taps of all phases. It has the taps of phase 0, then those of phase 1, and so on.
    fn common(&self) -> Phase {
        let (s, taps) = (self.stride, self.common_taps());
        let dilation = if s == 1 { self.dilation } else { 1 };
        let at = |number: usize, r: usize| {
            let place = (taps - 1 - number) * s * dilation + r;
            Some(place / self.dilation).filter(|t| place.is_multiple_of(self.dilation) && *t < self.kernel)
        };
        let all = (0..taps).flat_map(|number| (0..s).map(move |r| (number, r)));
        let start = self.first - ((taps - 1) * dilation) as i64;
        Phase { taps: all.map(|(number, r)| at(number, r)).collect(), dilation, start }
    }

    /// The padding before and after the input that a window of this many taps needs. Negative padding cuts.
    fn padding(&self, phase: &Phase, taps: usize) -> [i64; 2] {
        let end = phase.start + ((taps - 1) * phase.dilation) as i64 + self.count as i64;
        [-phase.start, end - self.input as i64]
    }
}

/// A transposed convolution of `[N,C,H,W]` with weights `[C,O/groups,KH,KW]`.
pub(super) struct Transposed {
    pub groups: usize,
    /// Input channels of a group.
    pub depth: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub axes: [Axis; 2],
    /// `[O]`.
    pub bias: Option<Value>,
}

impl Transposed {
    /// The number of phases.
    fn phases(&self) -> usize {
        self.axes[0].stride.saturating_mul(self.axes[1].stride)
    }

    /// Whether one convolution computes all phases.
    fn is_joined(&self) -> bool {
        if self.phases() == 1 || self.phases() > MOST {
            return true;
        }
        // The products of each phase for a pixel and two channels, all phases together.
        let separate = self.axes.iter().map(|a| (0..a.stride).map(|r| a.phase(r).taps.len()).sum::<usize>());
        let joined = self.axes.iter().map(|a| a.stride.saturating_mul(a.common_taps()));
        let product = |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(1usize, |n, x| n.saturating_mul(x));
        let quarters = QUARTERS[usize::from(self.outputs < FEW)];
        let few = product(&mut { joined }).saturating_mul(4) <= product(&mut { separate }).saturating_mul(quarters);
        // The channels of each group are apart in the joined output, so that single ones would be moved.
        few && (self.groups == 1 || self.outputs >= 8)
    }

    /// Builds the layer.
    pub fn build(&self, cx: &mut NodeContext, x: &Value, w: &Value) -> Built {
        let [down, right] = [self.axes[0].stride, self.axes[1].stride];
        if self.is_joined() {
            let taps = self.axes.iter().map(|a| a.stride.saturating_mul(a.common_taps()));
            let channels = self.groups.saturating_mul(self.depth).saturating_mul(self.outputs);
            if taps.fold(channels, usize::saturating_mul) > MAX_ELEMENTS {
                return Err(NodeProblem::invalid("its kernels are too large for their strides"));
            }
            let windows = [self.axes[0].common(), self.axes[1].common()];
            let y = self.conv(cx, x, w, &windows, [down, right])?;
            return self.interleaved(cx, &y, self.groups);
        }
        let mut parts = vec![];
        for r in 0..down {
            for q in 0..right {
                parts.push(self.conv(cx, x, w, &[self.axes[0].phase(r), self.axes[1].phase(q)], [1, 1])?);
            }
        }
        let y = concat(cx, &parts, 1)?;
        self.interleaved(cx, &y, 1)
    }

    /// A convolution with the taps of a phase of each axis, each of which stand for `joined` phases.
    fn conv(&self, cx: &mut NodeContext, x: &Value, w: &Value, windows: &[Phase; 2], joined: [usize; 2]) -> Built {
        let mut x = x.clone();
        let mut pads = [0; 4];
        for i in 0..2 {
            let axis = &self.axes[i];
            let [before, after] = axis.padding(&windows[i], windows[i].taps.len() / joined[i]);
            let size = |n: i64| usize::try_from(n).unwrap_or(0);
            (pads[i], pads[i + 2]) = (size(before), size(after));
            let (from, to) = (size(-before), axis.input.saturating_sub(size(-after)));
            if from >= to {
                return Err(NodeProblem::invalid("its padding leaves nothing"));
            }
            if (from, to) != (0, axis.input) {
                x = slice(cx, &x, 2 + i, from, to, 1)?;
            }
        }
        let weights = self.weights(cx, w, windows, joined)?;
        let mut operands = vec![cx.operand(0, &x)?, cx.operand(1, &weights)?];
        if let Some(bias) = &self.bias {
            let each = joined[0] * joined[1] * self.outputs;
            let places: Vec<usize> =
                (0..self.groups * each).map(|i| i / each * self.outputs + i % self.outputs).collect();
            let bias = if joined == [1, 1] { bias.clone() } else { pick(cx, bias, 0, &places)? };
            operands.push(cx.operand(2, &bias)?);
        }
        let dilations = [windows[0].dilation, windows[1].dilation];
        cx.emit(Op::Conv2d(Conv2d { strides: [1, 1], pads, dilations, groups: self.groups }), &operands)
    }

    /// The weights `[G R O/G,C/G,KH,KW]` of the taps in the windows, with `R` joined phases and `G` groups.
    fn weights(&self, cx: &mut NodeContext, w: &Value, windows: &[Phase; 2], joined: [usize; 2]) -> Built {
        let missing = [0, 1].map(|i| usize::from(windows[i].taps.contains(&None)));
        let mut w = w.clone();
        if missing != [0, 0] {
            let after = vec![0, 0, missing[0], missing[1]];
            w = cx.emit_on(Op::Pad(Pad { before: vec![0; 4], after, value: 0.0 }), &w)?;
        }
        for (i, (axis, window)) in self.axes.iter().zip(windows).enumerate() {
            let places: Vec<usize> = window.taps.iter().map(|t| t.unwrap_or(axis.kernel)).collect();
            w = pick(cx, &w, 2 + i, &places)?;
        }
        let (g, c, o) = (self.groups, self.depth, self.outputs);
        let [p, q] = joined;
        let [kh, kw] = [0, 1].map(|i| windows[i].taps.len() / joined[i]);
        let w = reshape(cx, &w, Shape::fixed(&[g, c, o, kh, p, kw, q]))?;
        let w = permute(cx, &w, vec![0, 4, 6, 2, 1, 3, 5])?;
        reshape(cx, &w, Shape::fixed(&[g * p * q * o, c, kh, kw]))
    }

    /// Interleaves the phases of `[N,G R O/G,M,M']` and drops what is cropped.
    fn interleaved(&self, cx: &mut NodeContext, y: &Value, groups: usize) -> Built {
        let n = cx.shape(y).dims()[0];
        let [vertical, horizontal] = &self.axes;
        let (p, q, m, k) = (vertical.stride, horizontal.stride, vertical.count, horizontal.count);
        let channels = self.groups * self.outputs;
        let with = |sizes: &[usize]| Shape::new([n].into_iter().chain(sizes.iter().map(|&s| Dim::Fixed(s))));
        let mut y = y.clone();
        if p * q > 1 {
            y = permute(cx, &y, vec![0, 2, 3, 1])?;
            if groups > 1 {
                y = reshape(cx, &y, with(&[m, k, groups, p, q, channels / groups]))?;
                y = permute(cx, &y, vec![0, 1, 4, 2, 5, 3, 6])?;
            } else if p > 1 {
                // The phases of a row lie together, as its pixels do afterwards.
                y = reshape(cx, &y, with(&[m, k, p, q * channels]))?;
                y = permute(cx, &y, vec![0, 1, 3, 2, 4])?;
            }
            y = reshape(cx, &y, with(&[m * p, k * q, channels]))?;
            y = permute(cx, &y, vec![0, 3, 1, 2])?;
        }
        for (i, axis) in self.axes.iter().enumerate() {
            let (from, to) = (axis.dropped, axis.dropped + axis.outputs);
            if (from, to) != (0, axis.count * axis.stride) {
                y = slice(cx, &y, 2 + i, from, to, 1)?;
            }
        }
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What one axis gives by definition, cropped.
    fn scattered(x: &[i64], w: &[i64], (s, d): (usize, usize), crop: i64, outputs: usize) -> Vec<i64> {
        let mut y = vec![0; outputs];
        for (j, x) in x.iter().enumerate() {
            for (t, w) in w.iter().enumerate() {
                let place = (j * s + t * d) as i64 - crop;
                if let Some(y) = usize::try_from(place).ok().and_then(|at| y.get_mut(at)) {
                    *y += x * w;
                }
            }
        }
        y
    }

    /// A convolution of the padded or cut input with some taps.
    fn convolved(axis: &Axis, phase: &Phase, taps: &[Option<usize>], x: &[i64], w: &[i64]) -> Vec<i64> {
        let [before, after] = axis.padding(phase, taps.len());
        let size = |n: i64| usize::try_from(n).unwrap_or(0);
        let cut = &x[size(-before)..x.len() - size(-after)];
        assert!(!cut.is_empty());
        let padded = [vec![0; size(before)], cut.to_vec(), vec![0; size(after)]].concat();
        assert_eq!(padded.len(), (taps.len() - 1) * phase.dilation + axis.count);
        let weight = |t: &Option<usize>| t.map_or(0, |t| w[t]);
        let sum = |m: usize| taps.iter().enumerate().map(|(i, t)| weight(t) * padded[m + i * phase.dilation]).sum();
        (0..axis.count).map(sum).collect()
    }

    proptest! {
        #[test]
        fn phases_and_their_common_window_are_the_transposed_convolution(
            (input, kernel, stride, dilation) in (1usize..7, 1usize..7, 1usize..6, 1usize..4),
            (crop, rest) in (-4i64..8, 0usize..12),
        ) {
            let full = (input - 1) * stride + (kernel - 1) * dilation + 1;
            // Some of the outputs remain.
            prop_assume!(crop < full as i64);
            let outputs = (full as i64 - crop + 3 - rest as i64).max(1) as usize;
            prop_assume!(crop + outputs as i64 > 0);
            let x: Vec<i64> = (0..input as i64).map(|i| 1 + i * i).collect();
            let w: Vec<i64> = (0..kernel as i64).map(|i| 100 + 7 * i).collect();
            let expected = scattered(&x, &w, (stride, dilation), crop, outputs);
            let axis = Axis::new(input, kernel, (stride, dilation), crop, outputs).unwrap();
            let kept = |all: &dyn Fn(usize) -> i64| (axis.dropped..axis.dropped + outputs).map(all).collect::<Vec<_>>();
            let separate: Vec<Vec<i64>> = (0..stride)
                .map(|r| {
                    let phase = axis.phase(r);
                    convolved(&axis, &phase, &phase.taps, &x, &w)
                })
                .collect();
            prop_assert_eq!(&kept(&|p| separate[p % stride][p / stride]), &expected);
            let common = axis.common();
            let joined: Vec<Vec<i64>> = (0..stride)
                .map(|r| {
                    let taps: Vec<_> = common.taps.iter().skip(r).step_by(stride).copied().collect();
                    convolved(&axis, &common, &taps, &x, &w)
                })
                .collect();
            prop_assert_eq!(&kept(&|p| joined[p % stride][p / stride]), &expected);
        }
    }

    #[test]
    fn a_window_of_whole_strides_has_no_tap_of_weight_zero() {
        let axis = Axis::new(5, 4, (2, 1), 1, 10).unwrap();
        assert_eq!(axis.common(), Phase { taps: vec![Some(2), Some(3), Some(0), Some(1)], dilation: 1, start: -1 });
        assert_eq!((axis.count, axis.dropped), (6, 1));
        assert!(Axis::new(5, 4, (2, 1), i64::MAX, 1).is_err());
    }
}
