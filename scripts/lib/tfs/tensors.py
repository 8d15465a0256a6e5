"""How tensors are read from messages, and written into them."""

import numpy as np
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfs.asking import CODE, MODELS, ROOT, predict, server, spec

# The field of each element type, and the number of the type.
FIELDS = {
    "float": ("float_val", 1),
    "double": ("double_val", 2),
    "int32": ("int_val", 3),
    "uint8": ("int_val", 4),
    "int16": ("int_val", 5),
    "int8": ("int_val", 6),
    "string": ("string_val", 7),
    "int64": ("int64_val", 9),
    "bool": ("bool_val", 10),
    "bfloat16": ("half_val", 14),
    "uint16": ("int_val", 17),
    "half": ("half_val", 19),
    "uint32": ("uint32_val", 22),
    "uint64": ("uint64_val", 23),
}
# Two elements of each type as bytes, and in their field.
CONTENT = {
    "float": (np.float32([0.5, -2]).tobytes(), [0.5, -2.0]),
    "double": (np.float64([0.1, -2]).tobytes(), [0.1, -2.0]),
    "int32": (np.int32([-1, 1 << 30]).tobytes(), [-1, 1 << 30]),
    "uint8": (np.uint8([255, 0]).tobytes(), [255, 0]),
    "int16": (np.int16([-1, 32767]).tobytes(), [-1, 32767]),
    "int8": (np.int8([-128, 127]).tobytes(), [-128, 127]),
    "int64": (np.int64([-1, 1 << 62]).tobytes(), [-1, 1 << 62]),
    "bool": (b"\1\0", [True, False]),
    "bfloat16": (np.uint16([0x3F80, 0xBFC0]).tobytes(), [0x3F80, 0xBFC0]),
    "uint16": (np.uint16([65535, 1]).tobytes(), [65535, 1]),
    "half": (np.float16([1, -1.5]).tobytes(), [0x3C00, 0xBE00]),
    "uint32": (np.uint32([4294967295, 1]).tobytes(), [4294967295, 1]),
    "uint64": (np.uint64([18446744073709551615, 1]).tobytes(), [18446744073709551615, 1]),
}
PARSE_ERROR = "tensor parsing error: "


def proto(name, dims, values=(), **fields):
    """A tensor of `dims`; None: no shape at all."""
    made = TensorProto(dtype=FIELDS[name][1], **fields)
    if dims is not None:
        made.tensor_shape.SetInParent()
        for size in dims:
            made.tensor_shape.dim.add(size=size)
    getattr(made, FIELDS[name][0]).extend(values)
    return made


def request(name, tensor, dims):
    """Asks the model that gives back what it gets; the other inputs are zeros."""
    inputs = {other: proto(other, dims) for other in FIELDS}
    inputs[name] = tensor
    return predict(spec("dtypes"), inputs, [f"same_{name}"])


def same(running, name, tensor, dims, **more):
    return running.predictions.Predict(request(name, tensor, dims), 60, **more).outputs[f"same_{name}"]


def values(name, output):
    return list(getattr(output, FIELDS[name][0]))


def read(rows, running):
    """What becomes of tensors that are written in one way or another."""
    for name, given, expected in (
        ("float", [1.0, 2.0], [1.0, 2.0, 2.0, 2.0]),
        ("float", [1.5], [1.5] * 4),
        ("float", [], [0.0] * 4),
        ("float", [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0]),
        ("double", [0.1], [0.1] * 4),
        ("int32", [-5, 7], [-5, 7, 7, 7]),
        ("int64", [1 << 40], [1 << 40] * 4),
        ("bool", [True], [True] * 4),
        ("string", [b"a", b"\xff"], [b"a", b"\xff", b"\xff", b"\xff"]),
        ("string", [], [b""] * 4),
        ("half", [0x3C00, 0x4000], [0x3C00, 0x4000, 0x4000, 0x4000]),
        ("bfloat16", [0x3F80], [0x3F80] * 4),
        ("uint32", [4294967295], [4294967295] * 4),
        ("uint64", [1 << 63], [1 << 63] * 4),
        ("uint8", [256, 257, -1, 255], [0, 1, 255, 255]),
        ("int8", [300, -129, 128, 127], [44, 127, -128, 127]),
        ("int16", [65537, 40000], [1, -25536, -25536, -25536]),
        ("uint16", [65541, -1], [5, 65535, 65535, 65535]),
    ):
        rows.equal(f"{name} {given}", values(name, same(running, name, proto(name, [4], given), [4])), expected)
    # What stands in the field of another type counts for nothing.
    wrong = proto("int32", [2])
    wrong.float_val.extend([1.0, 2.0])
    rows.equal("a field of another type", values("int32", same(running, "int32", wrong, [2])), [0, 0])
    for name, (content, expected) in CONTENT.items():
        both = proto(name, [2], expected[:1], tensor_content=content)
        rows.equal(f"{name} as content", values(name, same(running, name, both, [2])), expected)
    # Shapes: none and an unknown rank are a scalar's.
    for what, tensor in (
        ("no shape", proto("float", None, [3.0])),
        ("no axes", proto("float", [], [3.0])),
        ("unknown rank", proto("float", None, [3.0], tensor_shape={"unknown_rank": True})),
    ):
        output = same(running, "float", tensor, [])
        rows.equal(what, (len(output.tensor_shape.dim), list(output.float_val)), (0, [3.0]))
    output = same(running, "float", proto("float", [0]), [0])
    rows.equal("no rows", ([d.size for d in output.tensor_shape.dim], list(output.float_val)), ([0], []))
    image = TensorProto(dtype=1, tensor_shape={"dim": [{"size": n} for n in (0, 1, 8, 8)]})
    output = running.predictions.Predict(predict(spec("digits"), {"image": image}), 60).outputs["probabilities"]
    rows.equal("a network without rows", [d.size for d in output.tensor_shape.dim], [0, 10])


