//! Runs one case.

use crate::cases::{Case, tensors};
use crate::compare::same;
use catc_interp::{Evaluator, Interpreter};
use catc_ir::{Element, Graph, Op, Tensor, TensorData};
use catc_onnx::{BatchPolicy, ImportErrorKind, ImportOptions, import};
use catc_passes::{PassContext, PassManager, RecipeOptions, recipe};
use catc_program::BuildInfo;
use catc_runtime::{ArrayData, InputArray, Model, SessionOptions};

/// The limit of imports: the largest network of the suite spells out 140 million weights, which count 32 bytes each.
const MEMORY: usize = 8 << 30;

/// What came of a case; the errors say why it does not pass.
pub struct Outcome {
    pub evaluated: Result<(), String>,
    pub compiled: Result<(), String>,
    /// Whether machine code ran and gave a wrong result.
    pub compiled_wrong: bool,
}

/// Which inputs are given to the import as constants, since a network would hold them as constants. Tried in this order:
/// the first that the import takes counts.
#[derive(Clone, Copy, PartialEq)]
enum Fixed {
    Nothing,
    WholeNumbersBehindTheFirst,
    AllBehindTheFirst,
    All,
}

const CHOICES: [Fixed; 4] = [Fixed::Nothing, Fixed::WholeNumbersBehindTheFirst, Fixed::AllBehindTheFirst, Fixed::All];

impl Fixed {
    fn holds(self, index: usize, tensor: &Tensor) -> bool {
        match self {
            Fixed::Nothing => false,
            Fixed::WholeNumbersBehindTheFirst => index > 0 && !matches!(tensor.data(), TensorData::F32(_)),
            Fixed::AllBehindTheFirst => index > 0,
            Fixed::All => true,
        }
    }
}

