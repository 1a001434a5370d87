//! Inner kernels: what they compute, on which instruction sets, at what cost, and what bytes they read.
//!
//! This crate does not depend on graphs, programs or code generation; from the workspace it uses only the scalar functions. A kernel is a
//! value that implements [`Kernel`]. Its family is a module ([`dot`], [`winograd`], [`pairs`], [`triples`], [`depthwise`], [`float`]) with
//! a file for each instruction set. [`KERNELS`] lists all kernels. [`choose()`] queries them and takes the cheapest; [`consider`] returns
//! the answer of each. The code generator, the tests, the benchmarks and the model inspector get all information about kernels from here.
//!
//! To add a kernel, add a file to its family's folder and a line to `list.rs`. Bodies that differ only in vector width are generic over
//! the trait in `vector`.

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
