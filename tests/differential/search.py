"""A random search for wrong values, refusals and panics: small networks, each given to catc and to ONNX Runtime.

    pip install numpy onnx onnxruntime
    python3 tests/differential/search.py float 0 1000 --catc target/release/catc --folder /tmp/search
    python3 tests/differential/search.py quantized 0 1000
    python3 tests/differential/search.py float 17 18       # one network again; its files stay in the folder

`float` draws float networks (float_networks.py), `quantized` files of QuantizeLinear and DequantizeLinear, of operators on codes and with
clipped codes (quantized_networks.py). A network depends on its number alone. ONNX Runtime without optimizations is the reference. Compared are
- the evaluator (`catc run x.onnx`),
- float networks compiled in float and at 8, 4 and 2 bits (--method mse; each twentieth network by the default method with --effort fast),
  quantized ones as they are,
- the compiled network on the instruction sets x86-64-v3 and x86-64-v2, which must give the same bits where layers are codes,
- the written QDQ file: onnx.checker with full checks, ONNX Runtime, which must load it and agree with the compiled network.

A line is printed for each finding: the number, the kind (panic, refused, float, compiled, accuracy, tiers, checker, load, written) and the detail; then the
counts. `invalid` is a network that ONNX Runtime does not take, which is a fault of the generator. Refusals are counted by their text. A code that lies in the middle between two may round either way and carry on from there, so `written` and
`accuracy` are looked at by hand. About two networks a second; not part of CI, where tests/emitted covers each kind once.
"""

import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime

sys.path.insert(0, os.path.dirname(__file__))
import float_networks
import quantized_networks

# The relative root mean square difference that is no rounding, for each number of bits.
# 0 stands for a quantized file, as it is.
WRITTEN = {0: 0.03, 32: 1e-4, 8: 0.05, 4: 0.2, 2: 0.5}
ACCURACY = {0: 0.03, 32: 1e-3, 8: 0.25}
EVALUATED = {"float": 1e-3, "quantized": 0.03}


