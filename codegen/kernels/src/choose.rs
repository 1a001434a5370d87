//! The choice of a layer's kernel: the cheapest kernel of a list that supports the layer.

use crate::kernel::{ActivationFormat, Execution, Fit, Implementation, KernelRef, Refusal};
use crate::list::KERNELS;
use crate::query::Query;
use crate::tier::Tier;
use std::fmt;

/// The kernels that may be chosen.
#[derive(Clone, Copy)]
pub struct KernelSet {
    /// The instruction set.
    pub tier: Tier,
    /// Whether precompiled kernels may be chosen too. An object file cannot have them.
    pub precompiled: bool,
    /// All kernels, of every tier. Of two kernels with equal cost, the earlier one is chosen.
    pub list: &'static [KernelRef],
}

impl fmt::Debug for KernelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = if self.precompiled { "all" } else { "emitted" };
        write!(f, "{origin} kernels of {} of {}", self.tier, self.list.len())
    }
}

impl KernelSet {
    /// All kernels that a CPU of the tier runs.
    pub fn all(tier: Tier) -> KernelSet {
        KernelSet { tier, precompiled: true, list: KERNELS }
    }

    /// The kernels that the code generator emits for the tier.
    pub fn emitted(tier: Tier) -> KernelSet {
        KernelSet { tier, precompiled: false, list: KERNELS }
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
    pub fn contains(self, kernel: KernelRef) -> bool {
        let info = kernel.info();
        match info.implementation {
            Implementation::Emitted => info.tiers().any(|tier| self.has(tier)),
            Implementation::Precompiled => info.tiers().any(|tier| self.has_precompiled(tier)),
        }
    }

    /// The kernels that it has.
    pub fn kernels(self) -> impl Iterator<Item = KernelRef> {
        self.list.iter().copied().filter(move |&kernel| self.contains(kernel))
    }

    /// Output channels per vector of its widest dot-product kernel of codes.
    pub fn dot_channels(self) -> usize {
        let dot = |kernel: &KernelRef| {
            let execution = kernel.execution();
            let sums = matches!(execution, Execution::SumTiles(_) | Execution::EmittedDot(_));
            sums && kernel.info().activations == ActivationFormat::Byte
        };
        self.kernels().filter(dot).map(|kernel| kernel.info().channels_per_vector).max().unwrap_or(1)
    }

    /// A tier of the set whose kernels are faster than this one on every layer, if there is one.
    fn superseding(self, kernel: KernelRef) -> Option<Tier> {
        // AArch64 has no precompiled kernels, so its superseding kernels are emitted ones.
        let here =
            |tier: Tier| if tier.has_precompiled_kernels() { self.has_precompiled(tier) } else { self.has(tier) };
        kernel.info().superseded.iter().copied().find(|&tier| here(tier))
    }
}

/// A kernel for a layer, and the numbers that follow from the values of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The kernel.
    pub kernel: KernelRef,
    /// Steps after which narrow accumulators must be widened; 0 if the kernel has none.
    pub steps_per_drain: usize,
    /// Estimated cycles of the layer on one thread.
    pub cycles: f64,
    /// A bound on the magnitude of every result, `|sum (a - za)(w - zw)|`; 0 for floats.
    pub largest_result: u64,
}

impl Choice {
    /// Whether every possible result fits a signed 16-bit integer.
    pub fn fits_i16(&self) -> bool {
        self.largest_result <= i16::MAX as u64
    }
}

/// A kernel of a set that was considered for a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// The kernel.
    pub kernel: KernelRef,
    /// The resulting choice, or the reason why it does not serve the layer.
    pub outcome: Result<Choice, Refusal>,
}

