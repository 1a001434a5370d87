//! Winograd's F(2x2,3x3) in integers: weights and their initial sums.
//!
//! A tile of 2x2 outputs of a 3x3 convolution of stride 1 is `A' [(G g G') . (B' d B)] A` for the 4x4 inputs `d` and the weights `g`
//! (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1): 16 products of one input and one
//! output channel instead of 36. With `2G` in place of `G` every number is an integer and the results are four times those
//! of the convolution:
//!
//! `2G = [2 0 0; 1 1 1; 1 -1 1; 0 0 2]`, `B' = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]`, `A' = [1 1 1 0; 0 1 -1 -1]`.
//!
//! Of activations `0..=m` the transform `B' d B` is within `0..=4m` at position (1,1) and within `-2m..=2m` elsewhere, where `2m`
//! is added: unsigned bytes up to `m = 63`. What that adds to a product, `2m * sum of the transformed weights`, is taken from its
//! initial sum. So is the zero-point of the activations, at position (1,1), which has the factor 1 in all four outputs.

use crate::precompiled::winograd::{BLOCK, POSITIONS};
use crate::weights::{PackError, QuantizedWeights};

/// The highest activation code, counted from the lowest.
pub const MOST_LEVELS: u8 = 63;

/// What is added to transformed activations at positions with differences; `levels` is the highest code.
pub const fn offset(levels: u8) -> u8 {
    2 * levels
}

/// Position (1,1).
const MIDDLE: usize = 5;

/// Weights packed for the product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WinogradWeights {
    /// `[block][position][input / 4][BLOCK][4]`, inputs padded to a multiple of four, outputs to one of `BLOCK`.
    pub bytes: Vec<i8>,
    /// Initial sums, `[block][position][BLOCK]`.
    pub start: Vec<i32>,
}

/// `(2G) g (2G)'` of one filter, row by row.
fn transformed(g: [i32; 9]) -> [i32; POSITIONS] {
    let line = |a: i32, b: i32, c: i32| [2 * a, a + b + c, a - b + c, 2 * c];
    let columns: [[i32; 4]; 3] = std::array::from_fn(|x| line(g[x], g[3 + x], g[6 + x]));
    let mut all = [0; POSITIONS];
    for i in 0..4 {
        all[4 * i..4 * i + 4].copy_from_slice(&line(columns[0][i], columns[1][i], columns[2][i]));
    }
    all
}

/// [`transformed`] of many filters at a time.
fn transformed_lanes(g: &[[i16; BLOCK]; 9]) -> [[i16; BLOCK]; POSITIONS] {
    let mut half = [[0i16; BLOCK]; 12];
    for x in 0..3 {
        for lane in 0..BLOCK {
            let (a, b, c) = (g[x][lane], g[3 + x][lane], g[6 + x][lane]);
            half[x][lane] = 2 * a;
            half[3 + x][lane] = a + b + c;
            half[6 + x][lane] = a - b + c;
            half[9 + x][lane] = 2 * c;
        }
    }
    let mut all = [[0i16; BLOCK]; POSITIONS];
    for i in 0..4 {
        for lane in 0..BLOCK {
            let (a, b, c) = (half[3 * i][lane], half[3 * i + 1][lane], half[3 * i + 2][lane]);
            all[4 * i][lane] = 2 * a;
            all[4 * i + 1][lane] = a + b + c;
            all[4 * i + 2][lane] = a - b + c;
            all[4 * i + 3][lane] = 2 * c;
        }
    }
    all
}

/// The filter between one output and one input channel, less the zero-point.
fn filter(codes: &[u8], input: usize, zero_point: i32) -> [i32; 9] {
    std::array::from_fn(|tap| i32::from(codes[9 * input + tap]) - zero_point)
}

/// Whether the transformed weights fit signed bytes.
pub fn fits(weights: &QuantizedWeights<'_>) -> bool {
    let shape = weights.shape();
    if 9 * weights.largest_absolute() <= i8::MAX as u32 {
        return true;
    }
    (0..shape.total_outputs()).all(|output| {
        let (codes, zero_point) = (weights.channel(output), weights.zero_point(output));
        (0..shape.inputs)
            .all(|input| transformed(filter(codes, input, zero_point)).iter().all(|&value| i8::try_from(value).is_ok()))
    })
}

/// Steps of four channels after which 16-bit sums of `vpmaddubsw` results must be widened; 0 where one may already saturate.
pub fn steps_per_drain(weights: &QuantizedWeights<'_>, levels: u8) -> usize {
    let largest = (9 * weights.largest_absolute()).min(i8::MIN.unsigned_abs().into());
    crate::dot::steps_per_drain(4 * u32::from(levels), largest)
}

