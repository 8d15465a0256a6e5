"""Writes ONNX files with the standard library alone: enough of protobuf's wire format for small graphs of known shapes.

Field numbers are those of onnx.proto3. Tensors are dicts {name, dims, type, bytes}, type FLOAT or HALF.
"""

import struct

FLOAT, HALF = 1, 10
INT, INTS = 2, 7


def varint(number):
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    """A string, bytes or message."""
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor(made):
    dims = b"".join(number(1, d) for d in made["dims"])
    return dims + number(2, made["type"]) + block(8, made["name"]) + block(9, made["bytes"])


def port(name, kind, dims):
    """A ValueInfoProto; a string among `dims` names an open extent."""
    each = lambda d: block(1, block(2, d) if isinstance(d, str) else number(1, d))
    return block(1, name) + block(2, block(1, number(1, kind) + block(2, b"".join(map(each, dims)))))


def node(op, inputs, output, **attributes):
    parts = b"".join(block(1, name) for name in inputs) + block(2, output) + block(3, output) + block(4, op)
    for name, value in attributes.items():
        if isinstance(value, list):
            content = b"".join(number(8, v) for v in value) + number(20, INTS)
        else:
            content = number(3, value) + number(20, INT)
        parts += block(5, block(1, name) + content)
    return parts


def write(path, nodes, tensors, inputs, outputs):
    """`nodes` from `node`, `tensors` the dicts, `inputs` and `outputs` from `port`."""
    with open(path, "wb") as file:
        graph = [block(1, n) for n in nodes] + [block(2, "made")]
        graph += [block(5, tensor(t)) for t in tensors] + [block(11, p) for p in inputs] + [block(12, p) for p in outputs]
        length = sum(map(len, graph))
        file.write(number(1, 8) + block(8, block(1, "") + number(2, 17)))
        file.write(varint(7 << 3 | 2) + varint(length))
        file.writelines(graph)


def noise(name, dims, scale, kind=FLOAT):
    """A tensor of numbers in [-scale, scale): a short pattern over and over, since values do not change the time."""
    count = 1
    for extent in dims:
        count *= extent
    # The period is prime, so that rows of a matrix differ.
    period = [(i * 2654435761 % 9973 / 9973 * 2 - 1) * scale for i in range(min(count, 9973))]
    once = struct.pack(f"<{len(period)}{'f' if kind == FLOAT else 'e'}", *period)
    size = count * (4 if kind == FLOAT else 2)
    return {"name": name, "dims": dims, "type": kind, "bytes": (once * (size // len(once) + 1))[:size]}
