//! The operators that stand for each operation.

use super::pool;
use super::writer::{Writer, code_bytes, container};
use crate::message::{float, int, ints};
use crate::ops::unary;
use crate::proto::AttributeProto;
use crate::proto::tensor_proto::DataType;
use catc_ir::ops::{Binary, CastTo, Compare, Reduction, Scatter, Unary};
use catc_ir::{Node, Op, Operand, Quantizer, TensorData};

type Written = Result<(), String>;

fn sizes(items: &[usize]) -> Vec<i64> {
    items.iter().map(|&n| n as i64).collect()
}

/// Writes one node of the graph.
pub(super) fn write(w: &mut Writer, node: &Node) -> Written {
    match &node.op {
        Op::Quantize(q) => return quantize(w, node, q.quantizer),
        Op::Dequantize(_) => return dequantize(w, node),
        Op::Linear(_) => return linear(w, node),
        Op::MaxPool(pool) => return pool::max(w, node, pool),
        Op::AvgPool(pool) => return pool::average(w, node, pool),
        _ => {}
    }
    // Biases of quantized convolutions are written by themselves.
    let by_itself = matches!(node.op, Op::Conv2d(_)) && node.inputs[1].value().is_some();
    let taken = node.inputs.iter().take(if by_itself { 2 } else { usize::MAX });
    let names = taken.map(|&o| w.operand(o)).collect::<Result<Vec<String>, String>>()?;
    let extra: Vec<String>;
    let mut inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = w.value(node.output);
    let out = output.as_str();
    let shape = w.graph.type_of(*node.inputs.first().ok_or("it takes nothing")?).shape;
    let (op, attributes): (&str, Vec<AttributeProto>) = match &node.op {
        Op::Conv2d(conv) => {
            let kernel = w.graph.type_of(node.inputs[1]).shape.as_fixed().ok_or("its weights have the batch")?;
            let attributes = vec![
                ints("kernel_shape", &sizes(&kernel[2..])),
                ints("strides", &sizes(&conv.strides)),
                ints("pads", &sizes(&conv.pads)),
                ints("dilations", &sizes(&conv.dilations)),
                int("group", conv.groups as i64),
            ];
            if let Some(bias) = node.inputs.get(2).filter(|_| by_itself) {
                let channels = w.graph.type_of(*bias).shape.dims()[0].at_batch(1);
                let row = vector(w, *bias, &[1, channels, 1, 1])?;
                let sums = w.fresh("conv");
                w.node("Conv", &node.name, &inputs[..2], &sums, attributes);
                w.node("Add", "", &[&sums, &row], out, vec![]);
                return Ok(());
            }
            ("Conv", attributes)
        }
        Op::MatMul(_) => ("MatMul", vec![]),
        Op::BatchNorm(b) => ("BatchNormalization", vec![float("epsilon", b.eps)]),
        Op::Softmax(s) => ("Softmax", vec![int("axis", s.axis as i64)]),
        Op::Unary(Unary::Clip { min, max }) => {
            extra = clip_bounds(w, *min, *max);
            inputs.extend(extra.iter().map(String::as_str));
            ("Clip", vec![])
        }
        Op::Unary(f) => unary::operator(*f),
        Op::Binary(Binary::Mod) => {
            return Err("the remainder of reals with the sign of the divisor has no operator".into());
        }
        Op::Binary(binary) => self::binary(*binary),
        Op::ReduceMean(m) if m.keep_dims && shape.rank() == 4 && m.axes == [2, 3] => ("GlobalAveragePool", vec![]),
        Op::ReduceMean(m) => {
            extra = axes(w, &m.axes, 18);
            inputs.extend(extra.iter().map(String::as_str));
            ("ReduceMean", reduction(&m.axes, m.keep_dims, extra.is_empty()))
        }
        Op::Reduce(r) => {
            let (op, since) = match r.kind {
                Reduction::Sum => ("ReduceSum", 13),
                Reduction::Prod => ("ReduceProd", 18),
                Reduction::Max => ("ReduceMax", 18),
                Reduction::Min => ("ReduceMin", 18),
            };
            extra = axes(w, &r.axes, since);
            inputs.extend(extra.iter().map(String::as_str));
            (op, reduction(&r.axes, r.keep_dims, extra.is_empty()))
        }
        Op::Reshape(r) => {
            let sizes = w.reshape_sizes(&r.shape)?;
            extra = vec![w.whole("shape", &sizes)];
            inputs.extend(extra.iter().map(String::as_str));
            ("Reshape", vec![])
        }
        Op::Transpose(t) => ("Transpose", vec![ints("perm", &sizes(&t.perm))]),
        Op::Concat(c) => ("Concat", vec![int("axis", c.axis as i64)]),
        Op::Pad(pad) => {
            let pads = w.whole("pads", &sizes(&[&pad.before[..], &pad.after].concat()));
            let value = match w.graph.type_of(node.inputs[0]).element.quantizer() {
                Some(q) => w.parameters(q)[1].clone(),
                None => w.reals("padding", &[], &[pad.value]),
            };
            extra = vec![pads, value];
            inputs.extend(extra.iter().map(String::as_str));
            ("Pad", vec![])
        }
        Op::Slice(s) => {
            let lists = [("start", s.start), ("end", s.end), ("axis", s.axis), ("step", s.step)];
            extra = lists.map(|(name, n)| w.whole(name, &[n as i64])).into();
            inputs.extend(extra.iter().map(String::as_str));
            ("Slice", vec![])
        }
        Op::Gather(g) => ("Gather", vec![int("axis", g.axis as i64)]),
        Op::GatherElements(g) => ("GatherElements", vec![int("axis", g.axis as i64)]),
        Op::Identity(_) => ("Identity", vec![]),
        Op::SquaredDistance(_) => {
            // [N,1,P] - [K,P] -> [N,K,P]
            let axis = w.whole("axis", &[1]);
            let points = w.step("Unsqueeze", &[inputs[0], &axis], vec![]);
            let apart = w.step("Sub", &[&points, inputs[1]], vec![]);
            let squares = w.step("Mul", &[&apart, &apart], vec![]);
            let last = w.whole("axis", &[2]);
            w.node("ReduceSum", &node.name, &[&squares, &last], out, vec![int("keepdims", 0)]);
            return Ok(());
        }
        Op::ArgMin(a) => ("ArgMin", vec![int("axis", a.axis as i64), int("keepdims", 0)]),
        Op::Blend(b) => {
            let (own, other) = (w.reals("weight", &[], &[1.0 - b.alpha]), w.reals("weight", &[], &[b.alpha]));
            let left = w.step("Mul", &[inputs[0], &own], vec![]);
            let right = w.step("Mul", &[inputs[1], &other], vec![]);
            w.node("Add", &node.name, &[&left, &right], out, vec![]);
            return Ok(());
        }
        Op::LayerNorm(n) => {
            let width = shape.dims().last().and_then(|d| d.fixed()).ok_or("it normalizes the batch")?;
            extra = if inputs.len() == 1 { vec![w.reals("ones", &[width], &vec![1.0; width])] } else { vec![] };
            inputs.extend(extra.iter().map(String::as_str));
            ("LayerNormalization", vec![int("axis", -1), float("epsilon", n.eps)])
        }
        Op::UncompiledUnary(f) => (unary::evaluated_operator(*f), vec![]),
        Op::Compare(c) => (compare(*c), vec![]),
        Op::Where(_) => ("Where", vec![]),
        Op::Cast(c) => {
            let to = match c.to {
                CastTo::F32 => DataType::Float,
                CastTo::I64 => DataType::Int64,
                CastTo::Bool => DataType::Bool,
            };
            ("Cast", vec![int("to", to as i64)])
        }
        Op::Expand(e) => {
            extra = vec![w.run_time_sizes(&e.shape)?];
            inputs.extend(extra.iter().map(String::as_str));
            ("Expand", vec![])
        }
        Op::ScatterFlat(s) if s.join == Scatter::Replace => {
            let flat = w.whole("shape", &[-1]);
            let [data, at, updates] = [0, 1, 2].map(|i| w.step("Reshape", &[inputs[i], &flat], vec![]));
            let done = w.step("ScatterElements", &[&data, &at, &updates], vec![]);
            let sizes = w.reshape_sizes(&shape)?;
            let sizes = w.whole("shape", &sizes);
            w.node("Reshape", &node.name, &[&done, &sizes], out, vec![]);
            return Ok(());
        }
        Op::Cumulate(c) if !c.product => {
            extra = vec![w.whole("axis", &[c.axis as i64])];
            inputs.extend(extra.iter().map(String::as_str));
            ("CumSum", vec![int("exclusive", c.exclusive.into()), int("reverse", c.reverse.into())])
        }
        Op::TopK(_) | Op::ScatterFlat(_) | Op::Cumulate(_) => return Err("no compiled network holds it; cut the model before it, and compute the rest in the program that calls the network".into()),
        Op::Fused(_) => return Err("it is fused".into()),
        Op::Quantize(_) | Op::Dequantize(_) | Op::Linear(_) | Op::MaxPool(_) | Op::AvgPool(_) => {
            return Err("it is written above".into());
        }
    };
    w.node(op, &node.name, &inputs, out, attributes);
    Ok(())
}

