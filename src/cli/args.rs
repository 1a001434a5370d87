//! The command line as it is written.

use catc_kernels::Architecture;
use catc_passes::{LayerBits, ObjectiveChoice, Renamed};
use catc_runtime::{Tier, tier_named};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Compiles trained ONNX networks to 2-8-bit kernels for ordinary CPUs, without training.
#[derive(Debug, Parser)]
#[command(name = "catc", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// What to do; without a command, compile.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The compilation.
    #[command(flatten)]
    pub compile: CompileArgs,
}

/// The commands beside compiling.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Top-1 and top-5 accuracy of a model file on labelled data.
    Eval(EvalArgs),
    /// The outputs of a model file for given inputs, as a .npy file.
    Run(RunArgs),
    /// Latency of a compiled model on random inputs.
    Bench(BenchArgs),
    /// The contents of a compiled model: bits, shapes, bytes and kernel of each layer.
    Inspect(InspectArgs),
    /// Runs chosen passes on the text form of a graph (or on an ONNX model) and prints the result.
    Opt(OptArgs),
    /// Accuracy of every combination of bits, methods, seeds and corrections, as tables and curves.
    Sweep(Box<SweepArgs>),
    /// Targets to compile for, with their instruction sets and the kernels of each.
    Targets(TargetsArgs),
}

/// Compiling: `catc MODEL.onnx -o OUT.bin`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// The trained network. --emit and --tune also take a compiled model.
    #[arg(value_name = "MODEL.onnx", required = true)]
    pub model: Option<PathBuf>,
    /// The file to write the compiled model to.
    #[arg(short, long, value_name = "OUT.bin", required_unless_present_any = ["emit", "tune"])]
    pub output: Option<PathBuf>,
    /// Write code for a target, ahead of time: obj (an ELF object), header (its C header), asm or clif (its functions as text). Or write the
    /// network: ir (the integer graph), or qdq-onnx (ONNX with QuantizeLinear and DequantizeLinear, for other runtimes).
    #[arg(long, value_name = "KIND=PATH,..", value_delimiter = ',')]
    pub emit: Vec<Emission>,
    /// Measure for each layer the kernels and tiles that it may use on this CPU, and store the fastest in the model; other CPUs ignore
    /// them. A compiled model is tuned in place unless -o names another file.
    #[arg(long)]
    pub tune: bool,
    /// The target of --emit: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu (default: this machine).
    #[arg(long, value_name = "TRIPLE", requires = "emit", value_parser = parse_target)]
    pub target: Option<Architecture>,
    /// The instruction set that emitted code may use: native, or a name from `catc targets` (default: the weakest of the target).
    #[arg(long, value_name = "NAME", requires = "emit")]
    pub cpu: Option<String>,
    /// The prefix of the names of emitted functions: NAME_run (default: the name of the model's file).
    #[arg(long, value_name = "NAME", requires = "emit")]
    pub name: Option<String>,
    /// Sizes of an input, the batch first, instead of those in the file. May be repeated.
    #[arg(long, value_name = "INPUT=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Calibration inputs without labels.
    #[command(flatten)]
    pub calibration: CalibrationArgs,
    /// Bits of the weights: 2 to 8, or 32 for float.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_bits)]
    pub wbits: u8,
    /// Bits of the activations: 2 to 8, or 32 for float.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_bits)]
    pub abits: u8,
    /// Bits of the first and the last layer (their weights and their inputs).
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_bits)]
    pub first_last_bits: u8,
    /// Bits of weights and inputs of one layer (2 to 8, or 32 for float), instead of --wbits, --abits and --first-last-bits. NAME is the
    /// name of its node in the model file, or a regular expression that matches whole names. May be repeated; if several name the same
    /// layer, the last one applies.
    #[arg(long, value_name = "NAME=W/A")]
    pub layer_bits: Vec<LayerBits>,
    /// Leave layers in float: the same as --layer-bits NAME=32/32, over which it takes precedence. May be repeated.
    #[arg(long, value_name = "NAME|REGEX", value_parser = |text: &str| LayerBits::keep_float(text))]
    pub keep_float: Vec<LayerBits>,
    /// How scales and rounding are found: auto (end-to-end at 4 bits and below, else mse), mse, minmax, percentile, entropy, aciq, lapq,
    /// channel-correction; learned: adaround, brecq, qdrop, pdquant, end-to-end.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub method: String,
    /// Options of methods that learn.
    #[command(flatten)]
    pub learning: LearningArgs,
    /// Write the losses of methods that learn, a row for each step (at most 500 rows for each block).
    #[arg(long, value_name = "FILE.csv")]
    pub loss_curve: Option<PathBuf>,
    /// Leave out the cluster-wise affine correction of the outputs.
    #[arg(long, conflicts_with_all = ["cat_alpha", "cat_clusters", "cat_pca", "cat_data", "cat_holdout", "cat_held_back"])]
    pub no_cat: bool,
    /// Weight of the corrected outputs in the blend, 0 to 1 (default: chosen on the calibration outputs).
    #[arg(long, value_name = "A", value_parser = parse_alpha)]
    pub cat_alpha: Option<f32>,
    /// Clusters of the correction; 1 is a plain affine correction (default: chosen).
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub cat_clusters: Option<u32>,
    /// Principal components that clusters are found in (default: chosen).
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub cat_pca: Option<u32>,
    /// The inputs that the correction is fitted on.
    #[command(flatten)]
    pub correction: CorrectionArgs,
    /// How outputs are compared with the float network's by everything that is fitted to them: auto, logits (class scores, by the divergence
    /// of their softmax) or regression (values, by the mean squared error).
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub objective: ObjectiveChoice,
    /// Seed of everything random.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Threads; the result does not depend on their number (default: all cores).
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print the graph to standard error after this pass, or after all.
    #[arg(long, value_name = "PASS|all")]
    pub print_after: Option<String>,
    /// Report to standard output as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where calibration inputs come from.
