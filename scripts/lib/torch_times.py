"""Times PyTorch on problems, each given as one argument, and prints a line of JSON for each: {"device_ms", "host_ms"}, on the device
alone by its own clock, and from host memory to host memory.

    torch_times.py SECONDS "gemm N f32|f16" "resnet50 EXTENT BATCH" "conv CHANNELS EXTENT OUTPUTS KERNEL STRIDE GROUPS" …
"""

import json
import pathlib
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import resnet50


def problem(name, *words):
    """A function of one tensor, and that tensor on the host."""
    if name == "gemm":
        n, kind = int(words[0]), {"f32": torch.float32, "f16": torch.float16}[words[1]]
        weight = torch.randn(n, n, device="cuda").to(kind)
        return lambda x: x @ weight, torch.randn(n, n).to(kind)
    if name == "conv":
        channels, extent, outputs, kernel, stride, groups = map(int, words)
        layer = torch.nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, groups=groups).cuda()
        return lambda x: torch.relu_(layer(x)), torch.randn(1, channels, extent, extent)
    extent, batch = map(int, words)
    return resnet50.torch_function("cuda"), torch.randn(batch, 3, extent, extent)


def timed(run, seconds):
    run(), run(), run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        times.append(run())
    return statistics.median(times)


def measured(words, seconds):
    run, host = problem(*words)
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

    return {"device_ms": timed(on_device, seconds / 2), "host_ms": timed(from_host, seconds / 2)}


@torch.inference_mode()
def main():
    seconds, *problems = sys.argv[1:]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    for words in problems:
        print(json.dumps(measured(words.split(), float(seconds))), flush=True)


if __name__ == "__main__":
    main()