/// A data set, read.
struct Set {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

fn read_sets(case: &Case) -> Result<Vec<Set>, String> {
    case.sets.iter().map(|(inputs, outputs)| Ok(Set { inputs: tensors(inputs)?, outputs: tensors(outputs)? })).collect()
}

pub fn run(case: &Case) -> Outcome {
    match read_sets(case) {
        Ok(sets) if !sets.is_empty() => {
            let evaluated = sets.iter().try_for_each(|s| evaluate(case, s));
            let (compiled, compiled_wrong) = match &evaluated {
                Err(_) => (Err("not evaluated".to_string()), false),
                Ok(()) => {
                    let results: Vec<_> = sets.iter().map(|s| compile(case, s)).collect();
                    let wrong = results.iter().any(|r| matches!(r, Err((true, _))));
                    (results.into_iter().collect::<Result<(), _>>().map_err(|(_, e)| e), wrong)
                }
            };
            Outcome { evaluated, compiled, compiled_wrong }
        }
        Ok(_) => Outcome { evaluated: Err("no data".into()), compiled: Err("no data".into()), compiled_wrong: false },
        Err(e) => Outcome { evaluated: Err(e.clone()), compiled: Err(e), compiled_wrong: false },
    }
}

/// The inputs of a case: those of the files, or for whole networks the counting numbers over their count.
fn inputs_of(case: &Case, set: &Set, graph: Option<&Graph>) -> Vec<Tensor> {
    match (set.inputs.is_empty() && case.name.starts_with("light/"), graph) {
        (true, Some(graph)) => graph
            .inputs
            .iter()
            .map(|(v, _)| {
                let shape = graph.value_type(*v).shape.at_batch(1);
                let n: usize = shape.iter().product();
                Tensor::f32(&shape, (0..n).map(|i| (i as f64 / n as f64) as f32).collect())
            })
            .collect(),
        _ => set.inputs.clone(),
    }
}

/// Imports with each choice in turn; gives the graph and the inputs that are left.
fn imported(
    case: &Case,
    set: &Set,
    batch: BatchPolicy,
    usable: impl Fn(&Graph) -> Result<(), String>,
) -> Result<(Graph, Vec<Tensor>), String> {
    let mut errors: Vec<String> = vec![];
    for fixed in CHOICES {
        let given = case.outline.inputs.iter().zip(&set.inputs).enumerate();
        let (values, left): (Vec<_>, Vec<_>) = given.partition(|(i, (_, t))| fixed.holds(*i, t));
        let values: Vec<(String, Tensor)> = values.into_iter().map(|(_, (n, t))| (n.clone(), t.clone())).collect();
        if fixed != Fixed::Nothing && values.is_empty() {
            continue;
        }
        let shapes = left.iter().map(|(_, (n, t))| ((*n).clone(), t.shape().to_vec()));
        let shapes = shapes.filter(|(_, s)| s.iter().all(|&n| n > 0)).collect();
        let options = ImportOptions { batch, shapes, values, memory: MEMORY };
        match import(&case.model, &options) {
            Ok(model) => match usable(&model.graph) {
                Ok(()) => {
                    let inputs = match set.inputs.is_empty() {
                        true => inputs_of(case, set, Some(&model.graph)),
                        false => left.into_iter().map(|(_, (_, t))| t.clone()).collect(),
                    };
                    return Ok((model.graph, inputs));
                }
                Err(e) => errors.push(e),
            },
            Err(e) => {
                let unsupported = matches!(*e.kind, ImportErrorKind::Unsupported(_));
                errors.push(e.kind.to_string());
                if unsupported {
                    break;
                }
            }
        }
    }
    // What speaks of a constant that was not given yet says the least.
    let telling = errors.iter().position(|e| !e.contains("computed from the data")).unwrap_or(0);
    Err(if errors.is_empty() { String::new() } else { errors.swap_remove(telling) })
}

fn evaluate(case: &Case, set: &Set) -> Result<(), String> {
    let (graph, inputs) = imported(case, set, BatchPolicy::AsDeclared, |_| Ok(()))?;
    let found = Interpreter::new(&graph).and_then(|i| i.run(&inputs)).map_err(|e| e.to_string())?;
    if found.len() != set.outputs.len() {
        return Err(format!("{} outputs instead of {}", found.len(), set.outputs.len()));
    }
    for (i, (found, expected)) in found.iter().zip(&set.outputs).enumerate() {
        same(found, expected).map_err(|e| format!("wrong: output {i}: {e}"))?;
    }
    Ok(())
}

/// The graph in the integer phase, all of it f32.
fn lowered(mut graph: Graph) -> Result<Graph, String> {
    let options = RecipeOptions { wbits: 32, abits: 32, first_last_bits: 32, ..RecipeOptions::default() };
    let passes = recipe(&options).map_err(|e| e.to_string())?;
    PassManager::new().run(&passes, &mut graph, &mut PassContext::empty()).map_err(|e| e.to_string())?;
    Ok(graph)
}

/// Compiles and runs a case; the flag of an error says whether a wrong result is what is wrong.
fn compile(case: &Case, set: &Set) -> Result<(), (bool, String)> {
    let no = |e: String| (false, e);
    let usable = |graph: &Graph| {
        let graph = lowered(graph.clone())?;
        catc_codegen::lower(&graph, BuildInfo::default()).map(|_| ()).map_err(|e| e.to_string())
    };
    let (graph, inputs) = imported(case, set, BatchPolicy::Auto, usable).map_err(no)?;
    let graph = lowered(graph).map_err(no)?;
    let program = catc_codegen::lower(&graph, BuildInfo::default()).map_err(|e| no(e.to_string()))?;
    let model = Model::from_program(program).map_err(|e| no(e.to_string()))?;
    let session = model.session(&SessionOptions::default()).map_err(|e| no(e.to_string()))?;
    if graph.inputs.iter().any(|(v, _)| graph.value_type(*v).element != Element::F32) {
        return Err(no("takes other inputs than reals".into()));
    }
    let arrays: Vec<InputArray> = inputs.iter().filter_map(|t| Some(InputArray::f32(t.shape(), t.as_f32()?))).collect();
    let found = session.run(&arrays).map_err(|e| no(e.to_string()))?;
    // Convolutions in float may sum in another order; everything else is equal to the last bit.
    let exact = !graph.nodes().iter().any(|n| matches!(n.op, Op::Conv2d(_)));
    let reference = Interpreter::new(&graph).and_then(|i| i.run(&inputs)).map_err(|e| no(e.to_string()))?;
    for (i, array) in found.iter().enumerate() {
        let tensor = match &array.data {
            ArrayData::F32(v) => Tensor::f32(&array.shape, v.clone()),
            ArrayData::Index(v) => Tensor::i64(&array.shape, v.iter().map(|&x| x.into()).collect()),
        };
        let bits = |t: &Tensor| t.as_f32().map(|v| v.iter().map(|x| canonical(*x)).collect::<Vec<_>>());
        if exact && (bits(&tensor) != bits(&reference[i]) || tensor.as_i64() != reference[i].as_i64()) {
            return Err((true, format!("output {i} is not that of the evaluator")));
        }
        same(&tensor, &set.outputs[i]).map_err(|e| (true, format!("wrong: output {i}: {e}")))?;
    }
    Ok(())
}

/// The bits of a real, all NaN alike.
fn canonical(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}
