//! Where the cases are and what belongs to each.

use catc_onnx::{Outline, outline, read_tensor};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suites, by folder; `light` holds whole networks without weights.
const SUITES: [&str; 5] = ["node", "pytorch-operator", "pytorch-converted", "simple", "light"];

/// One model with its data.
pub struct Case {
    /// `suite/name`.
    pub name: String,
    /// The operator it tests, or its suite if that is whole networks.
    pub operator: String,
    /// The model file.
    pub model: PathBuf,
    /// What the model file says of itself, if it can be read.
    pub outline: Outline,
    /// Inputs and expected outputs of each data set.
    pub sets: Vec<(Vec<PathBuf>, Vec<PathBuf>)>,
}

/// The folder of the data, if there is one.
pub fn data_folder() -> Option<PathBuf> {
    let found = match std::env::var_os("CATC_ONNX_TESTS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let ask = "import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), 'backend', 'test', 'data'))";
            let out = Command::new("python3").args(["-c", ask]).output().ok()?;
            PathBuf::from(String::from_utf8(out.stdout).ok()?.trim())
        }
    };
    found.join("node").is_dir().then_some(found)
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).map(|d| d.flatten().map(|e| e.path()).collect());
    let mut entries: Vec<PathBuf> = entries.unwrap_or_default();
    entries.sort();
    entries
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The files `kind_0.pb`, `kind_1.pb`, ... of a data set.
fn numbered(folder: &Path, kind: &str) -> Vec<PathBuf> {
    (0..).map(|i| folder.join(format!("{kind}_{i}.pb"))).take_while(|p| p.is_file()).collect()
}

/// All cases, by name.
pub fn find(folder: &Path) -> Vec<Case> {
    let mut cases = vec![];
    for suite in SUITES {
        for entry in sorted(&folder.join(suite)) {
            let (model, sets) = if entry.is_dir() {
                let sets = sorted(&entry).into_iter().filter(|p| name_of(p).starts_with("test_data_set_"));
                (entry.join("model.onnx"), sets.map(|s| (numbered(&s, "input"), numbered(&s, "output"))).collect())
            } else if entry.extension().is_some_and(|e| e == "onnx") {
                let output = entry.with_file_name(format!("{}_output_0.pb", name_of(&entry).trim_end_matches(".onnx")));
                (entry.clone(), vec![(vec![], vec![output])])
            } else {
                continue;
            };
            let own = outline(&model).unwrap_or_default();
            let operator = operator(suite, &entry, &own);
            cases.push(Case { name: format!("{suite}/{}", name_of(&entry)), operator, model, outline: own, sets });
        }
    }
    cases
}

/// The operator of a single-node model. A model that spells an operator out stands beside the one with the operator.
fn operator(suite: &str, entry: &Path, own: &Outline) -> String {
    if suite != "node" {
        return suite.to_string();
    }
    let name = name_of(entry);
    let base = ["_expanded", "_ver"].iter().filter_map(|m| Some(&name[..name.find(m)?])).min_by_key(|n| n.len());
    let whole = base.map(|b| entry.with_file_name(b).join("model.onnx")).filter(|p| p.is_file());
    let whole = whole.and_then(|p| outline(&p).ok());
    let operators = whole.as_ref().map_or(&own.operators, |o| &o.operators);
    match operators.as_slice() {
        [one] => one.clone(),
        _ => "several".to_string(),
    }
}

/// The tensors of a list of files, or what is wrong with one.
pub fn tensors(files: &[PathBuf]) -> Result<Vec<catc_ir::Tensor>, String> {
    files.iter().map(|p| read_tensor(p).map(|(_, t)| t).map_err(|e| e.kind.to_string())).collect()
}
