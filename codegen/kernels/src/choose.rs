//! Which kernel serves a layer.

use crate::dot::steps_per_drain;
use crate::lookup;
use crate::table::{Implementation, KernelId};
use crate::tier::Tier;
use crate::weights::{QuantizedWeights, WeightShape};
use crate::{cost, pairs, triples, winograd};

/// Depthwise filters of more taps than this go the way of grouped convolutions: the depthwise kernels unroll all taps.
pub const DEPTHWISE_TAPS: usize = 128;

/// Steps between drains from which sums of 16 bits are faster than products of 16 bits, in 256-bit vectors.
const LEAST_STEPS: usize = 4;

/// The same for Winograd's products against direct ones.
const LEAST_STEPS_WINOGRAD: usize = 2;

/// What a kernel's choice depends on beside the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps of the filter, `[y, x]`.
    pub strides: [usize; 2],
    /// Distances of its taps, `[y, x]`.
    pub dilations: [usize; 2],
    /// Output pixels, `[y, x]`.
    pub output: [usize; 2],
}

/// The kernels that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelSet {
    /// What the CPU offers.
    pub tier: Tier,
    /// Whether precompiled kernels are there too: not in an object file.
    pub precompiled: bool,
}

impl KernelSet {
    /// Everything that a CPU of the tier runs.
    pub fn all(tier: Tier) -> KernelSet {
        KernelSet { tier, precompiled: true }
    }

    /// What the code generator writes for the tier.
    pub fn emitted(tier: Tier) -> KernelSet {
        KernelSet { tier, precompiled: false }
    }

    /// Whether it has the emitted kernels of this tier.
    pub fn has(self, tier: Tier) -> bool {
        self.tier.includes(tier)
    }

    /// Whether it has the precompiled kernels of this tier.
    pub fn has_precompiled(self, tier: Tier) -> bool {
        self.precompiled && self.has(tier)
    }

    /// Whether it has the kernel.
    pub fn contains(self, kernel: KernelId) -> bool {
        let info = kernel.info();
        match info.implementation {
            Implementation::Emitted => info.tiers().any(|tier| self.has(tier)),
            Implementation::Precompiled(_) => info.tiers().any(|tier| self.has_precompiled(tier)),
        }
    }
}

/// What a layer of quantized weights and activations asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The weights.
    pub weights: &'a QuantizedWeights<'a>,
    /// Width of the weight codes.
    pub weight_bits: u8,
    /// Width of the activation codes.
    pub activation_bits: u8,
    /// Zero-point of the activations on the scale of unsigned codes.
    pub activation_zero_point: i32,
    /// The window.
    pub window: Window,
    /// The kernels to choose from.
    pub kernels: KernelSet,
}

/// The kernel for a layer, and what follows from the weights' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The kernel.
    pub kernel: KernelId,
    /// Steps after which narrow accumulators must be widened; 0 where the kernel has none.
    pub steps_per_drain: usize,
    /// The largest `sum |w - zw|` of an output channel.
    pub largest_absolute_sum: u64,
    /// A bound on the magnitude of every result, `|sum (a - za)(w - zw)|`.
    pub largest_result: u64,
}

impl Choice {
    /// Whether every possible result fits a signed 16-bit integer.
    pub fn fits_i16(&self) -> bool {
        self.largest_result <= i16::MAX as u64
    }
}

impl Request<'_> {
    fn largest_code(&self) -> u32 {
        (1 << self.activation_bits) - 1
    }

    /// A kernel, and the bounds that hold for whichever it is.
    fn choice(&self, kernel: KernelId, steps_per_drain: usize) -> Choice {
        let largest = (self.largest_code() as i32 - self.activation_zero_point).max(self.activation_zero_point);
        let largest_absolute_sum = self.weights.largest_absolute_sum();
        let largest_result = largest_absolute_sum * u64::from(largest.unsigned_abs());
        Choice { kernel, steps_per_drain, largest_absolute_sum, largest_result }
    }
}

