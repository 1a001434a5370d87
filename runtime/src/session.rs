//! A model that is ready to run.

use crate::arrays::{Array, ArrayData, InputArray, InputData, Outputs};
use crate::cpu::tier_of_environment;
use crate::error::{RunError, SessionError};
use crate::model::{Element, Model, PortInfo};
use crate::thread_pool::ThreadPool;
use catc_jit::{CompiledProgram, Input, JitError, Limits, Options, OutputMut, ParallelFor, Workspace};
use catc_kernels::Tier;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a model is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads of a run, the one that asks for it included; 0 is as many as the process may use CPUs. They share a batch, or the large
    /// layers of an image; results do not depend on it. Where several runs of a session overlap, one has the threads and the others
    /// are alone.
    pub threads: usize,
    /// The instruction set of the machine code; if `None`, what the environment variable `CATC_CPU` names, else the best of this CPU. Results of integer layers do not depend on it.
    pub tier: Option<Tier>,
    /// What compiling and running the model may take; a model that asks for more is refused before it is taken.
    pub limits: Limits,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { threads: 1, tier: None, limits: Limits::default() }
    }
}

/// A step of the compiled model, for reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer<'a> {
    /// The layer's name in the model file.
    pub name: &'a str,
    /// What it does: the name of the program's operation, or `convert` where a tensor is stored in another form for one of its readers.
    pub op: &'static str,
    /// The number of the program's step that it belongs to, if it is one alone.
    pub source: Option<usize>,
    /// The inner kernel, where the step has one.
    pub kernel: Option<&'static str>,
    /// Pixels and vectors of output channels of the kernel's tile, where it has several.
    pub tile: Option<(usize, usize)>,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Its machine code, which steps of one shape share.
    pub code: &'a [u8],
}

/// Bytes that a session holds, beside the model itself and the arrays of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Weights as they are packed for this CPU, and other constants; shared by sessions of one model and instruction set.
    pub constants: usize,
    /// Machine code, shared likewise.
    pub code: usize,
    /// Activations, for each image that is run at a time.
    pub workspace: usize,
}

/// A model with machine code, memory and threads. Any number of threads may run one session at a time.
pub struct Session {
    model: Model,
    compiled: Arc<CompiledProgram>,
    /// The threads beside the one that asks for a run, if there are several to run on; they sleep between runs.
    pool: Option<ThreadPool>,
    threads: usize,
    /// Activation memory that no run is using.
    workspaces: Mutex<Vec<Workspace>>,
}

/// A workspace that goes back to its session.
struct Lease<'s> {
    session: &'s Session,
    workspace: Option<Workspace>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(workspace) = self.workspace.take() {
            lock(&self.session.workspaces).push(workspace);
        }
    }
}

