//! Tensors whose data is in other files. Only files inside the model's folder are read. Absolute paths, `..`, and links that lead
//! out of the folder are rejected.

use crate::budget;
use crate::error::TensorProblem;
use crate::file::{MapError, map};
use crate::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

/// The external files of one model.
pub(crate) struct ExternalData {
    folder: Option<PathBuf>,
    files: HashMap<String, Bytes>,
}

impl ExternalData {
    /// Allows the files of a folder, or no files if there is no folder.
    pub fn new(folder: Option<&Path>) -> Self {
        // A bare file name such as `model.onnx` has the empty path as its parent.
        let folder = folder.map(|f| if f.as_os_str().is_empty() { PathBuf::from(".") } else { f.to_path_buf() });
        ExternalData { folder, files: HashMap::new() }
    }

    /// The `expected` bytes that a tensor's entries refer to.
    pub fn bytes(&mut self, entries: &[StringStringEntryProto], expected: usize) -> Result<Bytes, TensorProblem> {
        let entry = |key: &str| entries.iter().find(|e| e.key() == key).map(|e| e.value());
        let location = entry("location").unwrap_or_default().to_string();
        let fail = |problem: String| TensorProblem::External { location: location.clone(), problem };
        let number = |key: &str| {
            entry(key)
                .map(|v| v.parse::<usize>().map_err(|_| fail(format!("whose {key} {v:?} is no whole number"))))
                .transpose()
        };
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(expected);
        if length != expected {
            return Err(fail(format!("with a length of {length} bytes where its dimensions need {expected}")));
        }
        let file = self.open(&location).map_err(fail)?;
        match offset.checked_add(length) {
            Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
            _ => Err(fail(format!(
                "which ends at byte {} before the tensor does ({length} bytes from {offset}); copy the file again",
                file.len()
            ))),
        }
    }

    fn open(&mut self, location: &str) -> Result<Bytes, String> {
        if let Some(bytes) = self.files.get(location) {
            return Ok(bytes.clone());
        }
        let folder = self.folder.as_ref().ok_or("and a model in memory has no folder to look in")?;
        let path = Path::new(location);
        if location.is_empty() || location.contains('\0') {
            return Err("which is no file name".into());
        }
        if path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err("which is not a path inside the model's folder; put the file beside the model".into());
        }
        let found = folder.join(path).canonicalize().map_err(|e| format!("which cannot be read: {e}"))?;
        let home = folder.canonicalize().map_err(|e| format!("whose folder cannot be read: {e}"))?;
        if !found.starts_with(&home) {
            return Err("which is a link out of the model's folder; put the file itself beside the model".into());
        }
        let bytes = map(&found).map_err(|e| match e {
            MapError::Io(e) => format!("which cannot be read: {e}"),
            MapError::NotAFile => "which is not a regular file".to_string(),
        })?;
        self.files.insert(location.to_string(), bytes.clone());
        Ok(bytes)
    }
}

/// The external files of a model's tensors, whether they exist or not. The list is empty if the file is not a model.
pub fn external_files(model: &Path) -> Vec<PathBuf> {
    let bytes = map(model).ok().filter(|bytes| budget::within(bytes));
    let Some(model_proto) = bytes.and_then(|bytes| ModelProto::decode(bytes).ok()) else { return vec![] };
    let mut locations = BTreeSet::new();
    model_proto.graph.iter().for_each(|graph| graph_locations(graph, &mut locations));
    model_proto.functions.iter().flat_map(|f| &f.node).for_each(|node| node_locations(node, &mut locations));
    let folder = model.parent().unwrap_or(Path::new(""));
    locations.into_iter().map(|location| folder.join(location)).collect()
}

fn graph_locations(graph: &GraphProto, locations: &mut BTreeSet<String>) {
    graph.initializer.iter().for_each(|tensor| tensor_location(tensor, locations));
    graph.node.iter().for_each(|node| node_locations(node, locations));
}

fn node_locations(node: &NodeProto, locations: &mut BTreeSet<String>) {
    for attribute in &node.attribute {
        attribute.t.as_deref().into_iter().chain(&attribute.tensors).for_each(|t| tensor_location(t, locations));
        attribute.g.as_deref().into_iter().chain(&attribute.graphs).for_each(|g| graph_locations(g, locations));
    }
}

fn tensor_location(tensor: &TensorProto, locations: &mut BTreeSet<String>) {
    let location = tensor.external_data.iter().find(|entry| entry.key() == "location");
    locations.extend(location.map(|entry| entry.value().to_string()));
}
