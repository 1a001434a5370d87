//! The operator sets that a model declares.

use crate::error::ImportErrorKind;
use crate::proto::ModelProto;
use std::collections::BTreeMap;

/// The oldest version of the standard operator set that the importer reads.
pub const OLDEST_OPSET: i64 = 6;
/// The newest version of the standard operator set that the importer knows. It belongs to ONNX 1.22.
pub const NEWEST_OPSET: i64 = 27;

/// The name of the standard domain. In files it may also be empty.
pub(crate) const STANDARD: &str = "ai.onnx";

/// The domain of ONNX Runtime's own operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// Normalizes the name of a domain.
pub(crate) fn domain(name: &str) -> &str {
    if name.is_empty() { STANDARD } else { name }
}

/// The version of each domain that the model declares.
pub(crate) fn versions(model: &ModelProto) -> Result<BTreeMap<String, i64>, ImportErrorKind> {
    let mut versions = BTreeMap::new();
    for import in &model.opset_import {
        let (name, version) = (domain(import.domain()), import.version());
        if versions.insert(name.to_string(), version).is_some_and(|other| other != version) {
            return Err(ImportErrorKind::Opset(format!("declares two versions of the operator set {name}")));
        }
    }
    match versions.get(STANDARD) {
        None => Err(ImportErrorKind::Opset("declares no version of the standard operator set".into())),
        Some(&v) if v < OLDEST_OPSET => Err(ImportErrorKind::Opset(format!("uses opset {v}, which is too old"))),
        Some(_) => Ok(versions),
    }
}
