//! Weights of the depthwise kernels, where vector lanes are channels and there is no reduction over channels.
//!
//! The emitted kernels interleave the activation vectors of two taps, so that the two taps of a channel are neighbours. A multiply-add
//! of neighbours (`pmaddubsw`, `pmaddwd`) then sums over taps. An odd number of taps is padded with a zero weight.

use super::BLOCK;
use super::rows::{COLUMN_TAPS, PairWeights};
use crate::weights::{FloatWeights, PackError, QuantizedWeights};

/// Channels in a block.
pub const CHANNELS: usize = 16;

/// Channels in a block of the float kernel.
pub const FLOAT_CHANNELS: usize = 4;

/// Packed depthwise weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthwiseWeights<T> {
    /// The weights. [`pack`] orders them `[block of 16 channels][pair of taps][channel][tap of the pair]`.
    pub pairs: Vec<T>,
    /// `- za * sum (w - zw)` for each channel.
    pub constants: Vec<i32>,
}

/// Packs quantized weights as signed bytes or 16-bit integers.
pub fn pack<T: From<i8> + Copy>(
    weights: &QuantizedWeights<'_>,
    activation_zero_point: i32,
) -> Result<DepthwiseWeights<T>, PackError> {
    let shape = *weights.shape();
    if !shape.is_depthwise() {
        return Err(PackError::Unsupported { kernel: "depthwise", reason: "a group has more than one channel" });
    }
    let taps = shape.kernel_height * shape.kernel_width;
    let pair_count = taps.div_ceil(2);
    let mut pairs = vec![T::from(0); shape.groups.div_ceil(CHANNELS) * pair_count * CHANNELS * 2];
    for channel in 0..shape.groups {
        for tap in 0..taps {
            let value = weights.signed_byte(channel, 0, tap / shape.kernel_width, tap % shape.kernel_width)?;
            let block = (channel / CHANNELS) * pair_count + tap / 2;
            pairs[(block * CHANNELS + channel % CHANNELS) * 2 + tap % 2] = T::from(value);
        }
    }
    let constants = weights.centred_sums().into_iter().map(|sum| -activation_zero_point * sum).collect();
    Ok(DepthwiseWeights { pairs, constants })
}

/// Packs quantized weights for the 512-bit kernel: `[block of 64 channels][column of taps][four taps of the column][channel][tap]` in
/// signed bytes. The last block has only as many vectors of 16 channels as it needs. Columns are padded with 0 to a multiple of four taps.
pub fn pack_columns(
    weights: &QuantizedWeights<'_>,
    activation_zero_point: i32,
) -> Result<DepthwiseWeights<i8>, PackError> {
    let shape = *weights.shape();
    if !shape.is_depthwise() {
        return Err(PackError::Unsupported { kernel: "depthwise", reason: "a group has more than one channel" });
    }
    let mut pairs = Vec::new();
    for (first, lanes) in wide_blocks(shape.groups, 16) {
        for x in 0..shape.kernel_width {
            for y in (0..shape.kernel_height).step_by(COLUMN_TAPS) {
                for channel in first..first + lanes {
                    for tap in y..y + COLUMN_TAPS {
                        let inside = channel < shape.groups && tap < shape.kernel_height;
                        pairs.push(if inside { weights.signed_byte(channel, 0, tap, x)? } else { 0 });
                    }
                }
            }
        }
    }
    let constants = weights.centred_sums().into_iter().map(|sum| -activation_zero_point * sum).collect();
    Ok(DepthwiseWeights { pairs, constants })
}

