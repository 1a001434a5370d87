//! Nodes whose operands are dequantized constants. Operations that move elements or multiply by a constant are applied to the codes:
//! models transpose, slice, join, pad and flip their weights before a layer takes them. All other operations are evaluated in f32.

use crate::rewrite::{Rewrite, Sweep};
use crate::weight_codes::{add_codes, constant_codes, dequantized};
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::{Binary, Dequantize};
use catc_ir::quantizer::narrowed;
use catc_ir::{Element, Graph, Node, Op, Operand, QFormat, Quantizer, Tensor};
use smallvec::smallvec;

/// Constant codes, element by element. A scale may be of either sign, or 0.
struct Elements {
    shape: Vec<usize>,
    /// Codes less their zero-points.
    centered: Vec<f32>,
    scale: Vec<f32>,
    zero_point: Vec<f32>,
    /// The format of all of them, if it is one.
    format: Option<QFormat>,
}

impl Elements {
    fn of(codes: &[i16], shape: Vec<usize>, quantizer: &Quantizer) -> Self {
        let slice = quantizer.slice_of(&shape);
        let zero_point: Vec<f32> = (0..codes.len()).map(|i| quantizer.zero_point[slice(i)] as f32).collect();
        Elements {
            centered: codes.iter().zip(&zero_point).map(|(&c, z)| f32::from(c) - z).collect(),
            scale: (0..codes.len()).map(|i| quantizer.scale[slice(i)]).collect(),
            zero_point,
            format: Some(quantizer.format),
            shape,
        }
    }

    /// Zeros, which are codes of any scale.
    fn zeros(shape: &[usize]) -> Self {
        let zeros = vec![0.0; shape.iter().product()];
        Elements {
            shape: shape.to_vec(),
            centered: zeros.clone(),
            scale: zeros.clone(),
            zero_point: zeros,
            format: None,
        }
    }

    /// Codes and quantizer with one scale, or one for each slice of an axis; `None` if there is no such axis.
    fn quantized(mut self) -> Option<(Vec<i16>, Vec<usize>, Quantizer)> {
        for (c, s) in self.centered.iter_mut().zip(&mut self.scale) {
            match *s {
                x if x < 0.0 => (*c, *s) = (-*c, -x),
                x if x > 0.0 && x.is_finite() => {}
                0.0 => *c = 0.0,
                _ => return None,
            }
        }
        let axes = [None].into_iter().chain((0..self.shape.len()).map(Some));
        let (axis, scale) = axes.into_iter().find_map(|axis| Some((axis, self.one_for_each(axis, &self.scale)?)))?;
        let positive = scale.iter().map(|&s| if s > 0.0 { s } else { 1.0 }).collect();
        let centered: Vec<i32> = self.centered.iter().map(|&c| c as i32).collect();
        // As they were, if they can be.
        if let (Some(format), Some(zero_point)) = (self.format, self.one_for_each(axis, &self.zero_point)) {
            let zero_point: Vec<i32> = zero_point.iter().map(|&z| z as i32).collect();
            let quantizer = Quantizer { format, axis, scale: positive, zero_point };
            let slice = quantizer.slice_of(&self.shape);
            let codes: Vec<i32> =
                centered.iter().enumerate().map(|(i, c)| c + quantizer.zero_point[slice(i)]).collect();
            if codes.iter().all(|c| (format.min()..=format.max()).contains(c)) {
                return Some((codes.iter().map(|&c| c as i16).collect(), self.shape, quantizer));
            }
            let (codes, quantizer) = narrowed(&centered, &self.shape, quantizer)?;
            return Some((codes, self.shape, quantizer));
        }
        let format = QFormat::new(true, 8)?;
        let quantizer = Quantizer { format, axis, zero_point: vec![0; scale.len()], scale: positive };
        let (codes, quantizer) = narrowed(&centered, &self.shape, quantizer)?;
        Some((codes, self.shape, quantizer))
    }

    /// For each slice the one number that all of its elements share, not counting elements that are 0 with any number; 0 if all are.
    fn one_for_each(&self, axis: Option<usize>, plane: &[f32]) -> Option<Vec<f32>> {
        let slices = axis.map_or(1, |a| self.shape[a]);
        let run: usize = axis.map_or(1, |a| self.shape[a + 1..].iter().product());
        let mut found: Vec<Option<f32>> = vec![None; slices];
        for (i, (&x, &c)) in plane.iter().zip(&self.centered).enumerate().filter(|(_, (_, c))| **c != 0.0) {
            debug_assert_ne!(c, 0.0);
            let slot = &mut found[i / run.max(1) % slices.max(1)];
            if slot.is_some_and(|y| y != x) {
                return None;
            }
            *slot = Some(x);
        }
        // Where no element decides, the first one's number is taken.
        let first = |s: usize| plane.get(s * run).copied().unwrap_or(0.0);
        Some(found.iter().enumerate().map(|(s, x)| x.unwrap_or_else(|| first(s))).collect())
    }
}

