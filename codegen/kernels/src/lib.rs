//! Inner kernels: what they compute, on which instruction sets, at what cost, and what bytes they read.
//!
//! This crate knows nothing of graphs, programs or code generation; of the workspace it uses the scalar functions alone. A kernel is a value that implements [`Kernel`]; its
//! family is a module ([`dot`], [`winograd`], [`pairs`], [`triples`], [`depthwise`], [`float`]) with a file for each instruction set, and
//! [`KERNELS`] lists all of them. [`choose()`] asks each of them and takes the cheapest, [`consider`] says what each answered. The code
//! generator, the tests, the benchmarks and the model inspector take all they know of kernels from here.
//!
//! To add a kernel: a file in its family's folder, and a line in `list.rs`. Bodies that differ in width only are written over the
//! vectors of `vector`.

pub mod byte_sums;
pub mod choose;
pub mod clock;
mod cpu;
pub mod depthwise;
pub mod dot;
pub mod epilogue;
pub mod float;
pub mod function;
pub mod kernel;
pub mod layout;
mod list;
#[cfg(target_arch = "x86_64")]
mod lookup_results;
pub mod lookup_tile;
pub mod pairs;
pub mod planes;
pub mod query;
pub mod sum_tile;
mod tier;
pub mod tile_sizes;
pub mod triples;
#[cfg(any(test, target_arch = "x86_64"))]
mod vector;
mod weights;
pub mod winograd;

pub use choose::{Choice, Considered, KernelSet, candidates, choose, consider};
pub use cpu::cpu_name;
pub use function::{Contract, Function};
pub use kernel::{
    ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, KernelRef, Refusal, SumTiles, TileWeights,
};
pub use layout::{Runs, WeightLayout};
pub use list::{KERNELS, find, functions};
pub use query::{CodeOperands, EpilogueQuery, Query, Window};
pub use tier::{Architecture, Tier};
pub use tile_sizes::{TileOverride, TileQuery};
pub use weights::{FloatWeights, PackError, QuantizedWeights, WeightShape};
