//! ReduceMean (1, 11, 13, 18).

use crate::error::NodeProblem;
use crate::node::{NodeContext, RuleResult, axes, one};
use catc_ir::Op;
use catc_ir::ops::{Identity, ReduceMean};

pub(super) fn reduce_mean(cx: &mut NodeContext) -> RuleResult {
    let keep_dims = cx.flag("keepdims", true)?;
    // Axes became an input in opset 18, and with it came a meaning for none at all.
    let mut nothing = false;
    let list = if cx.opset < 18 {
        cx.arity(1, 1)?;
        cx.ints("axes")?.unwrap_or_default().to_vec()
    } else {
        cx.arity(1, 2)?;
        nothing = cx.flag("noop_with_empty_axes", false)?;
        if cx.has_input(1) { cx.fixed_sizes(1, "axes")? } else { vec![] }
    };
    let x = cx.input(0)?;
    let rank = cx.shape(&x).rank();
    if list.is_empty() && nothing {
        return one(cx.emit_on(Op::Identity(Identity), &x)?);
    }
    let axes = if list.is_empty() { (0..rank).collect() } else { axes(&list, rank)? };
    if axes.is_empty() {
        return Err(NodeProblem::input(0, "has no axis to reduce"));
    }
    one(cx.emit_on(Op::ReduceMean(ReduceMean { axes, keep_dims }), &x)?)
}