/// The kernel for a layer of quantized weights.
pub fn choose(request: &Request<'_>) -> Choice {
    let shape = request.weights.shape();
    let dot = choose_dot(request);
    let largest_result = dot.largest_result;
    let choice = |kernel, steps_per_drain| Choice { kernel, steps_per_drain, ..dot };
    if shape.is_depthwise() && shape.reduction() <= DEPTHWISE_TAPS {
        if request.kernels.has_precompiled(Tier::Avx512Vnni) {
            return choice(KernelId::Depthwise512, 0);
        }
        // Here the accumulator holds raw codes, `sum a * (w - zw)`.
        let raw = dot.largest_absolute_sum * u64::from(request.largest_code());
        let kernel = if raw <= i16::MAX as u64 { KernelId::DepthwiseMaddubs } else { KernelId::DepthwiseMadd16 };
        return choice(kernel, 0);
    }
    if pairs_pay(request.kernels) && takes_lookup(shape, request.weight_bits, request.activation_bits) {
        let limit = KernelId::Lookup.info().k_limit.unwrap_or(usize::MAX);
        if largest_result <= i16::MAX as u64 || shape.reduction() <= limit {
            return choice(KernelId::Lookup, lookup::STEPS_PER_DRAIN);
        }
    }
    let mut best = (dot, f64::INFINITY);
    for (offer, cycles) in offers(request, dot) {
        if cycles < best.1 {
            best = (offer, cycles);
        }
    }
    best.0
}

/// The precompiled kernels that serve a layer of a dense or grouped convolution exactly, and what they cost in cycles.
fn offers(request: &Request<'_>, dot: Choice) -> Vec<(Choice, f64)> {
    let kernels = request.kernels;
    if !kernels.has_precompiled(Tier::X86V3) {
        return vec![];
    }
    let mut all = vec![(dot, cost::multiplied(request, dot.kernel))];
    let mut add = |kernel, steps_per_drain, cycles| all.push((Choice { kernel, steps_per_drain, ..dot }, cycles));
    if !kernels.has_precompiled(Tier::Avx512Vnni) {
        if takes_pairs(request, dot.largest_absolute_sum) {
            add(KernelId::Lookup256, 0, cost::looked_up(request, KernelId::Lookup256));
        }
        let tile = winograd::Tile::TwoByTwo;
        if takes_winograd(request, tile, dot.largest_result) {
            let steps = winograd::steps_per_drain(request.weights, request.largest_code() as u8);
            let (kernel, steps) = match kernels.has(Tier::X86V3Vnni) {
                true => (KernelId::WinogradVnni256, 0),
                false => (KernelId::WinogradMaddubs256, steps),
            };
            if kernel == KernelId::WinogradVnni256 || steps >= LEAST_STEPS_WINOGRAD {
                add(kernel, steps, cost::winograd(request, tile, kernel));
            }
        }
        return all;
    }
    if kernels.has_precompiled(Tier::Avx512Vbmi) && takes_triples(request) {
        add(KernelId::Lookup512, triples::STEPS_PER_DRAIN, cost::looked_up(request, KernelId::Lookup512));
    }
    for tile in winograd::Tile::ALL.into_iter().filter(|&tile| takes_winograd(request, tile, dot.largest_result)) {
        add(tile.kernel(), 0, cost::winograd(request, tile, tile.kernel()));
    }
    all
}

/// Every kernel that serves a layer exactly, the one that [`choose`] prefers first.
pub fn candidates(request: &Request<'_>) -> Vec<Choice> {
    let mut all = vec![choose(request)];
    let shape = request.weights.shape();
    if shape.is_depthwise() && shape.reduction() <= DEPTHWISE_TAPS {
        return all;
    }
    let dot = choose_dot(request);
    for choice in offers(request, dot).into_iter().map(|offer| offer.0).chain([dot]) {
        if all.iter().all(|known| known.kernel != choice.kernel) {
            all.push(choice);
        }
    }
    all
}

/// Whether look-ups of three channels can serve the layer: operands of 2 bits, one group.
fn takes_triples(request: &Request<'_>) -> bool {
    let shape = request.weights.shape();
    request.weight_bits == 2 && request.activation_bits == 2 && shape.groups == 1 && triples::fits(shape)
}

/// Whether look-ups of two channels can serve the layer in 256-bit vectors: operands of 2 bits, one group, zero-points that
/// mirrored weights have in common.
fn takes_pairs(request: &Request<'_>, largest_absolute_sum: u64) -> bool {
    let two_bits = request.weight_bits == 2 && request.activation_bits == 2;
    let fits = request.weights.shape().groups == 1 && pairs::fits(largest_absolute_sum);
    two_bits && fits && pairs::centre(request.weights).is_some()
}

