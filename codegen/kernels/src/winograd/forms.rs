//! Winograd's convolutions of 3x3 filters in integers: the forms of tiles, weights and their initial sums.
//!
//! A tile of `m x n` outputs of a 3x3 convolution of stride 1 is `A' [(G g H') . (B' d C)] D` for the `(m+2) x (n+2)` inputs `d` and the
//! weights `g` (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1). For each pair of an input and an
//! output channel this takes one product for each of `(m+2)(n+2)` positions, instead of nine for each output. The rows of the transforms
//! belong to points at which polynomials are evaluated: `0, 1, -1, infinity`, and for larger tiles `2` and `-2`. All fractions are
//! multiplied out, so that every number is an integer and the results are [`Form::scale`] times those of the convolution. The rows of `G`
//! contain as much of these factors as two-bit weights minus their zero-point allow, if transformed weights must fit signed bytes. The
//! transform of the sums applies the remaining factors.
//!
//! Transformed activations may be negative. [`Form::offset`] is added to them, which makes them unsigned bytes. The initial sum of each
//! position subtracts what this offset and the zero-point of the activations add to the products.

use super::BLOCK;
use crate::weights::{PackError, QuantizedWeights};

/// One axis of a tile: the transforms of three filter taps and of `outputs + 2` inputs.
#[derive(Debug)]
struct Axis {
    outputs: usize,
    filter: &'static [[i16; 3]],
    input: &'static [[i32; 6]],
    /// The factor of the results, compared with the convolution.
    scale: i32,
}

/// Two outputs.
const TWO: Axis = Axis {
    outputs: 2,
    filter: &[[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]],
    input: &[[1, 0, -1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, -1, 1, 0, 0, 0], [0, 1, 0, -1, 0, 0]],
    scale: 2,
};

const THREE_INPUT: &[[i32; 6]] =
    &[[2, -1, -2, 1, 0, 0], [0, -2, -1, 1, 0, 0], [0, 2, -3, 1, 0, 0], [0, -1, 0, 1, 0, 0], [0, 2, -1, -2, 1, 0]];

/// Three outputs. The transform of the filter contains all factors.
const THREE: Axis = Axis {
    outputs: 3,
    filter: &[[3, 0, 0], [-3, -3, -3], [-1, 1, -1], [1, 2, 4], [0, 0, 6]],
    input: THREE_INPUT,
    scale: 6,
};

/// Three outputs. The transform of the sums multiplies the second position by three.
const THREE_NARROW: Axis = Axis {
    outputs: 3,
    filter: &[[3, 0, 0], [-1, -1, -1], [-1, 1, -1], [1, 2, 4], [0, 0, 6]],
    input: THREE_INPUT,
    scale: 6,
};

/// Four outputs. The transform of the sums multiplies the second and third position by two, and the last by four.
const FOUR: Axis = Axis {
    outputs: 4,
    filter: &[[6, 0, 0], [-2, -2, -2], [-2, 2, -2], [1, 2, 4], [1, -2, 4], [0, 0, 6]],
    input: &[
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    scale: 24,
};

/// The position of the point 1 on an axis of two outputs, where transformed activations are sums and so never negative.
const ONE: usize = 1;

/// The form of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 2x2 outputs, 16 products.
    TwoByTwo,
    /// 3x3 outputs, 25 products.
    ThreeByThree,
    /// 3 rows of 4 outputs, 30 products.
    ThreeByFour,
}

impl Form {
    /// All forms.
    pub const ALL: [Form; 3] = [Form::TwoByTwo, Form::ThreeByThree, Form::ThreeByFour];

    /// The vertical and the horizontal axis.
    fn axes(self) -> [&'static Axis; 2] {
        match self {
            Form::TwoByTwo => [&TWO, &TWO],
            Form::ThreeByThree => [&THREE, &THREE_NARROW],
            Form::ThreeByFour => [&THREE, &FOUR],
        }
    }

    /// Outputs, `[y, x]`.
    pub fn outputs(self) -> [usize; 2] {
        self.axes().map(|axis| axis.outputs)
    }

    /// Products for each pair of an input and an output channel.
    pub fn positions(self) -> usize {
        self.outputs().iter().map(|outputs| outputs + 2).product()
    }

    /// Tiles that cover an output image, `[y, x]`.
    pub fn count(self, output: [usize; 2]) -> [usize; 2] {
        let [height, width] = self.outputs();
        [output[0].div_ceil(height), output[1].div_ceil(width)]
    }

