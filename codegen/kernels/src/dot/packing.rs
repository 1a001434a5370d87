//! Weights of the multiply-accumulate kernels: four (or two) codes of the reduction per step, or one float.
//!
//! A step broadcasts four consecutive activation codes `a[0..4]` (unsigned bytes) and multiplies them by a weight vector with four signed
//! bytes for each of its output channels: `acc[o] += sum_i a[i] * w[o][i]`. The packed weights have their zero-point subtracted. The
//! zero-point of the activations is a constant of each output channel, `- za * sum (w - zw)`; so padding with the code `za` adds nothing.

use crate::layout::WeightLayout;
use crate::weights::{FloatWeights, PackError, QuantizedWeights};

/// Activation codes per step of the integer kernels with 8-bit products.
pub const UNITS: usize = 4;

/// Output channels in a weight vector of 16 signed bytes, or of four floats.
pub const CHANNELS: usize = 4;

/// Weights packed for a dot kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotWeights {
    /// Weight vectors in the order of the layout, each `[channel][unit]` in signed bytes.
    pub bytes: Vec<i8>,
    /// `- za * sum (w - zw)` for each output channel.
    pub constants: Vec<i32>,
}

impl DotWeights {
    /// The bytes as 16-bit integers.
    pub fn widened(&self) -> Vec<i16> {
        self.bytes.iter().map(|&byte| i16::from(byte)).collect()
    }
}

/// Packs quantized weights. A unit of `layout` is an activation code; a step has four units, or two for kernels that multiply 16-bit integers.
pub fn pack(
    weights: &QuantizedWeights<'_>,
    layout: &WeightLayout,
    activation_zero_point: i32,
) -> Result<DotWeights, PackError> {
    let shape = *weights.shape();
    let units = layout.units_per_step;
    if layout.shape != shape || !(units == UNITS || units == UNITS / 2) {
        return Err(PackError::Unsupported { kernel: "dot", reason: "the layout is not that of a dot kernel" });
    }
    let channels = layout.channels_per_vector;
    let mut bytes = vec![0; layout.vector_count() * channels * units];
    layout.for_each_vector(|group, vector, run, step, index| {
        for unit in 0..units {
            let Some((ky, kx, input)) = layout.position(run, step * units + unit) else { continue };
            for lane in 0..channels {
                let channel = vector * channels + lane;
                if channel < shape.outputs {
                    let value = weights.signed_byte(group * shape.outputs + channel, input, ky, kx)?;
                    bytes[(index * channels + lane) * units + unit] = value;
                }
            }
        }
        Ok(())
    })?;
    let constants = weights.centred_sums().into_iter().map(|sum| -activation_zero_point * sum).collect();
    Ok(DotWeights { bytes, constants })
}

/// Packs float weights: one input value per step.
pub fn pack_float(weights: &FloatWeights<'_>, layout: &WeightLayout) -> Result<Vec<f32>, PackError> {
    let shape = *weights.shape();
    if layout.shape != shape || layout.units_per_step != 1 {
        return Err(PackError::Unsupported { kernel: "float", reason: "the layout is not that of the float kernel" });
    }
    let channels = layout.channels_per_vector;
    let mut values = vec![0.0; layout.vector_count() * channels];
    layout.for_each_vector(|group, vector, run, step, index| {
        let Some((ky, kx, input)) = layout.position(run, step) else { return Ok(()) };
        for lane in 0..channels {
            let channel = vector * channels + lane;
            if channel < shape.outputs {
                values[index * channels + lane] = weights.value(group * shape.outputs + channel, input, ky, kx);
            }
        }
        Ok::<(), PackError>(())
    })?;
    Ok(values)
}

/// Steps after which 16-bit accumulators of `pmaddubsw` results must be widened, given the largest activation code and the
/// largest `|w - zw|`; 0 if a single result may already saturate.
pub fn steps_per_drain(largest_activation: u32, largest_weight: u32) -> usize {
    let pair = 2 * largest_activation * largest_weight;
    (i16::MAX as u32).checked_div(pair).unwrap_or(i16::MAX as u32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Runs;
    use crate::weights::WeightShape;

    fn layout(shape: WeightShape, runs: Runs, channels: usize, units: usize) -> WeightLayout {
        WeightLayout { shape, runs, channels_per_vector: channels, units_per_step: units, vectors_per_block: 3 }
    }

    #[test]
    fn the_packed_form_gives_the_sum() {
        let shape = WeightShape { groups: 1, outputs: 15, inputs: 3, kernel_height: 2, kernel_width: 3 };
        let mut state = 7u32;
        let mut next = move || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as u8
        };
        let codes: Vec<u8> = (0..15 * 18).map(|_| next()).collect();
        let zero_points = vec![128; 15];
        let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
        let activations: Vec<u8> = (0..18).map(|_| next()).collect();
        let za = 3;
        for (runs, channels, units) in [
            (Runs::Row { pixel_stride: 3 }, 4, UNITS),
            (Runs::Row { pixel_stride: 4 }, 2, UNITS),
            (Runs::Row { pixel_stride: 3 }, 8, 2),
            (Runs::Tap, 4, UNITS),
            (Runs::Tap, 2, UNITS),
            (Runs::Tap, 8, 2),
        ] {
            let layout = layout(shape, runs, channels, units);
            let packed = pack(&weights, &layout, za).unwrap();
            for output in 0..15 {
                let mut sum = packed.constants[output];
                for run in 0..layout.run_count() {
                    for unit in 0..layout.steps_per_run() * units {
                        let index = layout.vector_index(0, output / channels, run, unit / units);
                        let weight = packed.bytes[(index * channels + output % channels) * units + unit % units];
                        match layout.position(run, unit) {
                            Some((ky, kx, c)) => {
                                sum += i32::from(activations[(ky * 3 + kx) * 3 + c]) * i32::from(weight);
                            }
                            None => assert_eq!(weight, 0),
                        }
                    }
                }
                let mut expected = 0;
                for (ky, kx, c) in (0..18).map(|k| (k / 9, k / 3 % 3, k % 3)) {
                    expected += (i32::from(activations[k_index(ky, kx, c)]) - za) * weights.centred(output, c, ky, kx);
                }
                assert_eq!(sum, expected, "{runs:?}");
            }
        }
    }

    fn k_index(ky: usize, kx: usize, c: usize) -> usize {
        (ky * 3 + kx) * 3 + c
    }

    #[test]
    fn a_weight_beyond_a_signed_byte_is_refused() {
        let shape = WeightShape { groups: 1, outputs: 1, inputs: 1, kernel_height: 1, kernel_width: 1 };
        let weights = QuantizedWeights::new(shape, &[255], &[0]).unwrap();
        let error = pack(&weights, &layout(shape, Runs::Tap, 4, UNITS), 0).unwrap_err();
        assert_eq!(error, PackError::Range { channel: 0, code: 255, zero_point: 0 });
    }

    #[test]
    fn drains_come_before_sixteen_bits_overflow() {
        assert_eq!(steps_per_drain(255, 64), 1);
        assert_eq!(steps_per_drain(255, 65), 0);
        assert_eq!(steps_per_drain(15, 15), 72);
        assert_eq!(steps_per_drain(15, 0), 32767);
    }
}
