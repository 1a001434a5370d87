//! A kernel that is not of this workspace: a type that implements the trait, and a function in plain Rust, are all that the code
//! generator needs.
#![cfg(target_arch = "x86_64")]

mod support;

use catc_jit::{CompiledProgram, Options, compile};
use catc_kernels::dot::DotTile;
use catc_kernels::epilogue::MAX_STEPS;
use catc_kernels::epilogue::avx2::EPILOGUE_256;
use catc_kernels::{
    ActivationFormat, Contract, Execution, Fit, Function, Implementation, Kernel, KernelInfo, KernelRef, Query,
    Refusal, SumTiles, Tier, TileQuery, TileWeights,
};
use catc_program::{EpilogueStep, Format, Geometry, Program, Unary};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::build::{Builder, codes, window};
use support::{reference, run};

/// Output channels of a weight vector: those of a vector of the epilogue that the kernel borrows.
const CHANNELS: usize = 8;

/// Activation codes of a step, each of which meets a signed byte of every output channel.
const UNITS: usize = 4;

/// Sums of products, one after the other.
struct Toy(KernelInfo);

impl Kernel for Toy {
    fn info(&self) -> &KernelInfo {
        &self.0
    }

    fn supports(&self, query: &Query<'_>) -> Result<Fit, Refusal> {
        query.dense()?;
        query.code_operands()?;
        Ok(Fit::default())
    }

    fn cycles(&self, query: &Query<'_>, _: Fit) -> f64 {
        query.pixels() * (query.shape.total_outputs() * query.shape.reduction()) as f64
    }

    fn execution(&self) -> Execution {
        Execution::SumTiles(SumTiles {
            tile: &TILE,
            weights: TileWeights::Bytes,
            epilogue: &EPILOGUE_256,
            fuses: false,
        })
    }

    fn tile_cycles(&self, query: &TileQuery, pixels: usize, vectors: usize) -> Option<f64> {
        // The call costs something: larger tiles are the cheaper ones.
        exists(pixels, vectors).then_some((query.steps * pixels * vectors + 10) as f64)
    }
}

static TOY: Toy = Toy(KernelInfo {
    name: "toy",
    // The function needs no instruction set of its own; the epilogue needs this one.
    tier: Tier::X86V3,
    implementation: Implementation::Precompiled,
    superseded: &[],
    weight_bits: 2..=8,
    activation_bits: 2..=8,
    channels_per_vector: CHANNELS,
    units_per_step: UNITS,
    vector_bytes: CHANNELS * UNITS,
    activations: ActivationFormat::Byte,
});

static KERNELS: [KernelRef; 1] = [KernelRef::new(&TOY)];

// SAFETY: `tile` reads and writes what the fields of its block describe, in whole vectors and four bytes of input at a time, whatever its
// shape is.
static TILE: Function = unsafe {
    let contract = Contract::SumTile { vector_bytes: CHANNELS * UNITS, step_bytes: UNITS, exists };
    Function::new("toy_tile", Tier::X86V3, contract, tile)
};

/// Whether there is a tile of that shape. A tile of any shape could be summed; these make layers that need several.
fn exists(pixels: usize, vectors: usize) -> bool {
    (1..=3).contains(&pixels) && (1..=2).contains(&vectors)
}

/// Calls of the tile so far.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// The tile.
///
/// # Safety
/// The block is a [`DotTile`] whose pointers cover what its fields say.
unsafe extern "C" fn tile(block: *const u64) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise.
    let t = unsafe { &*block.cast::<DotTile>() };
    let channels = t.vectors * CHANNELS as i64;
    for pixel in 0..t.pixels {
        for channel in 0..channels {
            // SAFETY: the caller's promise: there are initial sums for whole vectors, and sums for whole vectors of each pixel.
            unsafe {
                let mut sum = t.start.offset(channel as isize).read_unaligned();
                let mut vectors = t.weights;
                for run in 0..t.rows * t.taps {
                    let (row, tap) = (run / t.taps, run % t.taps);
                    let at = pixel * t.input_pixel + row * t.row_bytes + tap * t.tap_bytes;
                    for step in 0..t.steps {
                        for unit in 0..UNITS as i64 {
                            let code = *t.input.offset((at + step * UNITS as i64 + unit) as isize);
                            let weight = *vectors.offset((channel * UNITS as i64 + unit) as isize);
                            sum += i32::from(code) * i32::from(weight);
                        }
                        vectors = vectors.offset((channels * UNITS as i64) as isize);
                    }
                }
                let to = t.sums.byte_offset((pixel * t.sums_pixel) as isize);
                to.offset(channel as isize).write_unaligned(sum);
            }
        }
    }
}

