//! The import of a model: it reads the file, checks for unsupported operators, and translates the nodes.

use crate::budget;
use crate::error::{ImportError, ImportErrorKind, TensorProblem};
use crate::file::{MapError, map};
use crate::functions;
use crate::interface::{self, WholeType};
use crate::opset::{self, NEWEST_OPSET, STANDARD};
use crate::options::{BatchPolicy, ImportOptions};
use crate::order::{label, live_nodes};
use crate::proto::{GraphProto, ModelProto};
use crate::quantized::quantizes_data;
use crate::support::check_supported;
use crate::translate::{Importer, Tensors};
use bytes::Bytes;
use catc_ir::Graph;
use prost::Message;
use std::collections::HashMap;
use std::path::Path;

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network in the float phase, or in the qdq phase if the model is quantized. It passes [`catc_ir::verify()`].
    pub graph: Graph,
    /// The version of the standard operator set of the model.
    pub opset: i64,
    /// The program that wrote the file, and its version. Empty if the file does not say.
    pub producer: String,
    /// The operator of each translated node of the file, by the name of the resulting nodes in the graph.
    pub operators: HashMap<String, String>,
    /// The type of each graph input in the file, if it is an integer or boolean type.
    pub whole: Vec<Option<WholeType>>,
    /// The batch size that the file fixes, if it became the symbolic `N`.
    pub file_batch: Option<usize>,
    /// The first node that computes its scale from the data at run time (DynamicQuantizeLinear), if there is one.
    pub dynamic_quantizer: Option<String>,
    /// Warnings for the user, each as a sentence.
    pub warnings: Vec<String>,
}

/// Imports a model file. External data is read from the folder of the file.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    let fail = |kind| ImportError { file: path.to_path_buf(), kind: Box::new(kind) };
    let bytes = map(path).map_err(|e| {
        fail(match e {
            MapError::Io(e) => ImportErrorKind::Io(e),
            MapError::NotAFile => ImportErrorKind::NotAFile,
        })
    })?;
    import_model(bytes, path.parent(), options).map_err(fail)
}

/// Imports a model from memory. External data is read from `folder`, and rejected if there is no folder.
pub fn import_bytes(bytes: &[u8], folder: Option<&Path>, options: &ImportOptions) -> Result<Imported, ImportError> {
    import_model(Bytes::copy_from_slice(bytes), folder, options)
        .map_err(|kind| ImportError { file: "<memory>".into(), kind: Box::new(kind) })
}

/// The shape of each input with a batch dimension, for a batch of one.
fn shapes_of_one(graph: &GraphProto, options: &ImportOptions) -> Result<Vec<(String, Vec<usize>)>, ImportErrorKind> {
    let inputs = interface::inputs(graph, options, BatchPolicy::Auto)?.inputs;
    let batched = inputs.iter().filter(|(_, ty)| ty.shape.dims().iter().any(|d| d.fixed().is_none()));
    Ok(batched.map(|(name, ty)| (name.to_string(), ty.shape.at_batch(1))).collect())
}

/// The error for a model that needs a fixed batch size.
fn open_batch(reason: ImportErrorKind, shapes: &[(String, Vec<usize>)]) -> ImportErrorKind {
    let sizes = |sizes: &[usize]| sizes.iter().map(|n| n.to_string()).collect::<Vec<_>>().join("x");
    let shapes = shapes.iter().map(|(name, shape)| format!("{name}={}", sizes(shape))).collect();
    ImportErrorKind::OpenBatch { reason: Box::new(reason), shapes }
}

fn import_model(bytes: Bytes, folder: Option<&Path>, options: &ImportOptions) -> Result<Imported, ImportErrorKind> {
    if bytes.is_empty() {
        return Err(ImportErrorKind::Empty);
    }
    if !budget::within(&bytes) {
        return Err(ImportErrorKind::Decode("it holds more messages than a model of its size could".into()));
    }
    let model = ModelProto::decode(bytes).map_err(|e| ImportErrorKind::Decode(e.to_string()))?;
    let graph = model.graph.as_ref().ok_or_else(|| ImportErrorKind::Decode("it holds no graph".into()))?;
    let versions = opset::versions(&model)?;
    let inlined = functions::inlined(&model, graph, &versions, options.memory)?;
    let graph = inlined.as_ref();
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| v.name()).to_string();
        return Err(ImportErrorKind::Tensor { name, problem: TensorProblem::Form("is sparse; export it dense") });
    }
    let nodes = live_nodes(graph, |_| false)?;
    check_supported(&nodes, &versions)?;

    let mut tensors = Tensors::new(graph, folder);
    let quantized = quantizes_data(graph, &nodes);
    let mut attempt = |options: &ImportOptions, policy| {
        let importer = Importer::new(graph, options, policy, &mut tensors, quantized)?;
        let batch = importer.batch;
        Ok((batch, importer.run(&nodes, &versions)))
    };
    let mut translated = match attempt(options, options.batch)? {
        (Some(batch), Err(reason)) if options.batch == BatchPolicy::Auto => {
            // If this also fails, its error describes the model as written. It is therefore the better one, unless the caller
            // gave other sizes.
            let mut translated = match attempt(options, BatchPolicy::AsDeclared)?.1 {
                Err(_) if !options.shapes.is_empty() => return Err(reason),
                translated => translated?,
            };
            let warning = format!("the batch stays at {batch}: with a symbolic batch, {reason}");
            translated.warnings.push(warning);
            translated
        }
        (None, Err(reason)) if options.batch == BatchPolicy::Auto => {
            let shapes = shapes_of_one(graph, options)?;
            let one = ImportOptions { shapes, ..options.clone() };
            let read = !one.shapes.is_empty() && attempt(&one, BatchPolicy::AsDeclared)?.1.is_ok();
            return Err(if read { open_batch(reason, &one.shapes) } else { reason });
        }
        (_, translated) => translated?,
    };
    let opset = versions[STANDARD];
    if opset > NEWEST_OPSET {
        translated.warnings.push(format!("opset {opset} is newer than {NEWEST_OPSET}, the newest one known"));
    }
    Ok(Imported {
        graph: translated.graph,
        opset,
        producer: [model.producer_name(), model.producer_version()].join(" ").trim().to_string(),
        operators: translated.operators,
        whole: translated.whole,
        file_batch: translated.file_batch,
        dynamic_quantizer: nodes.iter().find(|n| n.op_type() == "DynamicQuantizeLinear").map(|n| label(n).into()),
        warnings: translated.warnings,
    })
}
