//! Depthwise convolutions that the code generator emits, in 128-bit vectors.

use super::{CHANNELS, DepthwiseProduct, FLOAT_CHANNELS};
use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, Kernel, KernelInfo, Refusal};
use crate::query::Query;
use crate::tier::Tier;
use std::ops::RangeInclusive;

/// An emitted depthwise kernel.
#[derive(Debug)]
pub struct EmittedDepthwise {
    info: KernelInfo,
    product: DepthwiseProduct,
    /// Multiply-accumulates per cycle, measured on 3x3 layers on an Intel Xeon (Emerald Rapids).
    rate: f64,
}

const fn info(
    name: &'static str,
    bits: RangeInclusive<u8>,
    channels_per_vector: usize,
    vector_bytes: usize,
    activations: ActivationFormat,
) -> KernelInfo {
    let (low, high) = (*bits.start(), *bits.end());
    KernelInfo {
        name,
        tier: Tier::X86V2,
        implementation: Implementation::Emitted,
        superseded: &[],
        weight_bits: low..=high,
        activation_bits: low..=high,
        channels_per_vector,
        units_per_step: 1,
        vector_bytes,
        activations,
    }
}

/// Two taps per `pmaddubsw`, summed in 16 bits.
pub static MADDUBS: EmittedDepthwise = EmittedDepthwise {
    info: info("depthwise-maddubs", 2..=8, CHANNELS, 32, ActivationFormat::Byte),
    product: DepthwiseProduct::Bytes,
    rate: 10.0,
};

/// Two taps per `pmaddwd`, summed in 32 bits.
pub static MADD16: EmittedDepthwise = EmittedDepthwise {
    info: info("depthwise-madd16", 2..=8, CHANNELS, 64, ActivationFormat::Byte),
    product: DepthwiseProduct::Shorts,
    rate: 5.0,
};

/// Products of floats.
pub static FLOAT: EmittedDepthwise = EmittedDepthwise {
    info: info("depthwise-float", 32..=32, FLOAT_CHANNELS, 16, ActivationFormat::Float),
    product: DepthwiseProduct::Floats,
    rate: 4.0,
};

impl Kernel for EmittedDepthwise {
    fn info(&self) -> &KernelInfo {
        &self.info
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.depthwise()?;
        // The zero-point of the activations is subtracted after the sums, so these are sums of raw codes.
        if self.product == DepthwiseProduct::Bytes && query.largest_raw_sum() > i16::MAX as u64 {
            return Err(Refusal::new("sums may exceed 16 bits"));
        }
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.macs() / self.rate
    }

    fn execution(&self) -> Execution {
        Execution::EmittedDepthwise(self.product)
    }
}
