//! The operators that express each operation.

use super::pool;
use super::writer::{Writer, code_bytes, container};
use crate::message::{float, int, ints, word};
use crate::ops::unary;
use crate::proto::AttributeProto;
use crate::proto::tensor_proto::DataType;
use catc_ir::ops::{Binary, CastTo, Compare, Conv2d, Reduction, Scatter, Unary};
use catc_ir::{Node, Op, Operand, Quantizer, TensorData};

type Written = Result<(), String>;

fn sizes(items: &[usize]) -> Vec<i64> {
    items.iter().map(|&n| n as i64).collect()
}

/// The message for operations that are evaluated only and have no operator.
const NEVER_COMPILED: &str = "no compiled network holds it; cut the model before it, and compute the rest in the program that \
                              calls the network";

/// Writes one node of the graph.
pub(super) fn write(w: &mut Writer, node: &Node) -> Written {
    match &node.op {
        Op::Quantize(q) => quantize(w, node, q.quantizer),
        Op::Dequantize(_) => dequantize(w, node),
        Op::Linear(_) => linear(w, node),
        Op::Conv2d(c) => conv(w, node, c),
        Op::MaxPool(pool) => pool::max(w, node, pool),
        Op::AvgPool(pool) => pool::average(w, node, pool),
        Op::SquaredDistance(_) => squared_distance(w, node),
        Op::Blend(b) => blend(w, node, b.alpha),
        Op::Unary(Unary::Silu) => silu(w, node),
        Op::Interpolate(i) => interpolate(w, node, i.axis),
        Op::ScatterFlat(s) if s.join == Scatter::Replace => scatter(w, node),
        // `operator` handles all other operations.
        _ => {
            let (operands, output) = ends(w, node, usize::MAX)?;
            let Operator { name, extra, attributes } = operator(w, node)?;
            w.node(name, &node.name, &references(operands.iter().chain(&extra)), &output, attributes);
            Ok(())
        }
    }
}

/// The names of the first operands of a node, at most `count`, and the name of its output.
fn ends(w: &mut Writer, node: &Node, count: usize) -> Result<(Vec<String>, String), String> {
    let operands = node.inputs.iter().take(count).map(|&o| w.operand(o)).collect::<Result<Vec<String>, String>>()?;
    Ok((operands, w.value(node.output)))
}

/// Writes `x * sigmoid(x)` as two nodes, because the operator `Swish` needs opset 24, which few runtimes have.
fn silu(w: &mut Writer, node: &Node) -> Written {
    let (operands, output) = ends(w, node, 1)?;
    let gate = w.step("Sigmoid", &[&operands[0]], vec![]);
    w.node("Mul", &node.name, &[&operands[0], &gate], &output, vec![]);
    Ok(())
}

fn references<'s>(names: impl IntoIterator<Item = &'s String>) -> Vec<&'s str> {
    names.into_iter().map(String::as_str).collect()
}

/// A single operator that expresses an operation.
struct Operator {
    name: &'static str,
    /// Additional inputs after the operands of the operation.
    extra: Vec<String>,
    attributes: Vec<AttributeProto>,
}

impl Operator {
    fn plain(name: &'static str) -> Operator {
        Operator::with(name, vec![])
    }

    fn with(name: &'static str, attributes: Vec<AttributeProto>) -> Operator {
        Operator { name, extra: vec![], attributes }
    }

    fn taking(name: &'static str, extra: Vec<String>) -> Operator {
        Operator { name, extra, attributes: vec![] }
    }
}

