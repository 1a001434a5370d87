//! A model file of either kind, ready to run: ONNX through the float evaluator, compiled through its machine code.

use super::inputs::{input_specs, port_spec, tensor_of};
use crate::data::{DataError, DataSet, Elements, InputSpec};
use catc_interp::{EvalError, Evaluator, Interpreter, images::for_each_image};
use catc_ir::{Element, Tensor};
use catc_passes::Progress;
use catc_program::{MAGIC, Program};
use catc_runtime::{ArrayData, InputArray, Limits, Model, Session, SessionOptions, Tier};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Images that a compiled model is given at a time, for each thread.
const BATCH_PER_THREAD: usize = 32;

/// Why a model cannot be opened or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// An instruction set was asked for, of a model that has no machine code.
    #[error(
        "{path} is not a compiled model: an instruction set cannot be chosen for it. Compile it, or leave out --cpu"
    )]
    NotCompiled {
        /// The file.
        path: String,
    },
    /// Sizes were given for the inputs of a model that has its sizes.
    #[error("{path} is a compiled model, which has the shapes it was compiled for: leave out --shape")]
    Shaped {
        /// The file.
        path: String,
    },
    /// An output that is no batch of numbers.
    #[error(
        "output \"{name}\" of {path} is {found}; only outputs of numbers whose first dimension is the batch can be used here: end the model with a Transpose that puts it first, or remove this output"
    )]
    Output {
        /// The model.
        path: String,
        /// The output.
        name: String,
        /// What it is.
        found: String,
    },
    /// No output, or not the one asked for, is a row of scores.
    #[error("{path} is no classifier: {found} for one input; [classes] of reals is needed")]
    NoClassifier {
        /// The model.
        path: String,
        /// The outputs and what they are.
        found: String,
    },
    /// Several outputs are rows of scores.
    #[error("{path} has several outputs that can be the scores of classes, {}: name one with --output NAME", .outputs.join(", "))]
    SeveralScores {
        /// The model.
        path: String,
        /// Their names.
        outputs: Vec<String>,
    },
    /// There is no output of this name.
    #[error("{path} has no output \"{name}\"; it has {}", .outputs.join(", "))]
    NoSuchOutput {
        /// The model.
        path: String,
        /// The name asked for.
        name: String,
        /// The names of its outputs.
        outputs: Vec<String>,
    },
    /// An ONNX file.
    #[error(transparent)]
    Import(#[from] catc_onnx::ImportError),
    /// A compiled model.
    #[error(transparent)]
    Open(#[from] catc_runtime::OpenError),
    /// Its machine code.
    #[error(transparent)]
    Session(#[from] catc_runtime::SessionError),
    /// A run of it.
    #[error(transparent)]
    Run(#[from] catc_runtime::RunError),
    /// The evaluation of an ONNX model.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The inputs.
    #[error(transparent)]
    Data(#[from] DataError),
}

enum Engine {
    /// The evaluator, and what the inputs hold.
    Float(Box<Interpreter>, Vec<Element>),
    Compiled(Box<Session>),
}

/// A model ready to run on data sets.
pub struct OpenModel {
    path: String,
    inputs: Vec<InputSpec>,
    outputs: Vec<InputSpec>,
    /// Whether each output holds reals.
    real_outputs: Vec<bool>,
    engine: Engine,
    threads: usize,
}

impl OpenModel {
    /// Opens a model of either kind, told by its first bytes. A compiled model runs on this many threads; ONNX models run on
    /// those of the current rayon pool. `cpu` sets the instruction set of a compiled model and is refused for an ONNX model; `shapes`
    /// gives sizes to inputs of an ONNX model that leaves them open, and is refused for a compiled one.
    pub fn open(
        path: &Path,
        threads: usize,
        cpu: Option<Tier>,
        shapes: &[(String, Vec<usize>)],
        memory: Option<usize>,
    ) -> Result<OpenModel, ModelError> {
        let name = path.display().to_string();
        if is_compiled(path).map_err(|error| ModelError::Read { path: name.clone(), error })? {
            if !shapes.is_empty() {
                return Err(ModelError::Shaped { path: name });
            }
            let options = SessionOptions { threads, tier: cpu, limits: limits(memory) };
            return Self::compiled(Model::open(path)?, name, &options);
        }
        if cpu.is_some() {
            return Err(ModelError::NotCompiled { path: name });
        }
        let memory = memory.unwrap_or(catc_onnx::ImportOptions::MEMORY);
        let options = catc_onnx::ImportOptions { shapes: shapes.to_vec(), memory, ..Default::default() };
        let imported = catc_onnx::import(path, &options)?;
        let graph = imported.graph;
        let mut outputs = vec![];
        for output in &graph.outputs {
            let ty = graph.value_type(output.value);
            let shape = ty.shape.at_batch(1);
            if !matches!(ty.element, Element::F32 | Element::I64) || shape.first() != Some(&1) {
                let found = graph.type_text(ty);
                return Err(ModelError::Output { path: name, name: output.name.clone(), found });
            }
            outputs.push(InputSpec::reals(&*output.name, &shape[1..]));
        }
        let inputs = input_specs(&graph, &imported.whole);
        let elements = graph.inputs.iter().map(|(v, _)| graph.value_type(*v).element).collect();
        let real_outputs = graph.outputs.iter().map(|o| graph.value_type(o.value).element == Element::F32).collect();
        let engine = Engine::Float(Box::new(Interpreter::new(&graph)?), elements);
        Ok(OpenModel { path: name, inputs, outputs, real_outputs, engine, threads })
    }

    /// Opens a program that is in memory; `name` is its name in messages.
    pub fn from_program(program: Program, name: &str, threads: usize) -> Result<OpenModel, ModelError> {
        Self::compiled(Model::from_program(program)?, name.into(), &SessionOptions { threads, ..Default::default() })
    }

    fn compiled(model: Model, path: String, options: &SessionOptions) -> Result<OpenModel, ModelError> {
        let (session, threads) = (model.session(options)?, options.threads);
        let spec = |p: &catc_runtime::PortInfo| InputSpec::reals(&*p.name, &p.dims);
        let inputs = model.inputs().iter().map(port_spec).collect();
        let outputs = model.outputs().iter().map(spec).collect();
        let real_outputs = model.outputs().iter().map(|o| o.element == catc_runtime::Element::F32).collect();
        Ok(OpenModel { path, inputs, outputs, real_outputs, engine: Engine::Compiled(Box::new(session)), threads })
    }

    /// Name and shape without the batch of each input.
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// Name and shape without the batch of each output.
    pub fn outputs(&self) -> &[InputSpec] {
        &self.outputs
    }

    /// The index of the output that holds the class scores (one f32 for each class) and the number of classes. It is the output of this name;
    /// without a name, the only output that can hold class scores.
    pub fn scores(&self, name: Option<&str>) -> Result<(usize, usize), ModelError> {
        let path = || self.path.clone();
        let outputs: Vec<(usize, &InputSpec)> = match name {
            None => self.outputs.iter().enumerate().collect(),
            Some(name) => {
                let found = self.outputs.iter().position(|o| o.name == name).ok_or_else(|| {
                    let outputs = self.outputs.iter().map(|o| format!("{:?}", o.name)).collect();
                    ModelError::NoSuchOutput { path: path(), name: name.into(), outputs }
                })?;
                vec![(found, &self.outputs[found])]
            }
        };
        let classes = |(i, o): &(usize, &InputSpec)| match o.shape[..] {
            [classes] if self.real_outputs[*i] => Some((*i, classes)),
            _ => None,
        };
        let scores: Vec<(usize, usize)> = outputs.iter().filter_map(classes).collect();
        match scores[..] {
            [one] => Ok(one),
            [] => {
                let describe = |(i, o): &(usize, &InputSpec)| {
                    let kind = if self.real_outputs[*i] { "reals" } else { "whole numbers" };
                    format!("output {:?} is {:?} of {kind}", o.name, o.shape)
                };
                let found = outputs.iter().map(describe).collect::<Vec<_>>().join(", ");
                Err(ModelError::NoClassifier { path: path(), found })
            }
            _ => {
                let outputs = scores.iter().map(|(i, _)| format!("{:?}", self.outputs[*i].name)).collect();
                Err(ModelError::SeveralScores { path: path(), outputs })
            }
        }
    }

    /// Runs every sample of the data sets (one for each input, of one length) and hands the outputs of sample i, a slice for
    /// each output, to `consume`, in order.
    pub fn run_all(
        &self,
        sets: &[DataSet],
        progress: &dyn Progress,
        consume: &mut dyn FnMut(usize, &[Elements]),
    ) -> Result<(), ModelError> {
        let n = sets.first().map_or(0, DataSet::len);
        progress.start("running", n as u64);
        match &self.engine {
            Engine::Float(evaluator, elements) => {
                self.run_float(evaluator, elements, sets, n, progress, consume)?;
            }
            Engine::Compiled(session) => self.run_compiled(session, sets, n, progress, consume)?,
        }
        progress.finish();
        Ok(())
    }

    fn run_float(
        &self,
        evaluator: &Interpreter,
        elements: &[Element],
        sets: &[DataSet],
        n: usize,
        progress: &dyn Progress,
        consume: &mut dyn FnMut(usize, &[Elements]),
    ) -> Result<(), ModelError> {
        let compute = |i: usize| -> Result<Vec<Tensor>, ModelError> {
            let tensor = |(set, element): (&DataSet, &Element)| tensor_of(set, *element, i);
            let inputs = sets.iter().zip(elements).map(tensor).collect::<Result<Vec<_>, DataError>>()?;
            Ok(evaluator.run(&inputs)?)
        };
        for_each_image(n, compute, |i, outputs| {
            let rows: Vec<Elements> = outputs.iter().filter_map(numbers).collect();
            consume(i, &rows);
            progress.advance(1);
            Ok(())
        })
    }

    fn run_compiled(
        &self,
        session: &Session,
        sets: &[DataSet],
        n: usize,
        progress: &dyn Progress,
        consume: &mut dyn FnMut(usize, &[Elements]),
    ) -> Result<(), ModelError> {
        for start in (0..n).step_by(BATCH_PER_THREAD * self.threads) {
            let indices: Vec<usize> = (start..n.min(start + BATCH_PER_THREAD * self.threads)).collect();
            let data = sets.iter().map(|set| array_of(set, &indices)).collect::<Result<Vec<_>, DataError>>()?;
            let shapes: Vec<Vec<usize>> = sets.iter().map(|set| batched(indices.len(), set.shape())).collect();
            let arrays: Vec<_> = shapes.iter().zip(&data).map(|(shape, data)| input_array(shape, data)).collect();
            let outputs = session.run(&arrays)?;
            let whole = |data: &ArrayData| match data {
                ArrayData::Index(v) => v.iter().map(|&i| i.into()).collect(),
                ArrayData::F32(_) => vec![],
            };
            let wholes: Vec<Vec<i64>> = outputs.iter().map(|o| whole(&o.data)).collect();
            for (row, &i) in indices.iter().enumerate() {
                let columns = outputs.iter().zip(&wholes).zip(&self.outputs);
                let rows: Vec<Elements> = columns
                    .map(|((output, whole), spec)| {
                        let len = spec.shape.iter().product::<usize>();
                        let part = row * len..(row + 1) * len;
                        match &output.data {
                            ArrayData::F32(reals) => Elements::F32(&reals[part]),
                            ArrayData::Index(_) => Elements::I64(&whole[part]),
                        }
                    })
                    .collect();
                consume(i, &rows);
            }
            progress.advance(indices.len() as u64);
        }
        Ok(())
    }
}

/// Samples of a data set as a compiled model takes them.
pub fn array_of(set: &DataSet, indices: &[usize]) -> Result<ArrayData, DataError> {
    Ok(match set.whole() {
        None => ArrayData::F32(set.samples(indices)?),
        // The data set was opened with the bounds of the input, which fit 32 bits.
        Some(_) => ArrayData::Index(set.samples(indices)?.into_iter().map(|n: i64| n as i32).collect()),
    })
}

/// An input array of these elements.
pub fn input_array<'a>(shape: &'a [usize], data: &'a ArrayData) -> InputArray<'a> {
    match data {
        ArrayData::F32(reals) => InputArray::f32(shape, reals),
        ArrayData::Index(whole) => InputArray::index(shape, whole),
    }
}

/// The numbers of a tensor.
fn numbers(tensor: &Tensor) -> Option<Elements<'_>> {
    tensor.as_f32().map(Elements::F32).or_else(|| tensor.as_i64().map(Elements::I64))
}

/// `[n, ..shape]`.
fn batched(n: usize, shape: &[usize]) -> Vec<usize> {
    [n].iter().chain(shape).copied().collect()
}

/// Whether a file starts as compiled models do.
pub fn is_compiled(path: &Path) -> std::io::Result<bool> {
    // Checked before the file is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("not a regular file; give the path of a model file"));
    }
    let mut start = Vec::with_capacity(MAGIC.len());
    File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC || path.extension().is_some_and(|e| e == "bin"))
}

/// The limits of a compiled model, with another limit on memory if one is given.
pub fn limits(memory: Option<usize>) -> Limits {
    memory.map_or_else(Limits::default, |bytes| Limits { memory: bytes as u64, ..Limits::default() })
}
