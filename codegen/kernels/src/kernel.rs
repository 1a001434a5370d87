//! The trait that every inner kernel implements, with the types that the code generator, the reports and the choice of a kernel need.

use crate::depthwise::DepthwiseProduct;
use crate::dot::DotProduct;
use crate::function::Function;
use crate::lookup_tile::LookupTiles;
use crate::query::Query;
use crate::tier::Tier;
use crate::tile_sizes::TileQuery;
use crate::winograd::WinogradTiles;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, RangeInclusive};

/// Where a kernel's code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The code generator emits it into each layer's function, with 128-bit vectors.
    Emitted,
    /// It consists of functions of this crate, which a layer's function calls for each tile.
    Precompiled,
}

/// How a kernel reads the activations of one channel run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActivationFormat {
    /// One f32 per channel.
    Float,
    /// One byte per channel: the code, counted from the lowest code of the format.
    Byte,
    /// One byte per two channels: the offset of a table row ([`crate::pairs::rows::row_offset`]).
    RowOffset,
}

/// The facts of a kernel that are the same for every layer.
#[derive(Clone, Debug)]
pub struct KernelInfo {
    /// Its name in reports and in stored tunings.
    pub name: &'static str,
    /// The weakest tier it runs on; see [`KernelInfo::tiers`].
    pub tier: Tier,
    /// Where its code comes from.
    pub implementation: Implementation,
    /// Tiers with kernels that are faster on every layer that this one supports, through wider vectors or an instruction that this one
    /// lacks. It is not considered on these tiers, unless the faster kernels are precompiled and the kernel set has emitted ones only.
    pub superseded: &'static [Tier],
    /// Supported widths of weight codes, in bits; 32 for floats.
    pub weight_bits: RangeInclusive<u8>,
    /// Supported widths of activation codes, in bits; 32 for floats.
    pub activation_bits: RangeInclusive<u8>,
    /// Output channels per weight vector.
    pub channels_per_vector: usize,
    /// Storage units of the input per step.
    pub units_per_step: usize,
    /// Bytes of a weight vector.
    pub vector_bytes: usize,
    /// How it reads activations.
    pub activations: ActivationFormat,
}

impl KernelInfo {
    /// The weakest tier that it runs on, for each architecture. Kernels that are emitted for the weakest x86-64 tier use only plain vector
    /// operations, which every architecture has.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> + use<> {
        let portable = self.implementation == Implementation::Emitted && self.tier == Tier::X86V2;
        [Some(self.tier), portable.then_some(Tier::Aarch64Neon)].into_iter().flatten()
    }
}

/// What a kernel derives from a layer that it supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Steps after which narrow accumulators must be widened; 0 if the kernel has none.
    pub steps_per_drain: usize,
}

/// Why a kernel does not serve a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// A refusal with the given reason, which is part of a sentence.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal(reason.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the code of a layer runs a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Execution {
    /// An emitted loop of multiplications and additions.
    EmittedDot(DotProduct),
    /// An emitted loop of look-ups of two channels ([`crate::pairs::rows`]).
    EmittedPairs,
    /// An emitted loop over the taps of a depthwise convolution.
    EmittedDepthwise(DepthwiseProduct),
    /// Two calls for each tile: one for the sums, one for the epilogue.
    SumTiles(SumTiles),
    /// Three calls: the transform of the input, the products, the transform of the sums with the epilogue.
    Winograd(WinogradTiles),
    /// A call to pack each input row, then one or two calls for each tile.
    LookupTiles(&'static LookupTiles),
    /// A call for each row of a block of channels, epilogue included.
    DepthwiseRows(&'static Function),
}

impl Execution {
    /// The functions that it calls.
    pub fn functions(&self) -> Vec<&'static Function> {
        match *self {
            Execution::EmittedDot(_) | Execution::EmittedPairs | Execution::EmittedDepthwise(_) => vec![],
            Execution::SumTiles(SumTiles { tile, epilogue, .. }) => vec![tile, epilogue],
            Execution::Winograd(WinogradTiles { input, product, output, .. }) => vec![input, product, output],
            Execution::LookupTiles(LookupTiles { pack, look_up, results, epilogue, .. }) => {
                vec![pack, look_up, results, epilogue]
            }
            Execution::DepthwiseRows(row) => vec![row],
        }
    }
}

/// Tiles of sums by a function of [`crate::sum_tile::SumTile`].
#[derive(Clone, Copy, Debug)]
pub struct SumTiles {
    /// The function that computes a tile of sums.
    pub tile: &'static Function,
    /// The type of a packed weight.
    pub weights: TileWeights,
    /// The epilogue, from sums to stored values.
    pub epilogue: &'static Function,
    /// Whether the epilogue supports [`crate::epilogue::store::AFFINE`].
    pub fuses: bool,
}

/// The type of the weights that a tile of sums reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileWeights {
    /// Signed bytes.
    Bytes,
    /// Signed 16-bit integers.
    Shorts,
    /// f32.
    Floats,
}

/// An inner kernel. A family's kernels are values of one or two types; each is listed in [`crate::KERNELS`].
pub trait Kernel: Send + Sync {
    /// The properties that are the same for every layer.
    fn info(&self) -> &KernelInfo;

    /// Whether it computes the layer exactly, epilogue included. The caller has already checked the widths of codes and the kernel set.
    ///
    /// # Errors
    /// The reason why it does not, for reports.
    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal>;

    /// Estimated cycles of a supported layer on one thread, accurate enough to rank kernels.
    fn cycles(&self, query: &Query<'_>, fit: Fit) -> f64;

    /// How the code of a layer runs it.
    fn execution(&self) -> Execution;

    /// Estimated cycles of one tile with this many pixels and weight vectors, accurate enough to rank tiles; `None` if there is no such tile.
    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        let _ = (query, pixels, vectors);
        None
    }
}

/// A kernel by reference. Names are unique, so kernels are equal if their names are.
#[derive(Clone, Copy)]
pub struct KernelRef(&'static dyn Kernel);

impl KernelRef {
    /// The reference to a kernel.
    pub const fn new(kernel: &'static dyn Kernel) -> KernelRef {
        KernelRef(kernel)
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        self.kernel().info().name
    }

    /// The kernel.
    pub fn kernel(self) -> &'static dyn Kernel {
        self.0
    }
}

impl Deref for KernelRef {
    type Target = dyn Kernel;

    fn deref(&self) -> &(dyn Kernel + 'static) {
        self.0
    }
}

impl fmt::Debug for KernelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for KernelRef {
    fn eq(&self, other: &KernelRef) -> bool {
        self.name() == other.name()
    }
}

impl Eq for KernelRef {}

impl Hash for KernelRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}
