//! Attention (23, 24) and RotaryEmbedding (23), expanded into simpler operations.

use super::build::{
    Built, apply, cast, choose, combine, compare, concat, expand, indices, matmul, permute, real, reshape, slice,
    swap_last,
};
use crate::error::NodeProblem;
use crate::node::{NodeContext, Outputs, RuleResult, one};
use crate::value::{Known, Value};
use catc_ir::ops::{Binary, CastTo, Compare, Gather, Softmax, Unary};
use catc_ir::{Dim, Element, Op, Shape, Tensor, TensorData};

/// Rearranges `[B,S,H*D]` to `[B,H,S,D]`. A tensor with four dimensions stays as it is.
fn heads(cx: &mut NodeContext, x: &Value, count: Option<usize>, what: &str) -> Built {
    let shape = cx.shape(x);
    match (shape.dims(), count) {
        ([_, _, _, _], _) => Ok(x.clone()),
        (&[b, s, Dim::Fixed(all)], Some(h)) if h > 0 && all % h == 0 => {
            let y = reshape(cx, x, Shape::new([b, s, Dim::Fixed(h), Dim::Fixed(all / h)]))?;
            permute(cx, &y, vec![0, 2, 1, 3])
        }
        _ => Err(NodeProblem::unsupported(format!("its {what} has shape {shape} in {count:?} heads"))),
    }
}

/// The fixed sizes after the batch: the number of heads, the number of positions, and the size of a head.
fn sizes(cx: &NodeContext, x: &Value) -> Result<[usize; 3], NodeProblem> {
    match *cx.shape(x).dims() {
        [_, Dim::Fixed(h), Dim::Fixed(s), Dim::Fixed(d)] => Ok([h, s, d]),
        _ => Err(NodeProblem::unsupported(format!("an operand has shape {}", cx.shape(x)))),
    }
}

/// Repeats each head of keys or values for all query heads that share it.
fn repeated(cx: &mut NodeContext, x: &Value, times: usize) -> Built {
    if times == 1 {
        return Ok(x.clone());
    }
    let &[b, h, s, d] = cx.shape(x).dims() else { return Ok(x.clone()) };
    let Dim::Fixed(count) = h else { return Err(NodeProblem::unsupported("its heads depend on the batch")) };
    let y = reshape(cx, x, Shape::new([b, h, Dim::Fixed(1), s, d]))?;
    let y = expand(cx, &y, Shape::new([b, h, Dim::Fixed(times), s, d]))?;
    reshape(cx, &y, Shape::new([b, Dim::Fixed(count * times), s, d]))
}

/// Appends keys and values to those of the past. Also returns the number of past positions.
fn behind_past(cx: &mut NodeContext, k: Value, v: Value) -> Result<(Value, Value, usize), NodeProblem> {
    if cx.has_input(4) != cx.has_input(5) {
        return Err(NodeProblem::input(4, "comes without the other past tensor"));
    }
    if !cx.has_input(4) {
        return Ok((k, v, 0));
    }
    let (pk, pv) = (cx.input(4)?, cx.input(5)?);
    let past = sizes(cx, &pk)?[1];
    Ok((concat(cx, &[pk, k], 2)?, concat(cx, &[pv, v], 2)?, past))
}

/// Limits the magnitude of scores to `cap`.
fn bounded(cx: &mut NodeContext, scores: &Value, cap: f32) -> Built {
    let ratio = combine(cx, Binary::Div, scores, &real(cap))?;
    let within_one = apply(cx, Unary::Tanh, &ratio)?;
    combine(cx, Binary::Mul, &within_one, &real(cap))
}

/// Adds the mask input to the scores. The mask holds numbers, or booleans that tell whether a query sees a key. There are `keys`
/// keys.
fn with_mask(cx: &mut NodeContext, scores: &Value, keys: usize) -> Built {
    let mask = cx.input(3)?;
    let mut mask = match cx.element(&mask) {
        Element::Bool => choose(cx, &mask, &real(0.0), &real(f32::NEG_INFINITY))?,
        _ => cast(cx, &mask, CastTo::F32)?,
    };
    let shape = cx.shape(&mask);
    if let Some(&Dim::Fixed(n)) = shape.dims().last()
        && n < keys
        && n > 1
    {
        // Keys beyond the end of the mask are hidden.
        let mut rest = shape.dims().to_vec();
        let last = rest.len() - 1;
        rest[last] = Dim::Fixed(keys - n);
        let hidden = expand(cx, &real(f32::NEG_INFINITY), Shape::new(rest))?;
        mask = concat(cx, &[mask, hidden], last)?;
    }
    combine(cx, Binary::Add, scores, &mask)
}

