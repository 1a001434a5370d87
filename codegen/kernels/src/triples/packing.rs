//! The 2-bit look-up kernel of 512-bit vectors: three channels per look-up.
//!
//! An index of 6 bits is three 2-bit weight codes of one output channel; the 64 bytes of a vector are 64 output channels. A table row
//! of 64 bytes belongs to three activation codes of one pixel. So one `vpermb` looks up the sum of three products for each of 64 channels,
//! and there are only 64 rows. As in [`crate::pairs::rows`], terms that depend only on the activations or only on the weights are not in
//! the table, which holds
//!
//! `T = G(a0 + a1 + a2) + H(w0, w1, w2) - (a0*w0 + a1*w1 + a2*w2)`, with `G(s) = floor(3s/2)` and the least `H` for which no `T` is
//! negative
//!
//! which is at most 14, so a byte accumulator can add 18 steps. It can add more if most weights have the middle codes 1 and 2, for which `T`
//! is small; [`pack`] computes how many drains the given weights need. Then
//!
//! `sum (a - za)(w - zw) = -sum T + sum G - zw * sum a + (sum H - za * sum w + K * za * zw)`
//!
//! With `n` triples, the channels of triple `j` are `j`, `j + n` and `j + 2n`, so that packing takes no shuffles. Channels past the last
//! have code 0 for weights and activations.

use crate::byte_sums::{Order, fewest_parts};
use crate::layout::{Runs, WeightLayout};
use crate::lookup_tile::LookupWeights;
use crate::pairs::rows::activation_share;
use crate::weights::{PackError, QuantizedWeights, WeightShape};

/// Output channels in a vector of weight indices.
pub const CHANNELS: usize = 64;

/// Look-ups that a byte accumulator can add before it must be widened, for any weights: `18 * 14 = 252`.
pub const STEPS_PER_DRAIN: usize = 18;

/// Drains that a 16-bit accumulator can add: `260 * 252 < 65536`.
pub const MAX_DRAINS: usize = 260;

/// Number of triples for `channels` channels.
pub const fn triples(channels: usize) -> usize {
    channels.div_ceil(3)
}

/// The table: byte `64 * a + w` is `T` for the indices `a = a0 + 4*a1 + 16*a2` and `w = w0 + 4*w1 + 16*w2`.
pub const fn table() -> [u8; 4096] {
    let mut table = [0; 4096];
    let mut at = 0;
    while at < 4096 {
        let (a, w) = ((at / 64) as u8, (at % 64) as u8);
        let (a0, a1, a2) = (a % 4, a / 4 % 4, a / 16);
        let (w0, w1, w2) = (w % 4, w / 4 % 4, w / 16);
        table[at] = activation_share(a0 + a1 + a2) + weight_share(w) - a0 * w0 - a1 * w1 - a2 * w2;
        at += 1;
    }
    table
}

/// `H` of an index of three weight codes.
const fn weight_share(w: u8) -> u8 {
    let (w0, w1, w2) = (w % 4, w / 4 % 4, w / 16);
    let (mut most, mut a) = (0, 0);
    while a < 64 {
        let (a0, a1, a2) = (a % 4, a / 4 % 4, a / 16);
        let excess = (a0 * w0 + a1 * w1 + a2 * w2).saturating_sub(activation_share(a0 + a1 + a2));
        if excess > most {
            most = excess;
        }
        a += 1;
    }
    most
}

/// `G` of each index of three activation codes.
pub const fn shares() -> [u8; 64] {
    let mut shares = [0; 64];
    let mut at = 0;
    while at < 64 {
        let a = at as u8;
        shares[at] = activation_share(a % 4 + a / 4 % 4 + a / 16);
        at += 1;
    }
    shares
}

/// The order of the weights of a convolution of one group. A run is a filter row if `dense`, else a tap.
pub fn layout(shape: &WeightShape, dense: bool, vectors_per_block: usize) -> WeightLayout {
    let inputs = triples(shape.inputs);
    let runs = if dense { Runs::Row { pixel_stride: inputs } } else { Runs::Tap };
    let shape = WeightShape { inputs, ..*shape };
    WeightLayout { shape, runs, channels_per_vector: CHANNELS, units_per_step: 1, vectors_per_block }
}

