//! Every kernel of the list in the layers it is made for, against the ceilings of the machine: `cargo bench -p catc-jit`.
//!
//! A layer is timed by itself, epilogue and stores included, as part of a program; the fastest of many runs counts. Kernels are reached
//! the way models reach them: by the widths, the shape and the tier. A kernel that no layer reached on this CPU is named at the end.

mod ceilings;
#[path = "../../tests/support/mod.rs"]
mod support;

use catc_jit::{Input, Options, OutputMut, compile};
use catc_kernels::{KERNELS, Tier, clock};
use catc_program::{Epilogue, EpilogueStep, Format, Geometry, Op, Program, Unary};
use std::collections::BTreeSet;
use std::time::Instant;
use support::build::{Builder, output_size};

/// A layer to be timed.
struct Layer {
    what: &'static str,
    channels: usize,
    size: usize,
    outputs: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
}

const fn layer(
    what: &'static str,
    channels: usize,
    size: usize,
    outputs: usize,
    groups: usize,
    kernel: usize,
) -> Layer {
    Layer { what, channels, size, outputs, groups, kernel, stride: 1 }
}

/// Dense layers of ResNet-18 and pointwise and depthwise layers of MobileNetV2.
const LAYERS: [Layer; 11] = [
    layer("3x3, 56x56x64", 64, 56, 64, 1, 3),
    layer("3x3, 28x28x128", 128, 28, 128, 1, 3),
    layer("3x3, 14x14x256", 256, 14, 256, 1, 3),
    layer("3x3, 7x7x512", 512, 7, 512, 1, 3),
    Layer { stride: 2, ..layer("3x3 stride 2, 28x28x128", 128, 28, 256, 1, 3) },
    layer("1x1, 56x56x24 to 144", 24, 56, 144, 1, 1),
    layer("1x1, 14x14x384 to 64", 384, 14, 64, 1, 1),
    layer("3x3, 14x14x256, groups of 8", 256, 14, 256, 32, 3),
    layer("3x3, 14x14x256, groups of 16", 256, 14, 256, 16, 3),
    layer("depthwise 3x3, 56x56x144", 144, 56, 144, 144, 3),
    layer("depthwise 3x3, 14x14x384", 384, 14, 384, 384, 3),
];

/// The layer between codes (or floats) of that many bits, with ReLU.
fn program(layer: &Layer, weight_bits: u8, bits: u8) -> Program {
    let mut b = Builder::new(1);
    let pad = layer.kernel / 2;
    let geometry =
        Geometry { kernel: [layer.kernel; 2], strides: [layer.stride; 2], pads: [pad; 4], dilations: [1; 2] };
    let dims = [layer.channels, layer.size, layer.size];
    let input = b.input(&dims);
    let relu = EpilogueStep::Unary(Unary::Relu);
    let to = if bits == 32 {
        let from = b.image(Format::F32, &dims);
        b.step(Op::Map { scale: 1.0 }, &[input], Epilogue::default(), from);
        let weights =
            b.floats(&[layer.outputs, layer.channels / layer.groups, layer.kernel, layer.kernel], |r| r.float());
        let bias = b.floats(&[layer.outputs], |r| r.float());
        let [height, width] = output_size(&geometry, layer.size, layer.size);
        let to = b.image(Format::F32, &[layer.outputs, height, width]);
        let op = Op::FloatConv { geometry, groups: layer.groups, weights, bias };
        b.step(op, &[from], Epilogue { steps: vec![relu], requantize: None }, to);
        to
    } else {
        let format = Format::Codes { signed: false, bits, scale: 0.05, zero_point: 0 };
        let from = b.quantize(input, format);
        b.conv(from, layer.outputs, layer.groups, geometry, weight_bits, format, vec![relu])
    };
    b.centre();
    b.output(to);
    b.program
}

fn main() {
    // `cargo test` runs benches as well, to see that they do.
    let quick = !std::env::args().any(|a| a == "--bench");
    let Some(clock) = clock::cycles_per_second() else {
        println!("no clock to count cycles with on this CPU");
        return;
    };
    println!("{}: {:.2} GHz\n", cpu_name(), clock / 1e9);
    println!("instruction              a cycle  MAC/cycle");
    for c in ceilings::measure(clock) {
        let macs = if c.macs > 0 { format!("{:.1}", c.per_cycle * f64::from(c.macs)) } else { String::new() };
        println!("{:<24} {:>7.2} {macs:>10}", c.name, c.per_cycle);
    }
    println!("\n{:<20} {:<15} {:<6} {:<25} {:>10} {:>8}", "kernel", "tier", "bits", "layer", "MAC/cycle", "GMAC/s");
    let mut reached = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for tier in Tier::available().into_iter().rev() {
        for (weight_bits, bits) in [(2, 2), (2, 3), (4, 4), (8, 8), (32, 32)] {
            for layer in &LAYERS {
                let program = program(layer, weight_bits, bits);
                let compiled =
                    compile(&program, &Options { tier: Some(tier), ..Default::default() }).expect("a sound program");
                let Some((number, kernel, macs)) =
                    compiled.steps().enumerate().find_map(|(i, s)| Some((i, s.kernel()?, s.macs())))
                else {
                    continue;
                };
                reached.insert(kernel);
                // The same kernel on a lower tier is the same code.
                if !seen.insert((kernel, weight_bits, layer.what)) {
                    continue;
                }
                let seconds = time(&program, &compiled, number, if quick { 1 } else { 100 });
                println!(
                    "{kernel:<20} {:<15} {:<6} {:<25} {:>10.1} {:>8.1}",
                    tier.name(),
                    format!("W{weight_bits}A{bits}"),
                    layer.what,
                    macs as f64 / seconds / clock,
                    macs as f64 / seconds / 1e9
                );
            }
        }
    }
    let others: Vec<&str> = KERNELS.iter().map(|k| k.name()).filter(|name| !reached.contains(name)).collect();
    println!(
        "\nnot reached by these layers on this CPU: {}",
        if others.is_empty() { "none".into() } else { others.join(", ") }
    );
}

/// Seconds of a step, the fastest of some runs.
fn time(program: &Program, compiled: &catc_jit::CompiledProgram, step: usize, runs: usize) -> f64 {
    let length = |port: &catc_program::Port| program.tensor(port.tensor).len();
    let input: Vec<f32> = (0..length(&program.inputs[0])).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    let mut output = vec![0.0; length(&program.outputs[0])];
    let mut workspace = compiled.workspace(1).expect("memory");
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let result = compiled.run_observed(
            &[Input::F32(&input)],
            &mut [OutputMut::F32(&mut output)],
            &mut workspace,
            None,
            |number, call| {
                let start = Instant::now();
                call();
                if number == step {
                    best = best.min(start.elapsed().as_secs_f64());
                }
            },
        );
        result.expect("inputs that fit");
    }
    best
}

/// The CPU's name, where the system tells it.
fn cpu_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}
