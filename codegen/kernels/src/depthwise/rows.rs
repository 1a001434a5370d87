//! Depthwise kernels that compute rows of output pixels in precompiled functions, and how such functions read their operands.

use super::BLOCK;
use crate::function::Function;
use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal};
use crate::query::Query;
use crate::tier::Tier;

/// How a function of a [`super::DepthwiseRow`] reads the operands of a block of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOperands {
    /// Codes in vectors of 64 bytes, and weights ([`super::pack_columns`]) for four taps of a filter column at a time, in vectors of 16 channels.
    Columns,
    /// Codes of two taps at a time, and weights ([`super::pack_pairs`]).
    Pairs(PairWeights),
    /// Floats, one tap at a time, in vectors of that many lanes ([`super::pack_wide_float`]).
    Floats {
        /// Lanes of a vector.
        lanes: usize,
    },
}

/// The weights of a kernel that multiplies two taps at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PairWeights {
    /// Signed bytes, for groups of 32 channels. Sums of products of two taps have 16 bits.
    Bytes,
    /// 16-bit integers, for groups of 16 channels.
    Shorts,
}

impl PairWeights {
    /// Channels whose operands are read together.
    pub const fn group(self) -> usize {
        match self {
            PairWeights::Bytes => 32,
            PairWeights::Shorts => 16,
        }
    }

    /// Bytes of a weight.
    pub fn bytes(self) -> usize {
        match self {
            PairWeights::Bytes => 1,
            PairWeights::Shorts => 2,
        }
    }
}

/// Taps of a filter column that are summed in one step of [`RowOperands::Columns`].
pub const COLUMN_TAPS: usize = 4;

impl RowOperands {
    /// Whether the input is codes, one byte each; else floats.
    pub fn are_codes(self) -> bool {
        match self {
            RowOperands::Columns | RowOperands::Pairs(_) => true,
            RowOperands::Floats { .. } => false,
        }
    }

    /// Lanes of a vector of the epilogue.
    pub fn epilogue_lanes(self) -> usize {
        match self {
            RowOperands::Columns => 16,
            RowOperands::Pairs(_) => 8,
            RowOperands::Floats { lanes } => lanes,
        }
    }

    /// Channels to which a block of that many is rounded up where sums start and weights are read.
    fn whole(self, channels: usize) -> usize {
        channels.next_multiple_of(match self {
            RowOperands::Columns => 16,
            RowOperands::Pairs(weights) => weights.group(),
            RowOperands::Floats { lanes } => lanes,
        })
    }

    /// Bytes of a tap's input that are read for a block of that many channels.
    pub fn input_bytes(self, channels: usize) -> usize {
        match self {
            RowOperands::Columns => 64,
            RowOperands::Pairs(_) => self.whole(channels),
            RowOperands::Floats { .. } => 4 * self.whole(channels),
        }
    }

    /// Bytes of the weights of a block of that many channels.
    pub fn weight_bytes(self, channels: usize, rows: usize, columns: usize) -> usize {
        let channels = self.whole(channels);
        match self {
            RowOperands::Columns => channels * rows.next_multiple_of(COLUMN_TAPS) * columns,
            RowOperands::Pairs(weights) => channels * (rows * columns).next_multiple_of(2) * weights.bytes(),
            RowOperands::Floats { .. } => 4 * channels * rows * columns,
        }
    }

    /// Bytes of the initial sums of a block of that many channels.
    pub fn start_bytes(self, channels: usize) -> usize {
        4 * self.whole(channels)
    }
}

/// A depthwise kernel that computes rows of output pixels.
#[derive(Debug)]
pub struct DepthwiseRows {
    info: KernelInfo,
    row: &'static Function,
    operands: RowOperands,
    /// Multiply-accumulates per cycle, measured on 3x3 layers.
    rate: f64,
}

impl DepthwiseRows {
    /// A kernel of a tier with vectors of that many bytes.
    pub(super) const fn new(
        name: &'static str,
        (tier, vector_bytes): (Tier, usize),
        row: &'static Function,
        operands: RowOperands,
        rate: f64,
    ) -> DepthwiseRows {
        let (bits, activations) = match operands {
            RowOperands::Columns | RowOperands::Pairs(_) => (2..=8, ActivationFormat::Byte),
            RowOperands::Floats { .. } => (32..=32, ActivationFormat::Float),
        };
        let (low, high) = (*bits.start(), *bits.end());
        let info = KernelInfo {
            name,
            tier,
            implementation: Implementation::Precompiled,
            superseded: &[],
            weight_bits: low..=high,
            activation_bits: low..=high,
            channels_per_vector: BLOCK,
            units_per_step: 1,
            vector_bytes,
            activations,
        };
        DepthwiseRows { info, row, operands, rate }
    }
}

impl Kernel for DepthwiseRows {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.depthwise()?;
        query.epilogue.precompiled.clone()?;
        // The zero-point of the activations is subtracted after the sums, so these are sums of raw codes.
        if self.operands == RowOperands::Pairs(PairWeights::Bytes) && query.largest_raw_sum() > i16::MAX as u64 {
            return Err(Refusal::new("sums may exceed 16 bits"));
        }
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / self.rate
    }

    fn execution(&self) -> Execution {
        Execution::DepthwiseRows(self.row)
    }
}