/// Whether Winograd's algorithm with tiles of that form can serve the layer: its transformed operands fit bytes, its sums 32 bits.
fn takes_winograd(request: &Request<'_>, tile: winograd::Tile, largest_result: u64) -> bool {
    let (shape, window) = (request.weights.shape(), &request.window);
    let square = shape.kernel_height == 3 && shape.kernel_width == 3 && shape.groups == 1;
    let dense = window.strides == [1, 1] && window.dilations == [1, 1];
    square
        && dense
        && shape.inputs >= 16
        && shape.outputs >= 16
        && tile.scale() as u64 * largest_result <= i32::MAX as u64
        && u8::try_from(request.largest_code()).is_ok_and(|levels| tile.takes(levels))
        && winograd::fits(request.weights, tile)
}

/// The dot kernel for a layer: what [`choose`] falls back to, and the only choice for activations that lie a byte each.
pub fn choose_dot(request: &Request<'_>) -> Choice {
    let choice = |kernel, steps_per_drain| request.choice(kernel, steps_per_drain);
    if request.kernels.has_precompiled(Tier::Avx512Vnni) {
        return choice(KernelId::DotVnni512, 0);
    }
    if request.kernels.has_precompiled(Tier::X86V3Vnni) {
        return choice(KernelId::DotVnni256, 0);
    }
    if request.kernels.has(Tier::X86V3Vnni) {
        return choice(KernelId::DotVnni, 0);
    }
    if request.kernels.has(Tier::Aarch64I8mm) {
        return choice(KernelId::DotUsdot, 0);
    }
    let steps = steps_per_drain(request.largest_code(), request.weights.largest_absolute());
    if request.kernels.has(Tier::Aarch64Neon) {
        // Without `sdot`, pairs of 16-bit products are cheaper than sums of four, as long as they rarely have to be widened.
        let pairs = steps >= 4 && request.activation_bits < 8 && !request.kernels.has(Tier::Aarch64Dotprod);
        return if pairs { choice(KernelId::DotMaddubs, steps) } else { choice(KernelId::DotSigned, 0) };
    }
    if request.kernels.has_precompiled(Tier::X86V3) {
        return if steps >= LEAST_STEPS {
            choice(KernelId::DotMaddubs256, steps)
        } else {
            choice(KernelId::DotMadd256, 0)
        };
    }
    match steps {
        0 => choice(KernelId::DotMadd16, 0),
        steps => choice(KernelId::DotMaddubs, steps),
    }
}

/// The kernel for a layer left in float.
pub fn choose_float(shape: &WeightShape, kernels: KernelSet) -> KernelId {
    if shape.is_depthwise() && shape.reduction() <= DEPTHWISE_TAPS {
        let wide = kernels.has_precompiled(Tier::Avx512Vnni);
        if wide { KernelId::DepthwiseFloat512 } else { KernelId::DepthwiseFloat }
    } else if kernels.has_precompiled(Tier::Avx512Vnni) {
        KernelId::Float512
    } else if kernels.has_precompiled(Tier::X86V3) {
        KernelId::Float256
    } else {
        KernelId::FloatDot
    }
}

/// Whether look-ups of two channels are the fastest way to multiply 2-bit codes. Not with wider vectors; and not with `sdot`: a `tbl`
/// and an `add` do the 32 products of two `sdot`, and need a table row for each pixel besides.
fn pairs_pay(kernels: KernelSet) -> bool {
    !kernels.has_precompiled(Tier::X86V3) && !kernels.has(Tier::Aarch64Dotprod)
}

