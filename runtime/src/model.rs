//! A loaded model.

use crate::error::{OpenError, SessionError};
use crate::session::{Session, SessionOptions};
use catc_jit::{CompiledProgram, Options, compile};
use catc_program::{Format, Port, Program, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What an input or output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// 32-bit integers.
    Index,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortInfo {
    /// Its name in the model file.
    pub name: String,
    /// What it holds.
    pub element: Element,
    /// Its dimensions for one image, without the batch.
    pub dims: Vec<usize>,
    /// The range of an input of indices; a run with an index outside of it is refused. `None` for f32 inputs and for outputs.
    pub range: Option<Range>,
}

impl PortInfo {
    fn new(program: &Program, port: &Port) -> Self {
        let tensor = program.tensor(port.tensor);
        let element = if tensor.format == Format::Index { Element::Index } else { Element::F32 };
        PortInfo { name: port.name.clone(), element, dims: tensor.dims.clone(), range: port.range }
    }

    /// Elements of one image.
    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// A loaded model. Clones share one program and its machine code, which are freed with the last clone or session.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
}

struct Shared {
    program: Program,
    inputs: Vec<PortInfo>,
    outputs: Vec<PortInfo>,
    /// The machine code of each set of options that a session was opened with.
    compiled: Mutex<Vec<(Options, Arc<CompiledProgram>)>>,
}

impl Model {
    /// Opens a model.bin. The file is read, checked and closed.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, OpenError> {
        Ok(Model::from_valid(Program::load(path)?))
    }

    /// A model from the bytes of a model.bin.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, OpenError> {
        Ok(Model::from_valid(Program::from_bytes(bytes)?))
    }

    /// A model from a program, which is validated.
    pub fn from_program(program: Program) -> Result<Model, OpenError> {
        program.validate()?;
        Ok(Model::from_valid(program))
    }

    fn from_valid(program: Program) -> Model {
        let info = |ports: &[Port]| ports.iter().map(|p| PortInfo::new(&program, p)).collect();
        let (inputs, outputs) = (info(&program.inputs), info(&program.outputs));
        Model { shared: Arc::new(Shared { program, inputs, outputs, compiled: Mutex::default() }) }
    }

    /// The inputs that a run takes, in order.
    pub fn inputs(&self) -> &[PortInfo] {
        &self.shared.inputs
    }

    /// The outputs that a run gives, in order.
    pub fn outputs(&self) -> &[PortInfo] {
        &self.shared.outputs
    }

    /// The program, for reports: its layers, their formats, and how it was compiled.
    pub fn program(&self) -> &Program {
        &self.shared.program
    }

    /// Opens a session: generates machine code, packs the weights, allocates the memory of a run and starts the threads. Sessions with the
    /// same instruction set and limits share code and packed weights, which the first of them makes.
    pub fn session(&self, options: &SessionOptions) -> Result<Session, SessionError> {
        Session::new(self.clone(), options, true)
    }

    /// As [`Model::session`], for reports: the memory of a run is not allocated before the first run.
    pub fn examine(&self, options: &SessionOptions) -> Result<Session, SessionError> {
        Session::new(self.clone(), options, false)
    }

    pub(crate) fn compiled(&self, options: Options) -> Result<Arc<CompiledProgram>, SessionError> {
        // The lock is held while compiling, so that sessions that open at the same time compile once. A panic leaves the list as it was.
        let mut compiled = self.shared.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, code)) = compiled.iter().find(|(o, _)| *o == options) {
            return Ok(code.clone());
        }
        let code = Arc::new(compile(&self.shared.program, &options)?);
        compiled.push((options, code.clone()));
        Ok(code)
    }
}
