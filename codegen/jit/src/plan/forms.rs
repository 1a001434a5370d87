//! Which form each tensor gets, and how much padding around it.
//!
//! A tensor is stored once, in the form most useful to its consumers: as row offsets if a look-up convolution reads it, else a
//! byte per code; with a halo if a convolution pads it. A consumer that cannot read that form gets a converted copy
//! ([`super::planner::Planner::read`]).

use crate::buffer::{Form, Halo, is_image};
use crate::error::JitError;
use crate::plan::wish::Wish;
use crate::steps::weights::PreparedWeights;
use catc_kernels::winograd::Tile;
use catc_kernels::{
    Choice, KernelId, KernelSet, QuantizedWeights, Request, Window, candidates, choose, choose_dot, choose_float,
};
use catc_program::{Constant, Format, Geometry, Op, Program, Step, TensorId};

/// The storage of one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// Its form.
    pub form: Form,
    /// Its halo.
    pub halo: Halo,
    /// The tensor whose memory it shares; itself where it is not a view.
    pub root: usize,
    /// The number of the program input that it is (or views).
    pub input: Option<usize>,
}

/// Storage of every tensor, and the kernel of every convolution (by step).
#[derive(Debug)]
pub(crate) struct Forms {
    /// By tensor.
    pub tensors: Vec<Assignment>,
    /// By step.
    pub convs: Vec<Option<Choice>>,
}

/// Decides for a whole program.
pub(crate) fn assign(program: &Program, kernels: KernelSet, wishes: &[Wish]) -> Result<Forms, JitError> {
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
    let mut convs = Vec::with_capacity(program.steps.len());
    let mut wanted = vec![false; count];
    let mut halo = vec![Halo::NONE; count];
    for (number, step) in program.steps.iter().enumerate() {
        let wanted_kernel = wishes.get(number).and_then(|wish| wish.kernel);
        let choice = conv_choice(program, step, kernels, wanted_kernel)?;
        if let (Some(choice), Op::Conv { geometry, .. } | Op::FloatConv { geometry, .. }) = (&choice, &step.op) {
            let source = step.inputs[0].0 as usize;
            wanted[root[source]] |= choice.kernel == KernelId::Lookup;
            let mut needed = needed_halo(program, step, geometry)?;
            if let Some(tile) = Tile::of(choice.kernel) {
                // Whole tiles are read.
                let (_, height, width) = image(program, step.output)?;
                let ([rows, columns], [tile_height, tile_width]) = (tile.count([height, width]), tile.outputs());
                needed.bottom += rows * tile_height - height;
                needed.right += columns * tile_width - width;
            }
            halo[source] = halo[source].union(needed);
        }
        convs.push(choice);
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
            let form = if two_bits && wanted[r] && !refused[r] && number.is_none() {
                Form::RowOffset
            } else {
                Form::plain(&decl.format)
            };
            let alone = members[r] == 1 && number.is_none();
            Assignment { form, halo: if alone { halo[tensor] } else { Halo::NONE }, root: r, input: number }
        })
        .collect();
    Ok(Forms { tensors, convs })
}

/// The padding that a convolution reads, which is what its output asks for: a window may stop short of the declared padding.
pub(crate) fn needed_halo(program: &Program, step: &Step, geometry: &Geometry) -> Result<Halo, JitError> {
    let (_, height, width) = image(program, step.inputs[0])?;
    let (_, out_height, out_width) = image(program, step.output)?;
    let behind = |out: usize, axis: usize, before: usize, size: usize| {
        let reach = out.saturating_sub(1).saturating_mul(geometry.strides[axis]);
        let span = geometry.kernel[axis].saturating_sub(1).saturating_mul(geometry.dilations[axis]);
        reach.saturating_add(span).saturating_add(1).saturating_sub(before.saturating_add(size))
    };
    let halo = Halo {
        top: geometry.pads[0],
        left: geometry.pads[1],
        bottom: behind(out_height, 0, geometry.pads[0], height),
        right: behind(out_width, 1, geometry.pads[1], width),
    };
    if halo.bottom > geometry.pads[2] || halo.right > geometry.pads[3] {
        return Err(JitError::invalid(&step.name, "the output reaches beyond the padded input"));
    }
    Ok(halo)
}

/// Channels, height and width of an image tensor. Rank 3, channels last.
pub(crate) fn image(program: &Program, tensor: TensorId) -> Result<(usize, usize, usize), JitError> {
    let decl = program.tensor(tensor);
    match *decl.dims.as_slice() {
        [c, h, w] if is_image(decl) => Ok((c, h, w)),
        _ => Err(JitError::invalid(&decl.name, "not an image [C,H,W] with channels last")),
    }
}

