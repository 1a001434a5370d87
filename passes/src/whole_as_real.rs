//! `whole-as-real`: computes whole numbers in f32 where that is exact.
//!
//! - Before and after: float or qdq phase. Exact: f32 holds every whole number up to 2^24, and sums and products that are computed as
//!   reals here stay below.
//! - Codes that no quantizer of the graph can hold (16 bits, several scales, or computed from other codes) are imported as whole numbers:
//!   a real is rounded, clipped and cast to i64, and programs have no such operations. A real that is whole and bounded needs no cast;
//!   operations that move, add or multiply whole numbers are the same on reals; the cast back is dropped. An output of whole numbers
//!   becomes one of reals.
//! - Other passes: after `canonicalize`; `dead-code` removes what is left of the casts.
//! - Example:
//!   ```text
//!   v1: f32[N,4] = clip v0 {min=0.0, max=65535.0}     (v0 being rounded)
//!   v2: i64[N,4] = cast_i64 v1                        -> (gone)
//!   v3: f32[N,4] = cast_f32 v2                        -> v1
//!   ```

use crate::context::PassContext;
use crate::pass::{Changed, Pass, PassError};
use crate::registry::{PassEntry, PassOptions, RegistryError};
use crate::rewrite::{Rewrite, Sweep, remove_dead_nodes};
use catc_ir::ops::{Binary, Cast, CastTo, Unary};
use catc_ir::{Element, Graph, Node, Op, Operand, Phase, Tensor, TensorData, ValueId};
use std::collections::HashMap;

/// Whole numbers up to here are exact in f32.
const EXACT: f64 = 16_777_216.0;

/// Reals up to here that are whole are exact in i64.
const LARGEST: f64 = (1u64 << 62) as f64;

/// Computes whole numbers as reals.
#[derive(Clone, Copy, Debug, Default)]
pub struct WholeAsReal;

impl WholeAsReal {
    /// Its entry in the registry.
    pub const ENTRY: PassEntry = PassEntry {
        name: "whole-as-real",
        summary: "computes whole numbers as reals, where those are the same numbers",
        options: &[],
        build: |_: &mut PassOptions| -> Result<Box<dyn Pass>, RegistryError> { Ok(Box::new(WholeAsReal)) },
    };
}

impl Pass for WholeAsReal {
    fn name(&self) -> &'static str {
        Self::ENTRY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::Float, Phase::Qdq]
    }

    fn run(&self, graph: &mut Graph, _: &mut PassContext) -> Result<Changed, PassError> {
        let mut found = Found::default();
        let mut fired = Sweep::once(self.name(), graph, |sweep, node| found.rule(sweep, node))?;
        for output in &mut graph.outputs {
            if let Some(Operand::Value(real)) = found.reals.get(&output.value) {
                output.value = *real;
                fired += 1;
            }
        }
        if fired > 0 {
            remove_dead_nodes(graph);
        }
        Ok(Changed::from_flag(fired > 0, "no whole numbers are computed from reals and back"))
    }
}

/// What is known of the values so far.
#[derive(Default)]
struct Found {
    /// Reals that are whole, infinite or NaN, and their largest magnitude. A finite one excludes the others.
    whole: HashMap<ValueId, f64>,
    /// The reals that are the same numbers as whole numbers, and bounded.
    reals: HashMap<ValueId, Operand>,
}

impl Found {
    fn rule(&mut self, sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
        match (sweep.graph.value_type(node.output).element, &node.op) {
            (Element::F32, Op::Cast(Cast { to: CastTo::F32 })) => {
                let real = node.inputs[0].value().and_then(|v| self.reals.get(&v).copied());
                // Whatever the cast gives is whole.
                self.whole.insert(node.output, f64::INFINITY);
                return real.filter(|r| r.value().is_some() || !sweep.is_output(node.output)).map(Rewrite::Forward);
            }
            (Element::F32, op) => {
                if let Some(bound) = self.bound_of(sweep, op, node) {
                    self.whole.insert(node.output, bound);
                }
            }
            (Element::I64, op) => {
                if let Some((real, bound)) = self.real(sweep, op, node) {
                    self.reals.insert(node.output, real);
                    real.value().map(|v| self.whole.insert(v, bound));
                }
            }
            (Element::Bool | Element::Code(_), _) => {}
        }
        None
    }

    /// The largest magnitude of whole reals; `None` if they may be none.
    fn bound(&self, sweep: &Sweep, operand: Operand) -> Option<f64> {
        match operand {
            Operand::Value(v) => self.whole.get(&v).copied(),
            Operand::Const(_) => {
                let (_, items) = sweep.f32_constant(operand)?;
                let largest = |m: f64, x: &f32| (x.fract() == 0.0).then_some(m.max(f64::from(x.abs())));
                items.iter().try_fold(0.0, largest)
            }
        }
    }