/// The operator of an operation that a single operator can express. The names of the operands and the output must have been
/// assigned before.
fn operator(w: &mut Writer, node: &Node) -> Result<Operator, String> {
    let first = *node.inputs.first().ok_or("it takes nothing")?;
    Ok(match &node.op {
        Op::MatMul(_) => Operator::plain("MatMul"),
        Op::BatchNorm(b) => Operator::with("BatchNormalization", vec![float("epsilon", b.eps)]),
        Op::Softmax(s) => Operator::with("Softmax", vec![int("axis", s.axis as i64)]),
        Op::Unary(Unary::Clip { min, max }) => Operator::taking("Clip", clip_bounds(w, *min, *max)),
        Op::Unary(Unary::GeluTanh) => Operator::with("Gelu", vec![word("approximate", "tanh")]),
        Op::Unary(f) => {
            let (name, attributes) = unary::operator(*f);
            Operator::with(name, attributes)
        }
        Op::Binary(Binary::Mod) => {
            return Err("the remainder of reals with the sign of the divisor has no operator".into());
        }
        Op::Binary(f) => {
            let (name, attributes) = binary(*f);
            Operator::with(name, attributes)
        }
        Op::ReduceMean(m) if m.keep_dims && w.graph.type_of(first).shape.rank() == 4 && m.axes == [2, 3] => {
            Operator::plain("GlobalAveragePool")
        }
        Op::ReduceMean(m) => reduction(w, ("ReduceMean", 18), &m.axes, m.keep_dims),
        Op::Reduce(r) => reduction(w, reducing(r.kind), &r.axes, r.keep_dims),
        Op::Reshape(r) => {
            let sizes = w.reshape_sizes(&r.shape)?;
            Operator::taking("Reshape", vec![w.whole("shape", &sizes)])
        }
        Op::Transpose(t) => Operator::with("Transpose", vec![ints("perm", &sizes(&t.perm))]),
        Op::Concat(c) => Operator::with("Concat", vec![int("axis", c.axis as i64)]),
        Op::Pad(pad) => {
            let pads = w.whole("pads", &sizes(&[&pad.before[..], &pad.after].concat()));
            let value = match w.graph.type_of(first).element.quantizer() {
                Some(q) => w.parameters(q)[1].clone(),
                None => w.reals("padding", &[], &[pad.value]),
            };
            Operator::taking("Pad", vec![pads, value])
        }
        Op::Slice(s) => {
            let lists = [("start", s.start), ("end", s.end), ("axis", s.axis), ("step", s.step)];
            Operator::taking("Slice", lists.map(|(name, n)| w.whole(name, &[n as i64])).into())
        }
        Op::Gather(g) => Operator::with("Gather", vec![int("axis", g.axis as i64)]),
        Op::GatherElements(g) => Operator::with("GatherElements", vec![int("axis", g.axis as i64)]),
        Op::Identity(_) => Operator::plain("Identity"),
        Op::ArgMin(a) => Operator::with("ArgMin", vec![int("axis", a.axis as i64), int("keepdims", 0)]),
        Op::LayerNorm(n) => layer_norm(w, node, first, n.eps)?,
        Op::UncompiledUnary(f) => Operator::plain(unary::evaluated_operator(*f)),
        Op::Compare(c) => Operator::plain(compare(*c)),
        Op::Where(_) => Operator::plain("Where"),
        Op::Cast(c) => Operator::with("Cast", vec![int("to", cast_type(c.to) as i64)]),
        Op::Expand(e) => Operator::taking("Expand", vec![w.run_time_sizes(&e.shape)?]),
        Op::Cumulate(c) if !c.product => Operator {
            name: "CumSum",
            extra: vec![w.whole("axis", &[c.axis as i64])],
            attributes: vec![int("exclusive", c.exclusive.into()), int("reverse", c.reverse.into())],
        },
        Op::TopK(_) | Op::ScatterFlat(_) | Op::Cumulate(_) => return Err(NEVER_COMPILED.into()),
        Op::Fused(_) => return Err("it is fused".into()),
        Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::Linear(_)
        | Op::Conv2d(_)
        | Op::MaxPool(_)
        | Op::AvgPool(_)
        | Op::SquaredDistance(_)
        | Op::Interpolate(_)
        | Op::Blend(_) => {
            return Err("it is written above".into());
        }
    })
}

