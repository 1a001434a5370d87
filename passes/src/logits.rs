//! Where the logits of a classifier are, and what they are on calibration images.

use crate::context::{CalibrationData, Progress, checked_sample};
use crate::pass::PassError;
use catc_interp::images::map_images;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::ops::{Softmax, Unary};
use catc_ir::{Definition, Dim, Element, Graph, Op, Operand, ValueId};
use nalgebra::DMatrix;

/// The value that holds the logits `[N,classes]`: the only output, or what a softmax over the classes makes it of. Else
/// why there is none (a sentence fragment).
pub fn find_logits(graph: &Graph) -> Result<ValueId, String> {
    let [output] = &graph.outputs[..] else {
        return Err(format!("the graph has {} outputs, not one", graph.outputs.len()));
    };
    let ty = graph.value_type(output.value);
    let classes = match (ty.element, ty.shape.dims()) {
        (Element::F32, [Dim::Batch(1), Dim::Fixed(classes)]) => *classes,
        _ => return Err(format!("the output has shape {}, not [N,classes] in f32", ty.shape)),
    };
    if classes < 2 {
        return Err("the output has a single class".into());
    }
    match graph.definitions()[output.value] {
        Some(Definition::Node(i)) => {
            let node = &graph.nodes()[i];
            match (&node.op, node.inputs[0]) {
                (Op::Softmax(Softmax { axis: 1 }), Operand::Value(v)) => Ok(v),
                (Op::Softmax(_) | Op::Unary(Unary::Sigmoid | Unary::HardSigmoid { .. }), _) => {
                    Err(format!("{} makes the output, which is no distribution over classes", graph.label(node)))
                }
                _ => Ok(output.value),
            }
        }
        _ => Err("the output is an input of the graph".into()),
    }
}

/// What `graph` computes for `logits` (`[N,C]`, [`find_logits`]) on every sample of `data`, which must not be empty:
/// `C x N`, a sample a column. `pass` is who asks, for errors.
pub fn evaluate_logits(
    graph: &Graph,
    logits: ValueId,
    data: &dyn CalibrationData,
    pass: &'static str,
    progress: &dyn Progress,
) -> Result<DMatrix<f64>, PassError> {
    let interpreter = Interpreter::new(graph).map_err(|e| PassError::evaluation(pass, e))?;
    progress.start("logits", data.len() as u64);
    let rows = map_images(data.len(), |index| {
        let inputs = checked_sample(graph, data, index)?;
        let tensors = interpreter.run_to(&inputs, &[logits]).map_err(|e| PassError::evaluation(pass, e))?;
        progress.advance(1);
        let row = tensors.iter().flat_map(|t| t.as_f32().unwrap_or(&[]));
        Ok::<_, PassError>(row.map(|&z| f64::from(z)).collect::<Vec<f64>>())
    });
    progress.finish();
    let rows = rows?;
    let (classes, count) = (rows.first().map_or(0, Vec::len), rows.len());
    Ok(DMatrix::from_iterator(classes, count, rows.into_iter().flatten()))
}
