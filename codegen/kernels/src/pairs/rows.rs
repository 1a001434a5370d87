//! The emitted 2-bit look-up kernel: its table, the weight indices by which it shuffles, and the sums that make it exact.
//!
//! One table row belongs to a pair of activation codes `(a0, a1)`, one entry of a row to a pair of weight codes
//! `(w0, w1)`. A byte shuffle of the row by a vector of weight pairs looks up 16 output channels at once.
//!
//! The required sum is `a0*w0 + a1*w1`, 0 to 18, which would fill a byte accumulator in 14 steps. Terms that depend only on the
//! activations or only on the weights can be added after the loop, so the table holds
//!
//! `T = G(a0 + a1) + H(w0 + w1) - (a0*w0 + a1*w1)`, with `G(s) = floor(3s/2)` and `H(s) = ceil(3s/2)`
//!
//! which is at most 9, and 0 if all codes are 0, so that padding adds nothing. Then
//!
//! `sum (a - za)(w - zw) = -sum T + sum G - zw * sum a + (sum H - za * sum w + K * za * zw)`
//!
//! where `sum G` and `sum a` depend only on the output pixel, and the terms in parentheses only on the output channel.

use crate::layout::WeightLayout;
use crate::weights::{PackError, QuantizedWeights};

/// Output channels in a vector of weight indices.
pub const CHANNELS: usize = 16;

/// Look-ups that a byte accumulator can add before it must be widened: `28 * 9 = 252`.
pub const STEPS_PER_DRAIN: usize = 28;

/// Drains into 16-bit accumulators before these must be widened too. Each adds at most 252.
pub const DRAINS_PER_SPILL: usize = 256;

/// `G` of the module's documentation, for the sum of a pair of activation codes (0 to 6).
pub const fn activation_share(sum: u8) -> u8 {
    3 * sum / 2
}

/// `H` of the module's documentation, for the sum of a pair of weight codes (0 to 6).
pub const fn weight_share(sum: u8) -> u8 {
    (3 * sum).div_ceil(2)
}

/// The table: byte `16 * (a0 + 4*a1) + (w0 + 4*w1)` is `T(a0, a1, w0, w1)`.
pub const fn table() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (row, entry) = (at as u8 / 16, at as u8 % 16);
        let (a0, a1, w0, w1) = (row % 4, row / 4, entry % 4, entry / 4);
        table[at] = activation_share(a0 + a1) + weight_share(w0 + w1) - a0 * w0 - a1 * w1;
        at += 1;
    }
    table
}

/// The stored form of a pair of activation codes: the offset of its table row.
pub const fn row_offset(a0: u8, a1: u8) -> u8 {
    16 * (a0 + 4 * a1)
}

/// The byte of an output channel in a vector of weight indices and in the byte accumulator.
///
/// Even bytes are channels 0 to 7 and odd bytes are channels 8 to 15. So widening to 16 bits, by a mask for even bytes and a shift for
/// odd bytes, yields the channels in order.
pub const fn channel_lane(channel: usize) -> usize {
    2 * (channel % 8) + channel / 8
}

/// Weights packed for the look-up kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWeights {
    /// Index vectors of 16 bytes in the order of the layout.
    pub indices: Vec<u8>,
    /// `sum H - za * sum w + K * za * zw` for each output channel, for the `za` that [`pack`] was given.
    pub constants: Vec<i32>,
}