/// A program with one convolution between a quantized input of five bits and an output.
fn convolution(
    groups: usize,
    geometry: Geometry,
    to_codes: bool,
    steps: Vec<EpilogueStep>,
) -> (Program, Vec<Vec<f32>>) {
    let mut b = Builder::new(7);
    let input = b.input(&[10, 7, 8]);
    let format = codes(&mut b.rng, 5);
    let x = b.quantize(input, format);
    let format = if to_codes { codes(&mut b.rng, 6) } else { Format::F32 };
    // Output channels that are no whole number of vectors, in a group and in all.
    let y = b.conv(x, 22, groups, geometry, 4, format, steps);
    b.output(y);
    let inputs = b.inputs();
    (b.program, inputs)
}

/// The kernel alone, where the CPU has the instructions of its epilogue.
fn options() -> Option<Options> {
    if !Tier::X86V3.is_available() {
        println!("no AVX2 here: the epilogue that the kernel borrows was not run");
        return None;
    }
    Some(Options { tier: Some(Tier::X86V3), kernels: &KERNELS, ..Options::default() })
}

/// The kernels of a compiled program.
fn kernels(compiled: &CompiledProgram) -> Vec<&'static str> {
    compiled.steps().filter_map(|step| step.kernel()).collect()
}

#[test]
fn layers_run_by_a_kernel_from_outside() {
    let Some(options) = options() else { return };
    let relu = vec![EpilogueStep::Unary(Unary::Relu)];
    // More steps than a precompiled epilogue takes: the code between sums and store is emitted.
    let long = vec![EpilogueStep::Unary(Unary::Tanh); MAX_STEPS + 1];
    for (groups, geometry, to_codes, steps) in [
        (1, window(3, 1, 1), true, relu.clone()),
        (1, window(1, 1, 0), false, vec![]),
        (2, window(3, 2, 1), true, relu),
        (1, window(3, 1, 1), true, long.clone()),
        (2, window(2, 1, 0), false, long),
    ] {
        let (program, inputs) = convolution(groups, geometry, to_codes, steps);
        let expected = reference::run(&program, &inputs);
        let usual = compile(&program, &Options { kernels: catc_kernels::KERNELS, ..options }).unwrap();
        assert_ne!(kernels(&usual), ["toy"]);
        let toy = compile(&program, &options).unwrap_or_else(|error| panic!("{error}\n{program}"));
        assert_eq!(kernels(&toy), ["toy"]);
        let before = CALLS.load(Ordering::Relaxed);
        let found = run(&toy, &program, &inputs);
        assert!(CALLS.load(Ordering::Relaxed) > before, "the tile was not called");
        let bits = |outputs: &[Vec<f32>]| outputs.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "{program}");
        assert_eq!(bits(&found), bits(&run(&usual, &program, &inputs)), "{program}");
    }
}

#[test]
fn a_layer_that_the_only_kernel_refuses_is_an_error_with_its_reason() {
    let mut b = Builder::new(8);
    let input = b.input(&[6, 4, 4]);
    let format = codes(&mut b.rng, 5);
    let x = b.quantize(input, format);
    let y = b.conv(x, 6, 6, window(3, 1, 1), 4, Format::F32, vec![]);
    b.output(y);
    let Some(options) = options() else { return };
    let Err(error) = compile(&b.program, &options) else { panic!("a depthwise layer by a kernel of dense ones") };
    assert!(error.to_string().contains("toy: depthwise layers have their own kernels"), "{error}");
}
