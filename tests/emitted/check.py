"""Checks written models: `check.py FOLDER`. For each NAME.onnx in it: onnx.checker in full, ONNX Runtime and, where it is installed,
OpenVINO load it and compute from NAME.input.npy what NAME.output.npy holds, up to rounding of single codes. Prints a line for each fault,
and `skipped: ..` for what is not installed. The exit code is 1 if there was a fault."""
import pathlib
import sys


def distance(found, expected):
    """Mean distance over the mean magnitude."""
    if found.shape != expected.shape:
        return float("inf")
    return abs(found - expected).mean() / max(abs(expected).mean(), 1e-9)


def main():
    try:
        import numpy as np
        import onnx
        import onnxruntime
    except ImportError as error:
        print(f"skipped: {error}")
        return 0
    try:
        import openvino
    except ImportError as error:
        openvino = None
        print(f"skipped: {error}")
    faults = checked = 0
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
        data = [np.load(path.with_suffix(f".{kind}.npy")) for kind in ("input", "output")]
        x, expected = data[0], data[1].astype("float64")

        def by_onnxruntime():
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.log_severity_level = 4
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            return session.run(None, {session.get_inputs()[0].name: x})[0]

        def by_openvino():
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(str(path)), "CPU")
            return compiled([x])[compiled.output(0)]

        def by_checker():
            onnx.checker.check_model(str(path), full_check=True)
            return expected

        steps = [("onnx.checker", by_checker, 0.0), ("ONNX Runtime", by_onnxruntime, 0.02)]
        if openvino is not None:
            # Its kernels round elsewhere.
            steps.append(("OpenVINO", by_openvino, 0.2))
        checked += 1
        for name, step, bound in steps:
            try:
                apart = distance(np.asarray(step(), "float64"), expected)
                problem = None if apart <= bound else f"is {apart:.3g} away"
            except Exception as error:  # Whatever a runtime raises is a fault of the file.
                problem = str(error).strip().splitlines()[0]
            if problem:
                faults += 1
                print(f"{path.name}: {name}: {problem}")
    print(f"checked {checked} models")
    return 1 if faults else 0


sys.exit(main())
