//! Softmax, and the operations that choose the nearest cluster.

use crate::lowering::{Lowered, Lowering};
use catc_ir::Node;
use catc_program::{Layout, Op};

impl Lowering<'_> {
    pub(crate) fn softmax(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let layout = self.present_layout(x)?;
        let input = self.in_layout(x, layout)?;
        self.push_step(Op::Softmax { axis: axis - 1 }, vec![input], node.output, layout)
    }

    pub(crate) fn squared_distance(&mut self, node: &Node) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::RowMajor)?;
        let centroids = self.reals(node, 1, "table of centroids")?;
        self.push_step(Op::SquaredDistance { centroids }, vec![input], node.output, Layout::RowMajor)
    }

    pub(crate) fn argmin(&mut self, node: &Node, axis: usize) -> Lowered<()> {
        let x = self.value(node.inputs[0])?;
        let input = self.in_layout(x, Layout::RowMajor)?;
        self.push_step(Op::ArgMin { axis: axis - 1 }, vec![input], node.output, Layout::RowMajor)
    }
}