/// Whether 16-bit accumulators can add all drains of a layer with this shape.
pub fn fits(shape: &WeightShape) -> bool {
    // Each run ends with a drain of its own, and there are at most as many runs as taps.
    let runs = shape.kernel_height * shape.kernel_width;
    runs * (triples(shape.inputs).div_ceil(STEPS_PER_DRAIN) + 1) <= MAX_DRAINS
}

/// Packs 2-bit weights of one group in the order of a [`layout`], with the channels of a vector in `order`. `activation_zero_point` is counted
/// from the lowest code.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    layout: &WeightLayout,
    order: Order,
    activation_zero_point: i32,
) -> Result<LookupWeights, PackError> {
    let shape = weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "triples-512", reason };
    let count = triples(shape.inputs);
    if shape.groups != 1 || layout.channels_per_vector != CHANNELS || layout.shape.inputs != count {
        return Err(unsupported("the layout is not that of the kernel"));
    }
    if (0..shape.outputs).any(|output| weights.channel(output).iter().fold(0, |all, &code| all | code) > 3) {
        return Err(unsupported("a code does not fit 2 bits"));
    }
    let mut indices = vec![0; layout.vector_count() * CHANNELS];
    let mut shares = vec![0; shape.outputs];
    layout.for_each_vector(|_, vector, run, step, index| {
        let Some((ky, kx, triple)) = layout.position(run, step) else { return Ok(()) };
        let places: [Option<usize>; 3] = std::array::from_fn(|part| {
            let channel = triple + part * count;
            (channel < shape.inputs).then(|| shape.index(0, channel, ky, kx))
        });
        let first = vector * CHANNELS;
        let lanes = &mut indices[index * CHANNELS..][..CHANNELS];
        // Lanes without a channel get weights of code 1, whose entries are small, so that they do not cause more drains.
        lanes.fill(1 + 4 + 16);
        for output in first..shape.outputs.min(first + CHANNELS) {
            let codes = weights.channel(output);
            let [w0, w1, w2] = places.map(|place| place.map_or(0, |at| codes[at]));
            let index = w0 + 4 * w1 + 16 * w2;
            lanes[order.lane(output - first, CHANNELS)] = index;
            shares[output] += i32::from(weight_share(index));
        }
        Ok::<(), PackError>(())
    })?;
    let sums = weights.centred_sums();
    let constants = shares.iter().zip(sums).map(|(share, sum)| share - activation_zero_point * sum).collect();
    let table = table();
    let most: [u16; 64] =
        std::array::from_fn(|w| (0..64).map(|a| u16::from(table[64 * a + w])).max().unwrap_or_default());
    let parts = fewest_parts::<CHANNELS>(&indices, layout, &most);
    let (table, shares) = (table.to_vec(), self::shares().to_vec());
    Ok(LookupWeights { indices, constants, parts, table, shares, signs: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_small_and_exact() {
        let table = table();
        assert_eq!(usize::from(*table.iter().max().unwrap()) * STEPS_PER_DRAIN, 252);
        assert_eq!(table[0], 0);
        // For weights of code 1, products and the activations' share are close, so entries are small.
        assert!((0..64).all(|a| table[64 * a + 21] <= 5));
        for (at, &entry) in table.iter().enumerate() {
            let digits = |i: usize| [i % 4, i / 4 % 4, i / 16].map(|d| d as i32);
            let (a, w) = (digits(at / 64), digits(at % 64));
            let dot: i32 = a.iter().zip(w).map(|(a, w)| a * w).sum();
            let s = a.iter().sum::<i32>();
            assert_eq!(i32::from(entry), 3 * s / 2 + i32::from(weight_share((at % 64) as u8)) - dot);
            assert_eq!(i32::from(shares()[at / 64]), 3 * s / 2);
        }
    }

    #[test]
    fn parts_are_as_few_as_the_weights_allow() {
        let shape = WeightShape { groups: 1, outputs: 70, inputs: 300, kernel_height: 1, kernel_width: 1 };
        let parts = |code: u8| {
            let mut codes = vec![code; 70 * 300];
            codes[..300].fill(1);
            let weights = QuantizedWeights::new(shape, &codes, &[1; 70]).unwrap();
            pack(&weights, &layout(&shape, true, 2), Order::Quarters, 0).unwrap().parts
        };
        // 100 steps that add at most 13 or 14, or at most 5.
        assert_eq!((parts(0), parts(3)), (6, 6));
        assert_eq!(parts(1), 2);
    }
}