/// Packs the weights of a 3x3 convolution of one group, for activation codes up to `levels` with that zero-point.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    levels: u8,
    activation_zero_point: i32,
) -> Result<WinogradWeights, PackError> {
    let shape = *weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "winograd-vnni-512", reason };
    if shape.groups != 1 || shape.kernel_height != 3 || shape.kernel_width != 3 || levels > MOST_LEVELS {
        return Err(unsupported("not a 3x3 convolution of one group and activations of up to 6 bits"));
    }
    let quads = shape.inputs.div_ceil(4);
    let blocks = shape.outputs.div_ceil(BLOCK);
    let mut bytes = vec![0i8; blocks * POSITIONS * quads * BLOCK * 4];
    let mut start = vec![0i32; blocks * POSITIONS * BLOCK];
    let offset = i32::from(offset(levels));
    for block in 0..blocks {
        let outputs = block * BLOCK..shape.outputs.min((block + 1) * BLOCK);
        let mut sums = [[0i32; BLOCK]; POSITIONS];
        let mut totals = [0i32; BLOCK];
        for input in 0..shape.inputs {
            // All outputs of the block side by side, so that the arithmetic is done in vectors.
            let mut g = [[0i16; BLOCK]; 9];
            for (lane, output) in outputs.clone().enumerate() {
                let zero_point = weights.zero_point(output) as i16;
                for (tap, &code) in weights.channel(output)[9 * input..9 * input + 9].iter().enumerate() {
                    g[tap][lane] = i16::from(code) - zero_point;
                }
            }
            for tap in &g {
                totals.iter_mut().zip(tap).for_each(|(total, &value)| *total += i32::from(value));
            }
            for (position, (values, sums)) in transformed_lanes(&g).iter().zip(&mut sums).enumerate() {
                let at = ((block * POSITIONS + position) * quads + input / 4) * BLOCK * 4;
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
        for (position, sums) in sums.iter().enumerate() {
            for (lane, (&sum, &total)) in sums.iter().zip(&totals).enumerate() {
                let taken = if position == MIDDLE { 4 * activation_zero_point * total } else { offset * sum };
                start[(block * POSITIONS + position) * BLOCK + lane] = -taken;
            }
        }
    }
    Ok(WinogradWeights { bytes, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightShape;

    /// The three steps in plain arithmetic, with the bounds that the bytes set, against the convolution they stand for.
    #[test]
    fn the_packed_form_gives_four_times_the_convolution() {
        let mut state = 3u32;
        let mut next = move |bound: u32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 16) % bound
        };
        for (inputs, outputs, w, levels) in [(5, 33, 4, 3u8), (8, 7, 16, 15), (3, 40, 8, 63)] {
            let shape = WeightShape { groups: 1, outputs, inputs, kernel_height: 3, kernel_width: 3 };
            let codes: Vec<u8> = (0..outputs * shape.reduction()).map(|_| next(w) as u8).collect();
            let zero_points: Vec<i32> = (0..outputs).map(|_| (w / 2) as i32).collect();
            let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
            assert!(fits(&weights));
            let za = i32::from(levels / 2);
            let packed = pack(&weights, levels, za).unwrap();
            let d: Vec<[i32; 16]> =
                (0..inputs).map(|_| std::array::from_fn(|_| next(u32::from(levels) + 1) as i32)).collect();
            let b = |v: [i32; 4]| [v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3]];
            for (output, &zero_point) in zero_points.iter().enumerate() {
                let at = |position: usize| (output / BLOCK * POSITIONS + position) * BLOCK + output % BLOCK;
                let mut m: [i32; 16] = std::array::from_fn(|position| packed.start[at(position)]);
                for (input, d) in d.iter().enumerate() {
                    let columns: [[i32; 4]; 4] = std::array::from_fn(|x| b([d[x], d[4 + x], d[8 + x], d[12 + x]]));
                    for position in 0..16 {
                        let line = columns.map(|column| column[position / 4]);
                        let value = b(line)[position % 4] + if position == 5 { 0 } else { i32::from(offset(levels)) };
                        let quads = inputs.div_ceil(4);
                        let weight = ((output / BLOCK * POSITIONS + position) * quads + input / 4) * BLOCK;
                        let weight = packed.bytes[4 * (weight + output % BLOCK) + input % 4];
                        m[position] += i32::from(u8::try_from(value).unwrap()) * i32::from(weight);
                    }
                }
                let a = |v: [i32; 4]| [v[0] + v[1] + v[2], v[1] - v[2] - v[3]];
                let columns: [[i32; 2]; 4] = std::array::from_fn(|x| a([m[x], m[4 + x], m[8 + x], m[12 + x]]));
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let mut expected = 0;
                    for (input, d) in d.iter().enumerate() {
                        let g = filter(weights.channel(output), input, zero_point);
                        expected += (0..9).map(|t| g[t] * (d[4 * (y + t / 3) + x + t % 3] - za)).sum::<i32>();
                    }
                    assert_eq!(a(columns.map(|column| column[y]))[x], 4 * expected);
                }
            }
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let shape = WeightShape { groups: 1, outputs: 1, inputs: 1, kernel_height: 3, kernel_width: 3 };
        let weights = QuantizedWeights::new(shape, &[15; 9], &[0]).unwrap();
        assert!(!fits(&weights));
        assert!(pack(&weights, 3, 0).is_err());
        // Larger than a ninth of the range, but not all taps together.
        let weights = QuantizedWeights::new(shape, &[15, 0, 15, 0, 15, 0, 0, 0, 0], &[0]).unwrap();
        assert!(fits(&weights) && pack(&weights, 3, 0).is_ok());
    }
}
