//! Lowering of epilogues. The epilogue of a step is built from the epilogue of a fused node and from the element-wise nodes that
//! follow it.

use crate::lowering::{Lowered, Lowering};
use crate::materialization::{Materialization, Order};
use catc_ir::ops::{self, EpilogueEnd, Fused};
use catc_ir::{ConstId, Node, TensorData, ValueId};
use catc_program::{
    Binary, ConstantData, ConstantId, Epilogue, EpilogueStep, Format, Layout, Op, Operand, Step, TensorId,
};

/// An operand of an epilogue step. It has the dimensions of its value, or those of the constant without the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Value(ValueId),
    Constant(ConstantId),
}

/// An epilogue step whose operand has no tensor yet.
pub(crate) type Pending = catc_scalar::EpilogueStep<Source>;

/// A binary step whose operand has the factor 1.
pub(crate) fn binary(op: Binary, operand: Source) -> Pending {
    Pending::Binary { op, operand, scale: 1.0 }
}

/// An epilogue of pending steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingEpilogue {
    pub(crate) steps: Vec<Pending>,
    pub(crate) requantize: Option<f32>,
}

impl From<Vec<Pending>> for PendingEpilogue {
    fn from(steps: Vec<Pending>) -> Self {
        PendingEpilogue { steps, requantize: None }
    }
}

/// How the dimensions and the layout of a step's output relate to the dimensions of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// The output has the value's dimensions, in this layout.
    Own(Layout),
    /// A value `[..,O]` with `R` rows is a channels-last image `[O,R,1]`. The order of the elements in memory is the same.
    Column,
}

/// The dimensions `[O,R,1]` for a value `[..,O]` with `R` rows. `None` for a scalar.
pub(crate) fn column(dims: &[usize]) -> Option<[usize; 3]> {
    let (last, lead) = dims.split_last()?;
    Some([*last, lead.iter().product(), 1])
}

