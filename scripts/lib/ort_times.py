"""Times one model in ONNX Runtime and prints the median milliseconds of a run.

    ort_times.py ort-cpu|ort-webgpu|ort-cuda MODEL.onnx SECONDS BATCH [INPUT=1,128 …]      BATCH 0: as the inputs have it
    ort_times.py ort-cpu|ort-webgpu|ort-cuda SECONDS MODEL.onnx@BATCH …                    several, one line each

Inputs are those of test_data_set_0 beside the model, else random: floats in [-1, 1), integers 0 or 1.
"""

import os
import pathlib
import statistics
import sys
import time

import numpy as np
import onnx.numpy_helper
import onnxruntime

PROVIDERS = {
    "ort-cpu": ["CPUExecutionProvider"],
    "ort-webgpu": ["WebGpuExecutionProvider", "CPUExecutionProvider"],
    "ort-cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
}
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def session_for(which, path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if which == "ort-cuda" and hasattr(onnxruntime, "preload_dlls"):
        # The libraries that PyTorch's packages brought, where they are not the system's.
        onnxruntime.preload_dlls()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    if which == "ort-cuda":
        # Ours computes in 32 bits; what rounds to 19 is another problem.
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    else:
        providers = PROVIDERS[which]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    if session.get_providers()[0] != PROVIDERS[which][0]:
        sys.exit(f"ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def with_rows(array, declared, batch):
    """`array` with `batch` rows, its own over and over, unless the model fixes their number."""
    is_open = bool(declared) and not isinstance(declared[0], int)
    return np.resize(array, (batch, *array.shape[1:])) if batch and is_open else array


def inputs(session, path, batch, shapes):
    samples = sorted(pathlib.Path(path).parent.glob("test_data_set_0/input_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
    ports = session.get_inputs()
    if len(samples) == len(ports) and not shapes:
        arrays = [onnx.numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in samples]
        return {port.name: with_rows(array, port.shape, batch) for port, array in zip(ports, arrays)}
    random, feed = np.random.default_rng(0), {}
    for port in ports:
        given = shapes.get(port.name)
        extents = given or [d if isinstance(d, int) else (batch or 1) if i == 0 else 1 for i, d in enumerate(port.shape)]
        kind = TYPES[port.type]
        is_float = np.issubdtype(kind, np.floating)
        feed[port.name] = (random.uniform(-1, 1, extents) if is_float else random.integers(0, 2, extents)).astype(kind)
    return feed


def timed(which, path, seconds, batch, shapes):
    session = session_for(which, path)
    feed = inputs(session, path, batch, shapes)
    session.run(None, feed)
    session.run(None, feed)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def main():
    which, first, *rest = sys.argv[1:]
    if not first.endswith(".onnx"):
        for word in rest:
            path, _, batch = word.rpartition("@")
            print(timed(which, path, float(first), int(batch), {}), flush=True)
        return
    seconds, batch, *shapes = rest
    shapes = {word.split("=")[0]: [int(n) for n in word.split("=")[1].split(",")] for word in shapes}
    print(timed(which, first, float(seconds), int(batch), shapes))


if __name__ == "__main__":
    main()
