//! Functions that are compiled with this crate, because they use wider vectors than generated code can.
//!
//! A function computes a *tile* of a layer (a few pixels times a few vectors of output channels, over the whole reduction), a row of an
//! epilogue, or a transform. Generated code contains the loops around the calls. Every function has the signature [`TileFunction`]: its
//! argument points to a block of arguments, a `#[repr(C)]` structure of 64-bit fields. Generated code keeps the block on its stack. It
//! writes the constant fields once, and the pointers before each call.
//!
//! [`Contract`] names the structure and determines which memory the function accesses. The verifier in catc-jit (`verify/kernels.rs`)
//! relies on it: before generated code can run, it proves that every call stays within the memory behind the block's pointers.

use crate::depthwise::RowOperands;
use crate::tier::Tier;
use crate::winograd::Form;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The signature of all functions. The argument points at the block.
pub type TileFunction = unsafe extern "C" fn(*const u64);

/// A function with its symbol, its tier and its contract.
#[derive(Clone, Copy)]
pub struct Function {
    symbol: &'static str,
    tier: Tier,
    contract: Contract,
    function: TileFunction,
}

/// The structure of a function's arguments, and the numbers that determine which memory the function accesses.
#[derive(Clone, Copy, Debug)]
pub enum Contract {
    /// [`crate::sum_tile::SumTile`].
    SumTile {
        /// Bytes of a vector; the same for weights, initial sums and sums.
        vector_bytes: usize,
        /// Bytes from one step's input to the next; each step reads four bytes.
        step_bytes: usize,
        /// Whether there is a tile with this many pixels and vectors.
        exists: fn(usize, usize) -> bool,
    },
    /// [`crate::epilogue::EpilogueTile`], read in whole vectors of `lanes` channels.
    Epilogue {
        /// Channels per vector.
        lanes: usize,
    },
    /// [`crate::planes::PlanesRow`].
    Planes,
    /// [`crate::depthwise::DepthwiseRow`].
    DepthwiseRow(RowOperands),
    /// [`crate::winograd::InputTile`].
    WinogradInput {
        /// Bytes of a vector of channels.
        vector_bytes: usize,
        /// The forms of tiles that it transforms.
        forms: &'static [Form],
    },
    /// [`crate::winograd::ProductTile`].
    WinogradProduct,
    /// [`crate::winograd::OutputTile`].
    WinogradOutput {
        /// Channels per vector of the epilogue.
        lanes: usize,
        /// The forms of tiles that it transforms.
        forms: &'static [Form],
    },
    /// [`crate::lookup_tile::PackTile`].
    LookupPack(LookupReach),
    /// [`crate::lookup_tile::LookupTile`].
    LookUp(LookupReach),
    /// [`crate::lookup_tile::LookupResultsTile`].
    LookUpResults(LookupReach),
}

/// The numbers that determine which memory the functions of a look-up kernel access.
#[derive(Clone, Copy, Debug)]
pub struct LookupReach {
    /// Output channels per vector of indices; an index is one byte.
    pub lanes: usize,
    /// Bytes of a table row's offset.
    pub offset_bytes: usize,
    /// Bytes of the table that an offset can reach.
    pub table_bytes: usize,
    /// Packing stores offsets in multiples of this number.
    pub packed_together: usize,
    /// Whether packing writes sums over the codes of each pixel, which the look-ups read.
    pub pixel_sums: bool,
    /// Whether there is a tile with this many pixels and vectors.
    pub exists: fn(usize, usize) -> bool,
}

impl Function {
    /// Describes a function that generated code calls by its symbol.
    ///
    /// # Safety
    /// On every CPU of `tier`, and for every block whose numbers are within the documented bounds of the structure named by `contract`, the
    /// function reads and writes only the memory that the structure's documentation describes.
    pub const unsafe fn new(symbol: &'static str, tier: Tier, contract: Contract, function: TileFunction) -> Function {
        Function { symbol, tier, contract, function }
    }

    /// The name by which generated code calls it.
    pub fn symbol(&self) -> &'static str {
        self.symbol
    }

    /// The weakest tier whose CPUs run it.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The structure of its arguments, and what determines the memory that it accesses.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The function. Calling it on a CPU below its tier is undefined behaviour.
    pub fn pointer(&self) -> TileFunction {
        self.function
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol)
    }
}

impl PartialEq for Function {
    /// Symbols are unique.
    fn eq(&self, other: &Function) -> bool {
        self.symbol == other.symbol
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.symbol.hash(state);
    }
}
