//! Errors of the import. Every message names the file and the affected part, and says what to do.

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
    /// The path is a folder, a device or a pipe.
    #[error("is not a regular file; give the path of an .onnx file")]
    NotAFile,
    /// The file is empty.
    #[error("is empty; export the model again")]
    Empty,
    /// The bytes are not a complete ONNX message.
    #[error("is no ONNX model, or damaged or cut short ({0}); export or copy it again")]
    Decode(String),
    /// The structure of the graph is not valid.
    #[error("{0}")]
    Graph(String),
    /// The operator set is not supported.
    #[error("{0}; export it with an opset between {OLDEST_OPSET} and {NEWEST_OPSET}")]
    Opset(String),
    /// A graph input is not supported, or a shape option does not match an input.
    #[error("input `{name}` {problem}")]
    Input {
        /// The input.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// All nodes with unknown operators.
    #[error("{}", list_unsupported(.0))]
    Unsupported(Vec<UnsupportedNode>),
    /// A tensor cannot be read.
    #[error("tensor `{name}` {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: TensorProblem,
    },
    /// A node cannot be translated.
    #[error("node {node}: {problem}")]
    Node {
        /// The node.
        node: Box<NodeName>,
        /// What is wrong.
        problem: NodeProblem,
    },
    /// The model can only be imported with a fixed batch size, but does not fix it.
    #[error("{reason}. With a fixed batch size the model can be evaluated: give `--shape {}`", shapes.join(" --shape "))]
    OpenBatch {
        /// Why the import fails with a symbolic batch size.
        reason: Box<ImportErrorKind>,
        /// For each input with a batch dimension, a shape with which the import succeeds, such as `x=1x4`.
        shapes: Vec<String>,
    },
    /// The imported graph breaks a rule of the IR.
    #[error("does not make a valid graph: {}", list(.0))]
    Invalid(Vec<Violation>),
}

/// The description of a node in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName {
    /// The name of the node, or of its first output if it has no name.
    pub name: String,
    /// The operator.
    pub op: String,
    /// The domain of the operator. The standard domain is `ai.onnx`.
    pub domain: String,
    /// The version of the domain, if the model declares it.
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

/// A node with an unknown operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node.
    pub node: NodeName,
    /// The reason, if it is not just that the operator is unknown.
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
    /// The element type is not supported.
    #[error("has elements of type {0}, which catc does not take; convert it to float")]
    ElementType(String),
    /// The dimensions are not valid.
    #[error("has impossible dimensions {0:?}")]
    Dimensions(Vec<i64>),
    /// The amount of data does not match the dimensions.
    #[error("of {dims:?} needs {expected} {unit}, but holds {found}; the file is damaged")]
    Length {
        /// The dimensions.
        dims: Vec<i64>,
        /// The amount that the dimensions require.
        expected: usize,
        /// The amount in the file.
        found: usize,
        /// The unit of both: bytes or elements.
        unit: &'static str,
    },
    /// An element cannot be represented as f32 or i64.
    #[error("has an element {0} that does not fit in {1}")]
    Range(String, &'static str),
    /// The data is in another file, which cannot be used.
    #[error("has its data in the external file {location:?}, {problem}")]
    External {
        /// The location in the model.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The tensor uses an unsupported form of storage.
    #[error("{0}")]
    Form(&'static str),
}

/// What is wrong with a node.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NodeProblem {
    /// An attribute is wrong, missing or unknown.
    #[error("attribute `{name}` {problem}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// An input is wrong or missing.
    #[error("input {index} {problem}")]
    Input {
        /// The index of the input, from 0.
        index: usize,
        /// What is wrong.
        problem: String,
    },
    /// The inputs do not fit together.
    #[error("{0}")]
    Shape(#[from] InferError),
    /// The node uses an unsupported form of the operator.
    #[error("{0}, which catc does not support")]
    Unsupported(String),
    /// The node is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The node exceeds a limit.
    #[error("{0}")]
    Limit(String),
    /// A tensor that the node uses cannot be read.
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

    /// The error for an input that must be known at import but is computed.
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
