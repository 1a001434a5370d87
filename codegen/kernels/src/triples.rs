//! The 2-bit look-up kernel of 512-bit vectors: three channels to a look-up.
//!
//! An index of 6 bits is three 2-bit weight codes of one output channel; the 64 bytes of a vector are 64 output channels. A table row
//! of 64 bytes belongs to three activation codes of one pixel, so one `vpermb` looks up three products for each of 64 channels, and
//! there are only 64 rows. As in [`crate::lookup`] functions of the activations alone and of the weights alone are kept out of the
//! table, which holds
//!
//! `T = G(a0 + a1 + a2) + H(w0, w1, w2) - (a0*w0 + a1*w1 + a2*w2)`, with `G(s) = floor(3s/2)` and the least `H` for which no `T` is
//! negative
//!
//! 0 to 14, so that a byte accumulator takes 18 steps, and more where most weights have the middle codes 1 and 2, for which `T` stays
//! small: [`pack`] finds how many drains the weights at hand need. Then
//!
//! `sum (a - za)(w - zw) = -sum T + sum G - zw * sum a + (sum H - za * sum w + K * za * zw)`
//!
//! The channels of triple `j` are `j`, `j + n` and `j + 2n` for `n` triples, so that packing takes no shuffles; channels past the last
//! have code 0 on both sides.

use crate::layout::{Runs, WeightLayout};
use crate::lookup::activation_share;
use crate::weights::{PackError, QuantizedWeights, WeightShape};

/// Output channels in a vector of weight indices.
pub const CHANNELS: usize = 64;

/// Look-ups that a byte accumulator takes before it must be widened, whatever the weights: `18 * 14 = 252`.
pub const STEPS_PER_DRAIN: usize = 18;

/// Drains that 16-bit accumulators take: `260 * 252 < 65536`.
pub const MOST_DRAINS: usize = 260;

/// Triples of that many channels.
pub const fn triples(channels: usize) -> usize {
    channels.div_ceil(3)
}

/// The table: byte `64 * a + w` for indices `a = a0 + 4*a1 + 16*a2` and `w` alike.
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

/// Which byte of an index vector belongs to which output channel of the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Widening by masks and shifts alone leaves bytes 0 of all double words in order, then bytes 2, 1 and 3: channels 0 to 15, 16 to 31
    /// and so on.
    Quarters,
    /// Channel by channel: after widening every fourth channel, as they lie in the bytes of the output and of a shortcut.
    Bytes,
}

impl Order {
    /// The byte of a channel.
    pub const fn lane(self, channel: usize) -> usize {
        const BYTES: [usize; 4] = [0, 2, 1, 3];
        match self {
            Order::Quarters => 4 * (channel % 16) + BYTES[channel / 16],
            Order::Bytes => channel,
        }
    }
}

/// What belongs to channels, in whole vectors, in the order of the widened sums of [`Order::Bytes`]: in each vector channels 0, 4, 8 and so
/// on, then 1, 5, 9 and so on.
pub fn quarters<T: Copy>(values: &[T]) -> Vec<T> {
    let channel = |at: usize| at / CHANNELS * CHANNELS + 4 * (at % 16) + at % CHANNELS / 16;
    (0..values.len() / CHANNELS * CHANNELS).map(|at| values[channel(at)]).collect()
}

/// What the two 16-bit totals of a vector are to hold for channels, in whole vectors of that order: for each vector the 32 words of all
/// bytes, and the 32 of the odd ones, modulo 65536.
pub fn words(values: &[i32], order: Order) -> Vec<i16> {
    let vectors = values.chunks_exact(CHANNELS);
    let words = vectors.flat_map(|vector| {
        let mut lanes = [0; CHANNELS];
        vector.iter().enumerate().for_each(|(channel, &value)| lanes[order.lane(channel)] = value as i16);
        let odd = move |word: usize| lanes[2 * word + 1];
        let all = move |word: usize| lanes[2 * word].wrapping_add(odd(word) << 8);
        (0..CHANNELS / 2).map(all).chain((0..CHANNELS / 2).map(odd))
    });
    words.collect()
}

/// Weights packed for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TripleWeights {
    /// Index vectors of 64 bytes in the order of the layout.
    pub indices: Vec<u8>,
    /// `sum H - za * sum w + K * za * zw` for each output channel.
    pub constants: Vec<i32>,
    /// Parts of a run, cut by [`part`], after each of which byte accumulators must be widened.
    pub parts: usize,
}

/// Steps of the next part where `left` steps are left for `parts` parts.
pub const fn part(left: usize, parts: usize) -> usize {
    left / parts
}