/// Every kernel of the set in the order of the list, with its cost or the reason why it does not serve the layer.
pub fn consider(query: &Query<'_>) -> Vec<Considered> {
    let outcome = |kernel: KernelRef| {
        if let Some(tier) = query.kernels.superseding(kernel) {
            return Err(Refusal::new(format!("replaced by the kernels of {tier}")));
        }
        let Fit { steps_per_drain } = fits(kernel, query)?;
        let cycles = kernel.cycles(query, Fit { steps_per_drain });
        Ok(Choice { kernel, steps_per_drain, cycles, largest_result: query.largest_result() })
    };
    query.kernels.kernels().map(|kernel| Considered { kernel, outcome: outcome(kernel) }).collect()
}

/// Every kernel that serves a layer, cheapest first; [`choose`] takes the first.
pub fn candidates(query: &Query<'_>) -> Vec<Choice> {
    let mut all: Vec<Choice> = consider(query).into_iter().filter_map(|considered| considered.outcome.ok()).collect();
    all.sort_by(|a, b| a.cycles.total_cmp(&b.cycles));
    all
}

/// The kernel that serves a layer in the fewest estimated cycles.
///
/// # Errors
/// If no kernel of the set serves it, with the reason of each.
pub fn choose(query: &Query<'_>) -> Result<Choice, Refusal> {
    candidates(query).first().copied().ok_or_else(|| {
        let reasons: Vec<String> = consider(query)
            .into_iter()
            .filter_map(|considered| Some(format!("{}: {}", considered.kernel.name(), considered.outcome.err()?)))
            .collect();
        Refusal::new(format!("no kernel serves the layer ({})", reasons.join("; ")))
    })
}

