//! Arguments of the dot-product tiles.

use super::sums::SumTile;
use crate::table::KernelId;

/// Unsigned codes times signed bytes, four to a step ([`crate::dot::pack`]).
pub type DotTile = SumTile<u8, i8, i32>;

/// The most pixels of a tile.
pub const MOST_PIXELS: usize = 14;

/// The most vectors of a tile.
pub const MOST_VECTORS: usize = 4;

/// Whether the kernel has a tile of that shape: its sums fit the registers, 32 of 512 bits or 16 of 256.
pub const fn takes(kernel: KernelId, pixels: usize, vectors: usize) -> bool {
    let most = match (kernel, vectors) {
        (KernelId::DotVnni512, 1 | 2) => MOST_PIXELS,
        (KernelId::DotVnni512, 3) => 8,
        (KernelId::DotVnni512, 4) => 6,
        (KernelId::DotVnni256 | KernelId::DotMaddubs256 | KernelId::DotMadd256, 1) => 12,
        (KernelId::DotVnni256 | KernelId::DotMaddubs256 | KernelId::DotMadd256, 2) => 6,
        (KernelId::DotVnni256, 3) => 4,
        (KernelId::DotVnni256 | KernelId::DotMadd256, 4) => 3,
        (KernelId::DotMaddubs256 | KernelId::DotMadd256, 3) => 3,
        (KernelId::DotMaddubs256, 4) => 2,
        _ => 0,
    };
    pixels >= 1 && pixels <= most
}
