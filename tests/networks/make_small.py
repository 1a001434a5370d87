#!/usr/bin/env python3
"""Writes tests/networks/small: architectures of torchvision with few and narrow layers and random weights, by both exporters of torch,
pictures, and what ONNX Runtime computes for them. tests/networks.rs compiles them.

    python3 -m pip install torch torchvision onnx onnxruntime onnxscript
    python3 tests/networks/make_small.py
"""

import pathlib
from functools import partial

import numpy
import onnx
import torch
from onnxruntime import InferenceSession
from run import export, trained_like
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3
from torchvision.models.shufflenetv2 import ShuffleNetV2
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

FOLDER = pathlib.Path(__file__).parent / "small"
SIDE, PICTURES, CLASSES = 32, 4, 10


def mobilenet_v3():
    """Squeeze and excitation, hard-swish, depthwise layers of both sizes, blocks with and without a skip connection."""
    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [
        block(8, 3, 16, 8, False, "RE", stride=1),
        block(8, 5, 24, 16, True, "RE", stride=2),
        block(16, 5, 32, 16, True, "HS", stride=1),
        block(16, 3, 40, 24, True, "HS", stride=2),
    ]
    return MobileNetV3(blocks, last_channel=48, num_classes=CLASSES)


def shufflenet_v2():
    return ShuffleNetV2([2, 2, 2], [8, 16, 32, 48, 64], num_classes=CLASSES)


def convnext():
    blocks = [CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 2)]
    return ConvNeXt(blocks, stochastic_depth_prob=0.0, layer_scale=0.5, num_classes=CLASSES)


def vit():
    size = {"num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 48}
    return VisionTransformer(image_size=SIDE, patch_size=8, num_classes=CLASSES, **size)


def swin():
    """Windows, and windows shifted, in two stages."""
    size = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 3], "window_size": [4, 4]}
    return SwinTransformer(patch_size=[4, 4], num_classes=CLASSES, **size)


# Each with its exporters, and the opset of TorchScript's.
NETWORKS = [
    (mobilenet_v3, ["torchscript", "dynamo"], 13),
    (shufflenet_v2, ["torchscript", "dynamo"], 13),
    (convnext, ["torchscript"], 13),
    (vit, ["torchscript", "dynamo"], 14),
    (swin, ["torchscript", "dynamo"], 13),
]


def bare(path):
    """Takes out what the exporters say of where a node came from, and shortens the names of what nodes compute."""
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    for part in [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    short = {v: f"v{i}" for i, v in enumerate(o for n in model.graph.node for o in n.output if o)}
    short |= {o.name: o.name for o in model.graph.output}
    for node in model.graph.node:
        node.input[:] = [short.get(v, v) for v in node.input]
        node.output[:] = [short.get(v, v) for v in node.output]
        if node.op_type == "Constant":
            node.ClearField("name")
    onnx.save(model, path)


def main():
    FOLDER.mkdir(exist_ok=True)
    pictures = torch.randn(PICTURES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    numpy.save(FOLDER / "pictures.npy", pictures.numpy())
    for make, exporters, opset in NETWORKS:
        torch.manual_seed(sum(map(ord, make.__name__)))
        net = trained_like(make())
        for exporter in exporters:
            path = FOLDER / f"{make.__name__}_{exporter}.onnx"
            export(net, pictures[:1], exporter, path, opset)
            bare(path)
            session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            outputs = [session.run(None, {name: p[None]})[0] for p in pictures.numpy()]
            numpy.save(path.with_suffix(".npy"), numpy.concatenate(outputs))


if __name__ == "__main__":
    main()
