//! The table of inner kernels, and how each wants its weights laid out.
//!
//! This crate is a leaf: it knows nothing of graphs, programs or code generation. It answers three questions.
//! Which inner kernels exist, for which operand widths, on which instruction sets ([`TABLE`], [`Tier`])? Which of
//! them serves a given layer ([`choose()`])? What bytes does that kernel read ([`lookup`], [`dot`], [`depthwise`])?
//! The code generator, the tests, the benchmarks and the model inspector all take their answers from here.

pub mod choose;
pub mod clock;
mod cost;
mod cpu;
pub mod depthwise;
pub mod dot;
pub mod lanes;
pub mod layout;
pub mod lookup;
pub mod pairs;
pub mod precompiled;
mod table;
mod tier;
pub mod triples;
mod weights;
pub mod winograd;

pub use choose::{Choice, KernelSet, Request, Window, candidates, choose, choose_dot, choose_float};
pub use cpu::cpu_name;
pub use layout::{Runs, WeightLayout};
pub use table::{ActivationForm, Exactness, Implementation, KernelId, KernelInfo, TABLE};
pub use tier::{Architecture, Tier};
pub use weights::{FloatWeights, PackError, QuantizedWeights, WeightShape};
