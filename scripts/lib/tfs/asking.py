"""A server to ask, what is counted of its answers, and messages made of plain values."""

import contextlib
import http.client
import json
import pathlib
import subprocess
import tempfile
import time

import grpc
import numpy as np
from google.protobuf.json_format import ParseDict
from min_tfs_client.tensors import ndarray_to_tensor_proto
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

ROOT = pathlib.Path(__file__).resolve().parents[3]
MODELS = ROOT / "tests" / "models"
START_MAX_S = 120
CHANGE_MAX_S = 60
CODE = grpc.StatusCode


class Server:
    """What runs, and how it is asked."""

    def __init__(self, folder, ports):
        self.folder, self.http = folder, int(ports["http"])
        self.port = int(ports["grpc"])
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def rest(self, method, path, body=None, headers={}):
        """The status code, the headers and the body as text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=60)
        connection.request(method, path, body if isinstance(body, (str, bytes, type(None))) else json.dumps(body), headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        return reply.status, dict(reply.getheaders()), text.decode("utf-8", "replace")

    def json(self, path):
        return json.loads(self.rest("GET", path)[2])


def configured(models):
    entries = " ".join(f"config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' {more} }}" for name, path, more in models)
    return f"model_config_list {{ {entries} }}"


def start(binary, folder, config, flags):
    (folder / "models.config").write_text(config)
    command = [binary, "serve", "--host=127.0.0.1", "--port=0", "--rest_api_port=0", f"--ports_file={folder}/ports"]
    command += [f"--model_config_file={folder}/models.config", *flags]
    log = open(folder / "log", "w")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


@contextlib.contextmanager
def server(binary, models, *flags, config=None):
    """A running server with `models`: (name, base path, what else is configured), or another file of models."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        process = start(binary, folder, config or configured(models), flags)
        try:
            end = time.monotonic() + START_MAX_S
            while not (folder / "ports").exists():
                running = process.poll() is None and time.monotonic() < end
                assert running, f"the server did not start: {(folder / 'log').read_text()}"
                time.sleep(0.02)
            ports = dict(line.split("=") for line in (folder / "ports").read_text().split())
            running = Server(folder, ports)
            yield running
            running.channel.close()
        finally:
            process.terminate()
            process.wait()


def refused_start(binary, config, *flags):
    """What a server says that does not start."""
    with tempfile.TemporaryDirectory() as folder:
        process = start(binary, pathlib.Path(folder), config, flags)
        try:
            assert process.wait(START_MAX_S) != 0, "it ended well"
        finally:
            process.kill()
        return (pathlib.Path(folder) / "log").read_text()


class Rows:
    """Counts what was asked."""

    def __init__(self):
        self.count = 0

    def equal(self, what, found, expected):
        self.count += 1
        assert found == expected, f"{what}:\n  found    {found}\n  expected {expected}"

    def holds(self, what, text, part):
        self.count += 1
        assert part in text, f"{what}:\n  found    {text}\n  expected {part}"

    def refused(self, call, request, code, text):
        self.count += 1
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            found = (error.code(), error.details())
            assert found == (code, text), f"\n  found    {found}\n  expected {(code, text)}"
        else:
            raise AssertionError(f"answered, expected {text}")

    def becomes(self, what, ask, expected):
        """Waits until `ask` gives what is expected."""
        self.count += 1
        end = time.monotonic() + CHANGE_MAX_S
        while (found := ask()) != expected:
            assert time.monotonic() < end, f"{what}:\n  found    {found}\n  expected {expected}"
            time.sleep(0.02)


def spec(name="examples", signature="", **choice):
    spec = {"name": name, "signature_name": signature}
    if "version" in choice:
        spec["version"] = str(choice["version"])
    if "label" in choice:
        spec["version_label"] = choice["label"]
    return spec


def examples(*rows):
    def feature(values):
        kind = {int: "int64_list", float: "float_list"}[type(values[0])]
        return {kind: {"value": values}}

    features = [{"features": {"feature": {name: feature(v) for name, v in row.items()}}} for row in rows]
    return {"example_list": {"examples": features}}


def message(kind, **fields):
    return ParseDict(fields, kind())


def predict(model_spec, inputs, output_filter=()):
    request = message(predict_pb2.PredictRequest, model_spec=model_spec, output_filter=list(output_filter))
    for name, value in inputs.items():
        is_message = not isinstance(value, (list, float, np.ndarray, np.generic))
        request.inputs[name].CopyFrom(value if is_message else ndarray_to_tensor_proto(np.asarray(value)))
    return request


def floats(*values):
    return np.array(values, np.float32).reshape(-1, 1)
