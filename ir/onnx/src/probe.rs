//! Inspection of ONNX files without an import. It reads files with a single tensor, as in the test data of ONNX, and the
//! operators that a model uses.

use crate::budget;
use crate::error::{ImportErrorKind, TensorProblem};
use crate::external::ExternalData;
use crate::file::{MapError, map};
use crate::proto::{ModelProto, TensorProto};
use crate::{ImportError, tensor};
use catc_ir::Tensor;
use prost::Message;
use std::path::Path;

fn decoded<M: Message + Default>(path: &Path) -> Result<M, ImportError> {
    let fail = |kind| ImportError { file: path.to_path_buf(), kind: Box::new(kind) };
    let bytes = map(path).map_err(|e| match e {
        MapError::Io(e) => fail(ImportErrorKind::Io(e)),
        MapError::NotAFile => fail(ImportErrorKind::NotAFile),
    })?;
    if !budget::within(&bytes) {
        return Err(fail(ImportErrorKind::Decode("it holds more messages than a file of its size could".into())));
    }
    M::decode(bytes).map_err(|e| fail(ImportErrorKind::Decode(e.to_string())))
}

/// Reads a file with one tensor (`TensorProto`). Returns its name and its elements: floating-point types as f32, integer types as
/// i64, and booleans.
///
/// # Errors
/// Fails if the file cannot be read, holds a different message, or holds elements that are neither numbers nor booleans.
pub fn read_tensor(path: &Path) -> Result<(String, Tensor), ImportError> {
    let proto: TensorProto = decoded(path)?;
    let name = proto.name().to_string();
    let fail = |problem: TensorProblem| ImportError {
        file: path.to_path_buf(),
        kind: Box::new(ImportErrorKind::Tensor { name: name.clone(), problem }),
    };
    let tensor = tensor::read(&proto, &mut ExternalData::new(path.parent())).map_err(fail)?;
    Ok((name, tensor))
}

/// An outline of a model file, which need not be importable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The operator of each node of the main graph, in the order of the file.
    pub operators: Vec<String>,
    /// The names of the inputs, without those that have an initial value.
    pub inputs: Vec<String>,
    /// The names of the outputs.
    pub outputs: Vec<String>,
}

/// Reads the outline of a model file.
///
/// # Errors
/// Fails if the file cannot be read or does not hold a model.
pub fn outline(path: &Path) -> Result<Outline, ImportError> {
    let model: ModelProto = decoded(path)?;
    let Some(graph) = model.graph else { return Ok(Outline::default()) };
    let initial = |name: &str| graph.initializer.iter().any(|t| t.name() == name);
    Ok(Outline {
        operators: graph.node.iter().map(|n| n.op_type().to_string()).collect(),
        inputs: graph.input.iter().map(|i| i.name().to_string()).filter(|n| !initial(n)).collect(),
        outputs: graph.output.iter().map(|o| o.name().to_string()).collect(),
    })
}