/// Applies a causal mask: a query sees all past keys, and present keys up to its own position.
fn without_future(cx: &mut NodeContext, scores: &Value, [queries, keys]: [usize; 2], past: usize) -> Built {
    cx.fill(&[queries, keys])?;
    let seen = |i: usize| if i % keys <= i / keys + past { 0.0 } else { f32::NEG_INFINITY };
    let mask = TensorData::F32((0..queries * keys).map(seen).collect());
    let mask: Value = Known::from(Tensor::new(vec![queries, keys], mask)).into();
    combine(cx, Binary::Add, scores, &mask)
}

/// Hides the keys beyond the length of each image, which are padding.
fn without_padding(cx: &mut NodeContext, scores: &Value, keys: usize) -> Built {
    let lengths = cx.input(6)?;
    let column = cx.shape(&lengths).dims().iter().copied().chain([Dim::Fixed(1); 3]).collect::<Vec<_>>();
    let lengths = reshape(cx, &lengths, Shape::new(column))?;
    cx.fill(&[keys])?;
    let places = indices(&[1, 1, 1, keys], (0..keys as i64).collect());
    let seen = compare(cx, Compare::Less, &places, &lengths)?;
    let mask = choose(cx, &seen, &real(0.0), &real(f32::NEG_INFINITY))?;
    combine(cx, Binary::Add, scores, &mask)
}

pub(super) fn attention(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, if cx.opset < 24 { 6 } else { 7 })?;
    let count = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok());
    let (q_heads, kv_heads) = (count(cx.int("q_num_heads")?), count(cx.int("kv_num_heads")?));
    let causal = cx.flag("is_causal", false)?;
    let (scale, softcap) = (cx.float("scale")?, cx.float("softcap")?.unwrap_or(0.0));
    let mode = cx.int("qk_matmul_output_mode")?.unwrap_or(0);
    // All computation is in f32.
    cx.ignore("softmax_precision");
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let flat = cx.shape(&q).rank() == 3;
    let q = heads(cx, &q, q_heads, "query")?;
    let (k, v) = (heads(cx, &k, kv_heads, "key")?, heads(cx, &v, kv_heads, "value")?);
    let (k, v, past) = behind_past(cx, k, v)?;
    let present = [k.clone(), v.clone()];
    let ([hq, sq, d], [hk, sk, _]) = (sizes(cx, &q)?, sizes(cx, &k)?);
    if hk == 0 || hq % hk != 0 {
        return Err(NodeProblem::invalid(format!("{hk} heads of keys do not divide {hq} of queries")));
    }
    let (k, v) = (repeated(cx, &k, hq / hk)?, repeated(cx, &v, hq / hk)?);
    // As in the ONNX definition, each side is multiplied by the square root of the scale.
    let root = scale.unwrap_or(1.0 / (d as f32).sqrt()).sqrt();
    let (q, k) = (combine(cx, Binary::Mul, &q, &real(root))?, combine(cx, Binary::Mul, &k, &real(root))?);
    let k = swap_last(cx, &k)?;
    let raw = matmul(cx, &q, &k)?;
    let capped = if softcap > 0.0 { bounded(cx, &raw, softcap)? } else { raw.clone() };
    let mut masked = if cx.has_input(3) { with_mask(cx, &capped, sk)? } else { capped.clone() };
    if causal {
        masked = without_future(cx, &masked, [sq, sk], past)?;
    }
    if cx.has_input(6) {
        masked = without_padding(cx, &masked, sk)?;
    }
    let weights = cx.emit_on(Op::Softmax(Softmax { axis: 3 }), &masked)?;
    let mut y = matmul(cx, &weights, &v)?;
    if flat {
        let turned = permute(cx, &y, vec![0, 2, 1, 3])?;
        let &[b, s, Dim::Fixed(h), Dim::Fixed(d)] = cx.shape(&turned).dims() else {
            return Err(NodeProblem::unsupported("its heads depend on the batch"));
        };
        y = reshape(cx, &turned, Shape::new([b, s, Dim::Fixed(h * d)]))?;
    }
    if cx.output_count() == 1 {
        return one(y);
    }
    let qk = match mode {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        other => {
            return Err(NodeProblem::attribute("qk_matmul_output_mode", format!("is {other}, which is not defined")));
        }
    };
    let [key, value] = present;
    Ok(Outputs::from_vec(vec![y, key, value, qk]))
}

