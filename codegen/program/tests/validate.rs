//! Each rule of a valid program, broken one at a time.

mod support;

use catc_program::*;
use support::every_operation;

/// The step that has this operation.
fn step<'p>(p: &'p mut Program, name: &str) -> &'p mut Step {
    p.steps.iter_mut().find(|s| s.op.name() == name).unwrap()
}

/// The declaration of that step's output.
fn output<'p>(p: &'p mut Program, name: &str) -> &'p mut TensorDecl {
    let t = step(p, name).output;
    &mut p.tensors[t.0 as usize]
}

fn epilogue_step<'p>(p: &'p mut Program, name: &str, i: usize) -> &'p mut EpilogueStep {
    &mut step(p, name).epilogue.steps[i]
}

fn geometry(p: &mut Program) -> &mut Geometry {
    match &mut step(p, "conv").op {
        Op::Conv { geometry, .. } => geometry,
        _ => unreachable!(),
    }
}

fn codes(p: &mut Program) -> (&mut PackedCodes, &mut Vec<f32>, &mut Vec<i32>) {
    let c = p.constants.iter_mut().find_map(|c| match &mut c.data {
        ConstantData::Codes { codes, scale, zero_point } => Some((codes, scale, zero_point)),
        ConstantData::F32(_) => None,
    });
    c.unwrap()
}

/// Other codes, of another width.
fn recode(p: &mut Program, bits: u8, change: impl FnOnce(&mut Vec<i16>)) {
    let packed = codes(p).0;
    let mut all = packed.to_vec();
    change(&mut all);
    *packed = PackedCodes::new(packed.signed(), bits, &all).unwrap();
}

fn tuning(cpu: &str, layers: &[(u32, u32, u32)]) -> Tuning {
    let layer = |&(step, pixels, vectors): &_| TunedLayer { step, kernel: "k".into(), pixels, vectors };
    Tuning { cpu: cpu.into(), tier: "v".into(), layers: layers.iter().map(layer).collect() }
}

type Break = fn(&mut Program);