    /// The factor between the transformed sums and the results of the convolution.
    pub fn scale(self) -> i32 {
        self.axes().iter().map(|axis| axis.scale).product()
    }

    /// The power of two in the scale. The kernel divides sums by the rest of the scale, unless the epilogue is
    /// [`crate::epilogue::store::AFFINE`].
    pub fn left_scale(self) -> i32 {
        1 << self.scale().trailing_zeros()
    }

    /// The magnitudes of the least and of the largest transformed activation at a position, for inputs from 0 to 1.
    fn range(self, [y, x]: [usize; 2]) -> (i32, i32) {
        let [down, across] = self.axes();
        let (mut below, mut above) = (0, 0);
        for a in down.input[y] {
            for b in across.input[x] {
                below -= (a * b).min(0);
                above += (a * b).max(0);
            }
        }
        (below, above)
    }

    /// Row and column of each position, in order.
    fn places(self) -> impl Iterator<Item = [usize; 2]> {
        let [height, width] = self.outputs();
        (0..height + 2).flat_map(move |y| (0..width + 2).map(move |x| [y, x]))
    }

    /// The number that is added to transformed activations of codes up to `levels`. Nothing is added at position (1, 1) of a 2x2 tile, where
    /// they are sums without a subtraction.
    pub fn offset(self, levels: u8) -> i32 {
        self.places().map(|place| self.range(place).0 * i32::from(levels)).max().unwrap_or(0)
    }

    fn offset_at(self, place: [usize; 2], levels: u8) -> i32 {
        if self == Form::TwoByTwo && place == [ONE; 2] { 0 } else { self.offset(levels) }
    }

    /// Whether transformed activations fit unsigned bytes.
    pub fn takes(self, levels: u8) -> bool {
        self.places().all(|place| {
            let (below, above) = self.range(place);
            let offset = self.offset_at(place, levels);
            below * i32::from(levels) <= offset && above * i32::from(levels) + offset <= i32::from(u8::MAX)
        })
    }

    /// Transforms one filter per lane, to `output[position][lane]`.
    fn transform(self, g: &[[i16; BLOCK]; 9], output: &mut [[i16; BLOCK]]) {
        let [down, across] = self.axes();
        for (rows, line) in down.filter.iter().zip(output.chunks_exact_mut(across.filter.len())) {
            let half: [[i16; BLOCK]; 3] = std::array::from_fn(|x| {
                std::array::from_fn(|lane| rows[0] * g[x][lane] + rows[1] * g[3 + x][lane] + rows[2] * g[6 + x][lane])
            });
            for (columns, values) in across.filter.iter().zip(line) {
                for (lane, value) in values.iter_mut().enumerate() {
                    *value = columns[0] * half[0][lane] + columns[1] * half[1][lane] + columns[2] * half[2][lane];
                }
            }
        }
    }
}

/// Weights packed for the product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinogradWeights {
    /// `[block][position][input / 4][BLOCK][4]`, with inputs padded to a multiple of four and outputs to a multiple of `BLOCK`.
    pub bytes: Vec<i8>,
    /// Initial sums, `[block][position][BLOCK]`.
    pub start: Vec<i32>,
}

/// The filters of one input channel for the outputs of a block, minus their zero-points. Each output is a lane, so that the compiler can
/// vectorize arithmetic on them.
fn filters(weights: &QuantizedWeights<'_>, block: usize, input: usize) -> [[i16; BLOCK]; 9] {
    let mut g = [[0i16; BLOCK]; 9];
    let outputs = block * BLOCK..weights.shape().outputs.min((block + 1) * BLOCK);
    for (lane, output) in outputs.enumerate() {
        let zero_point = weights.zero_point(output) as i16;
        for (tap, &code) in weights.channel(output)[9 * input..9 * input + 9].iter().enumerate() {
            g[tap][lane] = i16::from(code) - zero_point;
        }
    }
    g
}