fn conv(w: &mut Writer, node: &Node, conv: &Conv2d) -> Written {
    // The bias of a quantized convolution is written as a separate addition (see [`vector`]).
    let by_itself = node.inputs[1].value().is_some();
    let (operands, output) = ends(w, node, if by_itself { 2 } else { usize::MAX })?;
    let kernel = w.graph.type_of(node.inputs[1]).shape.as_fixed().ok_or("its weights have the batch")?;
    let attributes = vec![
        ints("kernel_shape", &sizes(&kernel[2..])),
        ints("strides", &sizes(&conv.strides)),
        ints("pads", &sizes(&conv.pads)),
        ints("dilations", &sizes(&conv.dilations)),
        int("group", conv.groups as i64),
    ];
    let Some(bias) = node.inputs.get(2).filter(|_| by_itself) else {
        w.node("Conv", &node.name, &references(&operands), &output, attributes);
        return Ok(());
    };
    let channels = w.graph.type_of(*bias).shape.dims()[0].at_batch(1);
    let row = vector(w, *bias, &[1, channels, 1, 1])?;
    let sums = w.fresh("conv");
    w.node("Conv", &node.name, &references(&operands), &sums, attributes);
    w.node("Add", "", &[&sums, &row], &output, vec![]);
    Ok(())
}

/// Writes `[N,1,P] - [K,P] -> [N,K,P]`, squared and summed.
fn squared_distance(w: &mut Writer, node: &Node) -> Written {
    let (operands, output) = ends(w, node, usize::MAX)?;
    let axis = w.whole("axis", &[1]);
    let points = w.step("Unsqueeze", &[&operands[0], &axis], vec![]);
    let apart = w.step("Sub", &[&points, &operands[1]], vec![]);
    let squares = w.step("Mul", &[&apart, &apart], vec![]);
    let last = w.whole("axis", &[2]);
    w.node("ReduceSum", &node.name, &[&squares, &last], &output, vec![int("keepdims", 0)]);
    Ok(())
}

/// Writes the sums of an interpolation as gathered slices times their weights, tap by tap, in the order in which they are added.
fn interpolate(w: &mut Writer, node: &Node, axis: usize) -> Written {
    let (operands, output) = ends(w, node, 1)?;
    let constant = |i: usize| node.inputs[i].constant().map(|c| w.graph.constant(c).tensor.clone());
    let (Some(indices), Some(weights)) = (constant(1), constant(2)) else {
        return Err("its indices or weights are computed".into());
    };
    let (Some(indices), Some(weights), &[size, count]) = (indices.as_i64(), weights.as_f32(), weights.shape()) else {
        return Err("it has no indices or no weights".into());
    };
    let mut shape = vec![1; w.graph.type_of(node.inputs[0]).shape.rank()];
    shape[axis] = size;
    let mut sum: Option<String> = None;
    for tap in 0..count {
        let column = |row: usize| row * count + tap;
        let picks: Vec<i64> = (0..size).map(|row| indices[column(row)]).collect();
        let factors: Vec<f32> = (0..size).map(|row| weights[column(row)]).collect();
        let (picks, factors) = (w.whole("taps", &picks), w.reals("weights", &shape, &factors));
        let slices = w.step("Gather", &[&operands[0], &picks], vec![int("axis", axis as i64)]);
        let last = tap + 1 == count;
        sum = Some(match sum {
            None if last => {
                w.node("Mul", &node.name, &[&slices, &factors], &output, vec![]);
                break;
            }
            None => w.step("Mul", &[&slices, &factors], vec![]),
            Some(sum) => {
                let product = w.step("Mul", &[&slices, &factors], vec![]);
                if last {
                    w.node("Add", &node.name, &[&sum, &product], &output, vec![]);
                    break;
                }
                w.step("Add", &[&sum, &product], vec![])
            }
        });
    }
    Ok(())
}