    /// That of what a node of reals gives.
    fn bound_of(&self, sweep: &Sweep, op: &Op, node: &Node) -> Option<f64> {
        let of = |i: usize| self.bound(sweep, node.inputs[i]);
        match op {
            Op::Unary(Unary::Round | Unary::Floor | Unary::Ceil) => Some(of(0).unwrap_or(f64::INFINITY)),
            Op::Unary(Unary::Relu | Unary::Abs) => of(0),
            Op::Unary(Unary::Clip { min, max }) => {
                let bounds = [*min, *max].map(|x| if x.is_finite() { x.fract() == 0.0 } else { true });
                (bounds == [true, true]).then_some(of(0)?.min(f64::from(min.abs().max(max.abs()))))
            }
            Op::Binary(f @ (Binary::Add | Binary::Sub | Binary::Mul)) => combined(*f, of(0)?, of(1)?),
            Op::MaxPool(_) => of(0),
            Op::Conv2d(_) | Op::Linear(_) | Op::MatMul(_) => {
                let shape = |i: usize| sweep.graph.type_of(node.inputs[i]).shape.as_fixed();
                // Products in a sum: those of a row of weights, or of a column of the right operand.
                let depth: usize = match op {
                    Op::MatMul(_) => *shape(1)?.iter().rev().take(2).next_back()?,
                    _ => shape(1)?[1..].iter().product(),
                };
                let bias = if node.inputs.len() > 2 { of(2)? } else { 0.0 };
                Some(depth as f64 * of(0)? * of(1)? + bias).filter(|b| !b.is_nan())
            }
            _ if moves(op) => {
                let padding = if let Op::Pad(pad) = op { f64::from(pad.value.abs()) } else { 0.0 };
                let parts = moved(op, node).iter().map(|&o| self.bound(sweep, o)).collect::<Option<Vec<f64>>>()?;
                (padding.fract() == 0.0).then(|| parts.into_iter().fold(padding, f64::max))
            }
            _ => None,
        }
    }

    /// The reals that are the whole numbers which a node gives, and their largest magnitude.
    fn real(&self, sweep: &mut Sweep, op: &Op, node: &Node) -> Option<(Operand, f64)> {
        if let Op::Cast(Cast { to: CastTo::I64 }) = op {
            let bound = self.bound(sweep, node.inputs[0])?;
            return (bound <= LARGEST).then_some((node.inputs[0], bound));
        }
        if let Op::Binary(f @ (Binary::Max | Binary::Min)) = op {
            return self.clipped(sweep, *f, node);
        }
        let mut inputs = node.inputs.clone();
        let sum = matches!(op, Op::Binary(Binary::Add | Binary::Sub | Binary::Mul));
        if !sum && !moves(op) {
            return None;
        }
        // Elements of whole constants join in if something else is computed.
        let count = if sum { 2 } else { moved(op, node).len() };
        if node.inputs[..count].iter().all(|o| o.constant().is_some()) {
            return None;
        }
        for operand in &mut inputs[..count] {
            *operand = self.same_real(sweep, *operand)?;
        }
        let bounds = inputs[..count].iter().map(|&o| self.bound(sweep, o)).collect::<Option<Vec<f64>>>()?;
        let bound = match (op, bounds.as_slice()) {
            (Op::Binary(f), &[a, b]) => combined(*f, a, b)?,
            (Op::Pad(pad), _) => bounds.into_iter().fold(f64::from(pad.value.abs()), f64::max),
            _ => bounds.into_iter().fold(0.0, f64::max),
        };
        if bound > EXACT {
            return None;
        }
        Some((sweep.insert(op.clone(), &inputs, &node.name)?, bound))
    }

    /// The larger or smaller one of a whole number and one that is constant: a clip of reals.
    fn clipped(&self, sweep: &mut Sweep, f: Binary, node: &Node) -> Option<(Operand, f64)> {
        let shape = sweep.graph.value_type(node.output).shape.clone();
        let at = node.inputs.iter().position(|o| o.value().is_some() && sweep.graph.type_of(*o).shape == shape)?;
        let (real, limit) = (self.same_real(sweep, node.inputs[at])?, node.inputs[1 - at].constant()?);
        let &[limit] = sweep.graph.constant(limit).tensor.as_i64()? else { return None };
        let bound = self.bound(sweep, real)?.max(limit.unsigned_abs() as f64);
        let clip = match f {
            Binary::Max => Unary::Clip { min: limit as f32, max: f32::INFINITY },
            _ => Unary::Clip { min: f32::NEG_INFINITY, max: limit as f32 },
        };
        let clipped = (bound <= EXACT).then(|| sweep.insert(Op::Unary(clip), &[real], &node.name))??;
        Some((clipped, bound))
    }

    /// An operand of whole numbers as one of reals.
    fn same_real(&self, sweep: &mut Sweep, operand: Operand) -> Option<Operand> {
        let Operand::Const(c) = operand else { return self.reals.get(&operand.value()?).copied() };
        let tensor = sweep.graph.constant(c).tensor.clone();
        let TensorData::I64(items) = tensor.data() else { return None };
        let exact = items.iter().all(|n| n.unsigned_abs() <= EXACT as u64);
        let reals = exact.then(|| items.iter().map(|&n| n as f32).collect())?;
        Some(sweep.graph.add_constant(Tensor::f32(tensor.shape(), reals)).into())
    }
}

/// The largest magnitude of a sum, difference or product.
fn combined(f: Binary, a: f64, b: f64) -> Option<f64> {
    match f {
        Binary::Add | Binary::Sub => Some(a + b),
        Binary::Mul => Some(a * b).filter(|x| !x.is_nan()),
        _ => None,
    }
}

/// Whether an operation only moves elements of any kind.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Concat(_)
            | Op::Pad(_)
            | Op::Slice(_)
            | Op::Gather(_)
            | Op::Identity(_)
            | Op::Expand(_)
    )
}

/// The operands that are moved.
fn moved<'n>(op: &Op, node: &'n Node) -> &'n [Operand] {
    if matches!(op, Op::Concat(_)) { &node.inputs } else { &node.inputs[..1] }
}
