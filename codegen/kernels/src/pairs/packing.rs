//! The 2-bit look-up kernel of 256-bit vectors: two channels per look-up.
//!
//! As in [`super::rows`], a table row of 16 bytes belongs to two activation codes, and an entry of a row to two weight codes. `vpshufb` looks
//! up 32 output channels in a row, which is present in both halves of a vector. Mirroring an output channel means replacing `w` by `3 - w`
//! and its zero-point `zw` by `3 - zw`; this only changes the sign of its sums. So channels with the zero-points `z` and `3 - z` can share
//! one table, for the larger zero-point `z`, which is 2 or 3. The table has the products of centred weights:
//!
//! `T = a0*(w0 - z) + a1*(w1 - z) + H(w0, w1)`, with the least `H` for which no `T` is negative
//!
//! `T` is at most 12 for `z = 2` and 18 for `z = 3`, and smaller for weights close to `z`. [`pack`] computes how many drains the given weights
//! need. Only the look-ups depend on the activations:
//!
//! `sum (a - za)(w - zw) = sum T - (sum H + za * sum (w - z))`, or the negative of this for a mirrored channel
//!
//! With `n` pairs, the channels of pair `j` are `j` and `j + n`, so that packing takes no shuffles. If the number of channels is odd, the last
//! pair has only one. Its second weights are `z`, so any byte that follows the channels in memory adds nothing.

use crate::byte_sums::{Order, fewest_parts};
use crate::layout::{Runs, WeightLayout};
use crate::lookup_tile::LookupWeights;
use crate::weights::{PackError, QuantizedWeights, WeightShape};

/// Output channels in a vector of weight indices.
pub const CHANNELS: usize = 32;

/// The largest entry of a table.
pub const LARGEST: usize = 18;

/// Number of pairs for `channels` channels.
pub const fn pairs(channels: usize) -> usize {
    channels.div_ceil(2)
}

/// `H` of an index of two weight codes.
fn weight_share(w: u8, zero_point: i32) -> i32 {
    [w % 4, w / 4].into_iter().map(|w| 3 * (zero_point - i32::from(w)).max(0)).sum()
}

/// The table for weights of zero-point 2 or 3: byte `16 * (a0 + 4*a1) + (w0 + 4*w1)` is `T(a0, a1, w0, w1)`.
pub fn table(zero_point: i32) -> [u8; 256] {
    std::array::from_fn(|at| {
        let (a, w) = ((at / 16) as u8, (at % 16) as u8);
        let products =
            i32::from(a % 4) * (i32::from(w % 4) - zero_point) + i32::from(a / 4) * (i32::from(w / 4) - zero_point);
        (products + weight_share(w, zero_point)) as u8
    })
}

/// The order of the weights of a convolution of one group. A run is a filter row if `dense`, else a tap.
pub fn layout(shape: &WeightShape, dense: bool, vectors_per_block: usize) -> WeightLayout {
    let inputs = pairs(shape.inputs);
    let runs = if dense { Runs::Row { pixel_stride: inputs } } else { Runs::Tap };
    let shape = WeightShape { inputs, ..*shape };
    WeightLayout { shape, runs, channels_per_vector: CHANNELS, units_per_step: 1, vectors_per_block }
}

/// The zero-point, 2 or 3, that all output channels have, with or without mirroring; `None` if there is none.
pub fn centre(weights: &QuantizedWeights<'_>) -> Option<i32> {
    let mut outputs = (0..weights.shape().total_outputs()).map(|output| weights.zero_point(output));
    let upper = |zero_point: i32| zero_point.max(3 - zero_point);
    let first = upper(outputs.next()?);
    ((2..=3).contains(&first) && outputs.all(|zero_point| upper(zero_point) == first)).then_some(first)
}

/// Whether 16-bit totals can hold the sums of all look-ups: an entry is at most `3 * (|w0 - zw| + |w1 - zw|)`.
pub fn fits(largest_absolute_sum: u64) -> bool {
    3 * largest_absolute_sum <= u64::from(u16::MAX)
}

