//! How a few elements of a buffer lie along one dimension.

use super::buffer::StorageFormat;

/// How the elements of one access lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LaneStep {
    /// Next to one another.
    Unit,
    /// One element for all lanes.
    Broadcast,
    /// That many bytes apart.
    Bytes(i64),
}

/// What one access reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneAccess {
    /// How an element is stored; row offsets only with [`LaneStep::Unit`] and from an even channel on.
    pub format: StorageFormat,
    /// How elements follow.
    pub step: LaneStep,
}

impl LaneAccess {
    /// Bytes from an element to the one `lanes` further (even for row offsets).
    pub fn advance(&self, lanes: usize) -> i64 {
        match self.step {
            LaneStep::Unit => (lanes * self.format.half_bytes() / 2) as i64,
            LaneStep::Broadcast => 0,
            LaneStep::Bytes(bytes) => bytes * lanes as i64,
        }
    }
}

/// The access for elements `half_bytes` apart.
pub(crate) fn lane_access(format: StorageFormat, half_bytes: i64) -> LaneAccess {
    let step = match half_bytes {
        0 => LaneStep::Broadcast,
        n if n == format.half_bytes() as i64 => LaneStep::Unit,
        n => LaneStep::Bytes(n / 2),
    };
    LaneAccess { format, step }
}