/// The fewest parts of a run for which no byte accumulator overflows.
fn fewest_parts(indices: &[u8], layout: &WeightLayout) -> usize {
    let table = table();
    let most: [u16; 64] =
        std::array::from_fn(|w| (0..64).map(|a| u16::from(table[64 * a + w])).max().unwrap_or_default());
    let steps = layout.steps_per_run();
    let fits = |parts: usize| {
        (0..layout.vectors()).all(|vector| {
            (0..layout.run_count()).all(|run| {
                let mut step = 0;
                (1..=parts).rev().all(|parts| {
                    let end = step + part(steps - step, parts);
                    let mut sums = [0u16; CHANNELS];
                    for step in step..end {
                        let at = CHANNELS * layout.vector_index(0, vector, run, step);
                        for (sum, &index) in sums.iter_mut().zip(&indices[at..at + CHANNELS]) {
                            *sum = sum.saturating_add(most[usize::from(index) % 64]);
                        }
                    }
                    step = end;
                    sums.iter().all(|&sum| sum <= u16::from(u8::MAX))
                })
            })
        })
    };
    let enough = steps.div_ceil(STEPS_PER_DRAIN).max(1);
    (1..enough).find(|&parts| fits(parts)).unwrap_or(enough)
}

/// The order of the weights of a convolution of one group. A run is a filter row where `dense`, else a tap.
pub fn layout(shape: &WeightShape, dense: bool, vectors_per_block: usize) -> WeightLayout {
    let inputs = triples(shape.inputs);
    let runs = if dense { Runs::Row { pixel_stride: inputs } } else { Runs::Tap };
    let shape = WeightShape { inputs, ..*shape };
    WeightLayout { shape, runs, channels_per_vector: CHANNELS, units_per_step: 1, vectors_per_block }
}

/// Whether the 16-bit accumulators take all drains of such a reduction.
pub fn fits(shape: &WeightShape) -> bool {
    // Runs are drained each by itself.
    let runs = shape.kernel_height * shape.kernel_width;
    runs * (triples(shape.inputs).div_ceil(STEPS_PER_DRAIN) + 1) <= MOST_DRAINS
}

/// Packs 2-bit weights of one group in the order of a [`layout`], channels of a vector in that `order`. `activation_zero_point` is on the
/// scale of the unsigned codes.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    layout: &WeightLayout,
    order: Order,
    activation_zero_point: i32,
) -> Result<TripleWeights, PackError> {
    let shape = weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "lookup-vbmi-512", reason };
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
        // Lanes without a channel sum up little.
        lanes.fill(1 + 4 + 16);
        for output in first..shape.outputs.min(first + CHANNELS) {
            let codes = weights.channel(output);
            let [w0, w1, w2] = places.map(|place| place.map_or(0, |at| codes[at]));
            let index = w0 + 4 * w1 + 16 * w2;
            lanes[order.lane(output - first)] = index;
            shares[output] += i32::from(weight_share(index));
        }
        Ok::<(), PackError>(())
    })?;
    let sums = weights.centred_sums();
    let constants = shares.iter().zip(sums).map(|(share, sum)| share - activation_zero_point * sum).collect();
    let parts = fewest_parts(&indices, layout);
    Ok(TripleWeights { indices, constants, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_small_and_exact() {
        let table = table();
        assert_eq!(usize::from(*table.iter().max().unwrap()) * STEPS_PER_DRAIN, 252);
        assert_eq!(table[0], 0);
        // Weights of code 1 differ from half the activations' share by little.
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
        // 100 steps of up to 13 or 14, or of up to 5.
        assert_eq!((parts(0), parts(3)), (6, 6));
        assert_eq!(parts(1), 2);
    }

    /// Totals as the tile keeps them, from bytes as it adds them: they end as sums and what they started with, quarter by quarter.
    #[test]
    fn totals_are_sums_and_their_starts() {
        let starts: Vec<i32> = (0..2 * CHANNELS as i32).map(|c| 61 * c - 3000).collect();
        let words = words(&starts, Order::Bytes);
        let order = quarters(&(0..starts.len()).collect::<Vec<_>>());
        for vector in 0..2 {
            let bytes: [u8; CHANNELS] = std::array::from_fn(|lane| (lane * 37 + vector * 11) as u8);
            let (mut even, mut odd) = ([0i16; 32], [0i16; 32]);
            for word in 0..32 {
                let at = CHANNELS * vector + word;
                let sum = i16::from_le_bytes([bytes[2 * word], bytes[2 * word + 1]]);
                odd[word] = words[at + 32].wrapping_add(i16::from(bytes[2 * word + 1]));
                even[word] = words[at].wrapping_add(sum).wrapping_sub(odd[word] << 8);
            }
            let found = [0, 1, 2, 3].map(|q| if q % 2 == 0 { &even } else { &odd });
            for (at, &channel) in order[CHANNELS * vector..][..CHANNELS].iter().enumerate() {
                let (quarter, lane) = (at / 16, at % 16);
                let total = i32::from(bytes[Order::Bytes.lane(channel - CHANNELS * vector)]) + starts[channel];
                assert_eq!(i32::from(found[quarter][2 * lane + quarter / 2]), total, "channel {channel}");
            }
        }
    }

    #[test]
    fn every_lane_has_its_channel() {
        for order in [Order::Quarters, Order::Bytes] {
            let mut seen = [false; CHANNELS];
            (0..CHANNELS).for_each(|channel| seen[order.lane(channel)] = true);
            assert!(seen.iter().all(|&s| s));
        }
    }
}
