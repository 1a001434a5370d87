//! Why a model cannot be imported. Every message names the file, what in it is meant, and what to do.

use crate::opset::{NEWEST_OPSET, OLDEST_OPSET};
use catc_ir::{InferError, Violation};
use std::fmt;
use std::path::PathBuf;

/// Why a model cannot be imported.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", file.display())]
pub struct ImportError {
    /// The model file, or `<memory>`.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: Box<ImportErrorKind>,
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ImportErrorKind {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(std::io::Error),
    /// A folder, a device, a pipe.
    #[error("is not a regular file; give the path of an .onnx file")]
    NotAFile,
    /// A file of no bytes.
    #[error("is empty; export the model again")]
    Empty,
    /// The bytes are no ONNX message, or not all of one.
    #[error("is no ONNX model, or damaged or cut short ({0}); export or copy it again")]
    Decode(String),
    /// The graph as a whole is wrong.
    #[error("{0}")]
    Graph(String),
    /// The operator set is not one that the importer knows.
    #[error("{0}; export it with an opset between {OLDEST_OPSET} and {NEWEST_OPSET}")]
    Opset(String),
    /// A graph input that cannot be taken, or a shape option that fits none.
    #[error("input `{name}` {problem}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Operators that the importer does not know: all of them.
    #[error("{}", list_unsupported(.0))]
    Unsupported(Vec<UnsupportedNode>),
    /// A tensor that cannot be read.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: TensorProblem,
    },
    /// A node that cannot be translated.
    #[error("node {node}: {problem}")]
    Node {
        /// The node.
        node: Box<NodeName>,
        /// What is wrong.
        problem: NodeProblem,
    },
    /// A model that can be read with a fixed batch size only, and leaves the size open.
    #[error("{reason}. With a fixed batch size the model can be evaluated: give `--shape {}`", shapes.join(" --shape "))]
    OpenBatch {
        /// What is wrong with an open size.
        reason: Box<ImportErrorKind>,
        /// For each input that has the batch a shape with which the model can be read, as in `x=1x4`.
        shapes: Vec<String>,
    },
    /// The imported graph breaks a rule of the IR.
    #[error("does not make a valid graph: {}", list(.0))]
    Invalid(Vec<Violation>),
}

/// How messages name a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// Its name, or that of its first output.
    pub name: String,
    /// The operator.
    pub op: String,
    /// The operator's domain, `ai.onnx` for the standard one.
    pub domain: String,
    /// The version of the domain that the model declares, if it does.
    pub opset: Option<i64>,
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({}, {} opset ", self.name, self.op, self.domain)?;
        match self.opset {
            Some(version) => write!(f, "{version})"),
            None => f.write_str("not declared)"),
        }
    }
}

/// A node whose operator the importer does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node.
    pub node: NodeName,
    /// Why, if there is more to say than that the operator is unknown.
    pub reason: Option<String>,
}

fn list_unsupported(nodes: &[UnsupportedNode]) -> String {
    let item = |n: &UnsupportedNode| match &n.reason {
        Some(reason) => format!("{}: {reason}", n.node),
        None => n.node.to_string(),
    };
    let subject = if nodes.len() == 1 {
        "1 node has an operator".into()
    } else {
        format!("{} nodes have operators", nodes.len())
    };
    let nodes: Vec<String> = nodes.iter().map(item).collect();
    format!(
        "{subject} that catc does not know: {}. Simplify the model or export it so that these are not in it",
        nodes.join(", ")
    )
}

fn list(items: &[Violation]) -> String {
    items.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("; ")
}

/// What is wrong with a tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorProblem {
    /// An element type that the importer does not take.
    #[error("has elements of type {0}, which catc does not take; convert it to float")]
    ElementType(String),
    /// Dimensions that no tensor has.
    #[error("has impossible dimensions {0:?}")]
    Dimensions(Vec<i64>),
    /// More or less data than the dimensions say.
    #[error("of {dims:?} needs {expected} {unit}, but holds {found}; the file is damaged")]
    Length {
        /// Its dimensions.
        dims: Vec<i64>,
        /// How much it needs.
        expected: usize,
        /// How much there is.
        found: usize,
        /// Bytes or elements.
        unit: &'static str,
    },
    /// An element that has no counterpart in f32 or i64.
    #[error("has an element {0} that does not fit in {1}")]
    Range(String, &'static str),
    /// Its data is in another file and cannot be taken.
    #[error("has its data in the external file {location:?}, {problem}")]
    External {
        /// The file as the model names it.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something else that the format allows and nobody writes.
    #[error("{0}")]
    Form(&'static str),
}

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NodeProblem {
    /// An attribute that is wrong, missing or unknown.
    #[error("attribute `{name}` {problem}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// An input that is wrong or missing.
    #[error("input {index} {problem}")]
    Input {
        /// Its number, from 0.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// Its inputs do not fit together.
    #[error("{0}")]
    Shape(#[from] InferError),
    /// A form of the operator that the importer does not take.
    #[error("{0}, which catc does not support")]
    Unsupported(String),
    /// The node makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It asks for more than a limit allows.
    #[error("{0}")]
    Limit(String),
    /// A tensor it takes cannot be read.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
}

impl NodeProblem {
    pub(crate) fn attribute(name: &str, problem: impl Into<String>) -> Self {
        NodeProblem::Attribute { name: name.into(), problem: problem.into() }
    }

    pub(crate) fn input(index: usize, problem: impl Into<String>) -> Self {
        NodeProblem::Input { index, problem: problem.into() }
    }

    /// An input that must be known at import, and is not.
    pub(crate) fn computed(index: usize, what: &str) -> Self {
        let problem = format!(
            "({what}) is computed from the data; it must be a constant or follow from shapes. If it comes from an input that is the \
             same in each run, such as a mode or a sampling rate, make that input an initializer of the model"
        );
        NodeProblem::input(index, problem)
    }

    pub(crate) fn unsupported(form: impl Into<String>) -> Self {
        NodeProblem::Unsupported(form.into())
    }

    pub(crate) fn invalid(problem: impl Into<String>) -> Self {
        NodeProblem::Invalid(problem.into())
    }
}