/// A constant vector under another shape. Biases of quantized layers stand in an addition of their own: as inputs of the layers they would
/// be rounded to multiples of the scale of the sums by runtimes that quantize them (ONNX Runtime), which few bits do not bear.
fn vector(w: &mut Writer, operand: Operand, shape: &[usize]) -> Result<String, String> {
    let constant = operand.constant().ok_or("its bias is computed")?;
    let tensor = w.graph.constant(constant).tensor.clone();
    let items = tensor.as_f32().ok_or("its bias is not f32")?;
    Ok(w.reals(&format!("{constant}_row"), shape, items))
}

/// Axes as an input, where the opset has them there.
fn axes(w: &mut Writer, axes: &[usize], since: i64) -> Vec<String> {
    if w.opset < since { vec![] } else { vec![w.whole("axes", &sizes(axes))] }
}

fn reduction(axes: &[usize], keep_dims: bool, as_attribute: bool) -> Vec<AttributeProto> {
    let mut attributes = vec![int("keepdims", keep_dims.into())];
    if as_attribute {
        attributes.push(ints("axes", &sizes(axes)));
    }
    attributes
}

/// The bounds of `Clip`; empty where there is none.
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

/// Rows times a matrix: `Gemm`, or for more dimensions a product with the transposed weights.
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

/// Codes of fewer than 8 bits saturate in a clip before they are codes.
fn quantize(w: &mut Writer, node: &Node, q: catc_ir::QuantizerId) -> Written {
    if node.inputs[0].constant().is_some() {
        // The dequantize writes them.
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

/// Constant codes, their shape and quantizer.
type Codes = (Vec<i32>, Vec<usize>, Quantizer);

/// The codes that a constant, or a quantized constant, holds.
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

/// Constant codes: around 0 where a signed byte holds them, which is what runtimes have kernels for.
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
