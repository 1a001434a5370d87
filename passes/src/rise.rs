//! Element-wise functions that follow convolutions whose outputs were rearranged, for `canonicalize`. They act on each element alone, so
//! they can come before the rearrangement, where they become a part of the convolutions. A transposed convolution is
//! such a form: its phases are interleaved afterwards.

use crate::rewrite::{Rewrite, Sweep};
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::{Binary, Concat};
use catc_ir::{Dim, Graph, Node, Op, Operand, Tensor, TensorType};
use smallvec::{SmallVec, smallvec};

type Operands = SmallVec<[Operand; 4]>;

/// The most elements of an image through which channels are traced.
const MAX_ELEMENTS: usize = 1 << 24;

/// What lies between convolutions and a node.
struct Moves {
    /// The operations that move elements, the last one first, with their names. They do not include the concatenation.
    after: Vec<(Op, String)>,
    /// What the first of them takes: the output of the convolution, or the concatenation of several along the channels.
    joined: Operand,
    /// The outputs of the convolutions.
    convs: Operands,
    /// The name of the concatenation.
    name: String,
}

/// Whether an operand is a convolution's output, or a function of its elements and constants, and nothing else takes any of these.
fn is_layer(sweep: &Sweep, mut operand: Operand) -> bool {
    while operand.value().is_some_and(|v| sweep.single_use(v))
        && let Some(node) = sweep.definition(operand)
    {
        match node.op {
            Op::Conv2d(_) => return true,
            Op::Unary(_) | Op::BatchNorm(_) => {}
            Op::Binary(_) if node.inputs[1].constant().is_some() => {}
            _ => return false,
        }
        operand = node.inputs[0];
    }
    false
}

/// The moves of convolutions' outputs before a node. Nothing else takes any of these, and the moves keep half of the elements or more.
fn moves(sweep: &Sweep, node: &Node) -> Option<Moves> {
    let mut after = vec![];
    let mut at = node.inputs[0];
    let (convs, name) = loop {
        if !sweep.single_use(at.value()?) {
            return None;
        }
        let before = sweep.definition(at)?;
        match &before.op {
            _ if is_layer(sweep, at) => break (smallvec![at], String::new()),
            Op::Concat(concat) if concat.axis == 1 => {
                if !before.inputs.iter().all(|&o| is_layer(sweep, o)) {
                    return None;
                }
                break (before.inputs.clone(), before.name.clone());
            }
            Op::Reshape(_) | Op::Transpose(_) => {}
            Op::Slice(slice) if slice.step == 1 => {}
            _ => return None,
        }
        after.push((before.op.clone(), before.name.clone()));
        at = before.inputs[0];
    };
    let elements = |o: Operand| sweep.graph.type_of(o).shape.at_batch(1).iter().product::<usize>();
    let keeps_most = 2 * elements(node.inputs[0]) >= elements(at);
    (!after.is_empty() && keeps_most).then_some(Moves { after, joined: at, convs, name })
}

/// For each channel of the joined outputs the channel of axis 1 that its elements have after the moves. A channel without elements has 0.
/// `None` if the elements of a channel get into several.
fn channels(sweep: &Sweep, moves: &Moves) -> Option<Vec<usize>> {
    let shape = sweep.graph.type_of(moves.joined).shape;
    let [Dim::Batch(1), Dim::Fixed(count), Dim::Fixed(h), Dim::Fixed(w)] = *shape.dims() else { return None };
    let pixels = h * w;
    if count * pixels > MAX_ELEMENTS {
        return None;
    }
    let mut graph = Graph::new("moves");
    let mut at = graph.add_input("x", TensorType::f32(shape));
    for (op, _) in moves.after.iter().rev() {
        at = graph.append(op.clone(), [at.into()], "").ok()?;
    }
    graph.add_output("y", at);
    let numbers = (0..count * pixels).map(|i| (i / pixels) as f32).collect();
    let moved = Interpreter::new(&graph).ok()?.run(&[Tensor::f32(&[1, count, h, w], numbers)]).ok()?.pop()?;
    let (&[1, size, ref rest @ ..], numbers) = (moved.shape(), moved.as_f32()?) else { return None };
    let each: usize = rest.iter().product();
    let mut found: Vec<Option<usize>> = vec![None; count];
    for (i, number) in numbers.iter().enumerate() {
        let (slot, channel) = (&mut found[*number as usize], i / each.max(1) % size);
        if slot.is_some_and(|known| known != channel) {
            return None;
        }
        *slot = Some(channel);
    }
    Some(found.into_iter().map(|channel| channel.unwrap_or(0)).collect())
}