/// Whether the transformed weights of one group fit signed bytes.
/// `largest` is the largest magnitude of a weight.
pub fn fits(weights: &QuantizedWeights<'_>, largest: u32, tile: Form) -> bool {
    let [down, across] = tile.axes().map(|axis| {
        let sums = axis.filter.iter().map(|row| row.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>());
        sums.max().unwrap_or(0)
    });
    if down * across * largest <= i8::MAX as u32 {
        return true;
    }
    let shape = weights.shape();
    let mut values = vec![[0; BLOCK]; tile.positions()];
    (0..shape.outputs.div_ceil(BLOCK)).all(|block| {
        (0..shape.inputs).all(|input| {
            tile.transform(&filters(weights, block, input), &mut values);
            values.as_flattened().iter().all(|&value| i8::try_from(value).is_ok())
        })
    })
}

/// Steps of four channels after which 16-bit sums of `vpmaddubsw` results must be widened, for 2x2 tiles; 0 if one result may already
/// saturate. `largest_weight` is the largest magnitude of a weight.
pub fn steps_per_drain(largest_weight: u32, levels: u8) -> usize {
    let largest = (9 * largest_weight).min(i8::MIN.unsigned_abs().into());
    crate::dot::steps_per_drain(4 * u32::from(levels), largest)
}

