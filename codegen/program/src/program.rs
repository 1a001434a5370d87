//! The program as a whole.

use crate::step::Step;
use crate::tensor::{Constant, TensorDecl, TensorId};
use crate::tuning::Tuning;

/// A constant of a program: its index in [`Program::constants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstantId(pub u32);

/// An input or output of the network under the name it had in the model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its tensor, row-major: f32, or whole numbers ([`Format::Index`](crate::Format::Index)), as which truth values count too.
    pub tensor: TensorId,
    /// What an input of indices may hold, which is checked before each run; `None` for any number, and for all other ports.
    pub range: Option<Range>,
}

impl Port {
    /// A port whose numbers are not bounded.
    pub fn new(name: impl Into<String>, tensor: TensorId) -> Port {
        Port { name: name.into(), tensor, range: None }
    }
}

/// Whole numbers from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least one.
    pub low: i32,
    /// The greatest one.
    pub high: i32,
}

impl Range {
    /// Every number of 32 bits.
    pub const ALL: Range = Range { low: i32::MIN, high: i32::MAX };

    /// Whether a number is one of them.
    pub fn contains(self, number: i32) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// How the program came about: for `catc inspect`, never for execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of catc that made it.
    pub catc_version: String,
    /// The calibration method and the recipe's passes.
    pub method: String,
    /// Weight bits asked for (32 is float).
    pub weight_bits: u8,
    /// Activation bits asked for (32 is float).
    pub activation_bits: u8,
    /// Seed of everything random.
    pub seed: u64,
    /// What it was calibrated on, in words.
    pub calibration: String,
    /// Bytes of the parameters as f32 before quantization.
    pub float_bytes: u64,
    /// Layers with bits of their own, each `NAME=W/A`.
    pub layer_bits: Vec<String>,
}

/// A compiled network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The network's name.
    pub name: String,
    /// How it came about.
    pub info: BuildInfo,
    /// Activation tensors.
    pub tensors: Vec<TensorDecl>,
    /// Constants.
    pub constants: Vec<Constant>,
    /// What the caller hands in, in order.
    pub inputs: Vec<Port>,
    /// What the caller gets, in order.
    pub outputs: Vec<Port>,
    /// In order of execution.
    pub steps: Vec<Step>,
    /// What was measured to be fast, at most once for each CPU and instruction set.
    pub tunings: Vec<Tuning>,
}

impl Program {
    /// A tensor's declaration.
    ///
    /// # Panics
    /// If the program was not validated and has no such tensor.
    pub fn tensor(&self, id: TensorId) -> &TensorDecl {
        &self.tensors[id.0 as usize]
    }

    /// A constant.
    ///
    /// # Panics
    /// If the program was not validated and has no such constant.
    pub fn constant(&self, id: ConstantId) -> &Constant {
        &self.constants[id.0 as usize]
    }
}
