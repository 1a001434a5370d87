//! Builds programs step by step, with random constants.

use super::Rng;
use catc_program::*;

/// A program under construction.
pub struct Builder {
    pub program: Program,
    pub rng: Rng,
}

/// A code format with a random zero-point.
pub fn codes(rng: &mut Rng, bits: u8) -> Format {
    let signed = rng.range(0, 1) == 1;
    let zero = rng.range(Format::min_code(signed, bits).into(), Format::max_code(signed, bits).into());
    Format::Codes { signed, bits, scale: 0.05, zero_point: zero as i32 }
}

impl Builder {
    pub fn new(seed: u64) -> Builder {
        Builder { program: Program::default(), rng: Rng(seed) }
    }

    pub fn tensor(&mut self, format: Format, dims: &[usize], layout: Layout) -> TensorId {
        let name = format!("t{}", self.program.tensors.len());
        self.program.tensors.push(TensorDecl { name, format, dims: dims.to_vec(), layout });
        TensorId(self.program.tensors.len() as u32 - 1)
    }

    /// A tensor of the layout usual for its rank.
    pub fn image(&mut self, format: Format, dims: &[usize]) -> TensorId {
        self.tensor(format, dims, if dims.len() == 3 { Layout::ChannelsLast } else { Layout::RowMajor })
    }

    pub fn constant(&mut self, dims: &[usize], data: ConstantData) -> ConstantId {
        self.program.constants.push(Constant { dims: dims.to_vec(), data });
        ConstantId(self.program.constants.len() as u32 - 1)
    }

    pub fn floats(&mut self, dims: &[usize], mut value: impl FnMut(&mut Rng) -> f32) -> ConstantId {
        let count = dims.iter().product();
        let values = (0..count).map(|_| value(&mut self.rng)).collect();
        self.constant(dims, ConstantData::F32(values))
    }

    /// Random codes over the full range; zero-points per channel, those of 8 bits so that weights fit a byte.
    pub fn weights(&mut self, dims: &[usize], bits: u8) -> ConstantId {
        let signed = self.rng.range(0, 1) == 1;
        let (low, high) = (Format::min_code(signed, bits), Format::max_code(signed, bits));
        let count: usize = dims.iter().product();
        let codes: Vec<i16> = (0..count).map(|_| self.rng.range(low.into(), high.into()) as i16).collect();
        let zero = |rng: &mut Rng| if bits == 8 { low + 128 } else { rng.range(low.into(), high.into()) as i32 };
        let channels = if self.rng.range(0, 3) == 0 { 1 } else { dims[0] };
        let zero_point = (0..channels).map(|_| zero(&mut self.rng)).collect();
        let scale = (0..channels).map(|_| 0.01 + 0.01 * self.rng.float().abs()).collect();
        self.constant(
            dims,
            ConstantData::Codes { codes: PackedCodes::new(signed, bits, &codes).unwrap(), scale, zero_point },
        )
    }

    pub fn input(&mut self, dims: &[usize]) -> TensorId {
        let tensor = self.tensor(Format::F32, dims, Layout::RowMajor);
        let name = format!("in{}", self.program.inputs.len());
        self.program.inputs.push(Port::new(name, tensor));
        tensor
    }

    /// Makes a tensor an output, as f32 and row-major, through a map if need be.
    pub fn output(&mut self, tensor: TensorId) {
        let decl = self.program.tensor(tensor).clone();
        let plain = decl.format == Format::F32 && decl.layout == Layout::RowMajor;
        let port = |t: TensorId| self.program.inputs.iter().chain(&self.program.outputs).any(|p| p.tensor == t);
        let tensor = if plain && !port(tensor) {
            tensor
        } else {
            let out = self.tensor(Format::F32, &decl.dims, Layout::RowMajor);
            self.step(Op::Map { scale: 1.0 }, &[tensor], Epilogue::default(), out);
            out
        };
        let name = format!("out{}", self.program.outputs.len());
        self.program.outputs.push(Port::new(name, tensor));
    }

    pub fn step(&mut self, op: Op, inputs: &[TensorId], epilogue: Epilogue, output: TensorId) {
        let name = format!("s{}", self.program.steps.len());
        self.program.steps.push(Step { name, op, inputs: inputs.to_vec(), epilogue, output });
    }

    /// Quantizes, so that codes take their full range for inputs in -1..1.
    pub fn quantize(&mut self, from: TensorId, format: Format) -> TensorId {
        let dims = self.program.tensor(from).dims.clone();
        let to = self.image(format, &dims);
        self.quantize_to(from, format, to)
    }

    /// The same into a row-major tensor.
    pub fn quantize_rows(&mut self, from: TensorId, format: Format) -> TensorId {
        let dims = self.program.tensor(from).dims.clone();
        let to = self.tensor(format, &dims, Layout::RowMajor);
        self.quantize_to(from, format, to)
    }