/// The kernel of a convolution: the one that is asked for, if it serves the layer.
fn conv_choice(
    program: &Program,
    step: &Step,
    kernels: KernelSet,
    asked: Option<KernelId>,
) -> Result<Option<Choice>, JitError> {
    match &step.op {
        Op::Conv { geometry, .. } => {
            let prepared = PreparedWeights::of(program, step, kernels)?;
            let weights = prepared.view().map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
            let request = request(program, step, (&weights, prepared.bits), geometry, kernels)?;
            let mut choice = match asked {
                None => choose(&request),
                Some(kernel) => {
                    let all = candidates(&request);
                    all.iter().find(|choice| choice.kernel == kernel).copied().unwrap_or(all[0])
                }
            };
            if choice.kernel == KernelId::Lookup && !choice.fits_i16() {
                // 16-bit halves of the sum overflow after that many drains, if 32 bits of it matter.
                let pairs = weights.shape().inputs.div_ceil(2);
                let shape = catc_kernels::WeightShape { inputs: pairs, ..*weights.shape() };
                if crate::steps::conv_lookup::most_drains(&shape) > catc_kernels::lookup::DRAINS_PER_SPILL {
                    choice = choose_dot(&request);
                }
            }
            let raw = choice.largest_absolute_sum.saturating_mul((1 << request.activation_bits) - 1);
            if raw > i32::MAX as u64 {
                return Err(JitError::invalid(&step.name, "its sums do not fit 32 bits"));
            }
            Ok(Some(choice))
        }
        Op::FloatConv { geometry, groups, weights, .. } => {
            let shape = conv_shape(&step.name, program.constant(*weights), geometry, *groups)?;
            let kernel = choose_float(&shape, kernels);
            Ok(Some(Choice { kernel, steps_per_drain: 0, largest_absolute_sum: 0, largest_result: 0 }))
        }
        _ => Ok(None),
    }
}

/// What a convolution of codes asks for.
fn request<'a>(
    program: &Program,
    step: &Step,
    (weights, weight_bits): (&'a QuantizedWeights<'a>, u8),
    geometry: &Geometry,
    kernels: KernelSet,
) -> Result<Request<'a>, JitError> {
    let Format::Codes { signed, bits, zero_point, .. } = program.tensor(step.inputs[0]).format else {
        return Err(JitError::invalid(&step.name, "the input of an integer convolution is not codes"));
    };
    let (_, height, width) = image(program, step.output)?;
    Ok(Request {
        weights,
        weight_bits,
        activation_bits: bits,
        activation_zero_point: zero_point - Format::min_code(signed, bits),
        window: Window { strides: geometry.strides, dilations: geometry.dilations, output: [height, width] },
        kernels,
    })
}

/// The kernels that a step may have, if there is something to choose: other kernels, or tiles of one.
pub(crate) fn kernels_of(program: &Program, step: &Step, kernels: KernelSet) -> Result<Vec<KernelId>, JitError> {
    let all: Vec<KernelId> = match &step.op {
        Op::Conv { geometry, .. } => {
            let prepared = PreparedWeights::of(program, step, kernels)?;
            let weights = prepared.view().map_err(|source| JitError::Weights { step: step.name.clone(), source })?;
            let request = request(program, step, (&weights, prepared.bits), geometry, kernels)?;
            candidates(&request).into_iter().map(|choice| choice.kernel).collect()
        }
        Op::FloatConv { geometry, groups, weights, .. } => {
            vec![choose_float(&conv_shape(&step.name, program.constant(*weights), geometry, *groups)?, kernels)]
        }
        _ => vec![],
    };
    let fixed = all.len() == 1 && !all[0].has_tiles();
    Ok(if fixed { vec![] } else { all })
}

/// The extents of a convolution's weights `[O,C/groups,KH,KW]`.
pub(crate) fn conv_shape(
    name: &str,
    constant: &Constant,
    geometry: &Geometry,
    groups: usize,
) -> Result<catc_kernels::WeightShape, JitError> {
    let [outputs, inputs, kernel_height, kernel_width] = *constant.dims.as_slice() else {
        return Err(JitError::invalid(name, "the weights are not of rank 4"));
    };
    if groups == 0 || !outputs.is_multiple_of(groups) || geometry.kernel != [kernel_height, kernel_width] {
        return Err(JitError::invalid(name, "the weights contradict groups or window"));
    }
    if outputs == 0 || inputs == 0 || kernel_height == 0 || kernel_width == 0 {
        return Err(JitError::invalid(name, "the weights are empty"));
    }
    if geometry.strides.contains(&0) || geometry.dilations.contains(&0) {
        return Err(JitError::invalid(name, "a stride or dilation is 0"));
    }
    Ok(catc_kernels::WeightShape { groups, outputs: outputs / groups, inputs, kernel_height, kernel_width })
}

/// Whether the code of a step can write row offsets: its lanes run along the innermost dimension and start at even places.
fn writes_row_offsets(program: &Program, step: &Step) -> bool {
    match &step.op {
        Op::Conv { groups, .. } | Op::FloatConv { groups, .. } => {
            let outputs = program.tensor(step.output).dims.first().copied().unwrap_or(0);
            *groups <= 1 || (outputs / groups).is_multiple_of(2)
        }
        Op::MaxPool { .. } | Op::AvgPool { .. } | Op::Map { .. } | Op::Mean { .. } => true,
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