/// Packs 2-bit weights. A unit of `layout` is a pair of channels. If the number of channels is odd, the last pair has a padding channel,
/// whose weights and activations have code 0. `activation_zero_point` is counted from the lowest code.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    layout: &WeightLayout,
    activation_zero_point: i32,
) -> Result<RowWeights, PackError> {
    let shape = weights.shape();
    let unsupported = |reason| PackError::Unsupported { kernel: "pairs-128", reason };
    if layout.channels_per_vector != CHANNELS || layout.units_per_step != 1 {
        return Err(unsupported("the layout is not that of the look-up kernel"));
    }
    if layout.shape.inputs != shape.inputs.div_ceil(2) || (shape.groups > 1 && !shape.inputs.is_multiple_of(2)) {
        return Err(unsupported("the channels of a group are not whole pairs"));
    }
    if (0..shape.total_outputs()).any(|output| weights.channel(output).iter().fold(0, |all, &code| all | code) > 3) {
        return Err(unsupported("a code does not fit 2 bits"));
    }
    let mut indices = vec![0; layout.vector_count() * 16];
    let mut shares = vec![0; shape.total_outputs()];
    layout.for_each_vector(|group, vector, run, step, index| {
        let Some((ky, kx, unit)) = layout.position(run, step) else { return Ok(()) };
        let first = vector * CHANNELS;
        let outputs = group * shape.outputs + first..group * shape.outputs + shape.outputs.min(first + CHANNELS);
        // The positions of both codes of the pair within an output channel; a padding channel has none.
        let at = shape.index(0, 2 * unit, ky, kx);
        let next = (2 * unit + 1 < shape.inputs).then(|| shape.index(0, 2 * unit + 1, ky, kx));
        let lanes = &mut indices[index * 16..][..16];
        for (channel, output) in outputs.enumerate() {
            let codes = weights.channel(output);
            let (w0, w1) = (codes[at], next.map_or(0, |next| codes[next]));
            lanes[channel_lane(channel)] = w0 + 4 * w1;
            shares[output] += i32::from(weight_share(w0 + w1));
        }
        Ok::<(), PackError>(())
    })?;
    let sums = weights.centred_sums();
    let constants = shares.iter().zip(sums).map(|(share, sum)| share - activation_zero_point * sum).collect();
    Ok(RowWeights { indices, constants })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Runs;
    use crate::weights::WeightShape;

    #[test]
    fn the_table_is_small_and_exact() {
        let table = table();
        assert_eq!(*table.iter().max().unwrap() as usize * STEPS_PER_DRAIN, 252);
        assert_eq!(table[0], 0);
        for (at, &entry) in table.iter().enumerate() {
            let (row, index) = (at as i32 / 16, at as i32 % 16);
            let (a0, a1, w0, w1) = (row % 4, row / 4, index % 4, index / 4);
            let shares = 3 * (a0 + a1) / 2 + (3 * (w0 + w1) + 1) / 2;
            assert_eq!(i32::from(entry), shares - a0 * w0 - a1 * w1);
        }
    }

    /// Compares the kernel in scalar arithmetic, computed as the emitted loops do, with the sum of products.
    #[test]
    fn the_packed_form_gives_the_sum() {
        for (inputs, runs) in [(5, Runs::Row { pixel_stride: 3 }), (4, Runs::Tap), (6, Runs::Row { pixel_stride: 4 })] {
            let shape = WeightShape { groups: 1, outputs: 21, inputs, kernel_height: 2, kernel_width: 3 };
            let mut state = 1u32;
            let mut next = move |bound: u32| {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                (state >> 16) % bound
            };
            let codes: Vec<u8> = (0..21 * shape.reduction()).map(|_| next(4) as u8).collect();
            let zero_points: Vec<i32> = (0..21).map(|_| next(4) as i32).collect();
            let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
            let units = WeightShape { inputs: inputs.div_ceil(2), ..shape };
            let layout = WeightLayout {
                shape: units,
                runs,
                channels_per_vector: CHANNELS,
                units_per_step: 1,
                vectors_per_block: 2,
            };
            let za = 2;
            let packed = pack(&weights, &layout, za).unwrap();
            let activations: Vec<u8> = (0..shape.reduction()).map(|_| next(4) as u8).collect();
            let activation = |ky: usize, kx: usize, c: usize| {
                if c < inputs { activations[(ky * 3 + kx) * inputs + c] } else { 0 }
            };
            let table = table();
            for (output, &zero_point) in zero_points.iter().enumerate() {
                let (mut sum_t, mut sum_g, mut sum_a, mut expected) = (0, 0, 0, 0);
                for run in 0..layout.run_count() {
                    for step in 0..layout.steps_per_run() {
                        let index = layout.vector_index(0, output / 16, run, step);
                        let entry = usize::from(packed.indices[index * 16 + channel_lane(output % 16)]);
                        let Some((ky, kx, unit)) = layout.position(run, step) else {
                            assert_eq!(entry, 0);
                            continue;
                        };
                        let (a0, a1) = (activation(ky, kx, 2 * unit), activation(ky, kx, 2 * unit + 1));
                        sum_t += i32::from(table[usize::from(row_offset(a0, a1)) + entry]);
                        sum_g += i32::from(activation_share(a0 + a1));
                        sum_a += i32::from(a0 + a1);
                    }
                }
                for ky in 0..2 {
                    for kx in 0..3 {
                        for c in 0..inputs {
                            expected += (i32::from(activation(ky, kx, c)) - za) * weights.centred(output, c, ky, kx);
                        }
                    }
                }
                assert_eq!(-sum_t + sum_g - zero_point * sum_a + packed.constants[output], expected);
            }
        }
    }
}