/// A node whose operands are constants, some of them dequantized: a `dequantize` of other codes, or a constant.
pub(crate) fn fold_codes(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    let conversion = matches!(node.op, Op::Quantize(_) | Op::Dequantize(_) | Op::Fused(_));
    let fixed = sweep.graph.value_type(node.output).shape.as_fixed().is_some();
    if conversion || !fixed || sweep.is_output(node.output) {
        return None;
    }
    let codes: Vec<_> = node.inputs.iter().map(|&o| constant_codes(sweep, o)).collect();
    let constant = |(o, c): (&Operand, &Option<_>)| o.constant().is_some() || c.is_some();
    if !node.inputs.iter().zip(&codes).all(constant) || codes.iter().all(Option::is_none) {
        return None;
    }
    let moved = moved(sweep, node, &codes).and_then(Elements::quantized);
    if let Some((codes, shape, quantizer)) = moved {
        let codes = add_codes(sweep, codes, &shape, quantizer);
        return Some(Rewrite::Replace(Op::Dequantize(Dequantize), smallvec![codes]));
    }
    let reals = node.inputs.iter().zip(&codes).map(|(&o, codes)| match codes {
        Some((codes, shape, quantizer)) => Some(Tensor::f32(shape, dequantized(codes, shape, quantizer))),
        None => constant_tensor(sweep, o),
    });
    let result = evaluate(&node.op, reals.collect::<Option<Vec<_>>>()?)?;
    Some(Rewrite::Forward(sweep.graph.add_constant(result).into()))
}

type Codes = (Vec<i16>, Vec<usize>, Quantizer);

/// The codes after an operation that can be done to codes.
fn moved(sweep: &Sweep, node: &Node, codes: &[Option<Codes>]) -> Option<Elements> {
    let elements = |i: usize| -> Option<Elements> {
        match codes.get(i)? {
            Some((codes, shape, quantizer)) => Some(Elements::of(codes, shape.clone(), quantizer)),
            None => {
                let (id, reals) = sweep.f32_constant(node.inputs[i])?;
                let shape = sweep.graph.constant(id).tensor.shape();
                reals.iter().all(|&x| x == 0.0).then(|| Elements::zeros(shape))
            }
        }
    };
    let constant = |i: usize| constant_tensor(sweep, node.inputs[i]);
    match &node.op {
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Expand(_) | Op::Identity(_) => {
            apply(&node.op, &[elements(0)?], &[])
        }
        Op::Pad(pad) if pad.value == 0.0 => apply(&node.op, &[elements(0)?], &[]),
        Op::Gather(_) => apply(&node.op, &[elements(0)?], &[constant(1)?]),
        Op::Concat(_) => {
            let parts = (0..node.inputs.len()).map(elements).collect::<Option<Vec<_>>>()?;
            apply(&node.op, &parts, &[])
        }
        Op::Binary(f @ (Binary::Mul | Binary::Div)) => {
            let at = codes.iter().position(Option::is_some)?;
            if codes.iter().filter(|c| c.is_some()).count() > 1 || (at == 1 && *f == Binary::Div) {
                return None;
            }
            scaled(*f, elements(at)?, constant(1 - at)?)
        }
        _ => None,
    }
}

/// An operation that moves elements, done to each plane of them. `others` are its operands behind the parts.
fn apply(op: &Op, parts: &[Elements], others: &[Tensor]) -> Option<Elements> {
    let plane = |of: fn(&Elements) -> &Vec<f32>| {
        let inputs = parts.iter().map(|p| Tensor::f32(&p.shape, of(p).clone())).chain(others.iter().cloned());
        evaluate(op, inputs.collect())
    };
    let (centered, scale) = (plane(|p| &p.centered)?, plane(|p| &p.scale)?);
    let zero_point = plane(|p| &p.zero_point)?;
    let mut formats = parts.iter().filter_map(|p| p.format);
    let format = formats.next().filter(|f| formats.all(|g| g == *f));
    Some(Elements {
        shape: centered.shape().to_vec(),
        centered: centered.as_f32()?.to_vec(),
        scale: scale.as_f32()?.to_vec(),
        zero_point: zero_point.as_f32()?.to_vec(),
        format,
    })
}

/// Elements times a constant, or divided by it: their scales are.
fn scaled(f: Binary, elements: Elements, by: Tensor) -> Option<Elements> {
    let ones = Tensor::f32(by.shape(), vec![1.0; by.as_f32()?.len()]);
    let spread = apply(&Op::Binary(Binary::Mul), &[elements], &[ones])?;
    let scale = evaluate(&Op::Binary(f), vec![Tensor::f32(&spread.shape, spread.scale.clone()), by])?;
    Some(Elements { scale: scale.as_f32()?.to_vec(), ..spread })
}

/// A constant that is no codes.
fn constant_tensor(sweep: &Sweep, operand: Operand) -> Option<Tensor> {
    let constant = sweep.graph.constant(operand.constant()?);
    (!matches!(constant.element, Element::Code(_))).then(|| constant.tensor.as_ref().clone())
}

/// What an operation makes of constants.
fn evaluate(op: &Op, inputs: Vec<Tensor>) -> Option<Tensor> {
    let mut graph = Graph::new("constants");
    let operands: Vec<Operand> = inputs.into_iter().map(|t| graph.add_constant(t).into()).collect();
    let output = graph.append(op.clone(), operands, "").ok()?;
    graph.add_output("result", output);
    Interpreter::new(&graph).and_then(|i| i.run_from(&[], &[output])).ok()?.pop()
}
