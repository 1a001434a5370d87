//! Compares epilogues of every width with scalar arithmetic, for every function, every kind of store and every shape of cells.

use super::{Channels, EpilogueVector, Row};
use crate::epilogue::function::{OperandKind, StepFunction};
use crate::epilogue::unary::apply_unary;
use crate::epilogue::{EpilogueArguments, EpilogueProgram, ProgramStep, load, store};
use crate::vector::Portable;
use catc_scalar::{Binary, Unary};

impl<const N: usize> EpilogueVector for Portable<N> {
    fn unary(self, step: &ProgramStep, values: &mut [[f32; N]; 4]) {
        apply_unary(self, step, values);
    }

    unsafe fn cells<const M: usize, const P: usize, const KIND: u8>(
        self,
        row: &Row<'_>,
        channels: &Channels,
        from: i64,
        to: i64,
    ) {
        // SAFETY: the caller's promise.
        unsafe { super::cells::<Self, M, P, KIND>(self, row, channels, from, to) }
    }
}

/// Every pixel has 64 channels, which are whole vectors. There are two pixels more than in any row.
const LANES: usize = 64;
const PIXELS: usize = 9;
const LEVELS: u8 = 12;
const UNTOUCHED: u8 = 99;

struct Memory {
    sums: Vec<i32>,
    multipliers: Vec<f32>,
    biases: Vec<f32>,
    floats: Vec<f32>,
    codes: Vec<u8>,
}

impl Memory {
    fn new() -> Memory {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            state >> 16
        };
        Memory {
            sums: (0..LANES * PIXELS).map(|_| next() as i32 % 900 - 450).collect(),
            multipliers: (0..LANES).map(|_| 0.001 + next() as f32 * 1e-7).collect(),
            biases: (0..LANES).map(|_| next() as f32 * 2e-5 - 0.6).collect(),
            floats: (0..LANES * PIXELS).map(|_| next() as f32 * 1e-4 - 3.0).collect(),
            codes: (0..LANES * PIXELS).map(|_| (next() % 13) as u8).collect(),
        }
    }

    /// The output of an epilogue, as floats or as codes. Bytes that the epilogue must not write keep their value.
    fn run(&self, run: &dyn Fn(&Row<'_>), program: &EpilogueProgram, channels: usize, pixels: usize) -> Vec<u8> {
        let element = if program.store == store::FLOATS { 4 } else { 1 };
        let operand = |number: usize| match number {
            0 => (self.floats.as_ptr().cast(), 4 * LANES as i64),
            _ => (self.codes.as_ptr(), LANES as i64),
        };
        let mut output = vec![UNTOUCHED; element * LANES * PIXELS];
        let (sums, sums_pixel, multiplier) = match program.load {
            load::SUMS => (self.sums.as_ptr(), 4 * LANES as i64, self.multipliers.as_ptr()),
            _ => (self.codes.as_ptr().cast(), LANES as i64, std::ptr::null()),
        };
        let arguments = EpilogueArguments {
            program,
            multiplier,
            bias: self.biases.as_ptr(),
            output: output.as_mut_ptr(),
            output_pixel: (element * LANES) as i64,
            output_row: 0,
            operands: [operand(0).0, operand(1).0],
            operand_pixel: [operand(0).1, operand(1).1],
            operand_row: [0; 2],
            channels: channels as i64,
        };
        run(&Row { arguments: &arguments, sums, sums_pixel, number: 0, first: 0, pixels: pixels as i64 });
        output
    }

    /// The expected output, in scalar arithmetic.
    fn expected(&self, program: &EpilogueProgram, channels: usize, pixels: usize) -> Vec<u8> {
        let element = if program.store == store::FLOATS { 4 } else { 1 };
        let mut output = vec![UNTOUCHED; element * LANES * PIXELS];
        for at in (0..LANES * pixels).filter(|at| at % LANES < channels) {
            let (sum, multiplier, bias) = (self.sums[at] as f32, self.multipliers[at % LANES], self.biases[at % LANES]);
            let mut t = match (program.load, program.store) {
                (load::CODES, _) => (i32::from(self.codes[at]) - program.load_zero) as f32 * program.load_scale,
                (_, store::AFFINE) => sum.mul_add(multiplier, bias),
                _ => sum * multiplier + bias,
            };
            for step in &program.steps[..program.count as usize] {
                t = self.step(step, at, t);
            }
            let t = if program.store == store::AFFINE { t } else { t * program.requantize };
            if program.store == store::FLOATS {
                output[4 * at..4 * at + 4].copy_from_slice(&t.to_le_bytes());
            } else {
                let zero = if program.store == store::AFFINE { 0 } else { program.zero };
                output[at] = (t.round_ties_even() as i32).saturating_add(zero).clamp(0, program.levels as i32) as u8;
            }
        }
        output
    }

    fn step(&self, step: &ProgramStep, at: usize, t: f32) -> f32 {
        match StepFunction::of(step).unwrap() {
            StepFunction::Scale => t * step.x,
            StepFunction::Unary(unary) => unary.apply(t),
            StepFunction::Binary(op, OperandKind::Float) => op.apply(t, self.floats[at]),
            StepFunction::Binary(op, OperandKind::ScaledFloat) => op.apply(t, self.floats[at] * step.x),
            StepFunction::Binary(op, OperandKind::OneFloat) => op.apply(t, self.floats[at / LANES * LANES] * step.x),
            StepFunction::Binary(op, OperandKind::Code | OperandKind::SmallCode) => {
                op.apply(t, (i32::from(self.codes[at]) - step.zero) as f32 * step.x)
            }
        }
    }
}

