//! Pooling. `ceil_mode` is never written, because operator sets and runtimes differ in whether the last window may lie entirely
//! in the padding. Instead, the trailing padding is extended to the end of the last windows, which has the same meaning
//! everywhere.

use super::writer::Writer;
use crate::message::{int, ints};
use crate::proto::AttributeProto;
use catc_ir::Node;
use catc_ir::ops::{AvgPool, MaxPool, Window};

fn sizes(items: &[usize]) -> Vec<i64> {
    items.iter().map(|&n| n as i64).collect()
}

/// The number of rows and columns by which the last windows of `node` extend beyond the padding.
fn overhang(w: &Writer, node: &Node, window: &Window) -> Result<[usize; 2], String> {
    if !window.ceil_mode {
        return Ok([0, 0]);
    }
    let side = |v: &catc_ir::Shape, i: usize| v.dims().get(2 + i).and_then(|d| d.fixed()).ok_or("its sides are open");
    let (input, output) = (w.graph.type_of(node.inputs[0]).shape, &w.graph.value_type(node.output).shape);
    let mut more = [0; 2];
    for (i, more) in more.iter_mut().enumerate() {
        let span = (window.kernel[i] - 1) * window.dilations[i] + 1;
        let reach = (side(output, i)?.saturating_sub(1)) * window.strides[i] + span;
        *more = reach.saturating_sub(side(&input, i)? + window.pads[i] + window.pads[i + 2]);
    }
    Ok(more)
}

fn attributes(window: &Window, pads: [usize; 4]) -> Vec<AttributeProto> {
    let mut attributes = vec![
        ints("kernel_shape", &sizes(&window.kernel)),
        ints("strides", &sizes(&window.strides)),
        ints("pads", &sizes(&pads)),
    ];
    if window.dilations != [1, 1] {
        attributes.push(ints("dilations", &sizes(&window.dilations)));
    }
    attributes
}

fn further([top, left, bottom, right]: [usize; 4], [down, along]: [usize; 2]) -> [usize; 4] {
    [top, left, bottom + down, right + along]
}

/// Writes a maximum over windows.
pub(super) fn max(w: &mut Writer, node: &Node, MaxPool(window): &MaxPool) -> Result<(), String> {
    let more = overhang(w, node, window)?;
    let (x, y) = (w.operand(node.inputs[0])?, w.value(node.output));
    w.node("MaxPool", &node.name, &[&x], &y, attributes(window, further(window.pads, more)));
    Ok(())
}

/// Writes an average over windows.
pub(super) fn average(w: &mut Writer, node: &Node, pool: &AvgPool) -> Result<(), String> {
    let more = overhang(w, node, &pool.window)?;
    let (mut x, y) = (w.operand(node.inputs[0])?, w.value(node.output));
    let mut pads = pool.window.pads;
    let mut counts = pool.count_include_pad;
    if counts && more != [0, 0] {
        // Taps in the padding count, but taps beyond it do not. The padding is therefore written as a separate `Pad`.
        let [top, left, bottom, right] = sizes(&pads)[..] else { return Err("its padding has no four sides".into()) };
        let amounts = w.whole("pads", &[0, 0, top, left, 0, 0, bottom, right]);
        x = w.step("Pad", &[&x, &amounts], vec![]);
        (pads, counts) = ([0; 4], false);
    }
    let mut attributes = attributes(&pool.window, further(pads, more));
    attributes.push(int("count_include_pad", counts.into()));
    w.node("AveragePool", &node.name, &[&x], &y, attributes);
    Ok(())
}
