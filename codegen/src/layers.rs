//! Layers that reduce or compute sums of products: convolutions, fully connected layers, matrix products, pooling and means.

use crate::epilogue::{PendingEpilogue, Placement, Source, column};
use crate::lowering::{Lowered, Lowering};
use crate::materialization::Order;
use catc_ir::ops::{AvgPool, Body, Conv2d, Fused, Interpolate, ReduceMean, Window};
use catc_ir::{ConstId, Node, Operand, TensorData, ValueId};
use catc_program::{Constant, ConstantData, ConstantId, Format, Geometry, Layout, Op, PackedCodes};

fn geometry(w: &Window) -> Geometry {
    Geometry { kernel: w.kernel, strides: w.strides, pads: w.pads, dilations: w.dilations }
}

/// A window that covers a whole image of this size.
fn whole(image: [usize; 2]) -> Geometry {
    Geometry { kernel: image, strides: [1; 2], pads: [0; 4], dilations: [1; 2] }
}

/// Channels from which on lanes along channels pay.
const LANES: usize = 4;

/// Whether a node interpolates along the rows or columns of an image with enough channels for lanes. It then takes the image
/// channels-last. `dims` are those of its input without the batch.
pub(crate) fn interpolates_pixels(op: &catc_ir::Op, dims: &[usize]) -> bool {
    let interpolate = match op {
        catc_ir::Op::Interpolate(i) => *i,
        catc_ir::Op::Fused(Fused { body: Body::Interpolate { interpolate, .. }, .. }) => *interpolate,
        _ => return false,
    };
    dims.len() == 3 && interpolate.axis > 1 && dims[0] >= LANES
}

const IMAGE: Placement = Placement::Own(Layout::ChannelsLast);

