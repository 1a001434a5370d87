"""Random quantized networks: float networks with quantizers around every value and codes as weights, and chains of operators on codes."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import float_networks
from builder import Builder, Value

TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8, np.uint16: TensorProto.UINT16, np.int16: TensorProto.INT16}


def limits(kind):
    info = np.iinfo(kind)
    return info.min, info.max


class QuantizedBuilder(Builder):
    """A builder that stores the weights of layers as codes."""

    def zero_point(self, zero, kind):
        """A zero-point; sometimes its type comes from a chain of constant nodes."""
        zero = np.asarray(zero)
        form = self.pick(["plain"] * 5 + ["cast", "identity", "reshape"])
        if form == "cast":
            return self.node("Cast", [self.constant(zero.astype(np.int32))], to=TYPES[kind])
        name = self.constant(zero.astype(kind))
        if form == "identity":
            return self.node("Identity", [name])
        if form == "reshape" and zero.ndim == 0:
            return self.node("Reshape", [self.constant(zero.astype(kind).reshape(1)), self.constant(np.zeros(0, np.int64))])
        return name

    def weight(self, array, axis):
        """Codes of an array, dequantized; sometimes rearranged on the way, sometimes quantized by a node."""
        kind = self.pick([np.int8] * 4 + [np.uint8])
        per_channel = self.chance(0.6) and array.ndim > 1
        others = tuple(i for i in range(array.ndim) if i != axis)
        most = np.abs(array).max(axis=others, keepdims=True) if per_channel else np.abs(array).max()
        top = 127 if self.chance(0.7) else self.pick([1, 3, 7])
        scale = np.maximum(most / top, 1e-6).astype(np.float32)
        low, high = limits(kind)
        middle = 0 if kind is np.int8 else 128
        codes = np.clip(np.round(array / scale) + middle, low, high).astype(kind)
        attributes = {"axis": axis} if per_channel else {}
        scale = scale.reshape(-1) if per_channel else scale.reshape(())
        zero = self.zero_point(np.full(scale.shape, middle), kind)
        scale = self.constant(scale)
        if self.chance(0.15):
            return self.node("DequantizeLinear", [self.node("QuantizeLinear", [self.constant(array), scale, zero], **attributes), scale, zero], **attributes)
        form = self.pick(["plain"] * 5 + ["transposed", "flipped", "reshaped"])
        if form == "transposed" and not per_channel:
            order = [int(o) for o in self.random.permutation(array.ndim)]
            turned = self.node("DequantizeLinear", [self.constant(codes.transpose(np.argsort(order))), scale, zero])
            return self.node("Transpose", [turned], perm=order)
        if form == "flipped":
            places = [self.constant(np.array([x])) for x in (-1, -(2**31), array.ndim - 1, -1)]
            if not per_channel or axis != array.ndim - 1:
                name = self.node("DequantizeLinear", [self.constant(np.flip(codes, -1).copy()), scale, zero], **attributes)
                return self.node("Slice", [name, *places])
        if form == "reshaped" and not per_channel:
            name = self.node("DequantizeLinear", [self.constant(codes.reshape(-1)), scale, zero])
            return self.node("Reshape", [name, self.constant(np.array(array.shape))])
        return self.node("DequantizeLinear", [self.constant(codes), scale, zero], **attributes)

    def bias(self, array):
        if self.chance(0.5):
            return self.constant(array)
        scale = np.float32(self.random.uniform(1e-5, 1e-3))
        return self.node("DequantizeLinear", [self.constant(np.round(array / scale).astype(np.int32)), self.constant(scale)])

    def values_of(self, value):
        """What a value is for the inputs, by ONNX Runtime."""
        kept, self.outputs = self.outputs, [helper.make_empty_tensor_value_info(value.name)]
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level, settings.intra_op_num_threads = 4, 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        domains = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        self.outputs = kept
        return session.run(None, {i.name: self.feeds[i.name] for i in self.inputs})[0]

    def quantized(self, value):
        """A value through a quantizer of its range, and back."""
        array = self.values_of(value)
        kind = self.pick([np.uint8] * 8 + [np.int8] * 8 + [np.uint16, np.int16])
        low, high = min(float(array.min()), 0.0), max(float(array.max()), 1e-3)
        least, most = limits(kind)
        bits = self.pick([8] * 6 + [4, 3, 2]) if kind in (np.uint8, np.int8) else 16
        clipped = bits < 8
        if clipped:
            least, most = (0, 2**bits - 1) if kind is np.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if kind in (np.int8, np.int16) and self.chance(0.6):
            scale, zero = np.float32(max(-low, high) * self.random.uniform(0.7, 1) / most), 0
        else:
            scale = np.float32((high - low) * self.random.uniform(0.7, 1) / (most - least))
            zero = int(np.clip(np.round(least - low / scale), least, most))
        if self.opset < 21 and bits == 16:
            return value
        scale, zero = self.constant(scale), self.zero_point(zero, kind)
        codes = self.node("QuantizeLinear", [value, scale, zero])
        if clipped:
            codes = self.node("Clip", [codes, self.constant(np.asarray(least, kind)), self.constant(np.asarray(most, kind))])
        return Value(self.node("DequantizeLinear", [codes, scale, zero]), value.shape)


def between_quantizers(seed):
    """A float network with quantizers behind most of its steps."""
    b = QuantizedBuilder(seed, int(np.random.default_rng(seed).choice([17, 18, 20, 21])))
    b.rare = False
    values = [float_networks.start(b)]
    values[0] = b.quantized(values[0])
    for _ in range(b.whole(1, 7)):
        v = values[-1] if b.chance(0.85) else b.pick(values)
        new = float_networks.step(b, v, values)
        if np.prod(new.shape) < 6000 and new.name != v.name:
            values.append(b.quantized(new) if b.chance(0.8) else new)
    float_networks.end(b, values[-1])
    return b


class Codes:
    """A tensor of codes with scale and zero-point."""

    def __init__(self, name, shape, kind, scale, zero):
        self.name, self.shape, self.kind, self.scale, self.zero = name, tuple(shape), kind, np.float32(scale), zero


def parameters(b, codes):
    return [b.constant(codes.scale), b.constant(np.asarray(codes.zero, codes.kind))]


def result(b, operator, inputs, shape, kind, domain="com.microsoft", **attributes):
    """An operator on codes whose last inputs are scale and zero-point of the output, which follow from what it gives for a wide scale."""
    mark = (len(b.nodes), len(b.constants))
    wide = Codes("", shape, kind, 0.25, 0 if kind is np.int8 else 128)
    name = b.node(operator, [*inputs, *parameters(b, wide)], domain=domain, **attributes)
    array = (b.values_of(Value(name, shape)).astype(np.float32) - wide.zero) * wide.scale
    del b.nodes[mark[0] :], b.constants[mark[1] :]
    low, high = min(float(array.min()), -0.05), max(float(array.max()), 0.05)
    least, most = limits(kind)
    scale = np.float32((high - low) * b.random.uniform(0.8, 1.1) / (most - least))
    codes = Codes("", shape, kind, scale, int(np.clip(np.round(least - low / scale), least, most)))
    codes.name = b.node(operator, [*inputs, *parameters(b, codes)], domain=domain, **attributes)
    return codes


def qlinear_conv(b, x):
    c, *sizes = x.shape
    groups = b.pick([1, 1, c])
    out = groups * b.whole(1, 2) if groups == c else b.whole(1, 12)
    k, s = b.pick([1, 3]), b.pick([1, 2])
    w = b.random.integers(-63, 64, (out, c // groups, k, k)).astype(np.int8)
    scale = np.float32(0.02 / np.sqrt(c // groups) / k)
    scales = (scale * b.random.uniform(0.5, 1.5, out)).astype(np.float32) if b.chance(0.5) else scale
    inputs = [x.name, *parameters(b, x), b.constant(w), b.constant(scales), b.constant(np.zeros(np.shape(scales), np.int8))]
    return inputs, (out, *((n + 2 * (k // 2) - k) // s + 1 for n in sizes)), dict(strides=[s, s], pads=[k // 2] * 4, group=groups)


def on_codes(seed):
    """A chain of operators on codes, as quantizers in the QOperator format write it."""
    b = QuantizedBuilder(seed, 17)
    kind = b.pick([np.uint8, np.uint8, np.int8])
    shape = (b.pick([1, 3, 4, 8]), b.whole(3, 10), b.whole(3, 10))
    if kind is np.uint8 and b.chance(0.3):
        x = b.input(shape, kind=np.uint8)
        values = [Codes(x.name, shape, kind, 1 / 64, 128)]
    else:
        x = b.input(shape)
        values = [Codes("", shape, kind, 6 / 255, 0 if kind is np.int8 else 128)]
        values[0].name = b.node("QuantizeLinear", [x, *parameters(b, values[0])])
    for _ in range(b.whole(1, 7)):
        values.append(code_step(b, values[-1] if b.chance(0.85) else b.pick(values), values))
    last = values[-1]
    if b.chance(0.2):
        b.output(last, helper.np_dtype_to_tensor_dtype(np.dtype(last.kind)))
    else:
        b.output(Value(b.node("DequantizeLinear", [last.name, *parameters(b, last)]), last.shape))
    return b


def code_step(b, x, values):
    """One more operator on codes."""
    rank = len(x.shape)
    same = [v for v in values if v.shape == x.shape]
    other = b.pick(same)
    pair = [x.name, *parameters(b, x), other.name, *parameters(b, other)]
    kinds = ["Sigmoid", "LeakyRelu", "Concat", "Reshape", "Transpose", "Slice"]
    kinds += ["Add", "Add", "Mul"] if other.kind is x.kind else []
    kinds += ["Conv"] * 6 + ["MaxPool", "GlobalAveragePool", "AveragePool"] if rank == 3 else ["MatMul", "Gemm"] * 2
    kind = b.pick(kinds)
    if kind == "Conv":
        inputs, shape, attributes = qlinear_conv(b, x)
        return result(b, "QLinearConv", inputs[:6], shape, x.kind, domain="", **attributes)
    if kind in ("Add", "Mul"):
        return result(b, "QLinear" + kind, pair, x.shape, x.kind)
    if kind in ("Sigmoid", "LeakyRelu"):
        return result(b, "QLinear" + kind, [x.name, *parameters(b, x)], x.shape, x.kind)
    if kind == "GlobalAveragePool":
        return result(b, "QLinearGlobalAveragePool", [x.name, *parameters(b, x)], (x.shape[0], 1, 1), x.kind)
    if kind == "AveragePool" and min(x.shape[1:]) > 2:
        shape = (x.shape[0], *(n - 1 for n in x.shape[1:]))
        return result(b, "QLinearAveragePool", [x.name, *parameters(b, x)], shape, x.kind, kernel_shape=[2, 2])
    if kind == "MaxPool" and min(x.shape[1:]) > 2:
        shape = (x.shape[0], *((n - 2) // 2 + 1 for n in x.shape[1:]))
        return Codes(b.node("MaxPool", [x.name], kernel_shape=[2, 2], strides=[2, 2]), shape, x.kind, x.scale, x.zero)
    if kind == "MatMul":
        w = b.random.integers(-63, 64, (x.shape[-1], b.whole(1, 9))).astype(np.int8)
        scale = [b.constant(np.float32(0.02 / np.sqrt(x.shape[-1]))), b.constant(np.int8(0))]
        return result(b, "QLinearMatMul", [x.name, *parameters(b, x), b.constant(w), *scale], (*x.shape[:-1], w.shape[1]), x.kind, domain="")
    if kind == "Gemm" and rank == 1:
        w = b.random.integers(-63, 64, (x.shape[0], b.whole(1, 9))).astype(np.int8)
        scale = np.float32(0.02 / np.sqrt(x.shape[0]))
        bias = b.constant(b.random.integers(-200, 200, w.shape[1]).astype(np.int32))
        inputs = [x.name, *parameters(b, x), b.constant(w), b.constant(scale), b.constant(np.int8(0)), bias]
        return result(b, "QGemm", inputs, (w.shape[1],), x.kind)
    if kind == "Concat" and rank == 3 and x.shape[0] < 20:
        two = [x.name, *parameters(b, x), x.name, *parameters(b, x)]
        codes = Codes("", (2 * x.shape[0], *x.shape[1:]), x.kind, x.scale * np.float32(b.random.uniform(0.8, 1.3)), x.zero)
        codes.name = b.node("QLinearConcat", [*parameters(b, codes), *two], domain="com.microsoft", axis=1)
        return codes
    if kind == "Reshape":
        return Codes(b.node("Flatten", [x.name]), (int(np.prod(x.shape)),), x.kind, x.scale, x.zero)
    if kind == "Transpose" and rank == 3:
        return Codes(b.node("Transpose", [x.name], perm=[0, 1, 3, 2]), (x.shape[0], x.shape[2], x.shape[1]), x.kind, x.scale, x.zero)
    if kind == "Slice" and x.shape[-1] > 2:
        places = [b.constant(np.array([n])) for n in (1, 2**31 - 1, -1)]
        return Codes(b.node("Slice", [x.name, *places]), (*x.shape[:-1], x.shape[-1] - 1), x.kind, x.scale, x.zero)
    return x


def network(seed):
    """A quantized network of one of the two forms."""
    return on_codes(seed) if seed % 3 == 0 else between_quantizers(seed)
