#!/usr/bin/env python3
"""Networks of torchvision with random weights, exported by both exporters of torch, through catc: docs/networks.md.

    python3 -m pip install torch torchvision onnxruntime onnxscript
    cargo build --release --bin catc --example check_network
    python3 tests/networks/run.py --cache FOLDER [--networks NAME,..] [--costs] [--page docs/networks.md]

Results are kept in FOLDER, one JSON file for each network and exporter; those that are there are not made again, so the
command can be stopped and started. The page is written from all of them. `--costs` measures what it takes to compile two large
networks from 32 pictures as well.
"""

import argparse
import functools
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECK = ROOT / "target/release/examples/check_network"
CATC = ROOT / "target/release/catc"

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
# The newest that the other exporter writes.
NEWEST_OPSET = 23
EXPORTERS = ["torchscript", "dynamo"]
# What is compiled to see what it costs, with which options: by the exporter of TorchScript, from this many pictures.
COSTS = [
    (name, options)
    for name in ["resnet50", "vit_b_16"]
    for options in ["--wbits 8 --abits 8 --method mse", "--wbits 4 --abits 4 --method mse", "--wbits 4 --abits 4 --effort fast"]
]
PICTURES = 32


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
    return trained_like(net)


def trained_like(net):
    """The network in inference mode, with weights and statistics of the sizes that training leaves: as they are drawn by torchvision,
    many a network gives nearly the same for every picture, which hides differences."""
    import torch

    net.eval()
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.running_mean.uniform_(-0.2, 0.2)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.uniform_(0.5, 1.5)
                m.bias.uniform_(-0.2, 0.2)
            elif isinstance(m, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(m.weight)
            elif isinstance(m, torch.nn.Linear):
                m.weight.normal_(0.0, m.in_features**-0.5)
            if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) and m.bias is not None:
                m.bias.normal_(0.0, 0.05)
            if isinstance(m, torch.nn.LayerNorm):
                m.weight.uniform_(0.5, 1.5)
        # Class tokens and the like.
        for p in net.parameters():
            if not p.any():
                p.normal_(0.0, 0.1)
    return net


def export(net, x, exporter, path, opset=13):
    """Writes a network as ONNX for inputs of the shape of `x`; `opset` is that of TorchScript's exporter."""
    import torch

    if exporter == "dynamo":
        options = {"opset_version": NEWEST_OPSET, "external_data": False, "verbose": False}
        torch.onnx.export(net, (x,), str(path), dynamo=True, **options)
    else:
        torch.onnx.export(net, (x,), str(path), dynamo=False, opset_version=opset)


def picture(side):
    import torch

    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def check(name, exporter, cache, keep_models):
    """The result of one network by one exporter. Exported files that are there already are taken."""
    stem = f"{name}.{exporter}"
    model = cache / f"{stem}.onnx"
    if not (cache / f"{stem}.out").exists():
        import numpy
        import onnxruntime

        try:
            x = picture(NETWORKS[name])
            export(network(name), x, exporter, model, OPSETS.get(name, 13))
            x = x.numpy()
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


