//! Nodes that move elements without computing anything.

use crate::lowering::{Lowered, Lowering};
use crate::materialization::{Order, one_order};
use catc_ir::{Node, Operand, TensorData};
use catc_program::{Layout, Op, TensorDecl};

impl Lowering<'_> {
    /// Emits no step. The value shares the row-major elements of its input.
    pub(crate) fn reshape(&mut self, node: &Node) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        // Both shapes must start with the batch, because otherwise elements of different images would mix.
        self.dims(x)?;
        self.dims(node.output)?;
        self.materializations[node.output].reshape_of = Some(x);
        Ok(())
    }

    pub(crate) fn transpose(&mut self, node: &Node, perm: &[usize]) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let (dims, own) = (self.dims(x)?, self.dims(node.output)?);
        // The batch axis stays first; otherwise the shape of the output would have been rejected above.
        let perm: Vec<usize> = perm[1..].iter().map(|p| p - 1).collect();
        // A reshape shares the rows of the value that it reshapes.
        let rows = match (perm.as_slice(), self.has_rows(x)) {
            ([2, 0, 1], true) => Some(self.in_layout(x, Layout::RowMajor)?),
            _ => None,
        };
        let own_channels = self.materializations[x].own.iter().find(|f| f.order == Order::Channels).map(|f| f.tensor);
        match (perm.as_slice(), own_channels, rows) {
            // A transposition to channels-last or back is a view if the memory already has that order.
            ([1, 2, 0], Some(source), _) => {
                let view = self.view(source, &own, Layout::RowMajor);
                self.define(node.output, view, Order::Rows);
                Ok(())
            }
            ([2, 0, 1], _, Some(source)) => {
                let view = self.view(source, &own, Layout::ChannelsLast);
                self.define(node.output, view, Order::Channels);
                Ok(())
            }
            _ => {
                let input = self.in_any_layout(x, Layout::RowMajor)?;
                let otherwise = if dims.len() == 3 { self.present_layout(x)? } else { Layout::RowMajor };
                let layout = self.wished_layout(node.output, otherwise)?;
                self.push_step(Op::Transpose { perm }, vec![input], node.output, layout)
            }
        }
    }

    pub(crate) fn concat(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        let first = self.value(node.inputs[0])?;
        let layout = self.wished_layout(node.output, self.present_layout(first)?)?;
        let mut inputs = vec![];
        for &operand in &node.inputs {
            let v = self.value(operand)?;
            inputs.push(self.in_layout(v, layout)?);
        }
        self.push_step(Op::Concat { axis: axis - 1 }, inputs, node.output, layout)
    }

    pub(crate) fn pad(&mut self, node: &Node, before: &[usize], value: f32) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let layout = self.present_layout(x)?;
        let input = self.in_layout(x, layout)?;
        let op = Op::Pad { before: before[1..].to_vec(), value };
        self.push_step(op, vec![input], node.output, layout)
    }

    pub(crate) fn slice(&mut self, node: &Node, axis: usize, start: usize, step: usize) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let layout = self.present_layout(x)?;
        let input = self.in_layout(x, layout)?;
        self.push_step(Op::Slice { axis: axis - 1, start, step }, vec![input], node.output, layout)
    }

    pub(crate) fn gather(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        match (node.inputs[0], node.inputs[1]) {
            (Operand::Const(_), Operand::Value(_)) => self.gather_row(node, axis),
            (Operand::Value(_), Operand::Const(_)) => self.pick(node, axis),
            (Operand::Const(_), Operand::Const(_)) => {
                Err(self.constant_only())
            }
            (Operand::Value(_), Operand::Value(_)) => {
                Err(self.reject(
                    "it picks from a computed tensor by a computed index, and a compiled network picks by a computed index from \
                     constants alone; cut the model before it, or run the ONNX file itself with `catc run`",
                ))
            }
        }
    }

    /// Gathers rows of a constant table by computed indices.
    fn gather_row(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        let index = self.value(node.inputs[1])?;
        let input = self.in_layout(index, Layout::RowMajor)?;
        let table = self.reals(node, 0, "table")?;
        if axis != 0 {
            return Err(self.reject(format!(
                "it picks slices of axis {axis} of a table for each image; only those of axis 0 are compiled: transpose \
                 the table in the model, or run the ONNX file"
            )));
        }
        self.push_step(Op::GatherRow { table }, vec![input], node.output, Layout::RowMajor)
    }

    /// Picks slices of a computed tensor at constant indices. Evenly spaced indices become a slice with a step.
    fn pick(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let layout = self.present_layout(x)?;
        let input = self.in_layout(x, layout)?;
        let dims = self.dims(x)?;
        let indices = match node.inputs[1] {
            Operand::Const(c) => self.graph.constant(c).tensor.data(),
            Operand::Value(_) => &TensorData::Bool(vec![]),
        };
        let TensorData::I64(indices) = indices else { return Err(self.reject("its indices must be i64")) };
        let axis = axis - 1;
        let inside = |i: &i64| usize::try_from(*i).ok().filter(|i| *i < dims[axis]);
        let Some(indices) = indices.iter().map(inside).collect::<Option<Vec<usize>>>() else {
            return Err(self.reject(format!("an index is outside 0..{}", dims[axis])));
        };
        let mut picked = dims.clone();
        picked[axis] = indices.len();
        let format = self.format(x)?;
        let declared = |dims: Vec<usize>| TensorDecl { name: node.output.to_string(), format, dims, layout };
        let even = |s: usize| s > 0 && indices.windows(2).all(|w| w[1] == w[0] + s);
        let tensor = match indices.as_slice() {
            [] => return Err(self.reject("it picks nothing")),
            &[start] => self.push_plain(Op::Slice { axis, start, step: 1 }, vec![input], declared(picked)),
            &[start, second, ..] if even(second.saturating_sub(start)) => {
                let op = Op::Slice { axis, start, step: second - start };
                self.push_plain(op, vec![input], declared(picked))
            }
            _ => self.push_plain(Op::Pick { axis, indices }, vec![input], declared(picked)),
        };
        // In the output, the dimensions of the indices replace the axis. The elements in row-major order are the same.
        let own = self.dims(node.output)?;
        if self.builder.tensor(tensor).dims == own {
            self.define(node.output, tensor, layout.into());
            return Ok(());
        }
        let in_order = layout == Layout::RowMajor || one_order(&self.builder.tensor(tensor).dims);
        let rows = if in_order { tensor } else { self.copy(tensor, Layout::RowMajor) };
        let view = self.view(rows, &own, Layout::RowMajor);
        self.define(node.output, view, Order::Rows);
        Ok(())
    }
}
