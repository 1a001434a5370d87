//! Functions that are compiled with this crate, for vectors wider than generated code has.
//!
//! A function does a *tile* of a layer: a few pixels times a few vectors of output channels over the whole reduction, a row of an
//! epilogue, a transform. Generated code has the loops around it and calls it. Every function has one signature, [`TileFunction`]: a
//! pointer to a block of arguments, a `#[repr(C)]` structure of 64-bit fields. Generated code keeps the block on its stack, writes once
//! what never changes, and the pointers before each call.
//!
//! [`Contract`] says which structure it is and what the function touches; a proof over generated code relies on it.

use crate::tier::Tier;
use crate::winograd::Form;
use std::fmt;
use std::hash::{Hash, Hasher};

/// The signature of all functions. The argument points at the block.
pub type TileFunction = unsafe extern "C" fn(*const u64);

/// A function, and what is known of it.
#[derive(Clone, Copy)]
pub struct Function {
    symbol: &'static str,
    tier: Tier,
    contract: Contract,
    function: TileFunction,
}

/// The structure of a function's arguments, and what decides which memory the function touches.
#[derive(Clone, Copy, Debug)]
pub enum Contract {
    /// [`crate::sum_tile::SumTile`].
    SumTile {
        /// Bytes of a vector of weights, of initial sums and of sums.
        vector_bytes: usize,
        /// Bytes from the input of a step to the next step's; four are read.
        step_bytes: usize,
        /// Whether there is a tile of that many pixels and vectors.
        exists: fn(usize, usize) -> bool,
    },
    /// [`crate::epilogue::EpilogueTile`], read in whole vectors of that many channels.
    Epilogue {
        /// Channels of a vector.
        lanes: usize,
    },
    /// [`crate::planes::PlanesRow`].
    Planes,
    /// [`crate::depthwise::DepthwiseRow`].
    DepthwiseRow {
        /// Whether the input is codes, a byte each; else floats.
        codes: bool,
    },
    /// [`crate::winograd::InputTile`].
    WinogradInput {
        /// Bytes of a vector of channels.
        vector_bytes: usize,
        /// The tiles that it transforms.
        forms: &'static [Form],
    },
    /// [`crate::winograd::ProductTile`].
    WinogradProduct,
    /// [`crate::winograd::OutputTile`].
    WinogradOutput {
        /// Channels of a vector of the epilogue.
        lanes: usize,
        /// The tiles that it transforms.
        forms: &'static [Form],
    },
    /// [`crate::lookup_tile::PackTile`].
    LookupPack(LookupReach),
    /// [`crate::lookup_tile::LookupTile`].
    LookUp(LookupReach),
    /// [`crate::lookup_tile::LookupResultsTile`].
    LookUpResults(LookupReach),
}

/// What decides the reach of the look-ups of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct LookupReach {
    /// Output channels of a vector of indices, a byte each.
    pub lanes: usize,
    /// Bytes of the offset of a table row.
    pub offset_bytes: usize,
    /// Bytes of the table that offsets can reach.
    pub table_bytes: usize,
    /// Offsets that packing stores at a time.
    pub packed_together: usize,
    /// Whether there are sums over the codes of a pixel.
    pub pixel_sums: bool,
    /// Whether there is a tile of that many pixels and vectors.
    pub exists: fn(usize, usize) -> bool,
}

impl Function {
    /// A function by the name that generated code calls it by.
    ///
    /// # Safety
    /// On every CPU that has `tier`, and for every block of the structure that `contract` names whose numbers are within the bounds which
    /// the documentation of the structure gives, the function reads and writes only what that documentation says.
    pub const unsafe fn new(symbol: &'static str, tier: Tier, contract: Contract, function: TileFunction) -> Function {
        Function { symbol, tier, contract, function }
    }

    /// The name generated code calls it by.
    pub fn symbol(&self) -> &'static str {
        self.symbol
    }

    /// The weakest tier whose CPUs run it.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// What it takes and touches.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The function. Calling it on a CPU below its tier is undefined.
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
