//! What a fused node does to each output element after its body: the f32 steps between accumulator and store.
//!
//! Every step is one f32 operation, rounded on its own: a multiply followed by an add is never a fused multiply-add. The
//! evaluator and generated code therefore agree bit for bit.

use super::OpAttributes;
use super::attrs::{AttrError, AttrReader, AttrValue};
use super::elementwise::{Binary, Unary};

/// One step on the running value `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EpilogueStep {
    /// `t = t op r`, where `r` is the node's input number `operand`, broadcast to the output:
    /// `(code - zero_point) as f32 * scale` if it holds codes, `x * scale` if it is f32.
    Binary {
        /// The function.
        op: Binary,
        /// Index among the node's inputs.
        operand: usize,
        /// Factor of the operand: the scale of its quantizer until scales are folded; 1 for f32.
        scale: f32,
    },
    /// `t = f(t)`.
    Unary(Unary),
    /// `t = t * factor`.
    Scale(f32),
    /// `code = saturate(round_half_even(t * (1 / scale)) + zero_point)` of the output's quantizer, the reciprocal rounded to f32
    /// once. Only as the last step.
    Requantize,
    /// `code = saturate(round_half_even(t) + zero_point)`: the scale is already in `t`. Only as the last step.
    Round,
}

/// The steps in order. Without a final [`EpilogueStep::Requantize`] or [`EpilogueStep::Round`] the output is f32.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue(pub Vec<EpilogueStep>);

impl Epilogue {
    /// Whether the output is codes.
    pub fn quantizes(&self) -> bool {
        matches!(self.0.last(), Some(EpilogueStep::Requantize | EpilogueStep::Round))
    }

    /// Why the steps make no epilogue for a node with `inputs` inputs of which the first `body` belong to the body.
    pub(crate) fn check(&self, body: usize, inputs: usize) -> Result<(), String> {
        let mut used = vec![false; inputs];
        for (i, step) in self.0.iter().enumerate() {
            match step {
                EpilogueStep::Binary { op, .. } if !op.is_compiled() => {
                    return Err(format!("{} is no step of an epilogue", OpAttributes::name(op)));
                }
                EpilogueStep::Binary { operand, .. } => match used.get_mut(*operand) {
                    Some(seen) if *operand >= body => *seen = true,
                    _ => {
                        return Err(format!("epilogue operand {operand} is not an input after the body's {body}"));
                    }
                },
                EpilogueStep::Requantize | EpilogueStep::Round if i + 1 < self.0.len() => {
                    return Err("requantize and round can only be the last step".into());
                }
                _ => {}
            }
        }
        match used.iter().skip(body).position(|seen| !seen) {
            Some(i) => Err(format!("input {} is used by no step of the epilogue", body + i)),
            None => Ok(()),
        }
    }

    pub(crate) fn attr(&self) -> AttrValue {
        let call = |name: &str, args| AttrValue::Call(name.to_string(), args);
        let step = |s: &EpilogueStep| match s {
            EpilogueStep::Binary { op, operand, scale } => call(op.name(), vec![(*operand).into(), (*scale).into()]),
            EpilogueStep::Unary(u) => call(u.name(), u.params().into_iter().map(|(_, x)| x.into()).collect()),
            EpilogueStep::Scale(x) => call("scale", vec![(*x).into()]),
            EpilogueStep::Requantize => call("requantize", vec![]),
            EpilogueStep::Round => call("round", vec![]),
        };
        AttrValue::List(self.0.iter().map(step).collect())
    }

    pub(crate) fn read(r: &mut AttrReader) -> Result<Self, AttrError> {
        const BAD: AttrError =
            AttrError::Type { key: "epilogue", expected: "a list of steps such as add(4, 0.5), relu, round" };
        let items = match r.take("epilogue") {
            None => return Ok(Epilogue::default()),
            Some(AttrValue::List(items)) => items,
            Some(_) => return Err(BAD),
        };
        let step = |item: AttrValue| {
            let AttrValue::Call(name, args) = item else {
                return Err(BAD);
            };
            let float = |i: usize| args.get(i).and_then(AttrValue::as_float).ok_or(BAD);
            let (step, arity) = match name.as_str() {
                "scale" => (EpilogueStep::Scale(float(0)?), 1),
                "requantize" => (EpilogueStep::Requantize, 0),
                "round" => (EpilogueStep::Round, 0),
                name => match Binary::parse(name).filter(|b| b.is_compiled()) {
                    Some(op) => {
                        let operand = args.first().and_then(AttrValue::as_size).ok_or(BAD)?;
                        (EpilogueStep::Binary { op, operand, scale: float(1)? }, 2)
                    }
                    None => {
                        let u = Unary::build(name, |_, i| float(i))?.ok_or(BAD)?;
                        (EpilogueStep::Unary(u), u.params().len())
                    }
                },
            };
            if args.len() == arity { Ok(step) } else { Err(BAD) }
        };
        Ok(Epilogue(items.into_iter().map(step).collect::<Result<_, _>>()?))
    }
}