/// The other operands of a node as those of the same function of each convolution's channels. `None` if the node is no such function.
fn operands(sweep: &mut Sweep, node: &Node, moves: &Moves) -> Option<Vec<Operands>> {
    let same = |operands: Operands| Some(vec![operands; moves.convs.len()]);
    let shape = sweep.graph.value_type(node.output).shape.clone();
    let rank = match &node.op {
        Op::Unary(_) => return same(smallvec![]),
        Op::BatchNorm(_) => 1,
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div)
            if sweep.graph.type_of(node.inputs[0]).shape == shape =>
        {
            3
        }
        _ => return None,
    };
    if sweep.scalar(node.inputs[1]).is_some() && rank == 3 {
        return same(smallvec![node.inputs[1]]);
    }
    let size = shape.dims().get(1)?.fixed()?;
    let mut reals = vec![];
    for &operand in &node.inputs[1..] {
        let (id, items) = sweep.f32_constant(operand)?;
        // One number for each channel, in axis 1 of the output.
        let dims = sweep.graph.constant(id).tensor.shape();
        let behind = if rank == 1 { 0 } else { shape.rank() - 2 };
        let along = dims.len() > behind && dims[dims.len() - 1 - behind] == size && dims.len() <= shape.rank();
        if items.len() != size || !along {
            return None;
        }
        reals.push(items.to_vec());
    }
    let channels = channels(sweep, moves)?;
    let mut rest = channels.as_slice();
    let mut all = vec![];
    for conv in &moves.convs {
        let (own, others) = rest.split_at_checked(sweep.graph.type_of(*conv).shape.dims()[1].fixed()?)?;
        rest = others;
        let dims: Vec<usize> = [own.len()].into_iter().chain(std::iter::repeat_n(1, rank - 1)).collect();
        let constant = |items: &Vec<f32>| {
            let picked = own.iter().map(|&c| items[c]).collect();
            Operand::from(sweep.graph.add_constant(Tensor::f32(&dims, picked)))
        };
        all.push(reals.iter().map(constant).collect());
    }
    Some(all)
}

/// A function of each element, or of each element and constants of its channel, moves to the convolutions behind what it takes.
pub(crate) fn rise(sweep: &mut Sweep, node: &Node) -> Option<Rewrite> {
    if !matches!(node.op, Op::Unary(_) | Op::BatchNorm(_) | Op::Binary(_)) {
        return None;
    }
    let mut moves = moves(sweep, node)?;
    let mut parts = Operands::new();
    for (conv, others) in moves.convs.iter().zip(operands(sweep, node, &moves)?) {
        let inputs: Operands = [*conv].into_iter().chain(others).collect();
        parts.push(sweep.insert(node.op.clone(), &inputs, &node.name)?);
    }
    let mut at = match parts[..] {
        [one] => one,
        _ => sweep.insert(Op::Concat(Concat { axis: 1 }), &parts, &moves.name)?,
    };
    let (last, name) = moves.after.remove(0);
    for (op, name) in moves.after.into_iter().rev() {
        at = sweep.insert(op, &[at], &name)?;
    }
    Some(Rewrite::TakeOver(name, last, smallvec![at]))
}