impl Lowering<'_> {
    /// The function of programs for `f`, or an error at the node if programs have none.
    pub(crate) fn compiled(&self, f: ops::Binary) -> Lowered<Binary> {
        f.compiled().ok_or_else(|| self.evaluated_only())
    }

    /// The pending epilogue of a fused node.
    pub(crate) fn pending(&mut self, node: &Node, fused: &Fused) -> Lowered<PendingEpilogue> {
        let steps = fused.epilogue.steps.iter().map(|step| step.try_map_operand(|input| self.source(node, input)));
        let steps = steps.collect::<Lowered<_>>()?;
        let requantize = match fused.epilogue.end {
            EpilogueEnd::Requantize => fused.output.map(|q| 1.0 / self.graph.quantizer(q).scale[0]),
            EpilogueEnd::Round | EpilogueEnd::Real => None,
        };
        Ok(PendingEpilogue { steps, requantize })
    }

    /// Input `index` of a node, as an operand that broadcasts to the node's output.
    pub(crate) fn source(&mut self, node: &Node, index: usize) -> Lowered<Source> {
        let rank = self.graph.value_type(node.output).shape.rank();
        match node.inputs[index] {
            catc_ir::Operand::Value(v) => Ok(Source::Value(self.resolve(v))),
            catc_ir::Operand::Const(c) => self.constant_operand(c, rank).map(Source::Constant),
        }
    }

    /// Adds an f32 constant that broadcasts to a value of rank `rank`, which includes the batch. The constant has no batch
    /// dimension. Codes become `code - zero_point`.
    fn constant_operand(&mut self, id: ConstId, rank: usize) -> Lowered<ConstantId> {
        let c = self.graph.constant(id);
        let dims = c.tensor.shape();
        let own = if dims.len() < rank {
            dims
        } else {
            // The batch has no fixed size, so a constant cannot hold one slice for each image.
            match dims.split_first() {
                Some((1, rest)) if dims.len() == rank => rest,
                _ => return Err(self.reject(format!("its constant of shape {dims:?} differs from image to image; a batch of any size has no such constant"))),
            }
        };
        let data = match c.tensor.data() {
            TensorData::F32(x) => x.clone(),
            TensorData::Code(x) => match self.graph.quantizer_of(id.into()) {
                Some(q) if q.axis.is_none() => x.iter().map(|&x| (i32::from(x) - q.zero_point[0]) as f32).collect(),
                _ => return Err(self.reject("the codes of its constant operand need one scale")),
            },
            TensorData::I64(_) | TensorData::Bool(_) => {
                return Err(self.reject("it computes with whole numbers or truth values; compiled networks do so with reals alone: cast them to float in the model"));
            }
        };
        Ok(self.builder.add_reals(own, data))
    }

    /// Pushes a step that computes a value. If an operand of the epilogue does not fit the placement, the epilogue becomes a
    /// separate step.
    pub(crate) fn emit(
        &mut self,
        value: ValueId,
        op: Op,
        inputs: Vec<TensorId>,
        placement: Placement,
        epilogue: PendingEpilogue,
    ) -> Lowered<()> {
        let own = self.dims(value)?;
        let Some(steps) = self.place(&epilogue.steps, &own, placement)? else {
            // Only [`Placement::Column`] rejects operands. The intermediate f32 tensor changes no value.
            let mut declared = self.declare(value, Layout::ChannelsLast)?;
            (declared.format, declared.dims) = (Format::F32, column(&own).unwrap_or_default().to_vec());
            let sums = self.push_plain(op, inputs, declared);
            let rows = self.view(sums, &own, Layout::RowMajor);
            let plain = Placement::Own(Layout::RowMajor);
            return self.emit(value, Op::Map { scale: 1.0 }, vec![rows], plain, epilogue);
        };
        let (layout, order) = match placement {
            Placement::Own(layout) => (layout, layout.into()),
            Placement::Column => (Layout::ChannelsLast, Order::Rows),
        };
        let mut declared = self.declare(value, layout)?;
        if placement == Placement::Column {
            declared.dims = column(&own).unwrap_or_default().to_vec();
        }
        let output = self.builder.add_tensor(declared);
        let epilogue = Epilogue { steps, requantize: epilogue.requantize };
        self.builder.push(Step { name: self.step_name.clone(), op, inputs, epilogue, output });
        self.define(value, output, order);
        Ok(())
    }

    /// Lowers `output = epilogue(base * scale)`, element by element. For codes, `base` is `(code - zero_point) as f32`. If
    /// nothing else uses `base` and its step can be extended, the epilogue is added to that step. Otherwise a map is emitted.
    pub(crate) fn apply(
        &mut self,
        output: ValueId,
        base: ValueId,
        scale: f32,
        mut epilogue: PendingEpilogue,
    ) -> Lowered<()> {
        if scale == 1.0 {
            if self.extend(output, base, &epilogue)? {
                return Ok(());
            }
        } else {
            epilogue.steps.insert(0, Pending::Scale(scale));
            if self.extend(output, base, &epilogue)? {
                return Ok(());
            }
            epilogue.steps.remove(0);
        }
        let layout = self.wished_layout(output, self.present_layout(base)?)?;
        let input = self.in_any_layout(base, layout)?;
        self.emit(output, Op::Map { scale }, vec![input], Placement::Own(layout), epilogue)
    }

    /// The materialization and placement of a value if the epilogue of its step can be extended, which requires that its output
    /// is used exactly once. `None` if the epilogue cannot be extended.
    pub(crate) fn open_step(&self, value: ValueId) -> Lowered<Option<(Materialization, Placement)>> {
        let own = self.dims(value)?;
        let [materialized] = self.materializations[value].own[..] else { return Ok(None) };
        let tensor = self.builder.tensor(materialized.tensor);
        let placement = match tensor.dims == own {
            true => Placement::Own(tensor.layout),
            false => Placement::Column,
        };
        let open = |s: &Step| s.op.has_epilogue() && s.epilogue.requantize.is_none();
        let fits = tensor.format == Format::F32
            && self.used_once(value)
            && self.builder.writer(materialized.tensor).is_some_and(open)
            && (placement != Placement::Column || column(&own).is_some_and(|c| c == *tensor.dims));
        Ok(fits.then_some((materialized, placement)))
    }

    /// Tries to append an epilogue to the step that computes `base`. The step then computes `output` instead. Returns false if
    /// this is not possible.
    fn extend(&mut self, output: ValueId, base: ValueId, epilogue: &PendingEpilogue) -> Lowered<bool> {
        let own = self.dims(base)?;
        if own != self.dims(output)? {
            return Ok(false);
        }
        let Some((materialized, placement)) = self.open_step(base)? else { return Ok(false) };
        let Some(steps) = self.place(&epilogue.steps, &own, placement)? else { return Ok(false) };
        let format = self.format(output)?;
        // The step moves to the end, after the steps that compute its new operands. This is safe because nothing else reads its
        // output.
        let Some(mut step) = self.builder.take_writer(materialized.tensor) else { return Ok(false) };
        step.epilogue.steps.extend(steps);
        step.epilogue.requantize = epilogue.requantize;
        let tensor = self.builder.tensor_mut(materialized.tensor);
        (tensor.name, tensor.format) = (output.to_string(), format);
        self.builder.push(step);
        self.define(output, materialized.tensor, materialized.order);
        Ok(true)
    }

    /// Places the operands of all steps. `None` if an operand does not fit the placement.
    fn place(&mut self, steps: &[Pending], dims: &[usize], placement: Placement) -> Lowered<Option<Vec<EpilogueStep>>> {
        let mut placed = vec![];
        for step in steps {
            let step = step.try_map_operand(|source| self.place_operand(source, dims, placement))?;
            match step.try_map_operand(|operand| operand.ok_or(())) {
                Ok(step) => placed.push(step),
                Err(()) => return Ok(None),
            }
        }
        Ok(Some(placed))
    }

    /// Finds the tensor or constant for an operand, such that it broadcasts to the output in this placement. `None` if there is
    /// none.
    fn place_operand(&mut self, source: Source, dims: &[usize], placement: Placement) -> Lowered<Option<Operand>> {
        match (placement, source) {
            (Placement::Own(layout), Source::Value(v)) => Ok(Some(Operand::Tensor(self.in_any_layout(v, layout)?))),
            (Placement::Own(_), Source::Constant(c)) => Ok(Some(Operand::Constant(c))),
            (Placement::Column, source) => self.place_in_column(source, dims),
        }
    }

    /// Reshapes an operand of `[..,O]` so that it broadcasts to `[O,R,1]`. The operand must have either all rows or one row.
    fn place_in_column(&mut self, source: Source, dims: &[usize]) -> Lowered<Option<Operand>> {
        let own = match source {
            Source::Value(v) => self.dims(v)?,
            Source::Constant(c) => self.builder.constant(c).dims.clone(),
        };
        let (last, lead) = own.split_last().map_or((1, &[][..]), |(last, lead)| (*last, lead));
        let rows: usize = lead.iter().product();
        let all = &dims[..dims.len().saturating_sub(1)];
        if rows != 1 && lead != all {
            return Ok(None);
        }
        let column = [last, rows, 1];
        Ok(Some(match source {
            Source::Value(v) => Operand::Tensor(self.materialize(v, &column, Layout::ChannelsLast, Order::Rows)?),
            Source::Constant(c) => {
                let data = match &self.builder.constant(c).data {
                    ConstantData::F32(x) => (0..last * rows).map(|i| x[i % rows * last + i / rows]).collect(),
                    ConstantData::Codes { .. } => return Ok(None),
                };
                Operand::Constant(self.builder.add_reals(&column, data))
            }
        }))
    }
}
