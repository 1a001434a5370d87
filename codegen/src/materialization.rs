//! The tensors that hold a value of the graph.
//!
//! A value is stored in row-major order, or channels-last if it is an image `[C,H,W]`. A step may also need the same memory with
//! other dimensions. Each combination is a separate tensor, called a materialization, and is created on first use. If the order
//! of the elements is the same, it is a view; otherwise it is a map. A reshape creates no tensor: its value shares the row-major
//! elements of the value that it reshapes.

use crate::lowering::{Lowered, Lowering};
use catc_ir::ValueId;
use catc_program::{Epilogue, Layout, Op, Step, TensorDecl, TensorId};

/// The order of a value's elements in memory. It does not depend on the dimensions of the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The last dimension of the value varies fastest.
    Rows,
    /// For `[C,H,W]`, the channels vary fastest, then the columns, then the rows.
    Channels,
}

impl From<Layout> for Order {
    /// The order of a tensor with this layout that has the dimensions of its value.
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::RowMajor => Order::Rows,
            Layout::ChannelsLast => Order::Channels,
        }
    }
}

/// One tensor that holds a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Materialization {
    pub(crate) tensor: TensorId,
    pub(crate) order: Order,
}

/// The materializations of a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Materializations {
    /// The tensors of the value, in the order in which they are written.
    pub(crate) own: Vec<Materialization>,
    /// The value whose row-major elements this value shares.
    pub(crate) reshape_of: Option<ValueId>,
}

/// Whether both orders are the same for these dimensions. This is so for a single channel, for a single pixel, and for values
/// that are not images.
pub(crate) fn one_order(dims: &[usize]) -> bool {
    match dims {
        &[c, h, w] => c == 1 || h * w == 1,
        _ => true,
    }
}

impl Lowering<'_> {
    /// Records a tensor that holds a value.
    pub(crate) fn define(&mut self, value: ValueId, tensor: TensorId, order: Order) {
        self.materializations[value].own.push(Materialization { tensor, order });
    }

    /// A tensor with the dimensions of the value, in this layout (which must be row-major unless the value is an image).
    pub(crate) fn in_layout(&mut self, value: ValueId, layout: Layout) -> Lowered<TensorId> {
        let dims = self.dims(value)?;
        self.materialize(value, &dims, layout, layout.into())
    }

    /// The layout of the first existing tensor with the value's dimensions, or row-major if there is none.
    pub(crate) fn present_layout(&self, value: ValueId) -> Lowered<Layout> {
        let dims = self.dims(value)?;
        let own = &self.materializations[value].own;
        let tensors = own.iter().map(|f| self.builder.tensor(f.tensor)).filter(|t| t.dims == dims);
        Ok(tensors.map(|t| t.layout).next().unwrap_or(Layout::RowMajor))
    }

    /// A tensor with the dimensions of the value. It has the preferred layout if such a tensor exists; otherwise it has the
    /// present layout.
    pub(crate) fn in_any_layout(&mut self, value: ValueId, preferred: Layout) -> Lowered<TensorId> {
        let dims = self.dims(value)?;
        let own = &self.materializations[value].own;
        let has = |l: Layout| {
            own.iter().any(|f| matches!(self.builder.tensor(f.tensor), t if t.layout == l && t.dims == dims))
        };
        let layout = if has(preferred) { preferred } else { self.present_layout(value)? };
        self.in_layout(value, layout)
    }

    /// A tensor that holds the value's elements in this memory order. `dims` and `layout` may be any of the same size.
    pub(crate) fn materialize(
        &mut self,
        value: ValueId,
        dims: &[usize],
        layout: Layout,
        order: Order,
    ) -> Lowered<TensorId> {
        let own_dims = self.dims(value)?;
        let same_order = |a: Order| a == order || one_order(&own_dims);
        let usable: Vec<TensorId> =
            self.materializations[value].own.iter().filter(|f| same_order(f.order)).map(|f| f.tensor).collect();
        let exact = |t: &&TensorId| matches!(self.builder.tensor(**t), d if d.dims == dims && d.layout == layout);
        if let Some(&found) = usable.iter().find(exact) {
            return Ok(found);
        }
        if let Some(&source) = usable.first() {
            let view = self.view(source, dims, layout);
            self.define(value, view, order);
            return Ok(view);
        }
        if same_order(Order::Rows)
            && let Some(source) = self.materializations[value].reshape_of
        {
            // This tensor is not recorded for this value, because other uses of the source may share it.
            return self.materialize(source, dims, layout, Order::Rows);
        }
        if self.materializations[value].own.is_empty() && self.materializations[value].reshape_of.is_none() {
            return Err(self.reject("a tensor that it takes was not computed"));
        }
        // Only the other order exists. It can be materialized with the value's own dimensions and then converted.
        let (from, to) = match order {
            Order::Rows => (Layout::ChannelsLast, Layout::RowMajor),
            Order::Channels => (Layout::RowMajor, Layout::ChannelsLast),
        };
        let source = self.in_layout(value, from)?;
        let copy = self.copy(source, to);
        self.define(value, copy, to.into());
        self.materialize(value, dims, layout, order)
    }

    /// Whether a tensor with the value's elements in row-major order exists.
    pub(crate) fn has_rows(&self, value: ValueId) -> bool {
        let mut at = Some(value);
        while let Some(v) = at {
            if self.materializations[v].own.iter().any(|f| f.order == Order::Rows) {
                return true;
            }
            at = self.materializations[v].reshape_of;
        }
        false
    }

    /// Creates a view: the same memory with other dimensions or another layout.
    pub(crate) fn view(&mut self, source: TensorId, dims: &[usize], layout: Layout) -> TensorId {
        let t = self.builder.tensor(source);
        let declared = TensorDecl { name: t.name.clone(), format: t.format, dims: dims.to_vec(), layout };
        self.push_plain(Op::View, vec![source], declared)
    }

    /// Copies the elements to another layout. A map of codes with factor 1 and no requantization leaves each code unchanged.
    pub(crate) fn copy(&mut self, source: TensorId, layout: Layout) -> TensorId {
        let declared = TensorDecl { layout, ..self.builder.tensor(source).clone() };
        self.push_plain(Op::Map { scale: 1.0 }, vec![source], declared)
    }

    /// Pushes a step without an epilogue and returns its output.
    pub(crate) fn push_plain(&mut self, op: Op, inputs: Vec<TensorId>, declared: TensorDecl) -> TensorId {
        let output = self.builder.add_tensor(declared);
        let name = self.step_name.clone();
        self.builder.push(Step { name, op, inputs, epilogue: Epilogue::default(), output });
        output
    }
}