/// Packs the weights of a 3x3 convolution of one group, for activation codes up to `levels` with the given zero-point.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    tile: Form,
    levels: u8,
    activation_zero_point: i32,
) -> Result<WinogradWeights, PackError> {
    let shape = *weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "winograd", reason };
    if shape.groups != 1 || shape.kernel_height != 3 || shape.kernel_width != 3 || !tile.takes(levels) {
        return Err(unsupported("not a 3x3 convolution of one group and activations of few enough bits"));
    }
    let positions = tile.positions();
    let quads = shape.inputs.div_ceil(4);
    let blocks = shape.outputs.div_ceil(BLOCK);
    let mut bytes = vec![0i8; blocks * positions * quads * BLOCK * 4];
    let mut start = vec![0i32; blocks * positions * BLOCK];
    let mut values = vec![[0; BLOCK]; positions];
    let [down, across] = tile.axes();
    for block in 0..blocks {
        let mut sums = vec![[0i32; BLOCK]; positions];
        for input in 0..shape.inputs {
            tile.transform(&filters(weights, block, input), &mut values);
            for (position, (values, sums)) in values.iter().zip(&mut sums).enumerate() {
                let at = ((block * positions + position) * quads + input / 4) * BLOCK * 4;
                let to = &mut bytes[at..at + 4 * BLOCK];
                let mut beyond = false;
                for (lane, (&value, sum)) in values.iter().zip(sums).enumerate() {
                    to[4 * lane + input % 4] = value as i8;
                    beyond |= value != i16::from(value as i8);
                    *sum += i32::from(value);
                }
                if beyond {
                    return Err(unsupported("a transformed weight does not fit a signed byte"));
                }
            }
        }
        for (position, (place, sums)) in tile.places().zip(&sums).enumerate() {
            // The transform of inputs that are all 1.
            let ones = down.input[place[0]].iter().sum::<i32>() * across.input[place[1]].iter().sum::<i32>();
            let taken = tile.offset_at(place, levels) + activation_zero_point * ones;
            for (lane, &sum) in sums.iter().enumerate() {
                start[(block * positions + position) * BLOCK + lane] = -taken * sum;
            }
        }
    }
    Ok(WinogradWeights { bytes, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightShape;

    /// The transform of the sums at the positions of an axis, as the kernel computes it.
    fn collect(axis: &Axis, m: &[i32]) -> Vec<i32> {
        match axis.outputs {
            2 => vec![m[0] + m[1] + m[2], m[1] - m[2] - m[3]],
            3 => {
                let one = if std::ptr::eq(axis, &THREE) || axis.filter == THREE.filter { m[1] } else { 3 * m[1] };
                vec![m[0] + one + m[2] + m[3], one - m[2] + 2 * m[3], one + m[2] + 4 * m[3] + m[4]]
            }
            _ => {
                let (t, u) = (2 * (m[1] + m[2]), 2 * (m[1] - m[2]));
                let (v, w) = (m[3] + m[4], m[3] - m[4]);
                vec![m[0] + t + v, u + 2 * w, t + 4 * v, u + 8 * w + 4 * m[5]]
            }
        }
    }

    /// Compares the three steps in scalar arithmetic, with the range of bytes checked, with the convolution.
    #[test]
    fn the_packed_form_gives_a_multiple_of_the_convolution() {
        let mut state = 3u32;
        let mut next = move |bound: u32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 16) % bound
        };
        let two = Form::TwoByTwo;
        for (tile, inputs, outputs, w, levels) in [
            (two, 5, 33, 4, 3u8),
            (two, 8, 7, 16, 15),
            (two, 3, 40, 8, 63),
            (Form::ThreeByThree, 5, 33, 4, 3),
            (Form::ThreeByThree, 3, 5, 4, 7),
            (Form::ThreeByFour, 7, 34, 4, 3),
        ] {
            let shape = WeightShape { groups: 1, outputs, inputs, kernel_height: 3, kernel_width: 3 };
            let codes: Vec<u8> = (0..outputs * shape.reduction()).map(|_| next(w) as u8).collect();
            let zero_points: Vec<i32> = (0..outputs).map(|_| (w / 2) as i32).collect();
            let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
            assert!(fits(&weights, weights.largest_absolute(), tile) && tile.takes(levels));
            let za = i32::from(levels / 2);
            let packed = pack(&weights, tile, levels, za).unwrap();
            let [down, across] = tile.axes();
            let [height, width] = tile.outputs();
            let d: Vec<Vec<i32>> = (0..inputs)
                .map(|_| (0..(height + 2) * (width + 2)).map(|_| next(u32::from(levels) + 1) as i32).collect())
                .collect();
            let pixel = |d: &[i32], y: usize, x: usize| d[y * (width + 2) + x];
            for (output, &zero_point) in zero_points.iter().enumerate() {
                let positions = tile.positions();
                let at = |position: usize| (output / BLOCK * positions + position) * BLOCK + output % BLOCK;
                let mut m: Vec<i32> = (0..positions).map(|position| packed.start[at(position)]).collect();
                for (input, d) in d.iter().enumerate() {
                    for (position, [y, x]) in tile.places().enumerate() {
                        let mut value = tile.offset_at([y, x], levels);
                        for (i, j) in (0..height + 2).flat_map(|i| (0..width + 2).map(move |j| (i, j))) {
                            value += down.input[y][i] * across.input[x][j] * pixel(d, i, j);
                        }
                        let quads = inputs.div_ceil(4);
                        let weight = ((output / BLOCK * positions + position) * quads + input / 4) * BLOCK;
                        let weight = packed.bytes[4 * (weight + output % BLOCK) + input % 4];
                        m[position] += i32::from(u8::try_from(value).unwrap()) * i32::from(weight);
                    }
                }
                let columns: Vec<Vec<i32>> = (0..width + 2)
                    .map(|x| collect(down, &(0..height + 2).map(|y| m[y * (width + 2) + x]).collect::<Vec<_>>()))
                    .collect();
                for y in 0..height {
                    let found = collect(across, &columns.iter().map(|column| column[y]).collect::<Vec<_>>());
                    for (x, &found) in found.iter().enumerate() {
                        let mut expected = 0;
                        for (input, d) in d.iter().enumerate() {
                            for tap in 0..9 {
                                let g = i32::from(weights.channel(output)[9 * input + tap]) - zero_point;
                                expected += g * (pixel(d, y + tap / 3, x + tap % 3) - za);
                            }
                        }
                        assert_eq!(found, tile.scale() * expected, "{tile:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let shape = WeightShape { groups: 1, outputs: 1, inputs: 1, kernel_height: 3, kernel_width: 3 };
        let two = Form::TwoByTwo;
        let weights = QuantizedWeights::new(shape, &[15; 9], &[0]).unwrap();
        assert!(!fits(&weights, weights.largest_absolute(), two));
        assert!(pack(&weights, two, 3, 0).is_err());
        // 9 * 15 would not fit, but not all taps have that weight.
        let weights = QuantizedWeights::new(shape, &[15, 0, 15, 0, 15, 0, 0, 0, 0], &[0]).unwrap();
        assert!(fits(&weights, weights.largest_absolute(), two) && pack(&weights, two, 3, 0).is_ok());
        let three = QuantizedWeights::new(shape, &[3; 9], &[0]).unwrap();
        assert!(
            !fits(&three, three.largest_absolute(), Form::ThreeByFour) && fits(&three, three.largest_absolute(), two)
        );
    }

    #[test]
    fn activations_that_do_not_fit_are_refused() {
        let most = Form::ALL.map(|tile| (0..=255).rev().find(|&levels| tile.takes(levels)));
        assert_eq!(most, [Some(63), Some(7), Some(4)]);
    }
}
