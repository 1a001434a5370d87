"""Random float networks of the operators of vision: convolutions, pooling, activations, normalization, resizing, attention, rearrangements."""

import numpy as np
from onnx import TensorProto

from builder import Builder, Value


def window(b, size, kernel, stride, pads, dilation=1, ceil=False):
    """The size of what a window leaves of an axis."""
    span = size + sum(pads) - (dilation * (kernel - 1) + 1)
    steps = -(-span // stride) if ceil else span // stride
    if ceil and steps * stride >= size + pads[0]:
        steps -= 1
    return steps + 1


def conv(b, v):
    c, *sizes = v.shape
    groups = b.pick([1, 1, 1, c, c, 2 if c % 2 == 0 else 1])
    out = groups * b.whole(1, 3) if groups == c else groups * b.whole(1, 8 // groups if groups < 8 else 1)
    if groups == 1:
        out = b.whole(1, 20)
    attributes, kernel, result = {"group": groups}, [], []
    strides, pads, dilations = [], [], []
    for size in sizes:
        k, d, s = b.pick([1, 2, 3, 3, 5]), b.pick([1, 1, 1, 2]), b.pick([1, 1, 2, 3])
        p = (b.whole(0, k), b.whole(0, k)) if b.chance(0.3) else (k // 2, k // 2)
        if size + sum(p) < d * (k - 1) + 1:
            k, d, s, p = 1, 1, 1, (0, 0)
        kernel.append(k), dilations.append(d), strides.append(s), pads.append(p)
        result.append(window(b, size, k, s, p, d))
    if b.chance(0.15) and all(d == 1 for d in dilations):
        attributes["auto_pad"] = b.pick(["SAME_UPPER", "SAME_LOWER"])
        result = [-(-size // s) for size, s in zip(sizes, strides)]
    else:
        attributes["pads"] = [p[0] for p in pads] + [p[1] for p in pads]
    w = b.normal(out, c // groups, *kernel, scale=1 / np.sqrt(c // groups * np.prod(kernel)))
    inputs = [v, b.weight(w, 0)] + ([b.bias(b.normal(out, scale=0.3))] if b.chance(0.7) else [])
    return Value(b.node("Conv", inputs, strides=strides, dilations=dilations, **attributes), (out, *result))


def deconv(b, v):
    c, *sizes = v.shape
    if len(sizes) != 2 or max(sizes) > 12:
        return conv(b, v)
    groups = b.pick([1, 1, c])
    out = b.whole(1, 3) * groups if groups == 1 else c
    kernel = [b.whole(1, 4) for _ in sizes]
    strides = [b.whole(1, 2) for _ in sizes]
    pads = [b.whole(0, (k - 1) // 2) for k in kernel]
    extra = [b.whole(0, s - 1) for s in strides]
    result = [s * (size - 1) + e + k - 2 * p for size, s, e, k, p in zip(sizes, strides, extra, kernel, pads)]
    w = b.normal(c, out // groups, *kernel, scale=1 / np.sqrt(c // groups * np.prod(kernel)))
    inputs = [v, b.weight(w, 1)] + ([b.bias(b.normal(out, scale=0.3))] if b.chance(0.5) else [])
    name = b.node("ConvTranspose", inputs, strides=strides, pads=pads * 2, output_padding=extra, group=groups)
    return Value(name, (out, *result))


def pool(b, v):
    c, *sizes = v.shape
    operator = b.pick(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if operator.startswith("Global"):
        return Value(b.node(operator, [v]), (c, *(1 for _ in sizes)))
    kernel = [min(b.whole(1, 3), size) for size in sizes]
    strides = [b.whole(1, 2) for _ in sizes]
    pads = [b.whole(0, k - 1) if b.chance(0.4) else 0 for k in kernel] + [b.whole(0, k - 1) if b.chance(0.4) else 0 for k in kernel]
    ceil = int(b.chance(0.3))
    n = len(sizes)
    result = [window(b, sizes[i], kernel[i], strides[i], (pads[i], pads[n + i]), ceil=bool(ceil)) for i in range(n)]
    more = {"count_include_pad": int(b.chance(0.5))} if operator == "AveragePool" else {}
    if more and ceil and b.opset < 19:
        more["count_include_pad"] = 0  # runtimes disagree on the divisor below opset 19
    return Value(b.node(operator, [v], kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=ceil, **more), (c, *result))


def activation(b, v):
    simple = ["Relu", "Relu", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu",
              "LeakyRelu", "Abs", "Neg", "Erf", "Clip", "Relu6", "PRelu", "Swish", "GeluErf", "SqrtAbs", "Exp", "Reciprocal",
              "Mish"]
    if b.opset >= 20:
        simple.append("Gelu")
    if b.rare:
        simple += ["ThresholdedRelu", "Floor", "Sign", "Round"]
    kind = b.pick(simple)
    if kind == "Relu6":
        return Value(b.node("Clip", [v, b.constant(np.float32(0)), b.constant(np.float32(6))]), v.shape)
    if kind == "Clip":
        low, high = sorted(b.normal(2))
        return Value(b.node("Clip", [v, b.constant(low), b.pick(["", b.constant(high)])]), v.shape)
    if kind == "PRelu":
        slopes = b.normal(v.shape[0], *([1] * (len(v.shape) - 1)), scale=0.3)
        return Value(b.node("PRelu", [v, b.constant(slopes)]), v.shape)
    if kind == "Swish":
        return Value(b.node("Mul", [v, b.node("Sigmoid", [v])]), v.shape)
    if kind == "GeluErf":
        erf = b.node("Erf", [b.node("Div", [v, b.constant(np.float32(np.sqrt(2)))])])
        half = b.node("Mul", [v, b.node("Add", [erf, b.constant(np.float32(1))])])
        return Value(b.node("Mul", [half, b.constant(np.float32(0.5))]), v.shape)
    if kind == "SqrtAbs":
        return Value(b.node("Sqrt", [b.node("Abs", [v])]), v.shape)
    if kind == "Exp":
        return Value(b.node("Exp", [b.node("Tanh", [v])]), v.shape)
    if kind == "Reciprocal":
        return Value(b.node("Reciprocal", [b.node("Add", [b.node("Abs", [v]), b.constant(np.float32(1))])]), v.shape)
    if kind == "Mish" and b.opset < 18:
        return Value(b.node("Mul", [v, b.node("Tanh", [b.node("Softplus", [v])])]), v.shape)
    if kind in ("Elu", "Celu", "LeakyRelu", "ThresholdedRelu") and b.chance(0.5):
        return Value(b.node(kind, [v], alpha=float(b.random.uniform(0.05, 1.5))), v.shape)
    return Value(b.node(kind, [v]), v.shape)


def normalization(b, v):
    c = v.shape[0]
    kind = b.pick(["BatchNormalization", "InstanceNormalization", "LayerNormalization", "LRN", "LpNormalization", "GroupNormalization"])
    scale, bias = b.constant(b.normal(c, scale=0.3) + 1), b.constant(b.normal(c, scale=0.3))
    if kind == "BatchNormalization":
        mean, variance = b.constant(b.normal(c, scale=0.3)), b.constant(np.abs(b.normal(c)) + np.float32(0.3))
        return Value(b.node(kind, [v, scale, bias, mean, variance]), v.shape)
    if kind == "InstanceNormalization" and len(v.shape) > 1 and np.prod(v.shape[1:]) > 3:
        return Value(b.node(kind, [v, scale, bias]), v.shape)
    if kind == "LRN" and len(v.shape) == 3:
        return Value(b.node(kind, [v], size=b.pick([3, 5])), v.shape)
    if kind == "LpNormalization":
        return Value(b.node(kind, [v], axis=b.pick([1, -1]), p=2), v.shape)
    if kind == "GroupNormalization" and b.opset >= 21 and c % 2 == 0 and len(v.shape) == 3 and np.prod(v.shape[1:]) > 3:
        return Value(b.node(kind, [v, scale, bias], num_groups=2), v.shape)
    last = v.shape[-1]
    if last < 3:
        return v
    inputs = [v, b.constant(b.normal(last, scale=0.3) + 1)] + ([b.constant(b.normal(last, scale=0.3))] if b.chance(0.7) else [])
    return Value(b.node("LayerNormalization", inputs, axis=-1), v.shape)


def binary(b, v, others):
    operator = b.pick(["Add", "Add", "Mul", "Mul", "Sub", "Div", *(["Max", "Min"] if b.rare else [])])
    same = [o for o in others if o.shape == v.shape and o.name != v.name]
    if same and operator != "Div" and b.chance(0.7):
        pair = [v, b.pick(same)]
        return Value(b.node(operator, pair[:: b.pick([1, -1])]), v.shape)
    shape = b.pick([(), v.shape, (v.shape[0], *([1] * (len(v.shape) - 1))), (v.shape[-1],)])
    array = b.normal(*shape)
    if operator == "Div":
        array = np.sign(array + np.float32(1e-6)) * (np.abs(array) + np.float32(0.5))
        return Value(b.node("Div", [v, b.constant(np.asarray(array, np.float32))]), v.shape)
    pair = [v, b.constant(np.asarray(array, np.float32))]
    return Value(b.node(operator, pair[:: b.pick([1, 1, -1])]), v.shape)


def resize(b, v):
    if len(v.shape) != 3 or max(v.shape[1:]) > 16:
        return activation(b, v)
    mode = b.pick(["nearest", "nearest", "linear", "cubic"])
    scales = [b.pick([2.0, 2.0, 1.5, 0.5, 3.0, 1.0]) for _ in range(2)]
    sizes = [int(np.floor(s * f)) for s, f in zip(v.shape[1:], scales)]
    if min(sizes) < 1:
        return v
    attributes = {"mode": mode, "coordinate_transformation_mode": b.pick(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])}
    if mode == "nearest":
        attributes["nearest_mode"] = b.pick(["floor", "ceil", "round_prefer_floor"])
    if b.chance(0.5):
        inputs = [v, "", b.constant(np.array([1, 1, *scales], np.float32))]
        return Value(b.node("Resize", inputs, **attributes), (v.shape[0], *sizes))
    # sizes instead of scales, with the batch taken from the value
    batch = b.node("Slice", [b.node("Shape", [v]), b.constant(np.array([0])), b.constant(np.array([2]))])
    target = b.node("Concat", [batch, b.constant(np.array(sizes))], axis=0)
    return Value(b.node("Resize", [v, "", "", target], **attributes), (v.shape[0], *sizes))


def rearrange(b, v):
    rank = len(v.shape)
    kind = b.pick(["slice", "pad", "transpose", "flatten", "tile", "gather", "shuffle", "space", "split", "depth", "expand", "flip"])
    axis = b.whole(1, rank)
    size = v.shape[axis - 1]
    replaced = lambda n: v.shape[: axis - 1] + (n,) + v.shape[axis:]
    if kind == "slice" and size > 1:
        start, step = b.whole(0, size // 2), b.whole(1, 2)
        ends = [b.constant(np.array([x])) for x in (start, 2**31 - 1, b.pick([axis, axis - rank - 1]), step)]
        return Value(b.node("Slice", [v, ends[0], ends[1], ends[2], ends[3]]), replaced(len(range(start, size, step))))
    if kind == "flip":
        ends = [b.constant(np.array([x])) for x in (-1, -(2**31), axis, -1)]
        return Value(b.node("Slice", [v, *ends]), v.shape)
    if kind == "pad":
        mode = b.pick(["constant", "reflect", "edge"])
        pads = [0] + [min(b.whole(0, 2), s - 1) if i else 0 for i, s in enumerate(v.shape)]
        after = [0] + [min(b.whole(0, 2), s - 1) if i else 0 for i, s in enumerate(v.shape)]
        value = [b.constant(np.float32(b.pick([0.0, 0.0, -1.0, 0.7])))] if mode == "constant" and b.chance(0.7) else []
        shape = [s + p + q for s, p, q in zip(v.shape, pads[1:], after[1:])]
        return Value(b.node("Pad", [v, b.constant(np.array(pads + after)), *value], mode=mode), shape)
    if kind == "transpose" and rank > 1:
        order = b.random.permutation(rank)
        return Value(b.node("Transpose", [v], perm=[0, *(int(o) + 1 for o in order)]), [v.shape[o] for o in order])
    if kind == "flatten" and b.chance(0.3):
        return Value(b.node("Flatten", [v]), (int(np.prod(v.shape)),))
    if kind == "tile" and np.prod(v.shape) < 1500:
        repeats = np.ones(rank + 1, np.int64)
        repeats[axis] = 2
        return Value(b.node("Tile", [v, b.constant(repeats)]), replaced(size * 2))
    if kind == "gather":
        picks = b.random.integers(-size, size, b.whole(1, 6))
        return Value(b.node("Gather", [v, b.constant(picks)], axis=axis), replaced(len(picks)))
    if kind == "shuffle" and v.shape[0] % 2 == 0 and rank == 3:
        c, *rest = v.shape
        split = b.node("Reshape", [v, b.constant(np.array([0, 2, c // 2, *rest]))])
        turned = b.node("Transpose", [split], perm=[0, 2, 1, 3, 4])
        return Value(b.node("Reshape", [turned, b.constant(np.array([0, -1, *rest]))]), v.shape)
    if kind == "space" and rank == 3 and v.shape[1] % 2 == 0 and v.shape[2] % 2 == 0:
        return Value(b.node("SpaceToDepth", [v], blocksize=2), (v.shape[0] * 4, v.shape[1] // 2, v.shape[2] // 2))
    if kind == "depth" and rank == 3 and v.shape[0] % 4 == 0:
        mode = b.pick(["DCR", "CRD"])
        return Value(b.node("DepthToSpace", [v], blocksize=2, mode=mode), (v.shape[0] // 4, v.shape[1] * 2, v.shape[2] * 2))
    if kind == "split" and size > 1:
        first = b.whole(1, size - 1)
        halves = b.node("Split", [v, b.constant(np.array([first, size - first]))], outputs=2, axis=axis)
        if b.chance(0.3):
            return Value(halves[0], replaced(first))
        turned = [halves[1], halves[0]]
        return Value(b.node("Concat", turned, axis=axis), v.shape)
    return v


def reduce(b, v):
    operator = b.pick(["ReduceMean", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", *(["ReduceMin"] if b.rare else [])])
    rank = len(v.shape)
    axes = [int(a) + 1 for a in np.sort(b.random.permutation(rank)[: b.whole(1, max(1, rank - 1))])]
    keep = int(b.chance(0.7)) if len(axes) < rank else 1
    shape = [1 if i + 1 in axes else s for i, s in enumerate(v.shape) if keep or i + 1 not in axes]
    as_input = operator == "ReduceSum" or b.opset >= 18
    inputs, attributes = ([v, b.constant(np.array(axes))], {}) if as_input else ([v], {"axes": axes})
    return Value(b.node(operator, inputs, keepdims=keep, **attributes), shape)


def gate(b, v):
    """Squeeze and excitation: a factor for each channel, from the means."""
    c = v.shape[0]
    mean = Value(b.node("GlobalAveragePool", [v]), (c, *([1] * (len(v.shape) - 1))))
    ones = [1] * (len(v.shape) - 1)
    w = b.weight(b.normal(c, c, *ones, scale=1 / np.sqrt(c)), 0)
    factor = b.node(b.pick(["Sigmoid", "HardSigmoid"]), [b.node("Conv", [mean, w])])
    return Value(b.node("Mul", [v, factor]), v.shape)


def linear(b, v):
    last, out = v.shape[-1], b.whole(1, 24)
    w = b.normal(last, out, scale=1 / np.sqrt(last))
    if len(v.shape) == 1 and b.chance(0.6):
        attributes = {"transB": int(b.chance(0.5))}
        if b.chance(0.2):
            attributes.update(alpha=0.5, beta=2.0)
        bias = [b.bias(b.normal(out, scale=0.3))] if b.chance(0.8) else []
        weight = b.weight(np.ascontiguousarray(w.T), 0) if attributes["transB"] else b.weight(w, 1)
        return Value(b.node("Gemm", [v, weight, *bias], **attributes), (out,))
    product = b.node("MatMul", [v, b.weight(w, 1)])
    if b.chance(0.6):
        product = b.node("Add", [product, b.constant(b.normal(out, scale=0.3))][:: b.pick([1, -1])])
    return Value(product, (*v.shape[:-1], out))


def attention(b, v):
    t, c = v.shape
    heads = b.pick([h for h in (1, 2, 4) if c % h == 0])
    d = c // heads
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        projected = b.node("MatMul", [v, b.weight(b.normal(c, c, scale=1 / np.sqrt(c)), 1)])
        split = b.node("Reshape", [projected, b.constant(np.array([0, t, heads, d]))])
        parts.append(b.node("Transpose", [split], perm=perm))
    scores = b.node("Mul", [b.node("MatMul", parts[:2]), b.constant(np.float32(1 / np.sqrt(d)))])
    if b.chance(0.3):
        scores = b.node("Add", [scores, b.constant(np.triu(np.full((t, t), -1e4, np.float32), 1))])
    mixed = b.node("MatMul", [b.node("Softmax", [scores], axis=-1), parts[2]])
    joined = b.node("Reshape", [b.node("Transpose", [mixed], perm=[0, 2, 1, 3]), b.constant(np.array([0, t, c]))])
    if b.chance(0.6):
        joined = b.node("Add", [joined, v])
    return Value(joined, v.shape)


def softmax(b, v):
    operator = b.pick(["Softmax", "Softmax", "LogSoftmax"])
    return Value(b.node(operator, [v], axis=b.pick([1, -1])), v.shape)


def concat(b, v, others):
    for o in b.random.permutation(len(others)):
        o = others[o]
        if len(o.shape) == len(v.shape) and o.shape[1:] == v.shape[1:] and o.shape[0] + v.shape[0] < 40:
            return Value(b.node("Concat", [v, o], axis=1), (v.shape[0] + o.shape[0], *v.shape[1:]))
    return Value(b.node("Concat", [v, v], axis=-1), (*v.shape[:-1], v.shape[-1] * 2)) if v.shape[-1] < 20 else v


def step(b, v, others):
    """One more node or block after `v`."""
    rank = len(v.shape)
    common = [activation, activation, lambda b, v: binary(b, v, others), rearrange, lambda b, v: concat(b, v, others), linear]
    if rank == 3:
        common += [conv] * 7 + [deconv, pool, pool, resize, normalization, gate, reduce]
    elif rank == 2:
        common += [conv, conv, conv, attention, attention, normalization, normalization, reduce, pool, linear]
    elif rank == 1:
        common += [linear] * 4 + [normalization]
    if b.chance(0.05):
        common = [softmax]
    return b.pick(common)(b, v)


def start(b):
    """The inputs: what the network begins with."""
    kind = b.pick(["chw"] * 5 + ["hwc", "bytes", "bytes_hwc", "tokens", "sequence", "sequence", "features", "features", "fixed_names"])
    size = (b.whole(1, 12), b.whole(1, 12))
    c = b.pick([1, 3, 3, 4, 8])
    scale = b.pick([1.0, 1.0, 1.0, 0.01, 30.0])
    if kind == "hwc":
        v = b.input((*size, c), scale=scale)
        return Value(b.node("Transpose", [v], perm=[0, 3, 1, 2]), (c, *size))
    if kind.startswith("bytes"):
        v = b.input((*size, c) if kind == "bytes_hwc" else (c, *size), kind=np.uint8)
        v = Value(b.node("Mul", [b.node("Cast", [v], to=TensorProto.FLOAT), b.constant(np.float32(1 / 255))]), v.shape)
        return Value(b.node("Transpose", [v], perm=[0, 3, 1, 2]), (c, *size)) if kind == "bytes_hwc" else v
    if kind == "tokens":
        t, rows, width = b.whole(1, 9), b.whole(2, 30), b.pick([4, 8, 12])
        v = b.input((t,), kind=b.pick([np.int64, np.int32]), high=rows)
        return Value(b.node("Gather", [b.constant(b.normal(rows, width)), v]), (t, width))
    if kind == "sequence":
        return b.input((b.whole(1, 12), b.pick([4, 8, 12])), scale=min(scale, 1.0))  # larger scores make a softmax of one place
    if kind == "features":
        return b.input((b.whole(1, 20),), scale=scale)
    return b.input((c, *size), scale=scale)


def end(b, v):
    """The output: the value, or what networks end in."""
    kind = b.pick(["plain"] * 8 + ["softmax", "softmax", "sigmoid", "argmax", "flatten"] + ["topk"] * b.rare)
    if kind == "softmax":
        v = softmax(b, v)
    elif kind == "sigmoid":
        v = Value(b.node("Sigmoid", [v]), v.shape)
    elif kind == "argmax":
        name = b.node("ArgMax", [v], axis=1, keepdims=0)
        b.output(Value(name, v.shape[1:]), TensorProto.INT64)
        return
    elif kind == "topk":
        k = min(3, v.shape[0])
        values, picks = b.node("TopK", [v, b.constant(np.array([k]))], outputs=2, axis=1)
        b.output(Value(values, (k, *v.shape[1:])))
        b.output(Value(picks, (k, *v.shape[1:])), TensorProto.INT64)
        return
    elif kind == "flatten":
        v = Value(b.node("Flatten", [v]), (int(np.prod(v.shape)),))
    b.output(v)


def network(seed):
    """A network of two to twelve steps, as its builder."""
    b = Builder(seed, int(np.random.default_rng(seed).choice([17, 17, 18, 20, 21])))
    b.rare = b.chance(0.08)  # with operators that are evaluated only: their refusals are looked at
    values = [start(b)]
    if b.chance(0.15):
        v = values[0]
        if not b.nodes:
            values.append(b.input(v.shape))
            values.append(Value(b.node(b.pick(["Add", "Mul", "Sub"]), [v, values[-1]]), v.shape))
    for _ in range(b.whole(2, 12)):
        v = values[-1] if b.chance(0.85) else b.pick(values)
        new = step(b, v, values)
        if np.prod(new.shape) < 6000:
            values.append(new)
    if len(values) > 3 and b.chance(0.2):
        b.output(b.pick(values[1:-1]))
    end(b, values[-1])
    return b
