//! A network by the compiler and by the reference evaluator: for `tests/networks.rs` and `examples/check_network.rs`.

use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Graph, Op, Tensor};
use catc_passes::{Method, PassContext, PassManager, RecipeOptions, Samples, recipe};
use catc_program::BuildInfo;
use catc_runtime::{InputArray, Model, Session, SessionOptions};

/// Which stage failed, and why.
pub type Failure = (&'static str, String);

/// A network of codes, and the machine code of it.
pub struct Compiled {
    /// In the integer phase.
    pub graph: Graph,
    /// What the passes said, layers left in float among it.
    pub notes: Vec<String>,
    session: Session,
}

/// Machine code and evaluator side by side.
pub struct Comparison {
    /// Whether every bit of every output is the same.
    pub equal: bool,
    /// The largest difference, as [`distance`] measures it.
    pub apart: f32,
    /// The first output by machine code.
    pub found: Vec<f32>,
}

/// The largest difference over the largest magnitude; infinite for a NaN or another number of elements.
pub fn distance(found: &[f32], expected: &[f32]) -> f32 {
    let top = expected.iter().fold(0f32, |m, x| m.max(x.abs())).max(f32::MIN_POSITIVE);
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    worst.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / top
}

/// Quantizes with ranges from the least to the largest value of the images, and compiles.
pub fn compile(graph: &Graph, bits: u8, images: &[Vec<Tensor>]) -> Result<Compiled, Failure> {
    let failed = |stage: &'static str, e: &dyn std::error::Error| (stage, e.to_string());
    let options = RecipeOptions {
        method: Method::MinMax,
        wbits: bits,
        abits: bits,
        real_inputs: false,
        ..RecipeOptions::default()
    };
    let passes = recipe(&options).map_err(|e| failed("recipe", &e))?;
    let mut graph = graph.clone();
    let data = Samples(images.to_vec());
    let mut cx = PassContext::with_calibration(&data, 0);
    PassManager::new().run(&passes, &mut graph, &mut cx).map_err(|e| failed("passes", &e))?;
    let notes = cx.notes.iter().map(|n| n.text.clone()).collect();
    let program = catc_codegen::lower(&graph, BuildInfo::default()).map_err(|e| failed("lowering", &e))?;
    let model = Model::from_program(program).map_err(|e| failed("machine code", &e))?;
    let session = model.session(&SessionOptions::default()).map_err(|e| failed("machine code", &e))?;
    Ok(Compiled { graph, notes, session })
}

impl Compiled {
    /// Runs one image both ways.
    pub fn compare(&self, image: &[Tensor]) -> Result<Comparison, Failure> {
        let arrays: Vec<InputArray> =
            image.iter().filter_map(|t| Some(InputArray::f32(t.shape(), t.as_f32()?))).collect();
        let found = self.session.run(&arrays).map_err(|e| ("run", e.to_string()))?;
        let expected =
            Interpreter::new(&self.graph).and_then(|i| i.run(image)).map_err(|e| ("evaluator", e.to_string()))?;
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let (mut equal, mut apart) = (found.len() == expected.len(), 0f32);
        for (a, b) in found.iter().zip(&expected) {
            match (a.as_f32(), b.as_f32()) {
                (Some(a), Some(b)) => {
                    equal &= bits(a) == bits(b);
                    apart = apart.max(distance(a, b));
                }
                _ => equal = false,
            }
        }
        let found = found.first().and_then(|a| a.as_f32()).unwrap_or_default().to_vec();
        Ok(Comparison { equal, apart, found })
    }

    /// Convolutions, linear layers and products of matrices that work on reals.
    pub fn float_layers(&self) -> Vec<String> {
        let float = self.graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d(_) | Op::Linear(_) | Op::MatMul(_)));
        float.map(|n| self.graph.label(n)).collect()
    }
}