    fn quantize_to(&mut self, from: TensorId, format: Format, to: TensorId) -> TensorId {
        let spread = match format {
            Format::Codes { bits, .. } => (1 << bits) as f32 * 0.8,
            _ => 1.0,
        };
        let epilogue = Epilogue { requantize: Some(spread), ..Epilogue::default() };
        self.step(Op::Map { scale: 1.0 }, &[from], epilogue, to);
        to
    }

    /// An integer convolution whose results are spread over the output's range; `epilogue` may add steps.
    #[allow(clippy::too_many_arguments)]
    pub fn conv(
        &mut self,
        from: TensorId,
        outputs: usize,
        groups: usize,
        geometry: Geometry,
        bits: u8,
        format: Format,
        steps: Vec<EpilogueStep>,
    ) -> TensorId {
        let decl = self.program.tensor(from).clone();
        let (c, h, w) = (decl.dims[0], decl.dims[1], decl.dims[2]);
        let [oh, ow] = output_size(&geometry, h, w);
        let inputs = c / groups;
        let weights = self.weights(&[outputs, inputs, geometry.kernel[0], geometry.kernel[1]], bits);
        let Format::Codes { bits: a_bits, .. } = decl.format else { panic!("codes") };
        // The spread of the sums, roughly.
        let terms = (inputs * geometry.kernel[0] * geometry.kernel[1]) as f32;
        let deviation = terms.sqrt() * (1 << bits) as f32 * (1 << a_bits) as f32 * 0.15;
        let multiplier = self.floats(&[outputs], |r| (1.0 + 0.5 * r.float()) / deviation);
        let bias = self.floats(&[outputs], |r| 0.5 * r.float());
        let to = self.image(format, &[outputs, oh, ow]);
        let requantize = match format {
            Format::Codes { bits, .. } => Some((1 << bits) as f32 * 0.4),
            _ => None,
        };
        let op = Op::Conv { geometry, groups, weights, multiplier, bias };
        self.step(op, &[from], Epilogue { steps, requantize }, to);
        to
    }

    /// Moves the zero-points of all weights to the middle of their codes, as quantizers mostly do.
    pub fn centre(&mut self) {
        for constant in &mut self.program.constants {
            if let ConstantData::Codes { codes, zero_point, .. } = &mut constant.data {
                let (signed, bits) = (codes.signed(), codes.bits());
                let middle = (Format::min_code(signed, bits) + Format::max_code(signed, bits) + 1) / 2;
                zero_point.fill(middle);
            }
        }
    }

    /// The same, but every other channel has the other code in the middle, where there are as many zero-points as channels: zero-points as
    /// quantizers choose them that turn weights over where more are positive.
    pub fn centre_either_way(&mut self) {
        self.centre();
        for constant in &mut self.program.constants {
            if let ConstantData::Codes { zero_point, .. } = &mut constant.data {
                zero_point.iter_mut().skip(1).step_by(2).for_each(|zero| *zero -= 1);
            }
        }
    }

    /// Random inputs in -1..1 for the program's ports.
    pub fn inputs(&mut self) -> Vec<Vec<f32>> {
        let sizes: Vec<usize> = self.program.inputs.iter().map(|p| self.program.tensor(p.tensor).len()).collect();
        sizes.into_iter().map(|n| (0..n).map(|_| self.rng.float()).collect()).collect()
    }
}

/// The output size of a window.
pub fn output_size(g: &Geometry, h: usize, w: usize) -> [usize; 2] {
    let size = |n: usize, i: usize| {
        (n + g.pads[i] + g.pads[i + 2] - (g.kernel[i] - 1) * g.dilations[i] - 1) / g.strides[i] + 1
    };
    [size(h, 0), size(w, 1)]
}

/// A square window.
pub fn window(kernel: usize, stride: usize, pad: usize) -> Geometry {
    Geometry { kernel: [kernel; 2], strides: [stride; 2], pads: [pad; 4], dilations: [1; 2] }
}

impl Builder {
    /// Whether what has been built so far (without outputs) passes validation.
    pub fn program_is_sound(&self) -> bool {
        let mut program = self.program.clone();
        let last = program.steps.last().unwrap().output;
        let decl = program.tensor(last).clone();
        let out = TensorDecl { format: Format::F32, layout: Layout::RowMajor, ..decl };
        program.tensors.push(out);
        let tensor = TensorId(program.tensors.len() as u32 - 1);
        program.steps.push(Step {
            name: "out".into(),
            op: Op::Map { scale: 1.0 },
            inputs: vec![last],
            epilogue: Epilogue::default(),
            output: tensor,
        });
        program.outputs.push(Port::new("out", tensor));
        program.validate().is_ok()
    }

    /// Takes back the last step and the tensor it wrote.
    pub fn undo(&mut self) {
        self.program.steps.pop();
        self.program.tensors.pop();
    }
}
