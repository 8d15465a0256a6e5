"""Times PyTorch on one problem and prints {"device_ms", "host_ms", "name"} as JSON: on the device alone by its own clock, and
from host memory to host memory.

    torch_times.py gemm N f32|f16 SECONDS          torch_times.py resnet50 EXTENT BATCH SECONDS
"""

import json
import pathlib
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import resnet50


def problem(words):
    """A function of one tensor, and that tensor on the host."""
    if words[0] == "gemm":
        n, kind = int(words[1]), {"f32": torch.float32, "f16": torch.float16}[words[2]]
        weight = torch.randn(n, n, device="cuda").to(kind)
        return lambda x: x @ weight, torch.randn(n, n).to(kind)
    extent, batch = int(words[1]), int(words[2])
    return resnet50.torch_function("cuda"), torch.randn(batch, 3, extent, extent)


def timed(run, seconds):
    run(), run(), run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        times.append(run())
    return statistics.median(times)


@torch.inference_mode()
def main():
    *words, seconds = sys.argv[1:]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    run, host = problem(words)
    host = host.pin_memory()
    there = host.cuda()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def on_device():
        start.record()
        run(there)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def from_host():
        begin = time.perf_counter()
        run(host.cuda(non_blocking=True)).cpu()
        return (time.perf_counter() - begin) * 1000

    half = float(seconds) / 2
    print(json.dumps({"device_ms": timed(on_device, half), "host_ms": timed(from_host, half), "name": torch.cuda.get_device_name()}))


if __name__ == "__main__":
    main()