/// Writes a weighted sum of two tensors.
fn blend(w: &mut Writer, node: &Node, alpha: f32) -> Written {
    let (operands, output) = ends(w, node, usize::MAX)?;
    let (own, other) = (w.reals("weight", &[], &[1.0 - alpha]), w.reals("weight", &[], &[alpha]));
    let left = w.step("Mul", &[&operands[0], &own], vec![]);
    let right = w.step("Mul", &[&operands[1], &other], vec![]);
    w.node("Add", &node.name, &[&left, &right], &output, vec![]);
    Ok(())
}

/// Writes the replacement of elements of a tensor by their positions in the flattened tensor.
fn scatter(w: &mut Writer, node: &Node) -> Written {
    let (operands, output) = ends(w, node, usize::MAX)?;
    let flat = w.whole("shape", &[-1]);
    let [data, at, updates] = [0, 1, 2].map(|i| w.step("Reshape", &[&operands[i], &flat], vec![]));
    let done = w.step("ScatterElements", &[&data, &at, &updates], vec![]);
    let sizes = w.reshape_sizes(&w.graph.type_of(node.inputs[0]).shape)?;
    let sizes = w.whole("shape", &sizes);
    w.node("Reshape", &node.name, &[&done, &sizes], &output, vec![]);
    Ok(())
}

/// A normalization over the last axis. If the node has no scale, the scale is one.
fn layer_norm(w: &mut Writer, node: &Node, input: Operand, eps: f32) -> Result<Operator, String> {
    let shape = w.graph.type_of(input).shape;
    let width = shape.dims().last().and_then(|d| d.fixed()).ok_or("it normalizes the batch")?;
    let extra = if node.inputs.len() == 1 { vec![w.reals("ones", &[width], &vec![1.0; width])] } else { vec![] };
    Ok(Operator { name: "LayerNormalization", extra, attributes: vec![int("axis", -1), float("epsilon", eps)] })
}

/// A constant vector with another shape. The bias of a quantized layer is written as a separate addition. As an input of the
/// layer, runtimes such as ONNX Runtime would quantize it to multiples of the scale of the sums, which is too inaccurate with few
/// bits.
fn vector(w: &mut Writer, operand: Operand, shape: &[usize]) -> Result<String, String> {
    let constant = operand.constant().ok_or("its bias is computed")?;
    let tensor = w.graph.constant(constant).tensor.clone();
    let items = tensor.as_f32().ok_or("its bias is not f32")?;
    Ok(w.reals(&format!("{constant}_row"), shape, items))
}

/// The operator of a reduction, and the first opset in which its axes are an input instead of an attribute.
fn reducing(kind: Reduction) -> (&'static str, i64) {
    match kind {
        Reduction::Sum => ("ReduceSum", 13),
        Reduction::Prod => ("ReduceProd", 18),
        Reduction::Max => ("ReduceMax", 18),
        Reduction::Min => ("ReduceMin", 18),
    }
}