def refused(rows, running):
    """Tensors that are none."""
    for tensor in (
        proto("float", [2], tensor_content=b"\0" * 7),
        proto("float", [2], tensor_content=b"\0" * 9),
        proto("float", [-1], [1.0]),
        proto("float", [1 << 62, 4], [1.0]),
        proto("float", [1 << 62, 4, 0]),
        TensorProto(),
        TensorProto(dtype=20, tensor_shape={"dim": [{"size": 2}]}),
        TensorProto(dtype=1000),
    ):
        rows.refused(running.predictions.Predict, request("float", tensor, [2]), CODE.INVALID_ARGUMENT, f"{PARSE_ERROR}float")
    for dtype, name in ((8, "complex64"), (18, "complex128"), (2, "double"), (7, "string"), (10, "bool"), (19, "half")):
        tensor = TensorProto(dtype=dtype, tensor_shape={"dim": [{"size": 1}]})
        if dtype == 8:
            tensor.scomplex_val.extend([1.0, 2.0])
        text = f"Expects arg[0] to be float but {name} is provided"
        rows.refused(running.predictions.Predict, request("float", tensor, [1]), CODE.INVALID_ARGUMENT, text)


def written(rows, running):
    """The form of replies: that of their type, or bytes for those who ask."""
    asked = (("x-coracle-tensor-content", "1"),)
    for name, (content, _) in CONTENT.items():
        tensor = proto(name, [2], tensor_content=content)
        plain, packed = same(running, name, tensor, [2]), same(running, name, tensor, [2], metadata=asked)
        rows.equal(f"{name} typed", (plain.dtype, plain.tensor_content), (FIELDS[name][1], b""))
        rows.equal(f"{name} packed", (packed.tensor_content, values(name, packed)), (content, []))
    text = same(running, "string", proto("string", [2], [b"a"]), [2], metadata=asked)
    rows.equal("strings are never packed", list(text.string_val), [b"a", b"a"])


def rows_of(binary, rows):
    models = [("dtypes", MODELS / "dtypes", ""), ("digits", ROOT / "models" / "digits", "")]
    with server(binary, models, "--enable_batching=false") as running:
        read(rows, running)
        refused(rows, running)
        written(rows, running)
    with server(binary, models, "--enable_batching=false", "--enable_serialization_as_tensor_content") as running:
        tensor = proto("float", [2], [1.0, 2.0])
        output = same(running, "float", tensor, [2])
        rows.equal("packed by the flag", (output.tensor_content, len(output.float_val)), (np.float32([1, 2]).tobytes(), 0))
        output = same(running, "float", tensor, [2], metadata=(("x-coracle-tensor-content", "0"),))
        rows.equal("typed all the same", list(output.float_val), [1.0, 2.0])
        # REST's text is made of the tensors, whatever form gRPC's replies have.
        zeros = {name: [0] for name in FIELDS} | {"string": ["s"], "bool": [True], "float": [1.5]}
        _, _, text = running.rest("POST", "/v1/models/dtypes:predict", {"inputs": zeros, "output_filter": ["same_float"]})
        rows.equal("REST beside the flag", text, '{"outputs":[1.5]}')