/// Packs quantized weights for the 256-bit kernels: `[block of 64 channels][group of channels][pair of taps][channel][tap of the pair]`. Two
/// vectors of 128 bits are interleaved at once: the channels of a group come in the order of the first quarter, the third, the second and the
/// fourth. The last block has only as many groups as it needs. An odd number of taps is padded with a zero weight. The constants are padded to
/// whole groups.
pub fn pack_pairs<T: From<i8> + Copy>(
    weights: &QuantizedWeights<'_>,
    activation_zero_point: i32,
    format: PairWeights,
) -> Result<DepthwiseWeights<T>, PackError> {
    let shape = *weights.shape();
    if !shape.is_depthwise() {
        return Err(PackError::Unsupported { kernel: "depthwise", reason: "a group has more than one channel" });
    }
    let taps = shape.kernel_height * shape.kernel_width;
    let quarter = format.group() / 4;
    let mut pairs = Vec::new();
    for first in (0..shape.groups).step_by(format.group()) {
        for pair in (0..taps).step_by(2) {
            for channel in [0, 2, 1, 3].into_iter().flat_map(|q| first + q * quarter..first + (q + 1) * quarter) {
                for tap in pair..pair + 2 {
                    let inside = channel < shape.groups && tap < taps;
                    let (y, x) = (tap / shape.kernel_width, tap % shape.kernel_width);
                    pairs.push(T::from(if inside { weights.signed_byte(channel, 0, y, x)? } else { 0 }));
                }
            }
        }
    }
    let mut constants: Vec<i32> = weights.centred_sums().into_iter().map(|sum| -activation_zero_point * sum).collect();
    constants.resize(shape.groups.next_multiple_of(format.group()), 0);
    Ok(DepthwiseWeights { pairs, constants })
}

/// Packs float weights for the precompiled kernels: `[block of 64 channels][tap][channel]`, in vectors of `lanes` channels. The last block has
/// only as many vectors as it needs.
pub fn pack_wide_float(weights: &FloatWeights<'_>, lanes: usize) -> Result<Vec<f32>, PackError> {
    let shape = *weights.shape();
    if !shape.is_depthwise() {
        return Err(PackError::Unsupported { kernel: "depthwise", reason: "a group has more than one channel" });
    }
    let mut values = Vec::new();
    for (first, lanes) in wide_blocks(shape.groups, lanes) {
        for y in 0..shape.kernel_height {
            for x in 0..shape.kernel_width {
                let value = |c: usize| if c < shape.groups { weights.value(c, 0, y, x) } else { 0.0 };
                values.extend((first..first + lanes).map(value));
            }
        }
    }
    Ok(values)
}

/// First channel and number of channels of each block, in whole vectors of `lanes`.
fn wide_blocks(channels: usize, lanes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels).step_by(BLOCK).map(move |first| (first, (channels - first).min(BLOCK).next_multiple_of(lanes)))
}

/// Packs float weights: `[block of 4 channels][tap][channel]`.
pub fn pack_float(weights: &FloatWeights<'_>) -> Result<Vec<f32>, PackError> {
    let shape = *weights.shape();
    if !shape.is_depthwise() {
        return Err(PackError::Unsupported { kernel: "depthwise", reason: "a group has more than one channel" });
    }
    let taps = shape.kernel_height * shape.kernel_width;
    let mut values = vec![0.0; shape.groups.div_ceil(FLOAT_CHANNELS) * taps * FLOAT_CHANNELS];
    for channel in 0..shape.groups {
        for tap in 0..taps {
            let at = ((channel / FLOAT_CHANNELS) * taps + tap) * FLOAT_CHANNELS + channel % FLOAT_CHANNELS;
            values[at] = weights.value(channel, 0, tap / shape.kernel_width, tap % shape.kernel_width);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::WeightShape;

    #[test]
    fn pairs_hold_every_weight_of_their_channel() {
        let shape = WeightShape { groups: 19, outputs: 1, inputs: 1, kernel_height: 3, kernel_width: 3 };
        let codes: Vec<u8> = (0..19 * 9).map(|i| (i % 16) as u8).collect();
        let zero_points: Vec<i32> = (0..19).map(|c| c % 16).collect();
        let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
        let packed: DepthwiseWeights<i16> = pack(&weights, 2).unwrap();
        for channel in 0..19 {
            let mut sum = 0;
            for tap in 0..10 {
                let block = (channel / 16) * 5 + tap / 2;
                let value = i32::from(packed.pairs[(block * 16 + channel % 16) * 2 + tap % 2]);
                let expected = if tap < 9 { weights.centred(channel, 0, tap / 3, tap % 3) } else { 0 };
                assert_eq!(value, expected);
                sum += value;
            }
            assert_eq!(packed.constants[channel], -2 * sum);
        }
    }
}
