#!/usr/bin/env python3
"""Writes the small models of tests/quantized_models.rs: one that ONNX Runtime's static quantizer made, with inputs and its outputs for
them, and one whose height and width are open.

    python3 -m pip install onnx onnxruntime
    python3 tests/networks/make_quantized.py
"""

import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

HERE = pathlib.Path(__file__).parent
RANDOM = numpy.random.default_rng(7)


def constant(name, *shape):
    values = RANDOM.normal(0, 1 / numpy.sqrt(numpy.prod(shape[1:]) or 4), shape)
    return numpy_helper.from_array(values.astype(numpy.float32), name)


def residual():
    """Three convolutions, one of them depthwise, a skip connection and a classifier."""
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="stem", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Clip", ["c2", "zero", "six"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], name="pointwise"),
        helper.make_node("Add", ["c3", "r1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r3"]),
        helper.make_node("MaxPool", ["r3"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["logits"], name="classifier"),
    ]
    bounds = [numpy_helper.from_array(numpy.float32(x), n) for x, n in [(0, "zero"), (6, "six")]]
    weights = [constant("w1", 8, 3, 3, 3), constant("w2", 8, 1, 3, 3), constant("w3", 8, 8, 1, 1), constant("w4", 8, 10)]
    biases = [constant(f"b{i}", n) for i, n in [(1, 8), (2, 8), (3, 8), (4, 10)]]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 12, 12])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    return model(nodes, image, logits, weights + biases + bounds)


def open_sizes():
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["y"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "height", "width"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])
    return model(nodes, image, y, [constant("w", 4, 3, 3, 3), constant("b", 4)])


def model(nodes, image, output, constants):
    graph = helper.make_graph(nodes, "network", [image], [output], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made


class Images(CalibrationDataReader):
    def __init__(self, images):
        self.rest = iter(images)

    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {"image": image[None]}


def main():
    onnx.save(open_sizes(), HERE / "open_sizes.onnx")
    source = HERE / "static_qdq.float.onnx"
    onnx.save(residual(), source)
    images = RANDOM.normal(0, 1, (64, 3, 12, 12)).astype(numpy.float32)
    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    target = HERE / "static_qdq.onnx"
    quantize_static(source, target, Images(images), quant_format=QuantFormat.QDQ, **options)
    source.unlink()
    numpy.save(HERE / "static_qdq_inputs.npy", images)
    session = InferenceSession(str(target), providers=["CPUExecutionProvider"])
    numpy.save(HERE / "static_qdq_outputs.npy", session.run(None, {"image": images})[0])


if __name__ == "__main__":
    main()