#[derive(Debug, Args)]
pub struct CalibrationArgs {
    /// Unlabelled inputs: a .npy or .npz (float32 as the network takes it, or uint8 images) or a folder of PNG, JPEG or npy
    /// files. Without it, ranges come from random inputs and accuracy is lost.
    #[arg(long, value_name = "X")]
    pub calib: Option<PathBuf>,
    /// Use only N of the inputs, drawn by --seed (default: all; 32 if they are synthetic).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    /// How images become network inputs.
    #[arg(long, value_name = "P.toml")]
    pub preprocess: Option<PathBuf>,
}

/// Options of methods that learn.
#[derive(Debug, Args)]
pub struct LearningArgs {
    /// How much work methods that learn may do: fast, default, or paper (20,000 iterations for each block).
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub effort: String,
    /// Iterations for each block or layer that is learned (default: by --effort).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub iters: Option<u32>,
    /// An option of a pass of the recipe, as in reconstruct.rate=0.01 (`catc opt --list` names them); may be repeated.
    #[arg(long, value_name = "PASS.OPTION=VALUE")]
    pub set: Vec<String>,
    /// Memory for the values that methods that learn keep of the calibration inputs: 512M, 4G. They use fewer inputs if this is not enough.
    /// The same limit holds for constants that the import computes beyond the size of the model's file.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = parse_size)]
    pub max_memory: usize,
    /// How images are augmented while the whole network is refined: none, or one or several of flip (half of them are mirrored left to
    /// right), shift (by up to a sixteenth) and mix (in half of the batches, two images are mixed) (default: chosen by the float network's
    /// outputs).
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub augment: Option<Vec<String>>,
}

/// The inputs that the correction of the outputs is fitted on.
#[derive(Debug, Args)]
pub struct CorrectionArgs {
    /// Inputs that the correction is fitted on (default: the calibration inputs).
    #[arg(long, value_name = "X", requires = "calib")]
    pub cat_data: Option<PathBuf>,
    /// Hold out N calibration inputs, on which only the correction is fitted (default: none; the correction is fitted on the same inputs as
    /// everything else).
    #[arg(long, value_name = "N", conflicts_with = "cat_data", requires = "calib")]
    pub cat_holdout: Option<u32>,
    /// What --cat-holdout was called in earlier versions.
    #[arg(long, value_name = "N", hide = true, conflicts_with_all = ["cat_data", "cat_holdout"], requires = "calib")]
    pub cat_held_back: Option<u32>,
}

