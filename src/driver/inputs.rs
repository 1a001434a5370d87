//! The inputs of a network as data sets need to know them, and samples as tensors for the network.

use crate::data::{DataError, DataSet, InputSpec, WholeNumbers};
use catc_ir::{Element, Graph, Indexed, Tensor, TensorData, indexed_inputs};
use catc_onnx::WholeType;
use catc_runtime::PortInfo;

/// Name, shape without the batch and numbers of each input of a graph; `whole` is what the model's file says of those that are no reals,
/// as far as there is a file.
pub fn input_specs(graph: &Graph, whole: &[Option<WholeType>]) -> Vec<InputSpec> {
    let spec = |(i, ((v, name), indexed)): (usize, (&(catc_ir::ValueId, String), Indexed))| {
        let ty = graph.value_type(*v);
        let shape = ty.shape.at_batch(1);
        let declared = whole.get(i).and_then(|w| w.as_ref()).map(|w| (w.low, w.high));
        let whole = match ty.element {
            Element::F32 | Element::Code(_) => None,
            Element::Bool => Some(whole_numbers((0, 1), Indexed::default())),
            Element::I64 => Some(whole_numbers(declared.unwrap_or((i64::MIN, i64::MAX)), indexed)),
        };
        InputSpec { name: name.clone(), shape: shape[1.min(shape.len())..].to_vec(), whole }
    };
    graph.inputs.iter().zip(indexed_inputs(graph)).enumerate().map(spec).collect()
}

/// The numbers of a type with these bounds that an input takes. Synthetic ones are rows of the table that they pick from; else all
/// numbers of a type of few, and of large types 0 and 1, which masks consist of.
fn whole_numbers((low, high): (i64, i64), indexed: Indexed) -> WholeNumbers {
    const FEW: i64 = 1 << 16;
    let bounded =
        indexed.every.and_then(|n| i64::try_from(n).ok()).map_or((low, high), |n| (low.max(-n), high.min(n - 1)));
    let drawn = match indexed.some.and_then(|n| i64::try_from(n).ok()) {
        Some(n) => (0, high.min(n - 1)),
        None if high.saturating_sub(low) < FEW => (low, high),
        None => (0, 1),
    };
    WholeNumbers { low: bounded.0, high: bounded.1, drawn }
}

/// The same of an input of a compiled model.
pub fn port_spec(port: &PortInfo) -> InputSpec {
    let whole = (port.element == catc_runtime::Element::Index).then(|| {
        let (low, high) = port.range.map_or((i32::MIN, i32::MAX), |r| (r.low, r.high));
        // Negative indices count from the end of a table, so those from 0 are all of its rows.
        let rows = (low < 0 && i64::from(low) == -i64::from(high) - 1 && high < i32::MAX).then_some(high as usize + 1);
        whole_numbers((low.into(), high.into()), Indexed { every: None, some: rows })
    });
    InputSpec { name: port.name.clone(), shape: port.dims.clone(), whole }
}

/// Sample `index` of a data set as a tensor with a batch of 1, of these elements.
pub fn tensor_of(set: &DataSet, element: Element, index: usize) -> Result<Tensor, DataError> {
    let shape: Vec<usize> = [1].iter().chain(set.shape()).copied().collect();
    let data = match element {
        Element::F32 | Element::Code(_) => TensorData::F32(set.sample(index)?),
        Element::I64 => TensorData::I64(set.sample(index)?),
        Element::Bool => TensorData::Bool(set.sample(index)?.into_iter().map(|n: i64| n != 0).collect()),
    };
    Ok(Tensor::new(shape, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_numbers_make_sense() {
        let of = |bounds, some| whole_numbers(bounds, Indexed { every: some, some });
        let any = (i64::MIN, i64::MAX);
        assert_eq!(of(any, Some(100)), WholeNumbers { low: -100, high: 99, drawn: (0, 99) });
        assert_eq!(of(any, None).drawn, (0, 1), "a mask");
        assert_eq!(of((0, 255), None), WholeNumbers { low: 0, high: 255, drawn: (0, 255) });
        assert_eq!(of((-128, 127), None).drawn, (-128, 127));
        assert_eq!(of((0, 255), Some(1000)), WholeNumbers { low: 0, high: 255, drawn: (0, 255) });
    }
}
