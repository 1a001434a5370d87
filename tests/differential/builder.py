"""Builds small ONNX networks node by node and keeps the shape of every value (without the batch)."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Value:
    """A tensor of the network: its name, and its shape for one image."""

    def __init__(self, name, shape):
        self.name, self.shape = name, tuple(int(s) for s in shape)


class Builder:
    """A network in the making. `random` is the generator that every choice comes from."""

    def __init__(self, seed, opset):
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.feeds = {}
        self.count = 0

    def name(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"

    def chance(self, p):
        return self.random.random() < p

    def pick(self, choices):
        return choices[self.random.integers(len(choices))]

    def whole(self, low, high):
        """A whole number from `low` to `high`, both included."""
        return int(self.random.integers(low, high + 1))

    def normal(self, *shape, scale=1.0):
        return (self.random.standard_normal(shape) * scale).astype(np.float32)

    def constant(self, array):
        name = self.name("k")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, array, axis):
        """The weights of a layer, whose output channels lie along `axis`."""
        return self.constant(array)

    def bias(self, array):
        """The bias of a layer."""
        return self.constant(array)

    def node(self, operator, inputs, outputs=1, domain="", **attributes):
        """Adds a node, and gives the name of its output (or a list of them)."""
        names = [self.name("v") for _ in range(outputs)]
        inputs = [i.name if isinstance(i, Value) else i for i in inputs]
        self.nodes.append(helper.make_node(operator, inputs, names, name=self.name("n"), domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def input(self, shape, batch=4, kind=np.float32, low=0, high=256, scale=1.0):
        """An input, with values for a batch that is given to every runtime."""
        name = self.name("x")
        kind = np.dtype(kind)
        if kind.kind == "f":
            array = self.normal(batch, *shape, scale=scale).astype(kind)
        else:
            array = self.random.integers(low, high, (batch, *shape)).astype(kind)
        self.feeds[name] = array
        kind = helper.np_dtype_to_tensor_dtype(kind)
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["N", *shape]))
        return Value(name, shape)

    def output(self, value, kind=TensorProto.FLOAT):
        if any(o.name == value.name for o in self.outputs) or any(i.name == value.name for i in self.inputs):
            value = Value(self.node("Identity", [value]), value.shape)
        self.outputs.append(helper.make_tensor_value_info(value.name, kind, ["N", *value.shape]))

    def model(self):
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        used = {n.domain for n in self.nodes if n.domain}
        domains = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, 1) for d in sorted(used)]
        model = helper.make_model(graph, opset_imports=domains, ir_version=8)
        onnx.checker.check_model(model)
        return model