/// Rotates pairs of elements by angles, whose cosines and sines are given for each position.
pub(super) fn rotary_embedding(cx: &mut NodeContext) -> RuleResult {
    cx.arity(3, 4)?;
    let interleaved = cx.flag("interleaved", false)?;
    let part = cx.int("rotary_embedding_dim")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let count = cx.int("num_heads")?.and_then(|n| usize::try_from(n).ok());
    let x = cx.input(0)?;
    let original = cx.shape(&x);
    let flat = original.rank() == 3;
    // The layout is `[B,S,H,D]`, because the angles depend on the position.
    let x = heads(cx, &x, count, "input")?;
    let x = permute(cx, &x, vec![0, 2, 1, 3])?;
    let &[b, s, h, Dim::Fixed(d)] = cx.shape(&x).dims() else {
        return Err(NodeProblem::unsupported(format!("its input has shape {original}")));
    };
    let part = if part == 0 { d } else { part };
    if part > d || part % 2 != 0 {
        return Err(NodeProblem::attribute("rotary_embedding_dim", format!("is {part} of {d}")));
    }
    let half = part / 2;
    let mut angles = vec![];
    for i in [1, 2] {
        let mut table = cx.input(i)?;
        if cx.has_input(3) {
            let positions = cx.input(3)?;
            let operands = [cx.operand(i, &table)?, cx.operand(3, &positions)?];
            table = cx.emit(Op::Gather(Gather { axis: 0 }), &operands)?;
        }
        // `[B,S,D/2]` gets an axis for the heads.
        let shape = cx.shape(&table);
        let [tb, ts, _] = *shape.dims() else {
            return Err(NodeProblem::input(i, format!("has shape {shape}, a row for each position is needed")));
        };
        let table = slice(cx, &table, 2, 0, half, 1)?;
        angles.push(reshape(cx, &table, Shape::new([tb, ts, Dim::Fixed(1), Dim::Fixed(half)]))?);
    }
    let turned = slice(cx, &x, 3, 0, part, 1)?;
    let (first, second) = match interleaved {
        true => (slice(cx, &turned, 3, 0, part, 2)?, slice(cx, &turned, 3, 1, part, 2)?),
        false => (slice(cx, &turned, 3, 0, half, 1)?, slice(cx, &turned, 3, half, part, 1)?),
    };
    let (cos, sin) = (&angles[0], &angles[1]);
    let product = |cx: &mut NodeContext, a: &Value, b: &Value| combine(cx, Binary::Mul, a, b);
    let (fc, ss) = (product(cx, &first, cos)?, product(cx, &second, sin)?);
    let (fs, sc) = (product(cx, &first, sin)?, product(cx, &second, cos)?);
    let real_part = combine(cx, Binary::Sub, &fc, &ss)?;
    let imaginary = combine(cx, Binary::Add, &fs, &sc)?;
    let mut y = match interleaved {
        true => {
            let column = Shape::new([b, s, h, Dim::Fixed(half), Dim::Fixed(1)]);
            let pair = [reshape(cx, &real_part, column.clone())?, reshape(cx, &imaginary, column)?];
            let pairs = concat(cx, &pair, 4)?;
            reshape(cx, &pairs, Shape::new([b, s, h, Dim::Fixed(part)]))?
        }
        false => concat(cx, &[real_part, imaginary], 3)?,
    };
    if part < d {
        let rest = slice(cx, &x, 3, part, d, 1)?;
        y = concat(cx, &[y, rest], 3)?;
    }
    if flat {
        return one(reshape(cx, &y, original)?);
    }
    one(permute(cx, &y, vec![0, 2, 1, 3])?)
}
