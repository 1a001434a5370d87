//! A slow executor of programs and the means to build and compare them.
#![allow(dead_code)]

pub mod build;
pub mod reference;
pub mod scalar;
#[cfg(feature = "object")]
pub mod symbols;

use catc_jit::{CompiledProgram, Input, Options, OutputMut, ParallelFor, compile, prove};
use catc_kernels::Tier;
use catc_program::Program;

/// Random numbers, the same on every run.
pub struct Rng(pub u64);

impl Rng {
    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// A number in `low..=high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.range(low as i64, high as i64) as usize
    }

    /// A float in `-1..1`.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[(self.bits() % items.len() as u64) as usize]
    }
}

/// Runs a compiled program on f32 inputs and gives its f32 outputs.
pub fn run(compiled: &CompiledProgram, program: &Program, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut workspace = compiled.workspace(1).unwrap();
    run_in(compiled, program, inputs, &mut workspace)
}

/// The same in a workspace that may hold leftovers.
pub fn run_in(
    compiled: &CompiledProgram,
    program: &Program,
    inputs: &[Vec<f32>],
    workspace: &mut catc_jit::Workspace,
) -> Vec<Vec<f32>> {
    run_parallel(compiled, program, inputs, workspace, None)
}

/// Hands out single units, the last first, to one worker after the other.
pub struct OneByOne;

// SAFETY: one call after the other.
unsafe impl ParallelFor for OneByOne {
    fn workers(&self) -> usize {
        3
    }

    fn parallel_for(&self, units: usize, _: f64, part: &(dyn Fn(usize, std::ops::Range<usize>) + Sync)) {
        (0..units).rev().for_each(|unit| part(unit % 3, unit..unit + 1));
    }
}

/// The same with steps cut into parts.
pub fn run_parallel(
    compiled: &CompiledProgram,
    program: &Program,
    inputs: &[Vec<f32>],
    workspace: &mut catc_jit::Workspace,
    parallel: Option<&dyn ParallelFor>,
) -> Vec<Vec<f32>> {
    let given: Vec<Input> = inputs.iter().map(|v| Input::F32(v)).collect();
    let mut results: Vec<Vec<f32>> =
        program.outputs.iter().map(|o| vec![f32::NAN; program.tensor(o.tensor).len()]).collect();
    let mut targets: Vec<OutputMut> = results.iter_mut().map(|v| OutputMut::F32(v)).collect();
    compiled.run_observed(&given, &mut targets, workspace, parallel, |_, call| call()).unwrap();
    results
}

/// Tiers that this CPU can run.
pub fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|t| t.is_available())
}

/// Checks a program on every tier against the executor: equal bit for bit, or within a relative tolerance.
pub fn check(program: &Program, inputs: &[Vec<f32>], tolerance: f32) {
    if let Err(error) = program.validate() {
        panic!("{error}\n{program}");
    }
    let expected = reference::run(program, inputs);
    // What this CPU cannot run.
    for tier in Tier::of(tiers().next().map_or(catc_kernels::Architecture::X86_64, Tier::architecture)) {
        if !tier.is_available() && tiers().next().is_some() {
            prove(program, tier).unwrap_or_else(|e| panic!("{tier}: {e}\n{program}"));
        }
    }
    for tier in tiers() {
        let compiled = compile(program, &Options { tier: Some(tier), ..Default::default() })
            .unwrap_or_else(|e| panic!("{e}\n{program}"));
        let mut workspace = compiled.workspace(3).unwrap();
        // Twice: the second run meets the leftovers of the first, and cuts every step into single units.
        for parallel in [None, Some(&OneByOne as &dyn ParallelFor)] {
            let found = run_parallel(&compiled, program, inputs, &mut workspace, parallel);
            for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
                for (at, (e, f)) in expected.iter().zip(found).enumerate() {
                    let equal = e == f || (e.is_nan() && f.is_nan());
                    let near = (e - f).abs() <= tolerance * e.abs().max(1.0);
                    assert!(
                        equal || (tolerance > 0.0 && near),
                        "{tier}: output {number} element {at}: expected {e:?}, found {f:?}\n{program}"
                    );
                }
            }
        }
    }
}

/// Hands out a step's units in ranges of at most that many, the last range first, to two workers in turn.
struct Pieces(usize);

// SAFETY: one call after the other.
unsafe impl ParallelFor for Pieces {
    fn workers(&self) -> usize {
        2
    }

    fn parallel_for(&self, units: usize, _: f64, part: &(dyn Fn(usize, std::ops::Range<usize>) + Sync)) {
        let starts: Vec<usize> = (0..units).step_by(self.0).collect();
        for (turn, &start) in starts.iter().enumerate().rev() {
            part(turn % 2, start..units.min(start + self.0));
        }
    }
}

/// Checks a program on every tier against the executor, with ranges of units in any order: equal bit for bit.
pub fn check_in_pieces(program: &Program, inputs: &[Vec<f32>]) {
    let expected = reference::run(program, inputs);
    for tier in tiers() {
        let compiled = compile(program, &Options { tier: Some(tier), ..Default::default() }).unwrap();
        for length in [1, 2, 3, 5] {
            let mut workspace = compiled.workspace(2).unwrap();
            let found = run_parallel(&compiled, program, inputs, &mut workspace, Some(&Pieces(length)));
            assert_eq!(found, expected, "{tier}, ranges of {length}");
        }
    }
}
