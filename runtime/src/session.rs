//! Sessions: models that are ready to run.

use crate::arrays::{Array, ArrayData, InputArray, InputData, Outputs};
use crate::cpu::tier_of_environment;
use crate::error::{RunError, SessionError};
use crate::model::{Element, Model, PortInfo};
use crate::thread_pool::ThreadPool;
use catc_jit::{CompiledProgram, Input, JitError, Limits, Options, OutputMut, ParallelFor, Work, Workspace};
use catc_kernels::{KernelRef, Tier};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Options of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// The number of threads of a run, the calling thread included; 0 means one for each CPU that the process may use. They share the
    /// images of a batch, or the rows of an image's large layers; the number does not change the results. If several runs of a session
    /// overlap, one of them uses the threads and each of the others runs on its calling thread alone.
    pub threads: usize,
    /// The instruction set of the machine code. `None` means the one that the environment variable `CATC_CPU` names, or else the best that
    /// this CPU has. It does not change the results of integer layers.
    pub tier: Option<Tier>,
    /// Limits on what compiling and running the model may take. A model that needs more is refused before any of it is allocated.
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
    /// The name of the program's operation, or `convert` for a step that stores a tensor in another format for one of its consumers.
    pub op: &'static str,
    /// The steps of the program that it computes: one, unless several are fused into one function.
    pub parts: Vec<LayerPart>,
    /// Its machine code, which it may share with other layers of the same shape.
    pub code: &'a [u8],
}

/// The part of a layer that computes one step of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPart {
    /// The index of the program's step.
    pub source: usize,
    /// The inner kernel, if the step has one.
    pub kernel: Option<&'static str>,
    /// The tile, in pixels and vectors of output channels, if the kernel has several to choose from.
    pub tile: Option<(usize, usize)>,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

impl LayerPart {
    fn of(work: &Work) -> LayerPart {
        let Work { source, kernel, tile, macs, .. } = *work;
        LayerPart { source, kernel: kernel.map(KernelRef::name), tile, macs }
    }
}

impl Layer<'_> {
    /// The inner kernel, if there is one; of several fused steps, that of the last.
    pub fn kernel(&self) -> Option<&'static str> {
        self.parts.last().and_then(|part| part.kernel)
    }

    /// The tile, if the layer is one step and its kernel has several tiles to choose from.
    pub fn tile(&self) -> Option<(usize, usize)> {
        if let [part] = self.parts[..] { part.tile } else { None }
    }

    /// Multiply-accumulates for one image.
    pub fn macs(&self) -> u64 {
        self.parts.iter().map(|part| part.macs).sum()
    }
}

/// The memory of a session in bytes, not counting the model itself and the caller's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Weights packed for this CPU, and other constants. Sessions of one model and instruction set share them.
    pub constants: usize,
    /// Machine code, shared in the same way.
    pub code: usize,
    /// Activations of one image; images that are run at the same time take as much each.
    pub workspace: usize,
}

/// A model with machine code, memory and threads. Any number of threads may run one session at the same time.
pub struct Session {
    model: Model,
    compiled: Arc<CompiledProgram>,
    /// The threads that help the calling thread; `None` if a run has one thread. They sleep between runs.
    pool: Option<ThreadPool>,
    threads: usize,
    /// Workspaces that no run is using.
    workspaces: Mutex<Vec<Workspace>>,
}

/// A workspace in use by a run. Dropping it returns the workspace to its session.
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
    /// `ready` says whether to allocate the memory of a run now.
    pub(crate) fn new(model: Model, options: &SessionOptions, ready: bool) -> Result<Session, SessionError> {
        // Resolved here, so that a session that names the best tier and one that leaves it open share one compilation.
        let tier = match options.tier {
            Some(tier) => Some(tier),
            None => tier_of_environment()?.or_else(Tier::detect),
        };
        let compiled = model.compiled(Options { tier, limits: options.limits, ..Options::default() })?;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = match threads {
            1 => None,
            n => Some(ThreadPool::new(n).map_err(|e| SessionError::Threads { threads: n, message: e.to_string() })?),
        };
        // Allocated now, so that the first run does not take longer than the others.
        let workspaces = Mutex::new(if ready { vec![compiled.workspace(threads)?] } else { vec![] });
        Ok(Session { model, compiled, pool, threads, workspaces })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The number of threads of a run.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The instruction set of the machine code.
    pub fn tier(&self) -> Tier {
        self.compiled.tier()
    }

    /// Whether kernels and tiles come from a tuning on this model of CPU with this instruction set.
    pub fn is_tuned(&self) -> bool {
        self.compiled.is_tuned()
    }

    /// The memory that the session holds.
    pub fn memory(&self) -> Memory {
        Memory {
            constants: self.compiled.constant_bytes(),
            code: self.compiled.code_bytes(),
            workspace: self.compiled.workspace_bytes(self.threads),
        }
    }

    /// The steps in the order in which they run.
    pub fn layers(&self) -> impl Iterator<Item = Layer<'_>> {
        self.compiled.steps().map(|s| Layer {
            name: s.name,
            op: s.op,
            parts: s.work.iter().map(LayerPart::of).collect(),
            code: s.code,
        })
    }

    /// Runs a batch of one or more images. The inputs are in the order of [`Model::inputs`], each of shape `[batch, ..dims]`, row-major.
    ///
    /// # Errors
    /// If the number of inputs, a shape, an element type or the batch does not fit the model, an index is outside of the range of its
    /// input, or memory cannot be allocated.
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
        // Each thread runs whole images while there is one for every thread. The threads then share the layers of each image that is left.
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

    /// As [`Session::run`], but one image after the other. `observe` is called after each step with its index in [`Session::layers`] and the
    /// time that it took.
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

    /// Checks that the inputs fit the model; returns the number of images.
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

/// Locks, even if a thread panicked while it held the lock: the data is never left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A zeroed array for an output of this many images.
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

/// Splits the output arrays by image: for each image, its part of every output.
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

/// One image of an input whose shape has been checked.
fn image_of<'a>(array: &InputArray<'a>, port: &PortInfo, index: usize) -> Input<'a> {
    let n = port.elements();
    match array.data {
        InputData::F32(v) => Input::F32(&v[index * n..][..n]),
        InputData::Index(v) => Input::Index(&v[index * n..][..n]),
    }
}
