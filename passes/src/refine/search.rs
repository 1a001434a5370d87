//! Coordinate search: one quantizer after the other, in the order in which the network applies them.
//!
//! A move is tried on a quarter of the images first and dropped there unless it helps: most moves are. Where one helps on
//! all of them, it is made, and tried again in the same direction. Values before the quantizer are kept, so a try costs
//! the network from there on.

use crate::refine::parameters::{Layout, Offset, Parameter, Role};
use crate::refine::tail::Tail;
use catc_interp::metrics::kl_divergence;
use catc_interp::{EvalError, Interpreter};
use catc_ir::{Tensor, ValueId};
use std::ops::Range;

/// Moves in one direction in one sweep, at most.
const MAX_STEPS: usize = 4;
/// Sweeps in which zero-points are tried.
const ZERO_POINT_SWEEPS: usize = 2;

/// What is minimised: the mean divergence of the logits from those of the float network, plus the regularizer.
pub(crate) struct Objective {
    /// Logits of the float network, for each image.
    pub reference: Vec<Vec<f32>>,
    /// Temperature of both softmaxes.
    pub temperature: f64,
    /// Weight of the regularizer.
    pub penalty: f64,
}

impl Objective {
    /// The divergence of an image's logits.
    pub fn divergence(&self, image: usize, logits: &Tensor) -> f64 {
        kl_divergence(&self.reference[image], logits.as_f32().unwrap_or(&[]), self.temperature)
    }
}

/// A search in progress.
pub(crate) struct Search<'a> {
    pub interpreter: Interpreter,
    pub layout: &'a Layout,
    pub target: ValueId,
    pub objective: &'a Objective,
    pub parameters: Vec<Parameter>,
}

/// How far the scales of sweep `sweep` (from 0) move in one step: 25 %, then half of the step before.
fn step(sweep: usize) -> f64 {
    1.0 + 0.25 / f64::from(1u32 << sweep.min(16))
}

impl Search<'_> {
    /// The divergence of each image of `tail`, from its cut on.
    fn divergences(&self, tail: &Tail, range: Range<usize>) -> Result<Vec<f64>, EvalError> {
        tail.measure(&self.interpreter, self.target, range, |i, logits| self.objective.divergence(i, logits))
    }

    /// One sweep over all parameters, on images whose cut is at the start; tells how many moves were made.
    /// `done` is called after each parameter.
    pub fn sweep(&mut self, sweep: usize, mut tail: Tail, mut done: impl FnMut()) -> Result<usize, EvalError> {
        let mut moves = 0;
        let mut current: Option<Vec<f64>> = None;
        for index in 0..self.parameters.len() {
            tail.advance(&self.interpreter, self.layout, self.parameters[index].start)?;
            let mut losses = match current.take() {
                Some(losses) => losses,
                None => self.divergences(&tail, 0..tail.len())?,
            };
            moves += self.move_scale(index, step(sweep), &tail, &mut losses)?;
            if self.parameters[index].role == Role::Activation && sweep < ZERO_POINT_SWEEPS {
                moves += self.move_zero_point(index, &tail, &mut losses)?;
            }
            current = Some(losses);
            done();
        }
        Ok(moves)
    }

    fn move_scale(&mut self, index: usize, step: f64, tail: &Tail, losses: &mut Vec<f64>) -> Result<usize, EvalError> {
        for step in [step, 1.0 / step] {
            let mut moves = 0;
            while moves < MAX_STEPS {
                let Offset { factor, shift } = self.parameters[index].offset;
                if !self.attempt(index, Offset { factor: factor * step, shift }, tail, losses)? {
                    break;
                }
                moves += 1;
            }
            if moves > 0 {
                return Ok(moves);
            }
        }
        Ok(0)
    }

    fn move_zero_point(&mut self, index: usize, tail: &Tail, losses: &mut Vec<f64>) -> Result<usize, EvalError> {
        for by in [1, -1] {
            let Offset { factor, shift } = self.parameters[index].offset;
            if self.attempt(index, Offset { factor, shift: shift + by }, tail, losses)? {
                return Ok(1);
            }
        }
        Ok(0)
    }

    /// Moves a parameter if that lowers the objective; `losses` are the divergences of the images, before and after.
    fn attempt(&mut self, index: usize, offset: Offset, tail: &Tail, losses: &mut Vec<f64>) -> Result<bool, EvalError> {
        let parameter = &self.parameters[index];
        let Some(quantizer) = parameter.at(offset) else { return Ok(false) };
        let (id, old) = (parameter.id, parameter.at(parameter.offset));
        let cost = self.objective.penalty * (parameter.penalty(offset) - parameter.penalty(parameter.offset));
        self.interpreter.set_quantizer(id, quantizer)?;
        let first = (tail.len() / 4).max(8).min(tail.len());
        let mut found = self.divergences(tail, 0..first)?;
        let mut helps = gain(losses, &found) > cost;
        if helps && first < tail.len() {
            found.extend(self.divergences(tail, first..tail.len())?);
            helps = gain(losses, &found) > cost;
        }
        if helps {
            *losses = found;
            self.parameters[index].offset = offset;
        } else if let Some(old) = old {
            self.interpreter.set_quantizer(id, old)?;
        }
        Ok(helps)
    }

    /// Takes all parameters to these offsets.
    pub fn restore(&mut self, offsets: &[Offset]) -> Result<(), EvalError> {
        for (parameter, &offset) in self.parameters.iter_mut().zip(offsets) {
            parameter.offset = offset;
            if let Some(quantizer) = parameter.at(offset) {
                self.interpreter.set_quantizer(parameter.id, quantizer)?;
            }
        }
        Ok(())
    }

    /// Where the parameters are.
    pub fn offsets(&self) -> Vec<Offset> {
        self.parameters.iter().map(|p| p.offset).collect()
    }
}

/// By how much the mean over the first images falls; NaN is no gain.
fn gain(before: &[f64], after: &[f64]) -> f64 {
    let sum: f64 = before.iter().zip(after).map(|(b, a)| b - a).sum();
    if sum.is_nan() { f64::NEG_INFINITY } else { sum / after.len().max(1) as f64 }
}
