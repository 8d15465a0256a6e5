"""ResNet-50 with its normalisations folded into convolutions, as a list of steps that two engines are made from.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015), table 1, with the stride in the 3×3 convolution.
"""

BLOCKS = [(3, 64), (4, 128), (6, 256), (3, 512)]


def steps():
    """("conv", input, output, from, to, kernel, stride, relu) and ("pool"|"add"|"head", inputs…, output), in order."""
    made = [("conv", "x", "stem", 3, 64, 7, 2, True), ("pool", "stem", "pooled")]
    value, channels = "pooled", 64
    for stage, (blocks, width) in enumerate(BLOCKS):
        for block in range(blocks):
            at, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            made.append(("conv", value, at + "a", channels, width, 1, 1, True))
            made.append(("conv", at + "a", at + "b", width, width, 3, stride, True))
            made.append(("conv", at + "b", at + "c", width, width * 4, 1, 1, False))
            if not block:
                made.append(("conv", value, at + "d", channels, width * 4, 1, stride, False))
                value, channels = at + "d", width * 4
            made.append(("add", at + "c", value, at))
            value = at
    return made + [("head", value, "y", channels, 1000)]


def write_onnx(path, extent):
    """The network with random weights for images of extent × extent, any number of them."""
    import onnx_file as onnx

    nodes, tensors = [], []
    for kind, *step in steps():
        if kind == "conv":
            source, target, channels, width, kernel, stride, relu = step
            scale = (3 / (channels * kernel * kernel)) ** 0.5
            tensors.append(onnx.noise(target + ".w", [width, channels, kernel, kernel], scale))
            tensors.append(onnx.noise(target + ".b", [width], 0.1))
            inputs, output = [source, target + ".w", target + ".b"], target + ".t" if relu else target
            attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
            nodes.append(onnx.node("Conv", inputs, output, **attributes))
            if relu:
                nodes.append(onnx.node("Relu", [output], target))
        elif kind == "pool":
            nodes.append(onnx.node("MaxPool", step[:1], step[1], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
        elif kind == "add":
            nodes.append(onnx.node("Add", step[:2], step[2] + ".t"))
            nodes.append(onnx.node("Relu", [step[2] + ".t"], step[2]))
        else:
            source, target, channels, classes = step
            tensors.append(onnx.noise("head.w", [channels, classes], channels**-0.5))
            tensors.append(onnx.noise("head.b", [classes], 0.1))
            nodes.append(onnx.node("GlobalAveragePool", [source], "mean"))
            nodes.append(onnx.node("Flatten", ["mean"], "flat", axis=1))
            nodes.append(onnx.node("Gemm", ["flat", "head.w", "head.b"], target))
    ports = [onnx.port("x", onnx.FLOAT, ["batch", 3, extent, extent])], [onnx.port("y", onnx.FLOAT, ["batch", 1000])]
    onnx.write(path, nodes, tensors, *ports)


def torch_function(device):
    """The same network in PyTorch, eager, as a function of a batch on `device`."""
    import torch
    from torch.nn import functional

    weights = {}
    for kind, *step in steps():
        if kind == "conv":
            _, target, channels, width, kernel, *_ = step
            scale = (3 / (channels * kernel * kernel)) ** 0.5
            weights[target] = torch.randn(width, channels, kernel, kernel, device=device) * scale, torch.zeros(width, device=device)
        elif kind == "head":
            weights["y"] = torch.randn(step[3], step[2], device=device) * 0.02, torch.zeros(step[3], device=device)

    def run(x):
        values = {"x": x}
        for kind, *step in steps():
            if kind == "conv":
                source, target, _, _, kernel, stride, relu = step
                y = functional.conv2d(values[source], *weights[target], stride=stride, padding=kernel // 2)
                values[target] = functional.relu_(y) if relu else y
            elif kind == "pool":
                values[step[1]] = functional.max_pool2d(values[step[0]], 3, 2, 1)
            elif kind == "add":
                values[step[2]] = functional.relu_(values[step[0]] + values[step[1]])
            else:
                values[step[1]] = functional.linear(values[step[0]].mean((2, 3)), *weights["y"])
        return values["y"]

    return run