/// Checks the widths of codes, which every kernel declares, then asks the kernel itself.
fn fits(kernel: KernelRef, query: &Query<'_>) -> Result<Fit, Refusal> {
    let info = kernel.info();
    let [weights, activations] = query.codes.map_or([32; 2], |codes| [codes.weight_bits, codes.activation_bits]);
    for (what, bits, taken) in
        [("weights", weights, &info.weight_bits), ("activations", activations, &info.activation_bits)]
    {
        if !taken.contains(&bits) {
            let (low, high) = (taken.start(), taken.end());
            let taken = if low == high { format!("{low}") } else { format!("{low} to {high}") };
            return Err(Refusal::new(format!("needs {what} of {taken} bits")));
        }
    }
    kernel.supports(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Kernel, KernelInfo};
    use crate::query::{CodeOperands, EpilogueQuery, Window};
    use crate::tier::Architecture;
    use crate::weights::{QuantizedWeights, WeightShape};

    fn chosen(shape: WeightShape, code: u8, zero: i32, [w, a]: [u8; 2], tier: Tier) -> &'static str {
        chosen_among(shape, code, zero, [w, a], KernelSet::all(tier)).kernel.name()
    }

    fn chosen_among(shape: WeightShape, code: u8, zero: i32, bits: [u8; 2], kernels: KernelSet) -> Choice {
        asked(shape, code, zero, bits, kernels, |query| choose(query).unwrap())
    }

    fn asked<R>(
        shape: WeightShape,
        code: u8,
        zero: i32,
        [weight_bits, activation_bits]: [u8; 2],
        kernels: KernelSet,
        ask: impl FnOnce(&Query<'_>) -> R,
    ) -> R {
        let codes = vec![code; shape.total_outputs() * shape.reduction()];
        let zero_points = vec![zero; shape.total_outputs()];
        let weights = &QuantizedWeights::new(shape, &codes, &zero_points).unwrap();
        let window = Window { strides: [1; 2], dilations: [1; 2], output: [8; 2] };
        let operands = CodeOperands { weights, weight_bits, activation_bits, activation_zero_point: 0 };
        ask(&Query::codes(operands, window, EpilogueQuery::PLAIN, kernels))
    }

    const DENSE: WeightShape = WeightShape { groups: 1, outputs: 2, inputs: 7, kernel_height: 3, kernel_width: 3 };

    #[test]
    fn two_bits_are_looked_up_where_vectors_have_128_bits() {
        for kernels in
            [KernelSet::all(Tier::X86V2), KernelSet::emitted(Tier::X86V3), KernelSet::emitted(Tier::X86V3Vnni)]
        {
            assert_eq!(chosen_among(DENSE, 3, 1, [2, 2], kernels).kernel.name(), "pairs-128");
        }
        let odd_groups = WeightShape { groups: 2, ..DENSE };
        let kernel = chosen_among(odd_groups, 3, 1, [2, 2], KernelSet::emitted(Tier::X86V3Vnni)).kernel;
        assert_eq!(kernel.name(), "dot-vnni");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn large_two_bit_layers_are_looked_up() {
        let shape = |c, k| WeightShape { groups: 1, outputs: c, inputs: c, kernel_height: k, kernel_width: k };
        assert_eq!(chosen(shape(512, 3), 3, 1, [2, 2], Tier::Avx512Vbmi), "winograd-vnni-512");
        assert_eq!(chosen(shape(256, 1), 3, 0, [2, 2], Tier::Avx512Vbmi), "triples-512");
        assert_eq!(chosen(shape(64, 1), 3, 0, [2, 2], Tier::Avx512Vbmi), "dot-vnni-512");
        assert_eq!(chosen(shape(256, 1), 7, 0, [3, 2], Tier::Avx512Vbmi), "dot-vnni-512");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn two_bits_are_looked_up_in_pairs_with_avx2() {
        let shape = |c, k| WeightShape { groups: 1, outputs: 64, inputs: c, kernel_height: k, kernel_width: k };
        for (c, kernel, tier) in
            [(64, 3, Tier::X86V3), (64, 1, Tier::X86V3), (256, 3, Tier::X86V3), (64, 1, Tier::X86V3Vnni)]
        {
            assert_eq!(chosen(shape(c, kernel), 3, 1, [2, 2], tier), "pairs-256", "{c} {kernel} {tier}");
        }
        assert_eq!(chosen(shape(64, 1), 7, 1, [3, 2], Tier::X86V3), "dot-maddubs-256");
        // There is no table for zero-point 4.
        assert_eq!(chosen(shape(64, 1), 3, 4, [2, 2], Tier::X86V3), "dot-maddubs-256");
        // The table entry of two such weights is at most 18, and totals have 16 bits.
        let limit = u16::MAX as usize / 18 * 2;
        assert_eq!(chosen(shape(limit, 1), 3, 0, [2, 2], Tier::X86V3), "pairs-256");
        assert_eq!(chosen(shape(limit + 2, 1), 3, 0, [2, 2], Tier::X86V3), "dot-maddubs-256");
        assert_eq!(chosen(shape(limit + 2, 1), 3, 1, [2, 2], Tier::X86V3), "pairs-256");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn winograd_takes_what_fits_bytes() {
        let shape = WeightShape { groups: 1, outputs: 64, inputs: 64, kernel_height: 3, kernel_width: 3 };
        assert_eq!(chosen(shape, 3, 1, [2, 2], Tier::Avx512Vnni), "winograd-3x4-vnni-512");
        // Filter transforms multiply weights by up to 63 (3x4 and 3x3 tiles) or 9 (2x2): 63 * 3 does not fit a signed byte, 9 * 3 does.
        assert_eq!(chosen(shape, 3, 0, [2, 2], Tier::Avx512Vnni), "winograd-vnni-512");
        // Transformed activations span up to 60 (3x4 tiles) or 36 (3x3) times the highest code: 60 * 7 does not fit a byte, 36 * 7 does.
        assert_eq!(chosen(shape, 3, 1, [2, 3], Tier::Avx512Vnni), "winograd-3x3-vnni-512");
        assert_eq!(chosen(shape, 15, 8, [4, 4], Tier::Avx512Vbmi), "winograd-vnni-512");
        // Even for 2x2 tiles, 9 * 15 does not fit a signed byte.
        assert_eq!(chosen(shape, 15, 0, [4, 4], Tier::Avx512Vbmi), "dot-vnni-512");
        assert_eq!(chosen(shape, 15, 8, [4, 8], Tier::Avx512Vbmi), "dot-vnni-512");
        assert_eq!(chosen(shape, 3, 0, [2, 2], Tier::X86V3Vnni), "winograd-vnni-256");
        let choice = chosen_among(shape, 3, 0, [2, 3], KernelSet::all(Tier::X86V3));
        assert_eq!((choice.kernel.name(), choice.steps_per_drain), ("winograd-maddubs-256", 21));
        // A sum of two transformed products may exceed 16 bits; direct sums have room for 32 steps.
        let choice = chosen_among(shape, 0, 8, [4, 6], KernelSet::all(Tier::X86V3));
        assert_eq!((choice.kernel.name(), choice.steps_per_drain), ("dot-maddubs-256", 32));
    }

    #[test]
    fn saturation_decides_without_vnni() {
        for (kernels, small, large) in [
            (KernelSet::all(Tier::X86V2), "dot-maddubs", "dot-madd16"),
            (KernelSet::emitted(Tier::X86V3), "dot-maddubs", "dot-madd16"),
            #[cfg(target_arch = "x86_64")]
            (KernelSet::all(Tier::X86V3), "dot-maddubs-256", "dot-madd16-256"),
        ] {
            assert_eq!(chosen_among(DENSE, 255, 128, [8, 8], kernels).kernel.name(), large);
            let choice = chosen_among(DENSE, 15, 0, [4, 4], kernels);
            assert_eq!((choice.kernel.name(), choice.steps_per_drain), (small, 72));
        }
        let vnni = chosen_among(DENSE, 255, 128, [8, 8], KernelSet::emitted(Tier::X86V3Vnni));
        assert_eq!(vnni.kernel.name(), "dot-vnni");
    }

    #[test]
    fn arm_dot_products_follow_the_tier() {
        let eight = |tier| chosen(DENSE, 255, 128, [8, 8], tier);
        assert_eq!(
            Tier::of(Architecture::Aarch64).map(eight).collect::<Vec<_>>(),
            ["dot-signed", "dot-signed", "dot-usdot"]
        );
        assert_eq!(chosen(DENSE, 15, 0, [4, 4], Tier::Aarch64Neon), "dot-maddubs");
        assert_eq!(chosen(DENSE, 15, 0, [4, 4], Tier::Aarch64Dotprod), "dot-signed");
        let two = |tier| chosen(DENSE, 3, 1, [2, 2], tier);
        assert_eq!(
            Tier::of(Architecture::Aarch64).map(two).collect::<Vec<_>>(),
            ["pairs-128", "dot-signed", "dot-usdot"]
        );
    }

    #[test]
    fn an_object_gets_emitted_kernels_only() {
        for tier in Tier::ALL {
            let kernels = KernelSet::emitted(tier);
            let window = Window { strides: [1; 2], dilations: [1; 2], output: [8; 2] };
            let floats = choose(&Query::floats(DENSE, window, EpilogueQuery::PLAIN, kernels)).unwrap();
            let codes = [[8, 8], [4, 8]].map(|bits| chosen_among(DENSE, 255, 128, bits, kernels));
            for choice in codes.into_iter().chain([floats]) {
                let kernel = choice.kernel;
                assert_eq!(kernel.info().implementation, Implementation::Emitted, "{tier}");
                assert!(kernels.contains(kernel), "{tier}: {}", kernel.name());
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_answer_is_given() {
        let shape = WeightShape { groups: 1, outputs: 64, inputs: 64, kernel_height: 3, kernel_width: 3 };
        let answers = asked(shape, 3, 0, [2, 2], KernelSet::all(Tier::X86V3), consider);
        let names: Vec<_> = answers.iter().map(|considered| considered.kernel.name()).collect();
        let expected: Vec<_> = KernelSet::all(Tier::X86V3).kernels().map(KernelRef::name).collect();
        assert_eq!(names, expected);
        for (name, reason) in [
            ("pairs-128", "replaced by the kernels of x86-64-v3"),
            ("depthwise-maddubs", "needs a depthwise layer of up to 128 taps"),
            ("float-256", "needs weights of 32 bits"),
        ] {
            let answer = answers.iter().find(|considered| considered.kernel.name() == name).unwrap();
            assert_eq!(answer.outcome.as_ref().unwrap_err().to_string(), reason);
        }
        let least = answers.iter().filter_map(|considered| considered.outcome.as_ref().ok()?.cycles.into());
        let least = least.min_by(f64::total_cmp);
        let choice = chosen_among(shape, 3, 0, [2, 2], KernelSet::all(Tier::X86V3));
        assert_eq!(Some(choice.cycles), least);
    }

    /// Adding a kernel takes a value and an entry in a list, nothing else.
    #[test]
    fn a_new_kernel_takes_part_in_the_choice() {
        struct Toy(KernelInfo);
        impl Kernel for Toy {
            fn info(&self) -> &KernelInfo {
                &self.0
            }

            fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
                let one = query.shape.outputs == 1;
                if one { Ok(Fit { steps_per_drain: 7 }) } else { Err(Refusal::new("it has one output channel")) }
            }

            fn cycles(&self, _: &Query<'_>, _: Fit) -> f64 {
                1.0
            }

            fn execution(&self) -> Execution {
                Execution::EmittedPairs
            }
        }
        static TOY: Toy = Toy(KernelInfo {
            name: "toy",
            tier: Tier::X86V2,
            implementation: Implementation::Emitted,
            superseded: &[],
            weight_bits: 3..=4,
            activation_bits: 2..=8,
            channels_per_vector: 1,
            units_per_step: 1,
            vector_bytes: 16,
            activations: ActivationFormat::Byte,
        });
        let list: Vec<KernelRef> = KERNELS.iter().copied().chain([KernelRef::new(&TOY)]).collect();
        let list: &'static [KernelRef] = list.leak();
        for kernels in [Tier::X86V2, Tier::Aarch64I8mm].map(KernelSet::all) {
            let kernels = KernelSet { list, ..kernels };
            let one = WeightShape { outputs: 1, ..DENSE };
            let choice = chosen_among(one, 3, 1, [4, 4], kernels);
            assert_eq!((choice.kernel.name(), choice.steps_per_drain), ("toy", 7));
            assert_ne!(chosen_among(one, 3, 1, [2, 4], kernels).kernel.name(), "toy");
            let answers = asked(DENSE, 3, 1, [4, 4], kernels, consider);
            let refused = answers.last().unwrap();
            assert_eq!(refused.outcome.as_ref().unwrap_err().to_string(), "it has one output channel");
        }
        assert_eq!(crate::find(list, "toy"), Some(KernelRef::new(&TOY)));
    }

    #[test]
    fn depthwise_kernels_are_chosen_by_their_sums() {
        let shape = WeightShape { groups: 5, outputs: 1, inputs: 1, kernel_height: 3, kernel_width: 3 };
        assert_eq!(chosen(shape, 15, 0, [4, 4], Tier::X86V2), "depthwise-maddubs");
        assert_eq!(chosen(shape, 255, 128, [8, 8], Tier::X86V2), "depthwise-madd16");
    }

    #[test]
    fn large_reductions_that_need_32_bits_leave_the_lookup() {
        let shape = WeightShape { groups: 1, outputs: 1, inputs: 20_000, kernel_height: 1, kernel_width: 1 };
        assert_eq!(chosen(shape, 3, 1, [2, 2], Tier::X86V2), "dot-maddubs");
        assert_eq!(chosen(shape, 1, 1, [2, 2], Tier::X86V2), "pairs-128");
    }
}