def cost(name, options, cache):
    """Time and memory of the whole command."""
    import numpy
    import torch

    model, pictures = cache / f"{name}.torchscript.onnx", cache / "pictures.npy"
    if not model.exists():
        export(network(name), picture(NETWORKS[name]), "torchscript", model, OPSETS.get(name, 13))
    side = NETWORKS[name]
    many = torch.randn(PICTURES, 3, side, side, generator=torch.Generator().manual_seed(2))
    numpy.save(pictures, many.numpy())
    out = cache / "cost.bin"
    command = ["/usr/bin/time", "-f", "%e %U %S %M", str(CATC), str(model), "-o", str(out), "--calib", str(pictures)]
    done = subprocess.run(command + options.split(), capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    if done.returncode != 0:
        return {"failed": "catc", "error": "\n".join(lines)[:600]}
    wall, user, system, peak = lines[-1].split()
    return {"wall": float(wall), "cpu": float(user) + float(system), "peak_mib": int(peak) // 1024}


def status(result):
    if "failed" in result:
        return f"no: {result['error'].splitlines()[0][:120]}"
    if result["equal"]:
        return "equal"
    if result["float_convolutions"] and result["apart"] < 1e-4:
        return f"{result['apart']:.0e} apart (float convolutions)"
    return f"DIFFERS by {result['apart']:.1e}"


def layers(result):
    """Layers on codes, of all layers: convolutions, linear layers, products of two computed tensors."""
    operators = result.get("operators", {})
    kinds = ["conv2d", "linear", "matmul"]
    quantized = sum(operators.get(f"fused_{k}", 0) for k in kinds)
    return f"{quantized} of {quantized + sum(operators.get(k, 0) for k in kinds)}"


def row(name, exporter, result):
    if "failed" in result:
        what = result["error"].splitlines()[0][:160].replace("|", "/") if result["error"] else "no message"
        return f"| {name} | {exporter} | | {result['failed']}: {what} | | | | |"
    cells = [
        name,
        f"{exporter}, opset {result['opset']}",
        str(result["nodes"]),
        f"{result['float_error']:.1e}",
        layers(result["W8A8"]),
        status(result["W8A8"]),
        status(result["W4A4"]),
        str(result.get("peak_mib", "")),
    ]
    return "| " + " | ".join(c.replace("|", "/") for c in cells) + " |"


def costs_table(costs):
    lines = [
        "",
        f"What it takes to compile two of them, by `catc NETWORK.onnx -o OUT.bin --calib PICTURES.npy` from {PICTURES} pictures with these",
        "options: processor time (s), time on two cores shared with other work (s), peak memory (MiB).",
        "",
        "| network | options | processor | time | peak |",
        "|---|---|---:|---:|---:|",
    ]
    for (name, options), c in costs.items():
        if "failed" in c:
            lines.append(f"| {name} | `{options}` | {c['error'].splitlines()[-1][:120]} | | |")
        else:
            lines.append(f"| {name} | `{options}` | {c['cpu']:.0f} | {c['wall']:.0f} | {c['peak_mib']} |")
    return lines


def page(results, costs):
    lines = [
        "# Networks",
        "",
        "Networks of torchvision with random weights, exported by both exporters of torch, through the compiler. *Float* is the",
        "largest difference of the evaluator's output from ONNX Runtime's over the largest magnitude of it (the bar is 1e-4).",
        "*W8A8* and *W4A4*: whether machine code of the quantized network equals the reference evaluator bit for bit. Ranges are",
        "from one random picture: what is shown is coverage and exactness, not accuracy. *Ops* are those of the imported graph,",
        "*layers* the convolutions, linear layers and products of computed tensors that work on codes, of all there are, and",
        "*peak* is the memory of all checks of a row together (MiB).",
        "",
        "In transformers linear layers, products of queries and keys and of weights and values are products of codes, with calibrated",
        "ranges; softmax, layer normalization and the residual stream stay in f32 and are quantized where a product takes them; gelu is",
        "an f32 step between the sums of a layer and its codes.",
        "",
        "Written by `tests/networks/run.py`, whose head says how to run it.",
        "",
        "| network | export | ops | float | layers | W8A8 | W4A4 | peak |",
        "|---|---|---:|---:|---:|---|---|---:|",
    ]
    for (name, exporter), result in results.items():
        lines.append(row(name, exporter, result))
    missing = [f"{n} ({e})" for n in NETWORKS for e in EXPORTERS if (n, e) not in results]
    if missing:
        lines += ["", "Not run: " + ", ".join(missing) + "."]
    if costs:
        lines += costs_table(costs)
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


def kept(path, make):
    """A result that is there, or is made now."""
    if not path.exists():
        print(path.stem, file=sys.stderr, flush=True)
        path.with_suffix(".part").write_text(json.dumps(make()))
        path.with_suffix(".part").rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--exporters", default=",".join(EXPORTERS))
    parser.add_argument("--costs", action="store_true", help="measure what it takes to compile two large networks")
    parser.add_argument("--keep-models", action="store_true", help="leave the exported files in the cache")
    parser.add_argument("--page", type=pathlib.Path)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    unknown = [n for n in args.networks.split(",") if n not in NETWORKS]
    if unknown:
        sys.exit(f"no such network: {', '.join(unknown)}")
    for name in args.networks.split(","):
        for exporter in args.exporters.split(","):
            make = functools.partial(check, name, exporter, args.cache, args.keep_models)
            kept(args.cache / f"{name}.{exporter}.json", make)
    cost_of = {(n, o): args.cache / f"cost.{n}.{''.join(o.split())}.json" for n, o in COSTS}
    for (name, options), path in cost_of.items() if args.costs else []:
        kept(path, functools.partial(cost, name, options, args.cache))
    if args.page:
        results = {}
        for name in NETWORKS:
            for exporter in EXPORTERS:
                path = args.cache / f"{name}.{exporter}.json"
                if path.exists():
                    results[name, exporter] = json.loads(path.read_text())
        costs = {of: json.loads(path.read_text()) for of, path in cost_of.items() if path.exists()}
        args.page.write_text(page(results, costs))


if __name__ == "__main__":
    main()