/// Whether the look-up kernel takes the operands: both 2 bits, and each group whole pairs of channels.
fn takes_lookup(shape: &WeightShape, weight_bits: u8, activation_bits: u8) -> bool {
    weight_bits == 2 && activation_bits == 2 && (shape.groups == 1 || shape.inputs.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::Architecture;

    fn chosen(shape: WeightShape, code: u8, zero: i32, w: u8, a: u8, tier: Tier) -> Choice {
        chosen_among(shape, code, zero, [w, a], KernelSet::all(tier))
    }

    fn chosen_among(shape: WeightShape, code: u8, zero: i32, [w, a]: [u8; 2], kernels: KernelSet) -> Choice {
        let codes = vec![code; shape.total_outputs() * shape.reduction()];
        let zero_points = vec![zero; shape.total_outputs()];
        let weights = QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
        let window = Window { strides: [1; 2], dilations: [1; 2], output: [8; 2] };
        choose(&Request {
            weights: &weights,
            weight_bits: w,
            activation_bits: a,
            activation_zero_point: 0,
            window,
            kernels,
        })
    }

    const DENSE: WeightShape = WeightShape { groups: 1, outputs: 2, inputs: 7, kernel_height: 3, kernel_width: 3 };

    #[test]
    fn two_bits_are_looked_up_where_vectors_have_128_bits() {
        for kernels in
            [KernelSet::all(Tier::X86V2), KernelSet::emitted(Tier::X86V3), KernelSet::emitted(Tier::X86V3Vnni)]
        {
            assert_eq!(chosen_among(DENSE, 3, 1, [2, 2], kernels).kernel, KernelId::Lookup);
        }
        let odd_groups = WeightShape { groups: 2, ..DENSE };
        let kernel = chosen_among(odd_groups, 3, 1, [2, 2], KernelSet::emitted(Tier::X86V3Vnni)).kernel;
        assert_eq!(kernel, KernelId::DotVnni);
    }

    #[test]
    fn large_two_bit_layers_are_looked_up() {
        let shape = |c, k| WeightShape { groups: 1, outputs: c, inputs: c, kernel_height: k, kernel_width: k };
        assert_eq!(chosen(shape(512, 3), 3, 1, 2, 2, Tier::Avx512Vbmi).kernel, KernelId::Winograd512);
        assert_eq!(chosen(shape(256, 1), 3, 0, 2, 2, Tier::Avx512Vbmi).kernel, KernelId::Lookup512);
        assert_eq!(chosen(shape(64, 1), 3, 0, 2, 2, Tier::Avx512Vbmi).kernel, KernelId::DotVnni512);
        assert_eq!(chosen(shape(256, 1), 7, 0, 3, 2, Tier::Avx512Vbmi).kernel, KernelId::DotVnni512);
    }

    #[test]
    fn two_bits_are_looked_up_in_pairs_with_avx2() {
        let shape = |c, k| WeightShape { groups: 1, outputs: 64, inputs: c, kernel_height: k, kernel_width: k };
        for (c, kernel, tier) in
            [(64, 3, Tier::X86V3), (64, 1, Tier::X86V3), (256, 3, Tier::X86V3), (64, 1, Tier::X86V3Vnni)]
        {
            assert_eq!(chosen(shape(c, kernel), 3, 1, 2, 2, tier).kernel, KernelId::Lookup256, "{c} {kernel} {tier}");
        }
        assert_eq!(chosen(shape(64, 1), 7, 1, 3, 2, Tier::X86V3).kernel, KernelId::DotMaddubs256);
        // No table has such weights, or 16 bits such sums.
        assert_eq!(chosen(shape(64, 1), 3, 4, 2, 2, Tier::X86V3).kernel, KernelId::DotMaddubs256);
        let limit = KernelId::Lookup256.info().k_limit.unwrap();
        assert_eq!(chosen(shape(limit, 1), 3, 0, 2, 2, Tier::X86V3).kernel, KernelId::Lookup256);
        assert_eq!(chosen(shape(limit + 2, 1), 3, 0, 2, 2, Tier::X86V3).kernel, KernelId::DotMaddubs256);
        assert_eq!(chosen(shape(limit + 2, 1), 3, 1, 2, 2, Tier::X86V3).kernel, KernelId::Lookup256);
    }

    #[test]
    fn winograd_takes_what_fits_bytes() {
        let shape = WeightShape { groups: 1, outputs: 64, inputs: 64, kernel_height: 3, kernel_width: 3 };
        assert_eq!(chosen(shape, 3, 1, 2, 2, Tier::Avx512Vnni).kernel, KernelId::WinogradThreeFour512);
        // 63 times 3 does not fit a signed byte, 9 times 3 does.
        assert_eq!(chosen(shape, 3, 0, 2, 2, Tier::Avx512Vnni).kernel, KernelId::Winograd512);
        // 60 times 7 does not fit an unsigned byte, 36 times 7 does.
        assert_eq!(chosen(shape, 3, 1, 2, 3, Tier::Avx512Vnni).kernel, KernelId::WinogradThree512);
        assert_eq!(chosen(shape, 15, 8, 4, 4, Tier::Avx512Vbmi).kernel, KernelId::Winograd512);
        // Nine times 15 does not fit a signed byte.
        assert_eq!(chosen(shape, 15, 0, 4, 4, Tier::Avx512Vbmi).kernel, KernelId::DotVnni512);
        assert_eq!(chosen(shape, 15, 8, 4, 8, Tier::Avx512Vbmi).kernel, KernelId::DotVnni512);
        assert_eq!(chosen(shape, 3, 0, 2, 2, Tier::X86V3Vnni).kernel, KernelId::WinogradVnni256);
        let choice = chosen(shape, 3, 0, 2, 3, Tier::X86V3);
        assert_eq!((choice.kernel, choice.steps_per_drain), (KernelId::WinogradMaddubs256, 21));
        // One product in 16 bits: direct sums have room for many.
        let choice = chosen(shape, 0, 8, 4, 6, Tier::X86V3);
        assert_eq!((choice.kernel, choice.steps_per_drain), (KernelId::DotMaddubs256, 32));
    }

    #[test]
    fn saturation_decides_without_vnni() {
        for (kernels, small, large) in [
            (KernelSet::all(Tier::X86V2), KernelId::DotMaddubs, KernelId::DotMadd16),
            (KernelSet::emitted(Tier::X86V3), KernelId::DotMaddubs, KernelId::DotMadd16),
            (KernelSet::all(Tier::X86V3), KernelId::DotMaddubs256, KernelId::DotMadd256),
        ] {
            assert_eq!(chosen_among(DENSE, 255, 128, [8, 8], kernels).kernel, large);
            let choice = chosen_among(DENSE, 15, 0, [4, 4], kernels);
            assert_eq!((choice.kernel, choice.steps_per_drain), (small, 72));
        }
        assert_eq!(chosen(DENSE, 255, 128, 8, 8, Tier::X86V3Vnni).kernel, KernelId::DotVnni256);
    }

    #[test]
    fn arm_dot_products_follow_the_tier() {
        let eight = |tier| chosen(DENSE, 255, 128, 8, 8, tier).kernel;
        assert_eq!(
            Tier::of(Architecture::Aarch64).map(eight).collect::<Vec<_>>(),
            [KernelId::DotSigned, KernelId::DotSigned, KernelId::DotUsdot]
        );
        assert_eq!(chosen(DENSE, 15, 0, 4, 4, Tier::Aarch64Neon).kernel, KernelId::DotMaddubs);
        assert_eq!(chosen(DENSE, 15, 0, 4, 4, Tier::Aarch64Dotprod).kernel, KernelId::DotSigned);
        let two = |tier| chosen(DENSE, 3, 1, 2, 2, tier).kernel;
        assert_eq!(
            Tier::of(Architecture::Aarch64).map(two).collect::<Vec<_>>(),
            [KernelId::Lookup, KernelId::DotSigned, KernelId::DotUsdot]
        );
    }

    #[test]
    fn an_object_gets_emitted_kernels_only() {
        let codes = vec![255; DENSE.total_outputs() * DENSE.reduction()];
        let weights = QuantizedWeights::new(DENSE, &codes, &[128; 2]).unwrap();
        for tier in Tier::ALL {
            for (weight_bits, activation_bits) in [(8, 8), (4, 8)] {
                let kernels = KernelSet::emitted(tier);
                let request = Request {
                    weights: &weights,
                    weight_bits,
                    activation_bits,
                    activation_zero_point: 0,
                    window: Window { strides: [1; 2], dilations: [1; 2], output: [8; 2] },
                    kernels,
                };
                let kernel = choose(&request).kernel;
                assert_eq!(kernel.info().implementation, Implementation::Emitted, "{tier}");
                assert!(kernels.contains(kernel), "{tier}: {}", kernel.name());
                assert!(kernels.contains(choose_float(&DENSE, kernels)));
            }
        }
    }

    #[test]
    fn depthwise_kernels_are_chosen_by_their_sums() {
        let shape = WeightShape { groups: 5, outputs: 1, inputs: 1, kernel_height: 3, kernel_width: 3 };
        assert_eq!(chosen(shape, 15, 0, 4, 4, Tier::X86V2).kernel, KernelId::DepthwiseMaddubs);
        assert_eq!(chosen(shape, 255, 128, 8, 8, Tier::X86V2).kernel, KernelId::DepthwiseMadd16);
    }

    #[test]
    fn large_reductions_that_need_32_bits_leave_the_lookup() {
        let shape = WeightShape { groups: 1, outputs: 1, inputs: 20_000, kernel_height: 1, kernel_width: 1 };
        assert_eq!(chosen(shape, 3, 1, 2, 2, Tier::X86V2).kernel, KernelId::DotMaddubs);
        assert_eq!(chosen(shape, 1, 1, 2, 2, Tier::X86V2).kernel, KernelId::Lookup);
    }
}