impl CorrectionArgs {
    /// How many calibration inputs are held out for the correction; 0 holds none out.
    pub fn holdout(&self) -> usize {
        self.cat_holdout.or(self.cat_held_back).map_or(0, |n| n as usize)
    }

    /// The present name of an option that was given by its former name.
    pub fn renamed(&self) -> Option<Renamed> {
        let renamed = Renamed { what: "option".into(), former: "--cat-held-back", name: "--cat-holdout" };
        self.cat_held_back.map(|_| renamed)
    }
}

/// `catc eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A model: .onnx through the float evaluator, a compiled one through its machine code.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Sizes of an input, the batch first, instead of those in the file. May be repeated.
    #[arg(long, value_name = "INPUT=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Inputs: a .npy or .npz, or a folder of images.
    #[arg(long, value_name = "X")]
    pub data: PathBuf,
    /// Class of each input: an integer .npy, or a .csv of file name and class.
    #[arg(long, value_name = "Y.npy")]
    pub labels: PathBuf,
    /// The output that holds the class scores (default: the only output that can hold them).
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// How images become network inputs.
    #[arg(long, value_name = "P.toml")]
    pub preprocess: Option<PathBuf>,
    /// Threads (default: all cores).
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// The instruction set: native (the best of this CPU), avx512, avx2, or a tier such as x86-64-v2 (default: $CATC_CPU, else native).
    #[arg(long, value_name = "NAME", value_parser = parse_cpu)]
    pub cpu: Option<Tier>,
    /// Report to standard output as JSON: top1, top5 (0 to 1), n, seconds.
    #[arg(long)]
    pub json: bool,
    /// The limit on memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// The limit on memory, for commands that open a model.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct MemoryArgs {
    /// Memory that a model may need beyond the size of its file: 512M, 4G (default: 1G of activations for each thread of a compiled model,
    /// 2G of constants that an import computes). A model that needs more is refused.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_memory: Option<usize>,
}

/// `catc run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A model: .onnx through the float evaluator, a compiled one through its machine code.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Sizes of an input, the batch first, instead of those in the file. May be repeated.
    #[arg(long, value_name = "INPUT=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Inputs: a .npy, or a .npz with an array for each input of the network, or a folder of images.
    #[arg(long, value_name = "X.npy")]
    pub input: PathBuf,
    /// The file to write the outputs to: a .npy (a .npz if the network has several outputs).
    #[arg(long, value_name = "Y.npy")]
    pub output: PathBuf,
    /// How images become network inputs.
    #[arg(long, value_name = "P.toml")]
    pub preprocess: Option<PathBuf>,
    /// Threads (default: all cores).
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// The instruction set: native (the best of this CPU), avx512, avx2, or a tier such as x86-64-v2 (default: $CATC_CPU, else native).
    #[arg(long, value_name = "NAME", value_parser = parse_cpu)]
    pub cpu: Option<Tier>,
    /// The limit on memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// `catc bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A compiled model.
    #[arg(value_name = "MODEL.bin")]
    pub model: PathBuf,
    /// Threads.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Images at a time.
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Timed runs, after a warm-up.
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub runs: u32,
    /// The instruction set: native (the best of this CPU), avx512, avx2, or a tier such as x86-64-v2 (default: $CATC_CPU, else native).
    #[arg(long, value_name = "NAME", value_parser = parse_cpu)]
    pub cpu: Option<Tier>,
    /// Also time each layer by itself.
    #[arg(long)]
    pub profile: bool,
    /// Report to standard output as JSON: median_ms, min_ms, p90_ms, threads, batch, memory and more.
    #[arg(long)]
    pub json: bool,
    /// The limit on memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// `catc inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A compiled model.
    #[arg(value_name = "MODEL.bin")]
    pub model: PathBuf,
    /// The instruction set: native (the best of this CPU), avx512, avx2, or a tier such as x86-64-v2 (default: $CATC_CPU, else native).
    #[arg(long, value_name = "NAME", value_parser = parse_cpu)]
    pub cpu: Option<Tier>,
    /// For each convolution, the kernels that were considered: the cycles that each is estimated to take, or why it does not serve
    /// the layer.
    #[arg(long)]
    pub why: bool,
    /// Report to standard output as JSON.
    #[arg(long)]
    pub json: bool,
    /// The limit on memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// `catc opt`.