fn step(function: StepFunction) -> ProgramStep {
    let (number, [x, y]) = function.encode();
    match function {
        StepFunction::Unary(_) => ProgramStep { function: number, x, y, ..ProgramStep::default() },
        StepFunction::Scale => ProgramStep { function: number, x: 0.7, ..ProgramStep::default() },
        StepFunction::Binary(_, OperandKind::Float | OperandKind::ScaledFloat | OperandKind::OneFloat) => {
            ProgramStep { function: number, x: 0.3, ..ProgramStep::default() }
        }
        StepFunction::Binary(_, OperandKind::Code | OperandKind::SmallCode) => {
            ProgramStep { function: number, operand: 1, x: 0.3, zero: 5, ..ProgramStep::default() }
        }
    }
}

/// Programs with every kind of store: without a step, with each step alone, and with a chain of several.
fn programs() -> Vec<EpilogueProgram> {
    let parameter = |_, position: usize| Ok::<_, ()>([-0.4, 0.9][position]);
    let unary = |name: &&str| StepFunction::Unary(Unary::build(name, parameter).unwrap().unwrap());
    let floats = [OperandKind::Float, OperandKind::ScaledFloat, OperandKind::OneFloat];
    let kinds = floats.into_iter().chain([OperandKind::Code, OperandKind::SmallCode]);
    let binary = |kind| Binary::ALL.map(|op| StepFunction::Binary(op, kind));
    let alone: Vec<StepFunction> = kinds.flat_map(binary).chain(Unary::NAMES.iter().map(unary)).collect();
    let relu = StepFunction::Unary(Unary::Relu);
    let mut chains: Vec<Vec<StepFunction>> = alone.into_iter().map(|function| vec![function]).collect();
    chains.push(vec![]);
    chains.push(vec![
        StepFunction::Scale,
        unary(&"sigmoid"),
        StepFunction::Binary(Binary::Mul, OperandKind::Float),
        relu,
        StepFunction::Binary(Binary::Sub, OperandKind::Code),
    ]);
    let mut programs = Vec::new();
    for chain in chains {
        let mut program = EpilogueProgram { requantize: 2.5, zero: 3, levels: LEVELS.into(), ..Default::default() };
        for (to, function) in program.steps.iter_mut().zip(&chain) {
            *to = step(*function);
            program.count += 1;
        }
        let affine = chain.is_empty() || chain == [StepFunction::Binary(Binary::Add, OperandKind::SmallCode)];
        // Square roots and logarithms give NaN, quotients and celu with a negative parameter give infinities, so these programs do not have
        // small values.
        let small = !matches!(
            chain[..],
            [StepFunction::Unary(Unary::Sqrt | Unary::Log | Unary::Celu { .. })]
                | [StepFunction::Binary(Binary::Div, _)]
        );
        let ends = [(store::FLOATS, true), (store::CODES, true), (store::SMALL_CODES, small), (store::AFFINE, affine)];
        for (store, _) in ends.into_iter().filter(|(_, possible)| *possible) {
            let requantize = if store == store::FLOATS || store == store::AFFINE { 1.0 } else { program.requantize };
            let program = EpilogueProgram { store, requantize, ..program };
            programs.push(program);
            if store != store::AFFINE {
                programs.push(EpilogueProgram { load: load::CODES, load_zero: 6, load_scale: 0.21, ..program });
            }
        }
    }
    programs
}

/// Checks an epilogue function for every shape of cells.
fn check(width: &str, run: &dyn Fn(&Row<'_>)) {
    let memory = Memory::new();
    for program in programs() {
        for channels in [1, 7, 8, 9, 16, 17, 24, 31, 32, 33, 40, 48, 49, 63, 64] {
            for pixels in [1, 2, 5, 7] {
                let found = memory.run(run, &program, channels, pixels);
                let expected = memory.expected(&program, channels, pixels);
                let same = if program.store == store::FLOATS {
                    let real = |word: &[u8; 4]| f32::from_le_bytes(*word);
                    let pairs = found.as_chunks().0.iter().zip(expected.as_chunks().0);
                    pairs.into_iter().all(|(a, b)| a == b || real(a).is_nan() && real(b).is_nan())
                } else {
                    found == expected
                };
                let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(same, "{width}, {channels} channels, {pixels} pixels, byte {differs:?}: {program:?}");
            }
        }
    }
}

#[test]
fn arrays_of_eight_and_sixteen() {
    // SAFETY: the memory is as long as the rows describe.
    check("8", &|row| unsafe { super::row(Portable::<8>, row) });
    // SAFETY: see above.
    check("16", &|row| unsafe { super::row(Portable::<16>, row) });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_of_256_and_512_bits() {
    if crate::Tier::X86V3.is_available() {
        // SAFETY: the CPU has the instructions, and the memory is as long as the rows describe.
        check("256 bits", &|row| unsafe { crate::epilogue::avx2::row(row) });
    } else {
        println!("no AVX2 here: epilogues of 256 bits were not run");
    }
    if crate::Tier::Avx512Vnni.is_available() {
        // SAFETY: see above.
        check("512 bits", &|row| unsafe { crate::epilogue::avx512::row(row) });
    } else {
        println!("no AVX-512 here: epilogues of 512 bits were not run");
    }
}