impl Session {
    /// `ready`: with the memory of a run.
    pub(crate) fn new(model: Model, options: &SessionOptions, ready: bool) -> Result<Session, SessionError> {
        // The best tier by name or by default is one compilation.
        let tier = match options.tier {
            Some(tier) => Some(tier),
            None => tier_of_environment()?.or_else(Tier::detect),
        };
        let compiled = model.compiled(Options { tier, limits: options.limits })?;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = match threads {
            1 => None,
            n => Some(ThreadPool::new(n).map_err(|e| SessionError::Threads { threads: n, message: e.to_string() })?),
        };
        // The first run should not be the one that takes the memory.
        let workspaces = Mutex::new(if ready { vec![compiled.workspace(threads)?] } else { vec![] });
        Ok(Session { model, compiled, pool, threads, workspaces })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Threads of a run.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set of the machine code.
    pub fn tier(&self) -> Tier {
        self.compiled.tier()
    }

    /// Whether kernels and tiles are those that were measured on this CPU with this instruction set.
    pub fn is_tuned(&self) -> bool {
        self.compiled.is_tuned()
    }

    /// What the session holds.
    pub fn memory(&self) -> Memory {
        Memory {
            constants: self.compiled.constant_bytes(),
            code: self.compiled.code_bytes(),
            workspace: self.compiled.workspace_bytes(self.threads),
        }
    }

    /// The steps in the order they run.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        self.compiled.steps().map(|s| Layer {
            name: s.name,
            op: s.op,
            source: s.source,
            kernel: s.kernel,
            tile: s.tile,
            macs: s.macs,
            code: s.code,
        })
    }

    /// Runs a batch of images of any size from 1. Inputs are in the order of [`Model::inputs`], each of shape `[batch, ..dims]`.
    ///
    /// # Errors
    /// If the number of inputs, a shape, an element type or the batch does not fit the model, an index is outside of the range of its
    /// input, or memory runs out.
    pub fn run(&self, inputs: &[InputArray<'_>]) -> Result<Outputs, RunError> {
        let batch = self.check(inputs)?;
        let mut arrays = self.model.outputs().iter().map(|p| new_array(p, batch)).collect::<Result<Vec<_>, _>>()?;
        let mut images = per_image(self.model.outputs(), &mut arrays, batch);
        let run =
            |workspace: &mut Workspace, parallel: Option<&dyn ParallelFor>, index: usize, outputs: &mut [OutputMut]| {
                let inputs: Vec<Input> =
                    inputs.iter().zip(self.model.inputs()).map(|(a, p)| image_of(a, p, index)).collect();
                self.compiled.run_observed(&inputs, outputs, workspace, parallel, |_, call| call())
            };
        let pool = self.pool.as_ref().and_then(ThreadPool::enter);
        // As many images at a time as there are threads; what is left is shared image by image.
        let workers = pool.as_ref().map_or(1, |p| p.workers());
        let whole = if workers > 1 { batch - batch % workers } else { 0 };
        if let (Some(pool), true) = (&pool, whole > 0) {
            let failure = Mutex::new(None);
            let jobs: Vec<Mutex<&mut Vec<OutputMut>>> = images[..whole].iter_mut().map(Mutex::new).collect();
            pool.share(whole, 1, &|_, range| {
                let all = || -> Result<(), JitError> {
                    let mut lease = self.lease()?;
                    range.into_iter().try_for_each(|i| run(&mut lease, None, i, &mut lock(&jobs[i])))
                };
                if let Err(e) = all() {
                    lock(&failure).get_or_insert(e);
                }
            });
            if let Some(e) = lock(&failure).take() {
                return Err(e.into());
            }
        }
        if whole < batch {
            let mut lease = self.lease()?;
            let parallel = pool.as_ref().map(|p| p as &dyn ParallelFor);
            for (i, outputs) in images.iter_mut().enumerate().skip(whole) {
                run(&mut lease, parallel, i, outputs)?;
            }
        }
        drop(images);
        Ok(Outputs(arrays))
    }

    /// As [`Session::run`], one image after the other; `observe` gets the number of each of the [`Session::layers`] and the time that it
    /// took.
    pub fn run_timed(
        &self,
        inputs: &[InputArray<'_>],
        observe: &mut dyn FnMut(usize, Duration),
    ) -> Result<Outputs, RunError> {
        let batch = self.check(inputs)?;
        let mut arrays = self.model.outputs().iter().map(|p| new_array(p, batch)).collect::<Result<Vec<_>, _>>()?;
        let mut lease = self.lease()?;
        let pool = self.pool.as_ref().and_then(ThreadPool::enter);
        for (i, outputs) in per_image(self.model.outputs(), &mut arrays, batch).iter_mut().enumerate() {
            let inputs: Vec<Input> = inputs.iter().zip(self.model.inputs()).map(|(a, p)| image_of(a, p, i)).collect();
            let parallel = pool.as_ref().map(|p| p as &dyn ParallelFor);
            self.compiled.run_observed(&inputs, outputs, &mut lease, parallel, |layer, call| {
                let start = Instant::now();
                call();
                observe(layer, start.elapsed());
            })?;
        }
        Ok(Outputs(arrays))
    }

    fn lease(&self) -> Result<Lease<'_>, JitError> {
        let free = lock(&self.workspaces).pop();
        let workspace = match free {
            Some(workspace) => workspace,
            None => self.compiled.workspace(self.threads)?,
        };
        Ok(Lease { session: self, workspace: Some(workspace) })
    }

    /// The number of images, if the inputs fit the model.
    fn check(&self, inputs: &[InputArray<'_>]) -> Result<usize, RunError> {
        let ports = self.model.inputs();
        if inputs.len() != ports.len() {
            let expected = ports.iter().map(|p| format!("{:?}", p.name)).collect();
            return Err(RunError::InputCount { expected, found: inputs.len() });
        }
        let mut first = None;
        for (array, port) in inputs.iter().zip(ports) {
            let name = || port.name.clone();
            let (found, element) = match array.data {
                InputData::F32(v) => (v.len(), Element::F32),
                InputData::Index(v) => (v.len(), Element::Index),
            };
            if element != port.element {
                let expected = if port.element == Element::F32 { "f32" } else { "indices" };
                return Err(RunError::InputElement { name: name(), expected });
            }
            let batch = match array.shape.split_first() {
                Some((&batch, dims)) if batch > 0 && dims == port.dims => batch,
                _ => {
                    let (expected, found) = (port.dims.clone(), array.shape.to_vec());
                    return Err(RunError::InputShape { name: name(), expected, found });
                }
            };
            if batch.checked_mul(port.elements()) != Some(found) {
                return Err(RunError::InputLength { name: name(), shape: array.shape.to_vec(), found });
            }
            if let (InputData::Index(numbers), Some(range)) = (array.data, port.range)
                && let Some(at) = numbers.iter().position(|&n| !range.contains(n))
            {
                let (image, number) = (at / port.elements().max(1), numbers[at]);
                return Err(RunError::Range { name: name(), image, number, low: range.low, high: range.high });
            }
            let expected = *first.get_or_insert(batch);
            if batch != expected {
                return Err(RunError::Batch { name: name(), expected, found: batch });
            }
        }
        Ok(first.unwrap_or(1))
    }
}

impl Deref for Lease<'_> {
    type Target = Workspace;

    fn deref(&self) -> &Workspace {
        self.workspace.as_ref().expect("held until the lease is dropped")
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Workspace {
        self.workspace.as_mut().expect("held until the lease is dropped")
    }
}

/// What is behind a lock is whole even if a thread panicked while it held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An output for this many images.
fn new_array(port: &PortInfo, batch: usize) -> Result<Array, RunError> {
    fn zeros<T: Clone + Default>(n: usize) -> Option<Vec<T>> {
        let mut v = Vec::new();
        v.try_reserve_exact(n).ok()?;
        v.resize(n, T::default());
        Some(v)
    }
    let data = batch.checked_mul(port.elements()).and_then(|n| match port.element {
        Element::F32 => zeros(n).map(ArrayData::F32),
        Element::Index => zeros(n).map(ArrayData::Index),
    });
    let data = data.ok_or_else(|| RunError::Memory { name: port.name.clone(), batch })?;
    let shape = [&[batch], port.dims.as_slice()].concat();
    Ok(Array { name: port.name.clone(), shape, data })
}

/// For each image its part of every output.
fn per_image<'a>(ports: &[PortInfo], arrays: &'a mut [Array], batch: usize) -> Vec<Vec<OutputMut<'a>>> {
    let mut images: Vec<Vec<OutputMut>> = (0..batch).map(|_| Vec::with_capacity(ports.len())).collect();
    for (array, port) in arrays.iter_mut().zip(ports) {
        match &mut array.data {
            ArrayData::F32(v) => {
                let parts = v.chunks_exact_mut(port.elements()).map(OutputMut::F32);
                images.iter_mut().zip(parts).for_each(|(image, part)| image.push(part));
            }
            ArrayData::Index(v) => {
                let parts = v.chunks_exact_mut(port.elements()).map(OutputMut::Index);
                images.iter_mut().zip(parts).for_each(|(image, part)| image.push(part));
            }
        }
    }
    images
}

/// One image of an input that fits its port.
fn image_of<'a>(array: &InputArray<'a>, port: &PortInfo, index: usize) -> Input<'a> {
    let n = port.elements();
    match array.data {
        InputData::F32(v) => Input::F32(&v[index * n..][..n]),
        InputData::Index(v) => Input::Index(&v[index * n..][..n]),
    }
}
