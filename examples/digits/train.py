"""Trains the example network and writes every file of this folder but itself and the README.

    pip install torch scikit-learn onnx onnxruntime
    python examples/digits/train.py

The network is an fp32 ResNet-8 for 8x8 grey digits. Quantization plays no part in its training.
One thread, fixed seed, about a minute of CPU time.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

FOLDER = Path(__file__).resolve().parent
SEED = 0
CLASSES = 10
WIDTHS = (32, 64, 128)

# Neighbours in the list tend to be by the same writer (who wrote what is not recorded). Cutting the list
# instead of shuffling it tests mostly on hands that training has not seen.
TRAIN_IMAGES = 1200
CALIBRATION_IMAGES = 512

# Pixels count the dark points of a 4x4 cell, 0 to 16.
PIXEL_SCALE = 1 / 16

EPOCHS = 100
BATCH = 64
LEARNING_RATE = 0.2
# Chosen with the learning rate on held-back training images, for accuracy in fp32 and rounded to 2 bits.
WEIGHT_DECAY = 3e-3


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: a 1x1 projection where the shape changes, else identity."""

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.projects = stride != 1 or channels_in != channels_out
        if self.projects:
            self.shortcut_conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        main = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = self.shortcut_bn(self.shortcut_conv(x)) if self.projects else x
        return F.relu(main + shortcut)


class ResNet8(nn.Module):
    """Stem, three stages of one block each (8x8, 4x4, 2x2), global average, linear."""

    def __init__(self):
        super().__init__()
        self.stem_conv = nn.Conv2d(1, WIDTHS[0], 3, 1, 1, bias=False)
        self.stem_bn = nn.BatchNorm2d(WIDTHS[0])
        self.stage1 = Block(WIDTHS[0], WIDTHS[0], 1)
        self.stage2 = Block(WIDTHS[0], WIDTHS[1], 2)
        self.stage3 = Block(WIDTHS[1], WIDTHS[2], 2)
        self.classifier = nn.Linear(WIDTHS[2], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_bn(self.stem_conv(x)))
        x = self.stage3(self.stage2(self.stage1(x)))
        return self.classifier(x.mean((2, 3)))


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random rotation (15 degrees), zoom (15 %), shear and shift (one pixel); the background is 0."""

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * limit

    angle, shear = uniform(0.26), uniform(0.15)
    zoom_x, zoom_y = 1 + uniform(0.15), 1 + uniform(0.15)
    # affine_grid measures the image as 2 wide, so that a pixel is 0.25.
    shift_x, shift_y = uniform(0.25), uniform(0.25)
    cos, sin = torch.cos(angle), torch.sin(angle)
    row_x = torch.stack([cos * zoom_x, shear - sin, shift_x], 1)
    row_y = torch.stack([sin, cos * zoom_y, shift_y], 1)
    grid = F.affine_grid(torch.stack([row_x, row_y], 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor, mean: float, std: float) -> ResNet8:
    """SGD on cross-entropy. `images`: [n, 1, 8, 8] in 0..1, before mean and std."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = ResNet8().train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain}],
        lr=LEARNING_RATE,
        momentum=0.9,
        nesterov=True,
    )
    batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * batches, pct_start=0.1
    )
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for batch in order[: batches * BATCH].split(BATCH):
            x = (augment(images[batch], generator) - mean) / std
            loss = F.cross_entropy(model(x), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1}: loss {total / batches:.4f}", flush=True)
    return model.eval()