/// A reduction by this operator. The axes are an input from opset `since` on, and an attribute before.
fn reduction(w: &mut Writer, (name, since): (&'static str, i64), axes: &[usize], keep_dims: bool) -> Operator {
    let axes = sizes(axes);
    let mut attributes = vec![int("keepdims", keep_dims.into())];
    let mut extra = vec![];
    if w.opset < since {
        attributes.push(ints("axes", &axes));
    } else {
        extra.push(w.whole("axes", &axes));
    }
    Operator { name, extra, attributes }
}

fn cast_type(to: CastTo) -> DataType {
    match to {
        CastTo::F32 => DataType::Float,
        CastTo::I64 => DataType::Int64,
        CastTo::Bool => DataType::Bool,
    }
}

/// The bounds of `Clip`. A missing bound has an empty name.
fn clip_bounds(w: &mut Writer, min: f32, max: f32) -> Vec<String> {
    let mut bound = |name: &str, x: f32| if x.is_finite() { w.reals(name, &[], &[x]) } else { String::new() };
    let bounds = vec![bound("min", min), bound("max", max)];
    if bounds[1].is_empty() { bounds[..1].to_vec() } else { bounds }
}

fn binary(f: Binary) -> (&'static str, Vec<AttributeProto>) {
    match f {
        Binary::Add => ("Add", vec![]),
        Binary::Sub => ("Sub", vec![]),
        Binary::Mul => ("Mul", vec![]),
        Binary::Div => ("Div", vec![]),
        Binary::Max => ("Max", vec![]),
        Binary::Min => ("Min", vec![]),
        Binary::Pow => ("Pow", vec![]),
        Binary::Mod => ("Mod", vec![]),
        Binary::Fmod => ("Mod", vec![int("fmod", 1)]),
    }
}

fn compare(f: Compare) -> &'static str {
    match f {
        Compare::Equal => "Equal",
        Compare::Less => "Less",
        Compare::LessEqual => "LessOrEqual",
        Compare::Greater => "Greater",
        Compare::GreaterEqual => "GreaterOrEqual",
        Compare::And => "And",
        Compare::Or => "Or",
        Compare::Xor => "Xor",
    }
}

/// Writes a fully connected layer: `Gemm`, or a product with the transposed weights if the input has more than two dimensions.
fn linear(w: &mut Writer, node: &Node) -> Written {
    let x = w.operand(node.inputs[0])?;
    let bias = node.inputs.get(2).map(|&b| w.operand(b)).transpose()?;
    let output = w.value(node.output);
    if w.graph.type_of(node.inputs[0]).shape.rank() == 2 {
        let weights = w.operand(node.inputs[1])?;
        let transposed = vec![int("transB", 1)];
        match bias {
            Some(bias) if node.inputs[1].value().is_some() => {
                let sums = w.fresh("gemm");
                w.node("Gemm", &node.name, &[&x, &weights], &sums, transposed);
                w.node("Add", "", &[&sums, &bias], &output, vec![]);
            }
            Some(bias) => w.node("Gemm", &node.name, &[&x, &weights, &bias], &output, transposed),
            None => w.node("Gemm", &node.name, &[&x, &weights], &output, transposed),
        }
        return Ok(());
    }
    let weights = match node.inputs[1] {
        Operand::Const(c) => w.constant(c, true)?,
        Operand::Value(v) if w.transposed.contains(&v) => w.value(v),
        Operand::Value(v) => {
            let straight = w.value(v);
            w.step("Transpose", &[&straight], vec![ints("perm", &[1, 0])])
        }
    };
    match bias {
        None => w.node("MatMul", &node.name, &[&x, &weights], &output, vec![]),
        Some(bias) => {
            let product = w.fresh("matmul");
            w.node("MatMul", &node.name, &[&x, &weights], &product, vec![]);
            w.node("Add", "", &[&product, &bias], &output, vec![]);
        }
    }
    Ok(())
}

/// Writes a quantization. For codes of fewer than 8 bits, a clip before it provides the saturation.
fn quantize(w: &mut Writer, node: &Node, q: catc_ir::QuantizerId) -> Written {
    if node.inputs[0].constant().is_some() {
        // The dequantize node writes constant codes.
        return Ok(());
    }
    let quantizer = w.graph.quantizer(q);
    if quantizer.axis.is_some() {
        return Err("a computed tensor has several scales".into());
    }
    let mut x = w.operand(node.inputs[0])?;
    let format = quantizer.format;
    if format.bits() < 8 {
        let bounds = clip_bounds(w, quantizer.dequantize(format.min(), 0), quantizer.dequantize(format.max(), 0));
        let inputs: Vec<&str> = [x.as_str()].into_iter().chain(bounds.iter().map(String::as_str)).collect();
        x = w.step("Clip", &inputs, vec![]);
    }
    let [scale, zero] = w.parameters(q);
    let output = w.value(node.output);
    w.node("QuantizeLinear", &node.name, &[&x, &scale, &zero], &output, vec![]);
    Ok(())
}