const CASES: &[(&str, Break)] = &[
    // Ports and dataflow.
    ("program: it needs an input, an output and a step", |p| p.outputs.clear()),
    ("input 0 \"in0\": there is no tensor 99", |p| p.inputs[0].tensor = TensorId(99)),
    ("a port holds f32 or indices, row-major", |p| p.outputs[0].tensor = TensorId(1)),
    ("only an input of indices has a range", |p| p.inputs[0].range = Some(catc_program::Range::ALL)),
    ("tensor 0 is a port already", |p| p.outputs[0].tensor = TensorId(0)),
    ("output 1 \"out12\": the name stands twice", |p| {
        for o in &mut p.outputs[..2] {
            o.name = "out12".into();
        }
    }),
    ("step 1 \"conv 1\": there is no tensor 77", |p| step(p, "conv").inputs[0] = TensorId(77)),
    ("reads tensor 2 before it is written", |p| step(p, "conv").inputs[0] = TensorId(2)),
    ("writes tensor 0, which is written already", |p| step(p, "conv").output = TensorId(0)),
    ("there is no constant 1000", |p| {
        *epilogue_step(p, "conv", 0) =
            EpilogueStep::Binary { op: Binary::Add, operand: Operand::Constant(ConstantId(1000)), scale: 1.0 };
    }),
    ("reads tensor 3 before it is written", |p| {
        *epilogue_step(p, "conv", 0) =
            EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(TensorId(3)), scale: 1.0 };
    }),
    ("no step writes it", |p| {
        let extra = p.tensors[0].clone();
        p.tensors.push(extra);
    }),
    // Tensors and constants.
    ("a dimension of [0, 6, 6] is 0", |p| p.tensors[0].dims[0] = 0),
    ("is too large", |p| p.tensors[0].dims = vec![1 << 20, 1 << 20]),
    ("is too large", |p| p.tensors[0].dims = vec![usize::MAX, usize::MAX, 2]),
    ("9 dimensions", |p| p.tensors[0].dims = vec![1; 9]),
    ("have more than 4294967296 elements", |p| {
        let mut huge = p.tensors[0].clone();
        huge.dims = vec![(1 << 29) - 1];
        p.tensors.extend(vec![huge; 9]);
    }),
    ("channels-last needs [C,H,W]", |p| p.tensors[1].dims = vec![2, 36]),
    ("codes of 9 bits", |p| p.tensors[1].format = support::codes(false, 9, 0.5, 0)),
    ("codes of 1 bits", |p| p.tensors[1].format = support::codes(false, 1, 0.5, 0)),
    ("scale 0.0 is not a positive number", |p| p.tensors[1].format = support::codes(false, 4, 0.0, 0)),
    ("scale inf is not a positive number", |p| p.tensors[1].format = support::codes(false, 4, f32::INFINITY, 0)),
    ("scale NaN is not a positive number", |p| p.tensors[1].format = support::codes(false, 4, f32::NAN, 0)),
    ("zero-point 16 is outside 0..=15", |p| p.tensors[1].format = support::codes(false, 4, 0.5, 16)),
    ("zero-point 4 is outside -4..=3", |p| p.tensors[1].format = support::codes(true, 3, 0.5, 4)),
    ("constant 0: 35 elements for [4, 1, 3, 3]", |p| {
        recode(p, 2, |codes| codes.truncate(35));
    }),
    ("constant 0: 3 scales and 4 zero-points", |p| {
        codes(p).1.pop();
    }),
    ("constant 0: 0 scales and 0 zero-points", |p| {
        codes(p).1.clear();
        codes(p).2.clear();
    }),
    ("constant 0: zero-point -3 is outside", |p| codes(p).2[0] = -3),
    // Tunings.
    ("tuning: there is no step 99", |p| p.tunings = vec![tuning("a", &[(99, 1, 1)])]),
    ("tuning: its layers are not in the order of the steps", |p| {
        p.tunings = vec![tuning("a", &[(1, 1, 1), (1, 2, 1)])]
    }),
    ("tuning: a tile of 65 pixels and 1 vectors", |p| p.tunings = vec![tuning("a", &[(0, 65, 1)])]),
    ("tuning: a tile of 0 pixels and 1 vectors", |p| p.tunings = vec![tuning("a", &[(0, 0, 1)])]),
    ("tuning: a with v stands twice", |p| p.tunings = vec![tuning("a", &[]), tuning("a", &[])]),
    ("tuning: the name \"\" is empty", |p| p.tunings = vec![tuning("", &[])]),
    ("tuning: the name \"a\\n\" is empty", |p| p.tunings = vec![tuning("a\n", &[])]),
    ("tuning: 65 CPUs, at most 64 are allowed", |p| {
        p.tunings = (0..65).map(|i| tuning(&i.to_string(), &[])).collect();
    }),
    // Windows and convolutions.
    ("kernel 0: 1 to 65536 are allowed", |p| geometry(p).kernel[0] = 0),
    ("strides 0", |p| geometry(p).strides[1] = 0),
    ("dilations 18446744073709551615", |p| geometry(p).dilations[0] = usize::MAX),
    ("pads 65537", |p| geometry(p).pads[3] = 65537),
    ("the padded image [2,65544,65544] is too large", |p| geometry(p).pads = [2, 2, 65536, 65536]),
    ("a window of 13 does not fit in 9 padded positions", |p| geometry(p).dilations[0] = 6),
    ("its output has dimensions [4, 3, 4], not [4, 5, 4]", |p| geometry(p).strides[0] = 1),
    ("0 groups do not divide", |p| {
        if let Op::Conv { groups, .. } = &mut step(p, "conv").op {
            *groups = 0;
        }
    }),
    ("the dimensions of its weights are [4, 1, 3, 3], not [4, 2, 3, 3]", |p| {
        if let Op::Conv { groups, .. } = &mut step(p, "conv").op {
            *groups = 1;
        }
    }),
    ("its input must be codes", |p| p.tensors[1].format = Format::F32),
    ("its input must be channels-last [C,H,W]", |p| p.tensors[1].layout = Layout::RowMajor),
    ("a value of its multiplier is not finite", |p| {
        let c = p.constants.iter_mut().find_map(|c| match &mut c.data {
            ConstantData::F32(v) => Some(v),
            ConstantData::Codes { .. } => None,
        });
        c.unwrap()[1] = f32::NAN;
    }),
    ("its weights must be codes", |p| {
        p.constants[0].data = ConstantData::F32(vec![0.5; 36]);
    }),
    ("its multiplier must be f32", |p| {
        if let Op::Conv { multiplier, weights, .. } = &mut step(p, "conv").op {
            *multiplier = *weights;
        }
    }),
    ("weights -2 to 127 of output channel 1 less their zero-point -1 do not fit a signed byte", |p| {
        recode(p, 8, |codes| codes[12] = 127);
    }),
    ("its sums may overflow i32", |p| {
        // 255 * 255 * K is beyond 2^31 from K = 33,026.
        let dims = vec![33_026, 1, 1];
        p.tensors[1] =
            TensorDecl { dims: dims.clone(), format: support::codes(false, 8, 0.5, 0), ..p.tensors[1].clone() };
        p.tensors[0].dims = dims;
        let data = ConstantData::Codes {
            codes: PackedCodes::new(false, 8, &[1; 33_026]).unwrap(),
            scale: vec![0.5],
            zero_point: vec![0],
        };
        p.constants[0] = Constant { dims: vec![1, 33_026, 1, 1], data };
        p.tensors[2].dims = vec![1, 1, 1];
        if let Op::Conv { geometry, groups, .. } = &mut step(p, "conv").op {
            *geometry = support::window([1, 1], [1, 1], [0; 4]);
            *groups = 1;
        }
    }),
    // The other operations.
    ("max_pool 2\": its input and output must have one format and layout", |p| {
        output(p, "max_pool").format = support::codes(true, 3, 0.5, 0)
    }),
    ("3 windows along axis 1, not 2 or 2", |p| output(p, "max_pool").dims[1] = 3),
    ("avg_pool 3\": a window along axis 1 lies in the padding alone", |p| {
        if let Op::AvgPool { geometry, .. } = &mut step(p, "avg_pool").op {
            geometry.pads = [2, 0, 0, 0];
        }
        output(p, "avg_pool").dims[1] = 3;
    }),
    ("scale inf is not finite", |p| {
        if let Op::AvgPool { scale, .. } = &mut step(p, "avg_pool").op {
            *scale = f32::INFINITY;
        }
    }),
    ("axes [2, 1] must be ascending and not empty", |p| {
        if let Op::Mean { axes, .. } = &mut step(p, "mean").op {
            axes.reverse();
        }
    }),
    ("there is no axis 3", |p| {
        if let Op::Mean { axes, .. } = &mut step(p, "mean").op {
            axes[1] = 3;
        }
    }),
    ("neither [4, 1, 1] nor [4]", |p| output(p, "mean").dims = vec![2, 2]),
    ("map 0\": its output has dimensions [2, 6, 6], not [2, 6, 5]", |p| p.tensors[0].dims[2] = 5),
    ("[3, 1, 1] and [4] differ in size", |p| output(p, "view").dims[0] = 4),
    ("its input and output must have one format", |p| output(p, "view").format = Format::Index),
    ("the dimensions of its weights are [5, 3], not [4, 3]", |p| output(p, "float_linear").dims[0] = 4),
    ("do not multiply", |p| {
        output(p, "constant").dims = vec![2, 4];
    }),
    ("[4] does not fit into [8, 1] along axis 0", |p| output(p, "concat").dims = vec![8, 1]),
    ("its inputs have 8 slices along axis 0, its output 9", |p| output(p, "concat").dims = vec![9]),
    ("there is no axis 1", |p| {
        step(p, "concat").op = Op::Concat { axis: 1 };
    }),
    ("takes at least 1 input", |p| step(p, "concat").inputs.clear()),
    ("takes 1 inputs, not 2", |p| {
        let more = step(p, "map").inputs[0];
        step(p, "map").inputs.push(more);
    }),
    ("codes can only be padded with zero", |p| {
        step(p, "pad").op = Op::Pad { before: vec![1], value: f32::NAN };
    }),
    ("[8] from [3] does not lie in [10]", |p| {
        step(p, "pad").op = Op::Pad { before: vec![3], value: 0.0 };
    }),
    ("does not lie in [10]", |p| {
        step(p, "pad").op = Op::Pad { before: vec![usize::MAX], value: 0.0 };
    }),
    ("no 3 slices from 4 by 3 in an axis of 10", |p| {
        step(p, "slice").op = Op::Slice { axis: 0, start: 4, step: 3 };
    }),
    ("no 3 slices from 0 by 0", |p| {
        step(p, "slice").op = Op::Slice { axis: 0, start: 0, step: 0 };
    }),
    ("in an axis of 10", |p| {
        step(p, "slice").op = Op::Slice { axis: 0, start: 0, step: usize::MAX };
    }),
    ("an index is beyond the 10 slices of axis 0", |p| {
        step(p, "slice").op = Op::Pick { axis: 0, indices: vec![0, 10, 1] };
    }),
    ("its output has dimensions [3], not [2]", |p| {
        step(p, "slice").op = Op::Pick { axis: 0, indices: vec![9, 9] };
    }),
    ("it has 3 indices for weights of [2, 2]", |p| {
        if let Op::Interpolate { indices, .. } = &mut step(p, "interpolate").op {
            indices.pop();
        }
    }),
    ("an index is beyond the 3 slices of axis 2", |p| {
        if let Op::Interpolate { indices, .. } = &mut step(p, "interpolate").op {
            indices[1] = 3;
        }
    }),
    ("its output has dimensions [4, 2, 2], not [4, 2, 3]", |p| {
        if let Op::Interpolate { axis, indices, .. } = &mut step(p, "interpolate").op {
            (*axis, indices[1]) = (1, 1);
        }
    }),
    ("a value of its weights is not finite", |p| {
        if let Op::Interpolate { weights, .. } = step(p, "interpolate").op {
            p.constants[weights.0 as usize].data = ConstantData::F32(vec![0.5, f32::NAN, 0.5, 1.0]);
        }
    }),
    ("the dimensions of its weights are [4], not [I,T]", |p| {
        if let Op::Interpolate { weights, .. } = step(p, "interpolate").op {
            p.constants[weights.0 as usize].dims = vec![4];
        }
    }),
    ("scale NaN is not finite", |p| {
        if let Op::Interpolate { scale, .. } = &mut step(p, "interpolate").op {
            *scale = f32::NAN;
        }
    }),
    ("[0, 0] is no permutation", |p| {
        step(p, "transpose").op = Op::Transpose { perm: vec![0, 0] };
    }),
    ("its output has dimensions [1, 2], not [2, 1]", |p| {
        step(p, "transpose").op = Op::Transpose { perm: vec![0, 1] };
    }),
    ("there is no axis 1", |p| {
        step(p, "softmax").op = Op::Softmax { axis: 1 };
    }),
    ("its centroids have dimensions [2, 5], not [3, 5]", |p| output(p, "squared_distance").dims = vec![3]),
    ("its output must be indices", |p| output(p, "argmin").format = Format::F32),
    ("its input must be indices, row-major", |p| {
        let logits = step(p, "squared_distance").inputs[0];
        step(p, "gather_row").inputs[0] = logits;
    }),
    ("its output has dimensions [5], not [3]", |p| {
        let Op::FloatLinear { weights, .. } = step(p, "float_linear").op else { return };
        step(p, "gather_row").op = Op::GatherRow { table: weights };
    }),
    // Epilogues.
    ("it takes no epilogue", |p| step(p, "max_pool").epilogue.requantize = Some(1.0)),
    ("it takes no epilogue", |p| step(p, "softmax").epilogue.steps.push(EpilogueStep::Scale(1.0))),
    ("its output is f32", |p| step(p, "avg_pool").epilogue.requantize = Some(1.0)),
    ("requantization factor NaN is not finite", |p| step(p, "map").epilogue.requantize = Some(f32::NAN)),
    ("factor -inf is not finite", |p| *epilogue_step(p, "conv", 2) = EpilogueStep::Scale(f32::NEG_INFINITY)),
    ("operand scale NaN is not finite", |p| match epilogue_step(p, "conv", 0) {
        EpilogueStep::Binary { scale, .. } => *scale = f32::NAN,
        _ => unreachable!(),
    }),
    ("its operand must be f32", |p| {
        *epilogue_step(p, "conv", 0) =
            EpilogueStep::Binary { op: Binary::Add, operand: Operand::Constant(ConstantId(0)), scale: 1.0 };
    }),
    ("[2, 6, 6] does not broadcast to [4, 3, 4]", |p| {
        *epilogue_step(p, "conv", 0) =
            EpilogueStep::Binary { op: Binary::Add, operand: Operand::Tensor(TensorId(0)), scale: 1.0 };
    }),
    ("clip bounds 7.0 and 6.0 are out of order", |p| {
        *epilogue_step(p, "conv", 4) = EpilogueStep::Unary(Unary::Clip { min: 7.0, max: 6.0 });
    }),
    ("clip bounds NaN and 6.0 are out of order", |p| {
        *epilogue_step(p, "conv", 4) = EpilogueStep::Unary(Unary::Clip { min: f32::NAN, max: 6.0 });
    }),
    ("slope NaN is not finite", |p| {
        *epilogue_step(p, "conv", 3) = EpilogueStep::Unary(Unary::LeakyRelu { alpha: f32::NAN });
    }),
    ("slope 0.2 or offset inf is not finite", |p| {
        *epilogue_step(p, "avg_pool", 1) = EpilogueStep::Unary(Unary::HardSigmoid { alpha: 0.2, beta: f32::INFINITY });
    }),
];

#[test]
fn each_broken_rule_is_named() {
    every_operation().validate().unwrap();
    for (i, (message, breaks)) in CASES.iter().enumerate() {
        let mut program = every_operation();
        breaks(&mut program);
        let found = program.validate().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(found.contains(message), "case {i}: {found:?} should contain {message:?}");
        // The listing prints whatever it is given.
        assert!(program.to_string().len() > 100);
    }
}

#[test]
fn many_violations_are_counted_and_few_printed() {
    let mut program = every_operation();
    for t in &mut program.tensors {
        t.dims = vec![0];
    }
    let found = program.validate().unwrap_err();
    assert_eq!(found.violations.len(), program.tensors.len());
    assert!(found.to_string().ends_with(&format!("; and {} more", program.tensors.len() - 5)), "{found}");
}

#[test]
fn listing() {
    insta::assert_snapshot!(every_operation());
}
