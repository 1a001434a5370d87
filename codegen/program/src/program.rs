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
    /// The name in the model file.
    pub name: String,
    /// The tensor, in row-major layout. It holds f32 values or integers ([`Format::Index`](crate::Format::Index)). Booleans are
    /// the integers 0 and 1.
    pub tensor: TensorId,
    /// The allowed range of an input of integers, which is checked before each run. `None` if any integer is allowed, and for all
    /// other ports.
    pub range: Option<Range>,
}

impl Port {
    /// A port without a range.
    pub fn new(name: impl Into<String>, tensor: TensorId) -> Port {
        Port { name: name.into(), tensor, range: None }
    }
}

/// The integers from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The smallest integer.
    pub low: i32,
    /// The largest integer.
    pub high: i32,
}

impl Range {
    /// All 32-bit integers.
    pub const ALL: Range = Range { low: i32::MIN, high: i32::MAX };

    /// Whether the range contains a number.
    pub fn contains(self, number: i32) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

/// How the program was built. `catc inspect` prints this. It has no effect on execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// The version of catc that built the program.
    pub catc_version: String,
    /// The calibration method and the recipe's passes.
    pub method: String,
    /// The requested bits of weights (32 means float).
    pub weight_bits: u8,
    /// The requested bits of activations (32 means float).
    pub activation_bits: u8,
    /// The seed of the random number generator.
    pub seed: u64,
    /// A description of the calibration data.
    pub calibration: String,
    /// The size of the parameters as f32 before quantization, in bytes.
    pub float_bytes: u64,
    /// Layers whose bits differ from the defaults, each as `NAME=W/A`.
    pub layer_bits: Vec<String>,
}

/// A compiled network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The network's name.
    pub name: String,
    /// How the program was built.
    pub info: BuildInfo,
    /// The activation tensors, indexed by [`TensorId`].
    pub tensors: Vec<TensorDecl>,
    /// The constants, indexed by [`ConstantId`].
    pub constants: Vec<Constant>,
    /// The inputs of the network, in order.
    pub inputs: Vec<Port>,
    /// The outputs of the network, in order.
    pub outputs: Vec<Port>,
    /// The steps in order of execution.
    pub steps: Vec<Step>,
    /// The measured tunings, at most one for each CPU and instruction set.
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
