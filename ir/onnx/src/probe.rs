//! Looking into ONNX files without importing a model: single tensors, as ONNX's own test data holds them, and the
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

/// Reads a file of one tensor (`TensorProto`): its name and its elements, reals as f32 and whole numbers as i64.
///
/// # Errors
/// If the file cannot be read, holds another message, or holds elements that are neither numbers nor truth values.
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

/// What a model file says of itself, whether or not it can be imported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The operator of each node of the main graph, in the order of the file.
    pub operators: Vec<String>,
    /// The names of its inputs, those with an initial value left out.
    pub inputs: Vec<String>,
    /// The names of its outputs.
    pub outputs: Vec<String>,
}

/// Reads the outline of a model file.
///
/// # Errors
/// If the file cannot be read or holds no model.
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