#[derive(Debug, Args)]
pub struct OptArgs {
    /// A graph in text form, or an ONNX model; `-` reads text from standard input.
    #[arg(value_name = "FILE.catir", required_unless_present = "list")]
    pub graph: Option<PathBuf>,
    /// Passes in order, with their options: `fold-batch-norm,insert-qdq{wbits=2,abits=2}`.
    #[arg(long, value_name = "A,B{K=V}", required_unless_present = "list")]
    pub passes: Option<String>,
    /// Sizes of an input, the batch first, instead of those in the file. May be repeated.
    #[arg(long, value_name = "INPUT=1x3x224x224", value_parser = parse_shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// List the passes and their options.
    #[arg(long)]
    pub list: bool,
    /// The tensors that the text names `blob N`: an .npz with arrays `blob_N`.
    #[arg(long, value_name = "F.npz")]
    pub blobs: Option<PathBuf>,
    /// Write the tensors that the printed text names `blob N`.
    #[arg(long, value_name = "F.npz")]
    pub emit_blobs: Option<PathBuf>,
    /// Calibration inputs without labels.
    #[command(flatten)]
    pub calibration: CalibrationArgs,
    /// How outputs are compared with the float network's by everything that is fitted to them: auto, logits (class scores, by the divergence
    /// of their softmax) or regression (values, by the mean squared error).
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub objective: ObjectiveChoice,
    /// Seed of everything random.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Threads; the result does not depend on their number (default: all cores).
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print the graph to standard error after this pass, or after all.
    #[arg(long, value_name = "PASS|all")]
    pub print_after: Option<String>,
    /// The file to write the text to (default: standard output).
    #[arg(short, long, value_name = "OUT.catir")]
    pub output: Option<PathBuf>,
    /// The limit on memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
}

/// `catc sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The trained network.
    #[arg(value_name = "MODEL.onnx")]
    pub model: PathBuf,
    /// Bits of the weights.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "2,4", value_parser = parse_bits)]
    pub wbits: Vec<u8>,
    /// Bits of the activations.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "2,4", value_parser = parse_bits)]
    pub abits: Vec<u8>,
    /// Bits of the first and the last layer.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = parse_bits)]
    pub first_last_bits: u8,
    /// Methods, measured in this order.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "mse")]
    pub method: Vec<String>,
    /// How methods that learn go about it.
    #[command(flatten)]
    pub learning: LearningArgs,
    /// Corrections of the outputs: off, on (the cluster-wise correction), plain (one affine map, K = 1, alpha = 1). `off` is always
    /// measured, also if it is not named.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "off,on")]
    pub cat: Vec<String>,
    /// Seeds, counted from --seed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub seeds: u32,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// Weight of the correction, 0 to 1: one value fixes it; a list or FROM:TO:STEP makes a curve. The next three options work alike.
    #[arg(long, value_name = "A,..|A:B:STEP", value_delimiter = ',')]
    pub cat_alpha: Vec<Numbers>,
    /// Clusters of the correction.
    #[arg(long, value_name = "K,..", value_delimiter = ',')]
    pub cat_clusters: Vec<Numbers>,
    /// Principal components that clusters are found in.
    #[arg(long, value_name = "P,..", value_delimiter = ',')]
    pub cat_pca: Vec<Numbers>,
    /// Images that the correction is fitted to.
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub cat_samples: Vec<Numbers>,
    /// Unlabelled inputs to calibrate on.
    #[arg(long, value_name = "X")]
    pub calib: PathBuf,
    /// Use only N of them, drawn anew by each seed (default: all).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    /// The inputs that the correction is fitted on.
    #[command(flatten)]
    pub correction: CorrectionArgs,
    /// How images become network inputs.
    #[arg(long, value_name = "P.toml")]
    pub preprocess: Option<PathBuf>,
    /// Test inputs. Nothing is fitted or chosen on them.
    #[arg(long, value_name = "X")]
    pub data: PathBuf,
    /// Class of each test input.
    #[arg(long, value_name = "Y.npy")]
    pub labels: PathBuf,
    /// The folder of the journal and the results: results.csv, results.json, results.md and an .svg for each curve. The same command
    /// resumes an interrupted sweep from the journal in it.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Networks compiled at the same time; they share the threads, and each may take --max-memory.
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Threads; the results do not depend on their number (default: all cores).
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Report to standard output as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `catc targets`.
#[derive(Debug, Args)]
pub struct TargetsArgs {
    /// Report to standard output as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What `--emit` can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitKind {
    /// A relocatable ELF object.
    Object,
    /// Its C header.
    Header,
    /// Its functions as machine instructions.
    Assembly,
    /// Its functions in Cranelift's intermediate form.
    Clif,
    /// The integer graph.
    Ir,
    /// The quantized network as ONNX, with quantize and dequantize nodes.
    QdqOnnx,
}