impl Lowering<'_> {
    pub(crate) fn fused(&mut self, node: &Node, fused: &Fused) -> Lowered<()> {
        let epilogue = self.pending(node, fused)?;
        match &fused.body {
            Body::Conv2d(conv) => self.conv(node, conv, epilogue),
            Body::Linear => self.linear(node, epilogue),
            Body::MatMul { scale } => self.product(node, *scale, epilogue),
            Body::AvgPool { pool, scale } => self.avg_pool(node, pool, *scale, epilogue),
            Body::Mean { mean, scale } => self.mean(node, mean, *scale, epilogue),
            Body::Interpolate { interpolate, scale } => self.interpolate(node, *interpolate, *scale, epilogue),
            Body::Map { scale } => {
                let base = self.value(node.inputs[0])?;
                self.apply(node.output, base, *scale, epilogue)
            }
        }
    }

    fn constant_input(&self, node: &Node, index: usize, what: &str) -> Lowered<ConstId> {
        match node.inputs[index] {
            Operand::Const(c) => Ok(c),
            Operand::Value(_) => Err(self.reject(format!(
                "its {what} depends on an input; a compiled layer has constants there: export the model with constant weights, or run the \
                 ONNX file itself with `catc run`"
            ))),
        }
    }

    /// Input `index` of a node, which must be an f32 constant. It keeps its dimensions.
    pub(crate) fn reals(&mut self, node: &Node, index: usize, what: &str) -> Lowered<ConstantId> {
        let id = self.constant_input(node, index, what)?;
        let tensor = &self.graph.constant(id).tensor;
        match tensor.as_f32() {
            Some(x) => Ok(self.builder.add_reals(tensor.shape(), x.to_vec())),
            None => Err(self.reject(format!("its {what} must hold reals"))),
        }
    }

    /// The quantized weights of a node, with dimensions `dims` of the same size.
    fn codes(&mut self, node: &Node, dims: &[usize]) -> Lowered<ConstantId> {
        let id = self.constant_input(node, 1, "weight")?;
        let tensor = &self.graph.constant(id).tensor;
        let (TensorData::Code(codes), Some(q)) = (tensor.data(), self.graph.quantizer_of(id.into())) else {
            return Err(self.reject("its weight must be codes"));
        };
        let data = ConstantData::Codes {
            codes: PackedCodes::new(q.format.signed(), q.format.bits(), codes)
                .map_err(|e| self.reject(format!("its weight: {e}")))?,
            scale: q.scale.clone(),
            zero_point: q.zero_point.clone(),
        };
        Ok(self.builder.add_constant(Constant { dims: dims.to_vec(), data }))
    }

    /// The multiplier and bias of a fused node.
    fn factors(&mut self, node: &Node) -> Lowered<[ConstantId; 2]> {
        Ok([self.reals(node, 2, "multiplier")?, self.reals(node, 3, "bias")?])
    }

    fn conv(&mut self, node: &Node, conv: &Conv2d, epilogue: PendingEpilogue) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::ChannelsLast)?;
        let dims = self.weight_dims(node)?;
        let weights = self.codes(node, &dims)?;
        let [multiplier, bias] = self.factors(node)?;
        let geometry = geometry(&conv.window([dims[2], dims[3]]));
        let op = Op::Conv { geometry, groups: conv.groups, weights, multiplier, bias };
        self.emit(node.output, op, vec![input], IMAGE, epilogue)
    }

    fn weight_dims(&self, node: &Node) -> Lowered<Vec<usize>> {
        let id = self.constant_input(node, 1, "weight")?;
        Ok(self.graph.constant(id).tensor.shape().to_vec())
    }

    /// A fully connected layer on codes. It becomes a convolution over a column of rows, or over the image that the layer
    /// flattens.
    fn linear(&mut self, node: &Node, epilogue: PendingEpilogue) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let dims = self.weight_dims(node)?;
        let [o, k] = [dims[0], dims[1]];
        let (image, input) = match self.flattened_image(x)? {
            Some((source, image)) => (image, self.in_layout(source, Layout::ChannelsLast)?),
            None => {
                let rows = column(&self.dims(x)?).unwrap_or_default();
                ([k, 1, 1], self.materialize(x, &rows, Layout::ChannelsLast, Order::Rows)?)
            }
        };
        let [c, h, w] = image;
        let weights = self.codes(node, &[o, c, h, w])?;
        let [multiplier, bias] = self.factors(node)?;
        let op = Op::Conv { geometry: whole([h, w]), groups: 1, weights, multiplier, bias };
        self.emit(node.output, op, vec![input], Placement::Column, epilogue)
    }

    /// If a value of one row is a flattened image that is stored channels-last only, returns the image's value and dimensions.
    fn flattened_image(&self, value: ValueId) -> Lowered<Option<(ValueId, [usize; 3])>> {
        if self.dims(value)?.len() != 1 || !self.materializations[value].own.is_empty() {
            return Ok(None);
        }
        let mut source = value;
        while let Some(before) = self.materializations[source].reshape_of {
            source = before;
            if let &[c, h, w] = self.dims(source)?.as_slice()
                && self.materializations[source].own.iter().all(|f| f.order == Order::Channels)
                && !self.materializations[source].own.is_empty()
            {
                return Ok(Some((source, [c, h, w])));
            }
        }
        Ok(None)
    }

    pub(crate) fn float_conv(&mut self, node: &Node, conv: &Conv2d) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::ChannelsLast)?;
        let weights = self.reals(node, 1, "weight")?;
        let dims = self.weight_dims(node)?;
        let bias = self.float_bias(node, dims[0])?;
        let geometry = geometry(&conv.window([dims[2], dims[3]]));
        let op = Op::FloatConv { geometry, groups: conv.groups, weights, bias };
        self.emit(node.output, op, vec![input], IMAGE, PendingEpilogue::default())
    }

    /// The bias of a node. If it has none, -0.0, because adding -0.0 changes no sum.
    fn float_bias(&mut self, node: &Node, outputs: usize) -> Lowered<ConstantId> {
        match node.inputs.len() {
            3 => self.reals(node, 2, "bias"),
            _ => Ok(self.builder.add_reals(&[outputs], vec![-0.0; outputs])),
        }
    }

    pub(crate) fn float_linear(&mut self, node: &Node) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::RowMajor)?;
        let weights = self.reals(node, 1, "weight")?;
        let outputs = self.weight_dims(node)?[0];
        let bias = self.float_bias(node, outputs)?;
        let rows = Placement::Own(Layout::RowMajor);
        self.emit(node.output, Op::FloatLinear { weights, bias }, vec![input], rows, PendingEpilogue::default())
    }

    /// A product with a constant matrix on the right becomes a fully connected layer, which computes the same products in the
    /// same order. In all other cases the operands are broadcast to equal leading dimensions.
    pub(crate) fn matmul(&mut self, node: &Node) -> Lowered<()> {
        let rows = Placement::Own(Layout::RowMajor);
        if let (Operand::Value(x), Operand::Const(c)) = (node.inputs[0], node.inputs[1])
            && let tensor = &self.graph.constant(c).tensor
            && let ([lead @ .., k, p], Some(w)) = (tensor.shape(), tensor.as_f32())
            && lead.iter().all(|n| *n == 1)
        {
            let transposed = (0..k * p).map(|i| w[i % k * p + i / k]).collect();
            let weights = self.builder.add_reals(&[*p, *k], transposed);
            let bias = self.builder.add_reals(&[*p], vec![-0.0; *p]);
            let input = self.in_layout(self.resolve(x), Layout::RowMajor)?;
            let op = Op::FloatLinear { weights, bias };
            return self.emit(node.output, op, vec![input], rows, PendingEpilogue::default());
        }
        self.product(node, 1.0, PendingEpilogue::default())
    }

    /// A product of two operands of f32 or codes.
    fn product(&mut self, node: &Node, scale: f32, epilogue: PendingEpilogue) -> Lowered<()> {
        let rows = Placement::Own(Layout::RowMajor);
        let (a, b) = (self.source(node, 0)?, self.source(node, 1)?);
        let out = self.dims(node.output)?;
        let lead = &out[..out.len().saturating_sub(2)];
        let mut inputs = vec![];
        for source in [a, b] {
            let own = match source {
                Source::Value(v) => self.dims(v)?,
                Source::Constant(c) => self.builder.constant(c).dims.clone(),
            };
            let Some(matrix) = own.last_chunk::<2>() else {
                return Err(self.reject("an operand of one dimension for each image: reshape it to a matrix"));
            };
            let dims = [lead, matrix].concat();
            if let Source::Value(v) = source
                && matches!(self.format(v)?, Format::Codes { .. })
                && own != dims
            {
                return Err(self.reject("an operand of codes with other leading dimensions"));
            }
            inputs.push(self.spread_rows(source, &dims)?);
        }
        self.emit(node.output, Op::MatMul { scale }, inputs, rows, epilogue)
    }

    pub(crate) fn max_pool(&mut self, node: &Node, window: &Window) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::ChannelsLast)?;
        let op = Op::MaxPool { geometry: geometry(window) };
        self.push_step(op, vec![input], node.output, Layout::ChannelsLast)
    }

    pub(crate) fn avg_pool(
        &mut self,
        node: &Node,
        pool: &AvgPool,
        scale: f32,
        epilogue: PendingEpilogue,
    ) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::ChannelsLast)?;
        let (geometry, count_include_pad) = (geometry(&pool.window), pool.count_include_pad);
        let op = Op::AvgPool { geometry, count_include_pad, scale };
        self.emit(node.output, op, vec![input], IMAGE, epilogue)
    }

    /// An interpolation. Images are channels-last where their rows or columns are interpolated, because lanes then run along channels.
    pub(crate) fn interpolate(
        &mut self,
        node: &Node,
        interpolate: Interpolate,
        scale: f32,
        epilogue: PendingEpilogue,
    ) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let dims = self.dims(x)?;
        let axis = interpolate.axis - 1;
        let layout = if interpolates_pixels(&node.op, &dims) { Layout::ChannelsLast } else { self.present_layout(x)? };
        let input = self.in_layout(x, layout)?;
        let id = self.constant_input(node, 1, "indices")?;
        let TensorData::I64(indices) = self.graph.constant(id).tensor.data() else {
            return Err(self.reject("its indices must be i64"));
        };
        let inside = |i: &i64| usize::try_from(*i).ok().filter(|i| *i < dims[axis]);
        let Some(indices) = indices.iter().map(inside).collect::<Option<Vec<usize>>>() else {
            return Err(self.reject(format!("an index is outside 0..{}", dims[axis])));
        };
        let weights = self.reals(node, 2, "weights")?;
        let op = Op::Interpolate { axis, indices, weights, scale };
        self.emit(node.output, op, vec![input], Placement::Own(layout), epilogue)
    }

    /// A mean. If it averages the pixels of an image and its output is codes, the output is stored as `[C,1,1]`, because the
    /// fully connected layer that follows reads it in this form.
    pub(crate) fn mean(
        &mut self,
        node: &Node,
        mean: &ReduceMean,
        scale: f32,
        epilogue: PendingEpilogue,
    ) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_any_layout(x, Layout::ChannelsLast)?;
        // Axes of a single image: the batch axis is dropped, and no mean reduces it.
        let axes: Vec<usize> = mean.axes.iter().map(|a| a - 1).collect();
        let dims = self.dims(node.output)?;
        let pooled = axes == [1, 2] && dims.len() == 1 && self.dims(x)?.len() == 3;
        let codes = matches!(self.format(node.output)?, Format::Codes { .. });
        let placement = match dims.len() {
            3 => Placement::Own(Layout::ChannelsLast),
            1 if pooled && codes => Placement::Column,
            _ => Placement::Own(Layout::RowMajor),
        };
        self.emit(node.output, Op::Mean { axes, scale }, vec![input], placement, epilogue)
    }
}