class Search:
    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path(options.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.counts = collections.Counter()
        self.refusals = collections.Counter()

    def report(self, number, kind, detail):
        self.counts[kind] += 1
        if kind == "refused":
            text = re.sub(r'"[^"]*"', '".."', detail)
            text = re.sub(r"\d+", "#", text)
            self.refusals[text] += 1
            if self.refusals[text] > 2:
                return
        print(f"{number} {kind}: {detail}", flush=True)

    def catc(self, *arguments, cpu=None):
        environment = dict(os.environ, **({"CATC_CPU": cpu} if cpu else {}))
        command = [self.options.catc, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        return result.returncode, result.stderr.strip()

    def path(self, name):
        return self.folder / name

    def reference(self, path, feeds):
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        settings.intra_op_num_threads = 1
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        return dict(zip(names, session.run(None, feeds)))

    def run(self, number, model, names, cpu=None):
        """The outputs of a model by `catc run`, or nothing if it failed, which is reported."""
        out = self.path("y.npz" if len(names) > 1 else "y.npy")
        out.unlink(missing_ok=True)
        code, text = self.catc("run", model, "--input", self.path("x.npz"), "--output", out, cpu=cpu)
        if code != 0:
            self.failed(number, f"run {pathlib.Path(model).name}", code, text)
            return None
        arrays = np.load(out)
        return [arrays] if isinstance(arrays, np.ndarray) else [arrays[n] for n in names]

    def failed(self, number, stage, code, text):
        panicked = code not in (1, 2) or "panicked" in text
        self.report(number, "panic" if panicked else "refused", f"{stage}: {text[-900:]}")

    def compile(self, number, label, *arguments):
        binary, written = self.path("m.bin"), self.path("q.onnx")
        for f in (binary, written):
            f.unlink(missing_ok=True)
        emit = ["--emit", f"qdq-onnx={written}"]
        code, text = self.catc(self.path("m.onnx"), "-o", binary, *emit, *arguments)
        if code == 1 and "cannot be written as ONNX" in text:
            self.failed(number, f"{label} emit", code, text)
            code, text = self.catc(self.path("m.onnx"), "-o", binary, *arguments)
        if code != 0:
            self.failed(number, label, code, text)
            return None
        return binary, written, text

    def check_tiers(self, number, label, binary, names, bits, exact):
        """The outputs on two instruction sets, which are compared."""
        one, two = (self.run(number, binary, names, cpu) for cpu in ("x86-64-v3", "x86-64-v2"))
        if one is not None and two is not None:
            same = all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(one, two))
            if not same and (exact or worst(one, two) > WRITTEN[bits]):
                self.report(number, "tiers", f"{label} differs by {worst(one, two):.2e}")
        return one

    def check_written(self, number, label, written, names, feeds, outputs, limit):
        if not written.exists():
            return
        try:
            onnx.checker.check_model(onnx.load(written), full_check=True)
        except Exception as e:
            self.report(number, "checker", f"{label} {str(e)[:300]}")
        try:
            other = self.reference(written, feeds)
        except Exception as e:
            self.report(number, "load", f"{label} {str(e)[:300]}")
            return
        difference = worst(outputs, list(other.values()))
        if list(other) != list(names) or difference > limit:
            self.report(number, "written", f"{label} differs by {difference:.2e} {[(a.dtype.name, a.shape) for a in other.values()]}")

    def network(self, number, b):
        """Everything that is checked of one network."""
        try:
            model = b.model()
            onnx.save(model, self.path("m.onnx"))
            expected = self.reference(self.path("m.onnx"), b.feeds)
        except Exception as e:
            self.report(number, "invalid", str(e)[:200])
            return
        np.savez(self.path("x.npz"), **b.feeds)
        names, expected = list(expected), list(expected.values())
        if not all(np.isfinite(e).all() for e in expected if e.dtype.kind == "f"):
            self.counts["not finite"] += 1
            return
        self.counts["networks"] += 1
        outputs = self.run(number, self.path("m.onnx"), names)
        if outputs is not None and worst(outputs, expected) > EVALUATED[self.options.kind]:
            self.report(number, "float", f"evaluator differs by {worst(outputs, expected):.2e}")
        for label, bits, arguments in self.ways(number):
            made = self.compile(number, label, *arguments)
            if made is None:
                continue
            binary, written, notes = made
            exact = bits != 32 and not re.search("float|f32", notes)
            outputs = self.check_tiers(number, label, binary, names, bits, exact)
            if outputs is None:
                continue
            if (limit := ACCURACY.get(bits)) and worst(outputs, expected) > limit:
                self.report(number, "compiled" if bits in (0, 32) else "accuracy", f"{label} differs by {worst(outputs, expected):.2e}")
            self.check_written(number, label, written, names, b.feeds, outputs, WRITTEN[bits])

    def ways(self, number):
        if self.options.kind == "quantized":
            return [("as it is", 0, ["--calib", self.path("x.npz")])]
        default = number % 20 == 0
        ways = []
        for n in (8, 4, 2):
            method = ["--effort", "fast"] if default and n < 8 else ["--method", "mse"]
            ways.append((f"W{n}A{n}", n, ["--wbits", n, "--abits", n, "--calib", self.path("x.npz"), *method]))
        return [("float", 32, ["--wbits", 32, "--abits", 32]), *ways]


def worst(ours, theirs):
    """The largest relative root mean square difference among the outputs; whole numbers that follow a near tie may differ in a quarter of the places."""
    result = 0.0
    for a, b in zip(ours, theirs):
        if a.shape != b.shape:
            return float("inf")
        if b.size == 0:
            continue
        if b.dtype.kind != "f":
            part = np.mean(np.asarray(a) != b)
            result = max(result, 0.0 if part <= 0.25 else float(part) / 1000)
            continue
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not np.isfinite(a).all():
            return float("inf")
        size = np.sqrt(np.mean(b**2)) or 1.0
        result = max(result, float(np.sqrt(np.mean((a - b) ** 2)) / size))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["float", "quantized"])
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int, help="one past the last network")
    parser.add_argument("--catc", default="target/release/catc")
    parser.add_argument("--folder", default="/tmp/catc-search")
    search = Search(parser.parse_args())
    draw = float_networks.network if search.options.kind == "float" else quantized_networks.network
    for number in range(search.options.first, search.options.last):
        try:
            network = draw(number)
        except Exception as e:  # what the generator itself gets wrong
            search.report(number, "invalid", str(e)[:200])
            continue
        search.network(number, network)
    print(dict(search.counts))
    for text, count in search.refusals.most_common():
        print(f"{count} refused: {text[:300]}")


if __name__ == "__main__":
    main()
