//! Integers that a model computes from shapes, with the batch as a symbol.

use catc_ir::Dim;
use std::fmt;

/// An integer that may depend on the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// A fixed number.
    Fixed(i64),
    /// This multiple of the batch. It is not 0.
    Batch(i64),
}

impl Size {
    /// The number, if it does not depend on the batch.
    pub fn fixed(self) -> Option<i64> {
        match self {
            Size::Fixed(n) => Some(n),
            Size::Batch(_) => None,
        }
    }

    fn batch(k: i64) -> Size {
        if k == 0 { Size::Fixed(0) } else { Size::Batch(k) }
    }

    /// The sum, if it is a number or a multiple of the batch.
    pub fn add(self, other: Size) -> Option<Size> {
        match (self, other) {
            (Size::Fixed(a), Size::Fixed(b)) => a.checked_add(b).map(Size::Fixed),
            (Size::Batch(a), Size::Batch(b)) => a.checked_add(b).map(Size::batch),
            (s, Size::Fixed(0)) | (Size::Fixed(0), s) => Some(s),
            _ => None,
        }
    }

    /// The difference, if it is a number or a multiple of the batch.
    pub fn sub(self, other: Size) -> Option<Size> {
        self.add(other.mul(Size::Fixed(-1))?)
    }

    /// The product, if it is a number or a multiple of the batch.
    pub fn mul(self, other: Size) -> Option<Size> {
        match (self, other) {
            (Size::Fixed(a), Size::Fixed(b)) => a.checked_mul(b).map(Size::Fixed),
            (Size::Batch(k), Size::Fixed(n)) | (Size::Fixed(n), Size::Batch(k)) => k.checked_mul(n).map(Size::batch),
            (Size::Batch(_), Size::Batch(_)) => None,
        }
    }

    /// The quotient rounded towards zero, if it is a number or a multiple of the batch for every batch size.
    pub fn div(self, other: Size) -> Option<Size> {
        match (self, other) {
            (Size::Fixed(a), Size::Fixed(b)) => a.checked_div(b).map(Size::Fixed),
            (Size::Batch(k), Size::Fixed(n)) => (k.checked_rem(n)? == 0).then(|| Size::Batch(k / n)),
            (Size::Batch(a), Size::Batch(b)) => (a.checked_rem(b)? == 0).then(|| Size::Fixed(a / b)),
            (Size::Fixed(0), Size::Batch(_)) => Some(Size::Fixed(0)),
            (Size::Fixed(_), Size::Batch(_)) => None,
        }
    }
}

impl From<Dim> for Size {
    fn from(d: Dim) -> Self {
        // Imported dimensions are far below the limits of i64.
        match d {
            Dim::Fixed(n) => Size::Fixed(n as i64),
            Dim::Batch(k) => Size::Batch(k as i64),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Fixed(n) => write!(f, "{n}"),
            Size::Batch(1) => f.write_str("N"),
            Size::Batch(k) => write!(f, "{k}N"),
        }
    }
}
