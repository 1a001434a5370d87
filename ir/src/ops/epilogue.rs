//! The epilogue of a fused node: the f32 steps that are applied to each output element between the accumulator and the store.
//!
//! Every f32 operation is rounded separately: a multiplication followed by an addition never becomes a fused multiply-add. The
//! evaluator and generated code therefore agree bit for bit.

use super::attrs::{AttrError, AttrReader, AttrValue};
use catc_scalar::{Binary, Unary};

/// A step on the running value. Its operand is the index of an input of the node. The operand's factor is the scale of its
/// quantizer until scales are folded, and 1 for f32.
pub type EpilogueStep = catc_scalar::EpilogueStep<usize>;

/// How the running value becomes the output after the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpilogueEnd {
    /// The running value is the output, in f32.
    #[default]
    Real,
    /// `code = saturate(round_half_even(t * (1 / scale)) + zero_point)` with the output's quantizer. The reciprocal is rounded to
    /// f32 once.
    Requantize,
    /// `code = saturate(round_half_even(t) + zero_point)`: `t` already includes the factor.
    Round,
}

impl EpilogueEnd {
    /// The ends that produce codes, with their names in the text form.
    const CODES: [(EpilogueEnd, &str); 2] = [(EpilogueEnd::Requantize, "requantize"), (EpilogueEnd::Round, "round")];
}

/// An epilogue: the steps, followed by the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// The steps in order of execution.
    pub steps: Vec<EpilogueStep>,
    /// What happens after the steps.
    pub end: EpilogueEnd,
}

impl Epilogue {
    /// Whether the output is the unchanged result of the body.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.end == EpilogueEnd::Real
    }

    /// Whether the output holds codes.
    pub fn quantizes(&self) -> bool {
        match self.end {
            EpilogueEnd::Real => false,
            EpilogueEnd::Requantize | EpilogueEnd::Round => true,
        }
    }

    /// Checks the steps for a node with `inputs` inputs, of which the first `body` belong to the body.
    pub(crate) fn check(&self, body: usize, inputs: usize) -> Result<(), String> {
        let mut used = vec![false; inputs];
        for &operand in self.steps.iter().filter_map(EpilogueStep::operand) {
            match used.get_mut(operand) {
                Some(seen) if operand >= body => *seen = true,
                _ => return Err(format!("epilogue operand {operand} is not an input after the body's {body}")),
            }
        }
        match used.iter().skip(body).position(|seen| !seen) {
            Some(i) => Err(format!("input {} is used by no step of the epilogue", body + i)),
            None => Ok(()),
        }
    }

    pub(crate) fn attr(&self) -> AttrValue {
        let call = |name: &str, args| AttrValue::Call(name.to_string(), args);
        let step = |s: &EpilogueStep| match *s {
            EpilogueStep::Binary { op, operand, scale } => call(op.name(), vec![operand.into(), scale.into()]),
            EpilogueStep::Unary(f) => call(f.name(), f.params().into_iter().map(|(_, x)| x.into()).collect()),
            EpilogueStep::Scale(x) => call("scale", vec![x.into()]),
        };
        let end = EpilogueEnd::CODES.iter().filter(|(end, _)| *end == self.end).map(|(_, name)| call(name, vec![]));
        AttrValue::List(self.steps.iter().map(step).chain(end).collect())
    }

    /// Reads the epilogue of a node. `quantizes` tells whether the node has an output quantizer. It decides whether the last item
    /// is an end, because `round` is also the name of a function.
    pub(crate) fn read(r: &mut AttrReader, quantizes: bool) -> Result<Self, AttrError> {
        let mut items = match r.take("epilogue") {
            None => vec![],
            Some(AttrValue::List(items)) => items,
            Some(_) => return Err(BAD),
        };
        let end = match quantizes {
            true => items.pop().as_ref().and_then(end).ok_or(BAD)?,
            false => EpilogueEnd::Real,
        };
        Ok(Epilogue { steps: items.into_iter().map(step).collect::<Result<_, _>>()?, end })
    }
}

const BAD: AttrError =
    AttrError::Type { key: "epilogue", expected: "a list of steps such as add(4, 0.5), relu, round" };

/// The end that an item of the text denotes, if any.
fn end(item: &AttrValue) -> Option<EpilogueEnd> {
    let AttrValue::Call(name, args) = item else { return None };
    EpilogueEnd::CODES.iter().find(|(_, n)| n == name && args.is_empty()).map(|(end, _)| *end)
}

/// The step that an item of the text denotes.
fn step(item: AttrValue) -> Result<EpilogueStep, AttrError> {
    let AttrValue::Call(name, args) = item else {
        return Err(BAD);
    };
    let float = |i: usize| args.get(i).and_then(AttrValue::as_float).ok_or(BAD);
    let (step, arity) = if name == "scale" {
        (EpilogueStep::Scale(float(0)?), 1)
    } else if let Some(op) = Binary::parse(&name) {
        let operand = args.first().and_then(AttrValue::as_size).ok_or(BAD)?;
        (EpilogueStep::Binary { op, operand, scale: float(1)? }, 2)
    } else {
        let f = Unary::build(&name, |_, i| float(i))?.ok_or(BAD)?;
        (EpilogueStep::Unary(f), f.params().len())
    };
    if args.len() == arity { Ok(step) } else { Err(BAD) }
}
