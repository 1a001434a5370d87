//! The layout of neighbouring elements of a buffer along one dimension.

use super::buffer::StorageFormat;
use catc_kernels::epilogue::OperandLayout;

/// The distance between the elements of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneStep {
    /// Elements are adjacent.
    Unit,
    /// All lanes have the same element.
    Broadcast,
    /// Elements are this many bytes apart.
    Bytes(i64),
}

/// The format and distance of the elements that one access reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneAccess {
    /// How an element is stored. Row offsets require [`LaneStep::Unit`], and the first channel must be even.
    pub format: StorageFormat,
    /// The distance between elements.
    pub step: LaneStep,
}

impl LaneAccess {
    /// Whether neighbouring elements are neighbours in memory, a float or a byte each.
    pub fn is_plain(&self) -> bool {
        self.step == LaneStep::Unit && matches!(self.format, StorageFormat::Float | StorageFormat::Byte)
    }

    /// The access as that to an operand of a precompiled epilogue, whose channels are the lanes.
    pub fn along_channels(&self) -> OperandLayout {
        match self.step {
            LaneStep::Unit if self.is_plain() => OperandLayout::Adjacent,
            LaneStep::Broadcast => OperandLayout::Same,
            LaneStep::Unit | LaneStep::Bytes(_) => OperandLayout::Apart,
        }
    }

    /// Bytes from an element to the one `lanes` further; for row offsets, `lanes` must be even.
    pub fn advance(&self, lanes: usize) -> i64 {
        match self.step {
            LaneStep::Unit => (lanes * self.format.half_bytes() / 2) as i64,
            LaneStep::Broadcast => 0,
            LaneStep::Bytes(bytes) => bytes * lanes as i64,
        }
    }
}

/// The access to elements that are `half_bytes` half bytes apart.
pub(crate) fn lane_access(format: StorageFormat, half_bytes: i64) -> LaneAccess {
    let step = match half_bytes {
        0 => LaneStep::Broadcast,
        n if n == format.half_bytes() as i64 => LaneStep::Unit,
        n => LaneStep::Bytes(n / 2),
    };
    LaneAccess { format, step }
}