impl EmitKind {
    const ALL: [EmitKind; 6] =
        [EmitKind::Object, EmitKind::Header, EmitKind::Assembly, EmitKind::Clif, EmitKind::Ir, EmitKind::QdqOnnx];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            EmitKind::Object => "obj",
            EmitKind::Header => "header",
            EmitKind::Assembly => "asm",
            EmitKind::Clif => "clif",
            EmitKind::Ir => "ir",
            EmitKind::QdqOnnx => "qdq-onnx",
        }
    }
}

/// One file that `--emit` asks for: KIND=PATH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// What.
    pub kind: EmitKind,
    /// Where to.
    pub path: PathBuf,
}

impl std::str::FromStr for Emission {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or("must be KIND=PATH")?;
        let kind = EmitKind::ALL.into_iter().find(|k| k.name() == kind).ok_or_else(|| {
            let names: Vec<_> = EmitKind::ALL.map(EmitKind::name).into();
            format!("{kind:?} is not one of {}", names.join(", "))
        })?;
        Ok(Emission { kind, path: path.into() })
    }
}

/// A target triple.
fn parse_target(text: &str) -> Result<Architecture, String> {
    Architecture::from_triple(text).ok_or_else(|| {
        let names: Vec<_> = Architecture::ALL.map(Architecture::triple).into();
        format!("must be one of {}", names.join(", "))
    })
}

/// A number, or FROM:TO:STEP with both ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers(pub Vec<f64>);

impl std::str::FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
        match parts.as_deref() {
            Ok([x]) if x.is_finite() => Ok(Numbers(vec![*x])),
            Ok([from, to, step]) if *step > 0.0 && (0.0..=1000.0).contains(&((to - from) / step)) => {
                // Rounded, so that 0:1:0.1 holds 0.3 and not 0.30000000000000004.
                let at = |i: usize| ((from + i as f64 * step) * 1e9).round() / 1e9;
                Ok(Numbers((0..=((to - from) / step + 1e-9) as usize).map(at).collect()))
            }
            _ => Err("must be a number, or FROM:TO:STEP with at most 1,000 steps upwards".into()),
        }
    }
}

/// The shape of an input: NAME=AxBxC.
fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let parts = text.rsplit_once('=').filter(|(name, _)| !name.is_empty());
    let sizes = parts.and_then(|(_, sizes)| sizes.split('x').map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>());
    match (parts, sizes) {
        (Some((name, _)), Some(sizes)) => Ok((name.into(), sizes)),
        _ => Err("must be INPUT=SIZES, as in input=1x3x224x224".into()),
    }
}

/// A width in bits: 2 to 8, or 32 for float.
fn parse_bits(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(n @ (2..=8 | 32)) => Ok(n),
        _ => Err("must be 2 to 8, or 32 for float".into()),
    }
}

/// Bytes: a number with K, M or G (of 1024).
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => Some(1),
        "K" => Some(1 << 10),
        "M" => Some(1 << 20),
        "G" => Some(1usize << 30),
        _ => None,
    };
    let bytes = factor.and_then(|f| digits.parse::<usize>().ok()?.checked_mul(f)).filter(|b| *b >= 1 << 20);
    bytes.ok_or_else(|| "must be a number of bytes with K, M or G, at least 1M".into())
}

/// A weight from 0 to 1.
fn parse_alpha(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(a) if (0.0..=1.0).contains(&a) => Ok(a),
        _ => Err("must be a number from 0 to 1".into()),
    }
}

/// An instruction set that this CPU has.
fn parse_cpu(text: &str) -> Result<Tier, String> {
    tier_named(text).map_err(|e| e.to_string())
}
