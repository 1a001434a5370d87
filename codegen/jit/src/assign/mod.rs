//! Decisions that are made before any step is lowered: the storage format and the halo of each tensor, and the kernel of each convolution.
//!
//! A tensor is stored once, in the format that is most useful to its consumers. Codes are stored as row offsets if a consumer's kernel reads
//! row offsets, else as bytes. The tensor has a halo if a convolution pads it. A consumer that cannot read the format gets a converted copy
//! ([`crate::builder::Builder::read`]).

mod kernels;
pub(crate) mod overrides;

pub(crate) use kernels::{Choices, ConvAssignment, kernels_of};

use crate::error::JitError;
use crate::storage::{Assignment, Halo, StorageFormat, image, is_image, needed_halo};
use catc_kernels::winograd::WinogradTiles;
use catc_kernels::{ActivationFormat, Execution, KernelSet};
use catc_program::{Format, Op, Program, Step};
use overrides::KernelOverride;

/// Storage of every tensor, and the kernel of every convolution.
#[derive(Debug)]
pub(crate) struct Assigned {
    /// By tensor.
    pub tensors: Vec<Assignment>,
    /// By step.
    pub convs: Vec<Option<ConvAssignment>>,
}

/// Decides the storage of every tensor and the kernel of every convolution of a program.
///
/// # Errors
/// If a convolution contradicts itself, if no kernel serves it, or if unpacked weights take more than `max_bytes` bytes.
pub(crate) fn assign(
    program: &Program,
    kernels: KernelSet,
    overrides: &[KernelOverride],
    max_bytes: u64,
) -> Result<Assigned, JitError> {
    let count = program.tensors.len();
    let mut root: Vec<usize> = (0..count).collect();
    let mut members = vec![1; count];
    for step in &program.steps {
        if step.op == Op::View {
            let from = root[step.inputs[0].0 as usize];
            root[step.output.0 as usize] = from;
            members[from] += 1;
        }
    }
    let mut input = vec![None; count];
    for (number, port) in program.inputs.iter().enumerate() {
        input[port.tensor.0 as usize] = Some(number);
    }
    let mut choices = Choices::new(program, kernels, max_bytes);
    let mut convs = Vec::with_capacity(program.steps.len());
    let mut wanted = vec![false; count];
    let mut halo = vec![Halo::NONE; count];
    for (number, step) in program.steps.iter().enumerate() {
        let asked = overrides.get(number).and_then(|asked| asked.kernel);
        let conv = choices.choose(step, asked)?;
        if let (Some(conv), Op::Conv { geometry, .. } | Op::FloatConv { geometry, .. }) = (&conv, &step.op) {
            let source = step.inputs[0].0 as usize;
            let kernel = conv.choice.kernel;
            wanted[root[source]] |= kernel.info().activations == ActivationFormat::RowOffset;
            let mut needed = needed_halo(program, step, geometry)?;
            if let Execution::Winograd(WinogradTiles { form, .. }) = kernel.execution() {
                // Winograd kernels read whole tiles, also at the lower and right edge.
                let (_, height, width) = image(program, step.output)?;
                let ([rows, columns], [tile_height, tile_width]) = (form.count([height, width]), form.outputs());
                needed.bottom += rows * tile_height - height;
                needed.right += columns * tile_width - width;
            }
            halo[source] = halo[source].union(needed);
        }
        convs.push(conv);
    }
    let mut refused = vec![false; count];
    for (tensor, decl) in program.tensors.iter().enumerate() {
        let innermost = if is_image(decl) { decl.dims.first() } else { decl.dims.last() };
        let whole_pairs = innermost.is_some_and(|size| size.is_multiple_of(2));
        refused[root[tensor]] |= members[root[tensor]] > 1 && !whole_pairs;
    }
    for step in &program.steps {
        if !writes_row_offsets(program, step) {
            refused[root[step.output.0 as usize]] = true;
        }
    }
    let tensors = (0..count)
        .map(|tensor| {
            let decl = &program.tensors[tensor];
            let r = root[tensor];
            let number = input[r];
            let two_bits = matches!(decl.format, Format::Codes { bits: 2, .. });
            let format = if two_bits && wanted[r] && !refused[r] && number.is_none() {
                StorageFormat::RowOffset
            } else {
                StorageFormat::plain(&decl.format)
            };
            let alone = members[r] == 1 && number.is_none();
            Assignment { format, halo: if alone { halo[tensor] } else { Halo::NONE }, root: r, input: number }
        })
        .collect();
    Ok(Assigned { tensors, convs })
}

/// Whether the code of a step can write row offsets. Its lanes must run along the innermost dimension and start at even positions.
fn writes_row_offsets(program: &Program, step: &Step) -> bool {
    match &step.op {
        Op::Conv { groups, .. } | Op::FloatConv { groups, .. } => {
            let outputs = program.tensor(step.output).dims.first().copied().unwrap_or(0);
            *groups <= 1 || (outputs / groups).is_multiple_of(2)
        }
        Op::MaxPool { .. } | Op::AvgPool { .. } | Op::Map { .. } | Op::Mean { .. } => true,
        // Lanes run along the innermost dimension, the channels of an image.
        Op::Interpolate { axis, .. } => *axis > 0 && is_image(program.tensor(step.output)),
        Op::View => true,
        Op::FloatLinear { .. }
        | Op::MatMul { .. }
        | Op::Constant { .. }
        | Op::Concat { .. }
        | Op::Transpose { .. }
        | Op::Pad { .. }
        | Op::Slice { .. }
        | Op::Pick { .. }
        | Op::Softmax { .. }
        | Op::SquaredDistance { .. }
        | Op::ArgMin { .. }
        | Op::GatherRow { .. } => false,
    }
}
