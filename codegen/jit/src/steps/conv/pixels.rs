//! How the tiles of a convolution go through the pixels of its output: row by row, or through all pixels as one sequence.

use crate::emit::emitter::Emitter;
use cranelift_codegen::ir::{InstBuilder, Value};

/// The fewest pixels of a work unit of a sequence, where there are many. Such a unit has enough pixels to read all weights for it.
pub(crate) const UNIT_PIXELS: usize = 12;

/// The fewest work units of a sequence, where it has as many tiles. There are several for each thread, so that threads get equal shares.
const MIN_UNITS: usize = 16;

/// Output pixels, and what a work unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pixels {
    /// A work unit is a row of `width` pixels. Tiles end where rows end.
    Rows { width: usize },
    /// All `pixels` of the image lie at one distance, also from the last of a row to the first of the next. A work unit has `unit` of them, a
    /// multiple of the pixels of a tile; the last unit has those that are left.
    Sequence { pixels: usize, unit: usize },
}

/// A pointer that moves along with the pixels.
#[derive(Clone, Copy)]
pub(crate) struct PixelPointer {
    /// The address for the first pixel of the first work unit.
    pub start: Value,
    /// Bytes from one work unit to the next.
    pub unit: i64,
    /// Bytes from one pixel to the next.
    pub pixel: i64,
}

/// Code for a tile, from its number of pixels and its pointers.
pub(crate) type TileBody<'b, 'f> = &'b mut dyn FnMut(&mut Emitter<'f>, usize, &[Value]);

impl Pixels {
    /// All `pixels` as one sequence for tiles of `tile` pixels.
    pub fn sequence(pixels: usize, tile: usize) -> Pixels {
        let tiles = (pixels.div_ceil(tile) / MIN_UNITS).clamp(1, UNIT_PIXELS.div_ceil(tile));
        Pixels::Sequence { pixels, unit: tiles * tile }
    }

    /// Pixels of a work unit; the last one may have fewer.
    pub fn unit(self) -> usize {
        match self {
            Pixels::Rows { width } => width,
            Pixels::Sequence { unit, .. } => unit,
        }
    }

    /// The number of work units of an image with that many rows.
    pub fn units(self, height: usize) -> usize {
        match self {
            Pixels::Rows { .. } => height,
            Pixels::Sequence { pixels, unit } => pixels.div_ceil(unit),
        }
    }
}

/// Bytes from each pixel of an image to the next, if they are the same within rows and from row to row.
pub(crate) fn distance([height, width]: [usize; 2], row: i64, pixel: i64) -> Option<i64> {
    if width == 1 {
        Some(row)
    } else if height == 1 || row == width as i64 * pixel {
        Some(pixel)
    } else {
        None
    }
}

impl<'f> Emitter<'f> {
    /// The first pixel of a sequence that the work unit `number` has; for the number of units, the number of pixels.
    pub fn first_pixel(&mut self, pixels: usize, unit: usize, number: Value) -> Value {
        let (first, all) = (self.times(number, unit as i64), self.int(pixels as i64));
        self.b.ins().smin(first, all)
    }

    /// Emits loops over the tiles, of up to `tile` pixels, of the work units `first..last`. Pointers are for the unit `first`.
    pub fn pixel_tiles(
        &mut self,
        pixels: Pixels,
        tile: usize,
        (first, last): (Value, Value),
        pointers: &[PixelPointer],
        body: TileBody<'_, 'f>,
    ) {
        match pixels {
            Pixels::Rows { width } => {
                let rows: Vec<_> = pointers.iter().map(|p| (p.start, p.unit)).collect();
                self.range(first, last, &rows, vec![], |e, _, row, _| {
                    e.row_tiles(width, tile, row, pointers, body);
                    vec![]
                });
            }
            Pixels::Sequence { pixels, unit } => {
                self.sequence_tiles((pixels, unit), tile, (first, last), pointers, body)
            }
        }
    }

    fn row_tiles(
        &mut self,
        width: usize,
        tile: usize,
        row: &[Value],
        pointers: &[PixelPointer],
        body: TileBody<'_, 'f>,
    ) {
        let (full, rest) = (width / tile, width % tile);
        let advances: Vec<_> = row.iter().zip(pointers).map(|(&at, p)| (at, p.pixel * tile as i64)).collect();
        self.repeat(full, &advances, vec![], |e, moved, _| {
            body(e, tile, moved);
            vec![]
        });
        if rest > 0 {
            let moved: Vec<_> = advances.iter().map(|&(at, by)| self.offset(at, by * full as i64)).collect();
            body(self, rest, &moved);
        }
    }

    fn sequence_tiles(
        &mut self,
        (pixels, unit): (usize, usize),
        tile: usize,
        (first, last): (Value, Value),
        pointers: &[PixelPointer],
        body: TileBody<'_, 'f>,
    ) {
        let (full, rest) = (pixels / tile, pixels % tile);
        if full > 0 {
            let per_unit = (unit / tile) as i64;
            let (start, end, all) = (self.times(first, per_unit), self.times(last, per_unit), self.int(full as i64));
            let end = self.b.ins().smin(end, all);
            let advances: Vec<_> = pointers.iter().map(|p| (p.start, p.pixel * tile as i64)).collect();
            self.range(start, end, &advances, vec![], |e, _, moved, _| {
                body(e, tile, moved);
                vec![]
            });
        }
        if rest > 0 {
            // The last work unit alone has a smaller tile, at its end: a loop of one turn if it is among the units, else of none.
            let number = pixels.div_ceil(unit) - 1;
            let before = (full * tile - number * unit) as i64;
            let number = self.int(number as i64);
            let ahead = self.b.ins().isub(number, first);
            let start = |e: &mut Self, p: &PixelPointer| {
                let start = e.index(p.start, ahead, p.unit);
                (e.offset(start, before * p.pixel), p.unit)
            };
            let advances: Vec<_> = pointers.iter().map(|p| start(self, p)).collect();
            self.range(number, last, &advances, vec![], |e, _, moved, _| {
                body(e, rest, moved);
                vec![]
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_whole_tiles_and_cover_all_pixels() {
        for pixels in 1..400 {
            for tile in 1..=12 {
                let sequence = Pixels::sequence(pixels, tile);
                let (unit, units) = (sequence.unit(), sequence.units(1));
                assert!(unit.is_multiple_of(tile) && unit < UNIT_PIXELS + tile);
                assert!((units - 1) * unit < pixels && pixels <= units * unit);
                assert!(units >= pixels.div_ceil(tile).min(MIN_UNITS));
                // The smaller tile at the end belongs to the last unit.
                assert!(pixels / tile * tile >= (units - 1) * unit);
            }
        }
    }

    #[test]
    fn pixels_have_one_distance_where_nothing_lies_between_rows() {
        assert_eq!(distance([5, 7], 70, 10), Some(10));
        assert_eq!(distance([5, 7], 90, 10), None);
        assert_eq!(distance([5, 1], 30, 10), Some(30));
        assert_eq!(distance([1, 7], 90, 10), Some(10));
        assert_eq!(distance([5, 7], 0, 0), Some(0));
        // One column that all pixels share.
        assert_eq!(distance([5, 7], 4, 0), None);
    }
}
