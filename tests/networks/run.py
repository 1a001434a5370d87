#!/usr/bin/env python3
"""Networks of torchvision with random weights, exported by both exporters of torch, through catc: docs/networks.md.

    python3 -m pip install torch torchvision onnxruntime onnxscript
    cargo build --release --example check_network
    python3 tests/networks/run.py --cache FOLDER [--networks NAME,..] [--page docs/networks.md]

Results are kept in FOLDER, one JSON file for each network and exporter; those that are there are not made again, so the
command can be stopped and started. The page is written from all of them.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = ROOT / "target/release/examples/check_network"

# Name, side of the picture.
NETWORKS = {
    "resnet18": 224,
    "resnet50": 224,
    "resnext50_32x4d": 224,
    "wide_resnet50_2": 224,
    "vgg16": 224,
    "squeezenet1_1": 224,
    "densenet121": 224,
    "googlenet": 224,
    "inception_v3": 299,
    "mobilenet_v2": 224,
    "mobilenet_v3_large": 224,
    "mnasnet1_0": 224,
    "shufflenet_v2_x1_0": 224,
    "efficientnet_b0": 224,
    "regnet_x_400mf": 224,
    "regnet_x_3_2gf": 224,
    "regnet_y_400mf": 224,
    "convnext_tiny": 224,
    "vit_b_16": 224,
    "deit_tiny": 224,
    "swin_t": 224,
    "swin_v2_t": 256,
    "fcn_resnet50": 224,
    "ssdlite_backbone": 320,
}
# Opset 13 has no attention for TorchScript's exporter to write.
OPSETS = {"vit_b_16": 14, "deit_tiny": 14}
EXPORTERS = ["torchscript", "dynamo"]


def network(name):
    """The network in inference mode, random weights drawn from a seed that is its name's."""
    import torch
    import torchvision

    torch.manual_seed(sum(map(ord, name)))
    if name == "fcn_resnet50":
        whole = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None)

        class Head(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = whole

            def forward(self, x):
                return self.net(x)["out"]

        net = Head()
    elif name == "deit_tiny":
        size = {"image_size": 224, "patch_size": 16, "num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}
        net = torchvision.models.vision_transformer.VisionTransformer(**size)
    elif name == "ssdlite_backbone":
        whole = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)

        class Backbone(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = whole.backbone

            def forward(self, x):
                return tuple(self.net(x).values())

        net = Backbone()
    else:
        more = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        net = getattr(torchvision.models, name)(weights=None, **more)
    net.eval()
    # Statistics of batch normalization as training would leave them, not zeros and ones.
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.uniform_(-0.2, 0.2)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.uniform_(0.5, 1.5)
                m.bias.uniform_(-0.2, 0.2)
            # A head that starts with zeros gives zeros, which anything agrees with.
            if isinstance(m, torch.nn.Linear) and not m.weight.any():
                m.weight.normal_(0.0, 0.05)
    return net


def export(name, exporter, path):
    import torch

    net, side = network(name), NETWORKS[name]
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    if exporter == "dynamo":
        torch.onnx.export(net, (x,), str(path), dynamo=True, external_data=False, verbose=False)
    else:
        torch.onnx.export(net, (x,), str(path), dynamo=False, opset_version=OPSETS.get(name, 13))
    return x


def check(name, exporter, cache, keep_models):
    """The result of one network by one exporter. Exported files that are there already are taken."""
    stem = f"{name}.{exporter}"
    model = cache / f"{stem}.onnx"
    if not (cache / f"{stem}.out").exists():
        import numpy
        import onnxruntime

        try:
            x = export(name, exporter, model).numpy()
        except Exception as e:  # noqa: BLE001: whatever the exporter raises is the result
            return {"failed": "export", "error": f"{type(e).__name__}: {e}"[:300]}
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        expected = session.run(None, {session.get_inputs()[0].name: x})[0]
        numpy.ascontiguousarray(x, "<f4").tofile(cache / f"{stem}.in")
        numpy.ascontiguousarray(expected, "<f4").tofile(cache / f"{stem}.out")
    command = ["/usr/bin/time", "-f", "%M", str(CHECK), str(model), f"{cache / stem}.in", f"{cache / stem}.out"]
    if not pathlib.Path(command[0]).exists():
        command = command[3:]
    done = subprocess.run(command, capture_output=True, text=True)
    for path in [model, cache / f"{stem}.in", cache / f"{stem}.out"]:
        if not keep_models:
            path.unlink()
    lines = done.stderr.strip().splitlines()
    if done.returncode != 0:
        return {"failed": "catc", "error": "\n".join(lines)[:600]}
    result = json.loads(done.stdout)
    if lines and lines[-1].isdigit():
        result["peak_mib"] = int(lines[-1]) // 1024
    return result


def status(result):
    if "failed" in result:
        return f"no: {result['error'].splitlines()[0][:120]}"
    if result["equal"]:
        return "equal"
    if result["float_convolutions"] and result["apart"] < 1e-4:
        return f"{result['apart']:.0e} apart (float convolutions)"
    return f"DIFFERS by {result['apart']:.1e}"


def row(name, exporter, result):
    if "failed" in result:
        what = result["error"].splitlines()[0][:160].replace("|", "/") if result["error"] else "no message"
        return f"| {name} | {exporter} | {result['failed']}: {what} | | | | | |"
    seconds = result["W8A8"].get("compile_seconds")
    cells = [
        name,
        f"{exporter}, opset {result['opset']}",
        f"{result['float_error']:.1e}",
        status(result["W8A8"]),
        status(result["W4A4"]),
        str(result["W8A8"].get("steps", "")),
        f"{seconds:.1f}" if seconds else "",
        str(result.get("peak_mib", "")),
    ]
    return "| " + " | ".join(c.replace("|", "/") for c in cells) + " |"


def page(results):
    lines = [
        "# Networks",
        "",
        "Networks of torchvision with random weights, exported by both exporters of torch, through the compiler. *Float* is the",
        "largest difference of the evaluator's output from ONNX Runtime's over the largest magnitude of it (the bar is 1e-4).",
        "*W8A8* and *W4A4*: whether machine code of the quantized network equals the reference evaluator bit for bit. Ranges are",
        "from one random picture: what is shown is coverage and exactness, not accuracy. Steps, time to compile W8A8 (s) and the",
        "peak memory of all three checks together (MiB) are those of one run on two cores shared with other work.",
        "",
        "Written by `tests/networks/run.py`, whose head says how to run it.",
        "",
        "| network | export | float | W8A8 | W4A4 | steps | compile | peak |",
        "|---|---|---:|---|---|---:|---:|---:|",
    ]
    for (name, exporter), result in results.items():
        lines.append(row(name, exporter, result))
    reasons = {}
    for (name, exporter), result in results.items():
        for note in result.get("W8A8", {}).get("notes", []):
            reason = note.split(": ", 1)[-1] if ": " in note else note
            reasons.setdefault(reason, {}).setdefault(name, 0)
            reasons[reason][name] += 1
    lines += ["", "Layers left in float at W8A8, by reason:", ""]
    for reason, names in sorted(reasons.items()):
        lines.append(f"- {reason}: " + ", ".join(f"{n} ({c})" for n, c in sorted(names.items())))
    if not reasons:
        lines.append("- none")
    operators = {}
    for result in results.values():
        for name, count in result.get("operators", {}).items():
            operators[name] = operators.get(name, 0) + count
    lines += ["", "Operations of the imported graphs, all networks together: " + ", ".join(
        f"{n} {c}" for n, c in sorted(operators.items())) + ".", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--exporters", default=",".join(EXPORTERS))
    parser.add_argument("--keep-models", action="store_true", help="leave the exported files in the cache")
    parser.add_argument("--page", type=pathlib.Path)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    unknown = [n for n in args.networks.split(",") if n not in NETWORKS]
    if unknown:
        sys.exit(f"no such network: {', '.join(unknown)}")
    for name in args.networks.split(","):
        for exporter in args.exporters.split(","):
            path = args.cache / f"{name}.{exporter}.json"
            if path.exists():
                continue
            print(f"{name} {exporter}", file=sys.stderr, flush=True)
            result = check(name, exporter, args.cache, args.keep_models)
            path.with_suffix(".part").write_text(json.dumps(result))
            path.with_suffix(".part").rename(path)
    if args.page:
        results = {}
        for name in NETWORKS:
            for exporter in EXPORTERS:
                path = args.cache / f"{name}.{exporter}.json"
                if path.exists():
                    results[name, exporter] = json.loads(path.read_text())
        args.page.write_text(page(results))


if __name__ == "__main__":
    main()
