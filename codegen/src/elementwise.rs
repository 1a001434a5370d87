//! Element-wise nodes on f32.

use crate::epilogue::{self, Pending, PendingEpilogue, Placement, Source};
use crate::lowering::{Lowered, Lowering};
use crate::materialization::Order;
use catc_ir::ops::{self, CastTo};
use catc_ir::{Node, Operand, ValueId};
use catc_program::{Binary, Epilogue, EpilogueStep, Format, Layout, Op, Step, TensorDecl, TensorId, Unary};

impl Lowering<'_> {
    pub(crate) fn unary(&mut self, node: &Node, f: Unary) -> Lowered<()> {
        let base = self.value(node.inputs[0])?;
        self.apply(node.output, base, 1.0, vec![Pending::Unary(f)].into())
    }

    /// `a op b`. The left operand becomes the running value of an epilogue, so it must have the shape of the output. If it does
    /// not, but `b` does, sums and products swap their operands, and `a - b` becomes `(-1 * b) + a`, which is the same in IEEE
    /// arithmetic. In all other cases the left operand is first broadcast to the output.
    pub(crate) fn binary(&mut self, node: &Node, f: ops::Binary) -> Lowered<()> {
        let op = self.compiled(f)?;
        let (left, right) = (self.source(node, 0)?, self.source(node, 1)?);
        let dims = self.dims(node.output)?;
        let (left_base, right_base) = (self.base(left, &dims)?, self.base(right, &dims)?);
        let commutes = matches!(op, Binary::Add | Binary::Mul);
        // If both operands have the shape of the output, prefer the one whose step can still extend its epilogue.
        let swap = match (left_base, right_base) {
            (Some(l), Some(r)) => commutes && self.open_step(l)?.is_none() && self.open_step(r)?.is_some(),
            (None, Some(_)) => op != Binary::Div,
            _ => false,
        };
        match (left_base, right_base) {
            (_, Some(base)) if swap => {
                let mut steps = vec![];
                let op = match op {
                    Binary::Sub => {
                        steps.push(Pending::Scale(-1.0));
                        Binary::Add
                    }
                    Binary::Add | Binary::Mul | Binary::Div => op,
                };
                steps.push(epilogue::binary(op, left));
                self.apply(node.output, base, 1.0, steps.into())
            }
            (Some(base), _) => self.apply(node.output, base, 1.0, vec![epilogue::binary(op, right)].into()),
            (None, _) => self.spread(node.output, left, vec![epilogue::binary(op, right)]),
        }
    }

    /// The value of an operand, if it has the shape of the output.
    fn base(&self, source: Source, dims: &[usize]) -> Lowered<Option<ValueId>> {
        match source {
            Source::Value(v) if self.dims(v)? == dims => Ok(Some(v)),
            _ => Ok(None),
        }
    }

    /// Emits a step that broadcasts an operand to the shape of the output and then applies `steps`.
    fn spread(&mut self, output: ValueId, source: Source, steps: Vec<Pending>) -> Lowered<()> {
        let (constant, mut all) = match source {
            Source::Constant(c) => (c, vec![]),
            // Adding a number to -0.0 gives exactly that number, even for 0.0.
            Source::Value(_) => (self.builder.add_reals(&[], vec![-0.0]), vec![epilogue::binary(Binary::Add, source)]),
        };
        all.extend(steps);
        let layout = self.wished_layout(output, Layout::ChannelsLast)?;
        self.emit(output, Op::Constant { constant }, vec![], Placement::Own(layout), all.into())
    }

    /// Broadcasts an f32 operand to a row-major tensor of these dimensions. An operand that has them already may be of any
    /// format.
    pub(crate) fn spread_rows(&mut self, source: Source, dims: &[usize]) -> Lowered<TensorId> {
        if let Source::Value(v) = source
            && self.dims(v)? == dims
        {
            return self.in_layout(v, Layout::RowMajor);
        }
        let declared =
            |name: String| TensorDecl { name, format: Format::F32, dims: dims.to_vec(), layout: Layout::RowMajor };
        Ok(match source {
            Source::Constant(constant) => {
                self.push_plain(Op::Constant { constant }, vec![], declared(constant.to_string()))
            }
            Source::Value(v) => {
                let operand = catc_program::Operand::Tensor(self.in_any_layout(v, Layout::RowMajor)?);
                let constant = self.builder.add_reals(&[], vec![-0.0]);
                let output = self.builder.add_tensor(declared(v.to_string()));
                let add = catc_program::EpilogueStep::Binary { op: Binary::Add, operand, scale: 1.0 };
                let epilogue = catc_program::Epilogue { steps: vec![add], requantize: None };
                let name = self.step_name.clone();
                let op = Op::Constant { constant };
                self.builder.push(catc_program::Step { name, op, inputs: vec![], epilogue, output });
                output
            }
        })
    }

    /// `(1 - alpha) * a + alpha * b`.
    pub(crate) fn blend(&mut self, node: &Node, alpha: f32) -> Lowered<()> {
        let (a, b) = (self.source(node, 0)?, self.source(node, 1)?);
        let add = Pending::Binary { op: Binary::Add, operand: b, scale: alpha };
        match a {
            Source::Value(base) => self.apply(node.output, base, 1.0 - alpha, vec![add].into()),
            Source::Constant(_) => self.spread(node.output, a, vec![Pending::Scale(1.0 - alpha), add]),
        }
    }

    /// `((x - mean) / sqrt(variance + eps)) * scale + bias`, for a normalization that was not folded into a convolution.
    pub(crate) fn batch_norm(&mut self, node: &Node, eps: f32) -> Lowered<()> {
        let base = self.value(node.inputs[0])?;
        let rank = self.dims(base)?.len();
        let mut steps = vec![];
        // Inputs are x, scale, bias, mean, variance.
        for (op, index) in [(Binary::Sub, 3), (Binary::Div, 4), (Binary::Mul, 1), (Binary::Add, 2)] {
            let constant = match node.inputs[index] {
                Operand::Const(c) => self.graph.constant(c).tensor.as_f32(),
                Operand::Value(_) => None,
            };
            let Some(x) = constant else {
                return Err(self.reject(
                    "its scale, bias, mean or variance depends on an input; export the model for inference, so that they are constants",
                ));
            };
            let data = if index == 4 { x.iter().map(|v| (v + eps).sqrt()).collect() } else { x.to_vec() };
            let mut dims = vec![1; rank];
            dims[0] = data.len();
            let source = Source::Constant(self.builder.add_reals(&dims, data));
            steps.push(epilogue::binary(op, source));
        }
        self.apply(node.output, base, 1.0, PendingEpilogue::from(steps))
    }

    /// Casts integers and booleans to f32, and booleans to integers. Other casts are evaluated only.
    pub(crate) fn cast(&mut self, node: &Node, to: CastTo) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        match (self.format(x)?, self.format(node.output)?) {
            (Format::Index, Format::F32) => self.apply(node.output, x, 1.0, PendingEpilogue::default()),
            // Booleans are stored as 0 and 1, so a cast to i64 is a view. The opposite cast is not, because integers may have
            // other values.
            (Format::Index, Format::Index) if to == CastTo::I64 => {
                let (input, dims) = (self.in_layout(x, Layout::RowMajor)?, self.dims(x)?);
                let view = self.view(input, &dims, Layout::RowMajor);
                self.define(node.output, view, Order::Rows);
                Ok(())
            }
            _ => Err(self.evaluated_only()),
        }
    }

    /// Broadcasts a value to the shape of the output.
    pub(crate) fn expand(&mut self, node: &Node) -> Lowered<()> {
        let source = self.source(node, 0)?;
        self.spread(node.output, source, vec![])
    }

    /// `((x - mean) / sqrt(mean((x - mean)^2) + eps)) * scale + bias` over the last axis. The lowering uses two means and three
    /// maps.
    pub(crate) fn layer_norm(&mut self, node: &Node, eps: f32) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let dims = self.dims(x)?;
        let Some((_, lead)) = dims.split_last() else {
            return Err(self.reject("it normalizes over the batch, but images are computed one by one"));
        };
        let mut affine = vec![];
        for (op, index) in [(Binary::Mul, 1), (Binary::Add, 2)] {
            if index < node.inputs.len() {
                let operand = catc_program::Operand::Constant(self.reals(node, index, "scale or bias")?);
                affine.push(EpilogueStep::Binary { op, operand, scale: 1.0 });
            }
        }
        let input = self.in_layout(x, Layout::RowMajor)?;
        let row = |dims: Vec<usize>, what: &str| TensorDecl {
            name: format!("{} {what}", node.output),
            format: Format::F32,
            dims,
            layout: Layout::RowMajor,
        };
        let one: Vec<usize> = lead.iter().copied().chain([1]).collect();
        let by = |op, tensor| EpilogueStep::Binary { op, operand: catc_program::Operand::Tensor(tensor), scale: 1.0 };
        let eps = EpilogueStep::Binary {
            op: Binary::Add,
            operand: catc_program::Operand::Constant(self.builder.add_reals(&[], vec![eps])),
            scale: 1.0,
        };
        let mean = Op::Mean { axes: vec![lead.len()], scale: 1.0 };
        let map = Op::Map { scale: 1.0 };
        let average = self.push_with(mean.clone(), input, vec![], row(one.clone(), "mean"));
        let distance =
            self.push_with(map.clone(), input, vec![by(Binary::Sub, average)], row(dims.clone(), "distance"));
        let square = self.push_with(map.clone(), distance, vec![by(Binary::Mul, distance)], row(dims, "square"));
        let root = vec![eps, EpilogueStep::Unary(Unary::Sqrt)];
        let deviation = self.push_with(mean, square, root, row(one, "deviation"));
        let steps = [by(Binary::Div, deviation)].into_iter().chain(affine).collect();
        let declared = self.declare(node.output, Layout::RowMajor)?;
        let output = self.push_with(map, distance, steps, declared);
        self.define(node.output, output, Order::Rows);
        Ok(())
    }

    /// Pushes a step on one tensor with an epilogue whose operands already have tensors or constants.
    fn push_with(&mut self, op: Op, input: TensorId, steps: Vec<EpilogueStep>, declared: TensorDecl) -> TensorId {
        let output = self.builder.add_tensor(declared);
        let (name, epilogue) = (self.step_name.clone(), Epilogue { steps, requantize: None });
        self.builder.push(Step { name, op, inputs: vec![input], epilogue, output });
        output
    }
}