class GraphWriter:
    """Collects nodes and initializers. Each method adds one layer and returns its output's name."""

    def __init__(self):
        self.nodes = []
        self.initializers = []

    def _constant(self, name: str, tensor: torch.Tensor) -> str:
        self.initializers.append(numpy_helper.from_array(tensor.detach().numpy(), name))
        return name

    def _node(self, op: str, name: str, inputs: list[str], output: str | None = None, **attributes) -> str:
        output = output or f"{name}_out"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def conv_bn(self, x: str, name: str, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> str:
        pad = list(conv.padding)
        x = self._node(
            "Conv",
            f"{name}_conv",
            [x, self._constant(f"{name}_conv_weight", conv.weight)],
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            pads=pad + pad,
        )
        statistics = {
            "scale": bn.weight,
            "bias": bn.bias,
            "mean": bn.running_mean,
            "var": bn.running_var,
        }
        constants = [self._constant(f"{name}_bn_{key}", t) for key, t in statistics.items()]
        return self._node("BatchNormalization", f"{name}_bn", [x, *constants], epsilon=bn.eps)

    def relu(self, x: str, name: str) -> str:
        return self._node("Relu", name, [x])

    def block(self, x: str, name: str, block: Block) -> str:
        main = self.relu(self.conv_bn(x, f"{name}_1", block.conv1, block.bn1), f"{name}_1_relu")
        main = self.conv_bn(main, f"{name}_2", block.conv2, block.bn2)
        if block.projects:
            x = self.conv_bn(x, f"{name}_shortcut", block.shortcut_conv, block.shortcut_bn)
        return self.relu(self._node("Add", f"{name}_add", [main, x]), f"{name}_relu")

    def classifier(self, x: str, linear: nn.Linear, output: str) -> str:
        x = self._node("GlobalAveragePool", "pool", [x])
        x = self._node("Flatten", "flatten", [x], axis=1)
        constants = [
            self._constant("classifier_weight", linear.weight),
            self._constant("classifier_bias", linear.bias),
        ]
        return self._node("Gemm", "classifier", [x, *constants], output=output, transB=1)


def to_onnx(model: ResNet8) -> onnx.ModelProto:
    """The graph node by node, so that BatchNormalization stays and names are readable."""
    graph = GraphWriter()
    x = graph.relu(graph.conv_bn("input", "stem", model.stem_conv, model.stem_bn), "stem_relu")
    for name in ("stage1", "stage2", "stage3"):
        x = graph.block(x, name, getattr(model, name))
    graph.classifier(x, model.classifier, "logits")
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digits_resnet",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 8, 8])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
            graph.initializers,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="examples/digits/train.py",
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def onnx_top1(path: Path, images: np.ndarray, labels: np.ndarray, mean: float, std: float) -> float:
    """Top-1 of the written file. `images`: u8 [n, 8, 8, 1]."""
    x = (images.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(PIXEL_SCALE) - np.float32(mean)) / np.float32(std)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"input": x})
    return float((logits.argmax(1) == labels).mean())


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    train_pixels, test_pixels = pixels[:TRAIN_IMAGES], pixels[TRAIN_IMAGES:]
    train_labels, test_labels = labels[:TRAIN_IMAGES], labels[TRAIN_IMAGES:]

    scaled = train_pixels.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(PIXEL_SCALE)
    mean, std = round(float(scaled.mean()), 4), round(float(scaled.std()), 4)
    model = train(torch.from_numpy(scaled), torch.from_numpy(train_labels), mean, std)

    chosen = np.random.RandomState(SEED).permutation(TRAIN_IMAGES)[:CALIBRATION_IMAGES]
    np.save(FOLDER / "calib.npy", train_pixels[chosen])
    np.save(FOLDER / "test.npy", test_pixels)
    np.save(FOLDER / "test_labels.npy", test_labels)
    (FOLDER / "digits.toml").write_text(
        "# uint8 grey, 0 to 16 -> float32: (x * scale - mean) / std\n"
        'layout = "nhwc"\n'
        'color = "gray"\n'
        f"scale = {PIXEL_SCALE}\n"
        f"mean = [{mean}]\n"
        f"std = [{std}]\n"
    )
    path = FOLDER / "digits_resnet.onnx"
    onnx.save(to_onnx(model), path)
    print(f"train top-1 {onnx_top1(path, train_pixels, train_labels, mean, std):.4f}, {len(train_labels)} images")
    print(f"test  top-1 {onnx_top1(path, test_pixels, test_labels, mean, std):.4f}, {len(test_labels)} images")


if __name__ == "__main__":
    main()