/// Packs 2-bit weights of one group, which have a [`centre`], in the order of a [`layout`], with the channels of a vector in `order`.
/// `activation_zero_point` is counted from the lowest code.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    layout: &WeightLayout,
    order: Order,
    activation_zero_point: i32,
) -> Result<LookupWeights, PackError> {
    let shape = weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "pairs-256", reason };
    let count = pairs(shape.inputs);
    if shape.groups != 1 || layout.channels_per_vector != CHANNELS || layout.shape.inputs != count {
        return Err(unsupported("the layout is not that of the kernel"));
    }
    if (0..shape.outputs).any(|output| weights.channel(output).iter().fold(0, |all, &code| all | code) > 3) {
        return Err(unsupported("a code does not fit 2 bits"));
    }
    let centre = centre(weights).ok_or_else(|| unsupported("their zero-points are not the same, mirrored or not"))?;
    // Two codes of the zero-point: lanes without a channel add nothing.
    let nothing = (5 * centre) as u8;
    let share: [i32; 16] = std::array::from_fn(|w| weight_share(w as u8, centre));
    let mirror: Vec<u8> =
        (0..shape.outputs).map(|output| if weights.zero_point(output) == centre { 0 } else { 3 }).collect();
    let mut indices = vec![nothing; layout.vector_count() * CHANNELS];
    let mut shares = vec![0; shape.outputs];
    layout.for_each_vector(|_, vector, run, step, index| {
        let Some((ky, kx, pair)) = layout.position(run, step) else { return Ok(()) };
        let at = shape.index(0, pair, ky, kx);
        let other = pair + count;
        let other = (other < shape.inputs).then(|| shape.index(0, other, ky, kx));
        let first = vector * CHANNELS;
        let lanes = &mut indices[index * CHANNELS..][..CHANNELS];
        for output in first..shape.outputs.min(first + CHANNELS) {
            let codes = weights.channel(output);
            // For a code of two bits, `3 - code` is `code` with both bits inverted.
            let code = |at: usize| codes[at] ^ mirror[output];
            let index = code(at) + 4 * other.map_or(centre as u8, code);
            lanes[order.lane(output - first, CHANNELS)] = index;
            shares[output] += share[usize::from(index)];
        }
        Ok::<(), PackError>(())
    })?;
    let signs: Vec<i32> = mirror.iter().map(|&mirror| if mirror == 0 { 1 } else { -1 }).collect();
    let sums = weights.centred_sums().into_iter().zip(&signs).map(|(sum, sign)| sign * sum);
    let constants = shares.iter().zip(sums).map(|(share, sum)| share + activation_zero_point * sum).collect();
    let table = table(centre);
    let most: [u16; 16] =
        std::array::from_fn(|w| (0..16).map(|a| u16::from(table[16 * a + w])).max().unwrap_or_default());
    let parts = fewest_parts::<CHANNELS>(&indices, layout, &most);
    Ok(LookupWeights { indices, constants, parts, table: table.to_vec(), shares: vec![], signs: Some(signs) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_small_and_exact() {
        for zero_point in 2..4 {
            let table = table(zero_point);
            let largest = usize::from(*table.iter().max().unwrap());
            assert_eq!(largest, if zero_point == 2 { 12 } else { LARGEST });
            for w in 0..16u8 {
                let row = |a: usize| i32::from(table[16 * a + usize::from(w)]);
                let centred = [w % 4, w / 4].map(|w| i32::from(w) - zero_point);
                for a in 0..16 {
                    let dot = (a as i32 % 4) * centred[0] + (a as i32 / 4) * centred[1];
                    assert_eq!(row(a) - weight_share(w, zero_point), dot);
                }
                // `H` is no larger than needed, and entries reach the bound that `fits` uses.
                assert_eq!((0..16).map(row).min(), Some(0));
                let bound = 3 * centred.iter().map(|w| w.abs()).sum::<i32>();
                assert_eq!((0..16).map(row).max(), Some(bound));
            }
        }
    }

    #[test]
    fn parts_are_as_few_as_the_weights_allow() {
        let shape = WeightShape { groups: 1, outputs: 40, inputs: 300, kernel_height: 1, kernel_width: 1 };
        let parts = |code: u8, zero: i32| {
            let codes = vec![code; 40 * 300];
            let zero_points = [zero; 40];
            let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
            pack(&weights, &layout(&shape, true, 2), Order::Quarters, 0).unwrap().parts
        };
        // 150 steps that add at most 12, 6, 0, 18 and, mirrored from zero-point 1 to 2, 6.
        assert_eq!([parts(0, 2), parts(1, 2), parts(2, 2), parts(0, 3), parts(0, 1)], [8, 4, 1, 11, 4]);
    }

    #[test]
    fn the_packed_form_gives_the_sum() {
        let mut state = 3u32;
        let mut next = move |n: u32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            ((state >> 16) % n) as u8
        };
        for (inputs, dense, order, zeros) in [
            (6, true, Order::Bytes, [2, 1]),
            (7, true, Order::Quarters, [1, 1]),
            (5, false, Order::Bytes, [0, 3]),
            (1, false, Order::Quarters, [3, 3]),
        ] {
            let shape = WeightShape { groups: 1, outputs: 37, inputs, kernel_height: 2, kernel_width: 3 };
            let codes: Vec<u8> = (0..37 * shape.reduction()).map(|_| next(4)).collect();
            let zero_points: Vec<i32> = (0..37).map(|output| zeros[output % 2]).collect();
            let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
            let layout = layout(&shape, dense, 2);
            let za = 1;
            let packed = pack(&weights, &layout, order, za).unwrap();
            let table = &packed.table;
            let activations: Vec<u8> = (0..shape.reduction()).map(|_| next(4)).collect();
            // The value after the last channel must not matter.
            let activation =
                |ky: usize, kx: usize, c: usize| if c < inputs { activations[(ky * 3 + kx) * inputs + c] } else { 3 };
            for output in 0..37 {
                let mut sum = -packed.constants[output];
                for run in 0..layout.run_count() {
                    for step in 0..layout.steps_per_run() {
                        let index = layout.vector_index(0, output / CHANNELS, run, step);
                        let lane = order.lane(output % CHANNELS, CHANNELS);
                        let entry = usize::from(packed.indices[index * CHANNELS + lane]);
                        let (ky, kx, pair) = layout.position(run, step).unwrap();
                        let (a0, a1) = (activation(ky, kx, pair), activation(ky, kx, pair + pairs(inputs)));
                        sum += i32::from(table[16 * usize::from(a0 + 4 * a1) + entry]);
                    }
                }
                let mut expected = 0;
                for (ky, kx, c) in (0..6 * inputs).map(|k| (k / (3 * inputs), k / inputs % 3, k % inputs)) {
                    expected += (i32::from(activation(ky, kx, c)) - za) * weights.centred(output, c, ky, kx);
                }
                assert_eq!(packed.signs.as_ref().unwrap()[output] * sum, expected, "{inputs} channels");
            }
        }
    }

    #[test]
    fn weights_without_a_common_zero_point_are_refused() {
        let shape = WeightShape { groups: 1, outputs: 2, inputs: 3, kernel_height: 1, kernel_width: 1 };
        let packed = |zero_points: &[i32]| {
            let weights = QuantizedWeights::new(shape, &[1; 6], zero_points).unwrap();
            pack(&weights, &layout(&shape, true, 1), Order::Bytes, 0)
        };
        assert!(packed(&[2, 2]).is_ok() && packed(&[2, 1]).is_ok());
        assert!(packed(&[2, 3]).is_err() && packed(&[4, 4]).is_err() && packed(&[-1, -1]).is_err());
    }
}