fn dequantize(w: &mut Writer, node: &Node) -> Written {
    let output = w.value(node.output);
    if let Some((codes, shape, quantizer)) = constant_codes(w, node.inputs[0])? {
        return constant(w, node, &codes, &shape, &quantizer);
    }
    let q = w.graph.type_of(node.inputs[0]).element.quantizer().ok_or("it takes no codes")?;
    let x = w.operand(node.inputs[0])?;
    let [scale, zero] = w.parameters(q);
    w.node("DequantizeLinear", &node.name, &[&x, &scale, &zero], &output, vec![]);
    Ok(())
}

/// Constant codes, their shape and their quantizer.
type Codes = (Vec<i32>, Vec<usize>, Quantizer);

/// The codes of a constant or of a quantized constant.
fn constant_codes(w: &Writer, operand: Operand) -> Result<Option<Codes>, String> {
    let graph = w.graph;
    let c = match operand {
        Operand::Const(c) => c,
        Operand::Value(v) => {
            let quantize = graph.nodes().iter().find(|n| n.output == v && matches!(n.op, Op::Quantize(_)));
            match quantize.and_then(|n| n.inputs[0].constant()) {
                Some(c) => c,
                None => return Ok(None),
            }
        }
    };
    let q = graph.type_of(operand).element.quantizer().ok_or("it takes no codes")?;
    let (quantizer, tensor) = (graph.quantizer(q), &graph.constant(c).tensor);
    let slice = quantizer.slice_of(tensor.shape());
    let codes = match tensor.data() {
        TensorData::Code(v) => v.iter().map(|&c| c.into()).collect(),
        TensorData::F32(v) => v.iter().enumerate().map(|(i, &x)| quantizer.quantize(x, slice(i))).collect(),
        _ => return Err("it quantizes no reals".into()),
    };
    Ok(Some((codes, tensor.shape().to_vec(), quantizer.clone())))
}

/// Writes constant codes. If the codes minus their zero points fit in a signed byte, they are stored in this form, because
/// runtimes have kernels for it.
fn constant(w: &mut Writer, node: &Node, codes: &[i32], shape: &[usize], quantizer: &Quantizer) -> Written {
    let (slice, slices) = (quantizer.slice_of(shape), quantizer.scale.len());
    let centered: Vec<i32> = codes.iter().enumerate().map(|(i, &c)| c - quantizer.zero_point[slice(i)]).collect();
    let fits = centered.iter().all(|c| (-128..=127).contains(c));
    let (mut codes, ty, zero) = if fits {
        (centered, DataType::Int8, vec![0; slices])
    } else {
        (codes.to_vec(), container(quantizer), quantizer.zero_point.clone())
    };
    let (mut shape, mut axis) = (shape.to_vec(), quantizer.axis);
    if w.transposed.contains(&node.output) {
        let &[rows, columns] = shape.as_slice() else { return Err("its weights are no matrix".into()) };
        codes =
            (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|(i, j)| codes[i * columns + j]).collect();
        shape = vec![columns, rows];
        axis = axis.map(|a| 1 - a);
    }
    let output = w.value(node.output);
    let each: &[usize] = if axis.is_some() { &[slices] } else { &[] };
    let inputs = [
        w.codes(&format!("{output}_codes"), ty, &shape, code_bytes(codes)),
        w.reals(&format!("{output}_scale"), each, &quantizer.scale),
        w.codes(&format!("{output}_zero_point"), ty, each, code_bytes(zero)),
    ];
    let attributes = axis.map(|a| int("axis", a as i64)).into_iter().collect();
    w.node("DequantizeLinear", &node.name, &inputs.each_ref().map(String::as_str), &output, attributes);
    Ok(())
}
