"""What TensorFlow Serving's clients ask of a server, row by row: requests, answers, error codes and texts.

Usage: tfs_rows.py CORACLE        started by scripts/check-tfs-clients
"""

import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

import grpc
import numpy as np
import tensorflow_serving.apis.model_service_pb2_grpc as model_service
import tensorflow_serving.apis.prediction_service_pb2_grpc as prediction_service
from google.protobuf.json_format import ParseDict
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import ndarray_to_tensor_proto, tensor_proto_to_ndarray
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "models"
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
START_MAX_S = 120


@contextlib.contextmanager
def server(binary, models, *flags):
    """A running server: gives its gRPC port."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        entries = " ".join(f"config {{ name: '{name}' base_path: '{path}' {more} }}" for name, path, more in models)
        (folder / "models.config").write_text(f"model_config_list {{ {entries} }}")
        command = [binary, "serve", "--host=127.0.0.1", "--port=0", "--rest_api_port=0", f"--ports_file={folder}/ports"]
        command += [f"--model_config_file={folder}/models.config", *flags]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + START_MAX_S
            while not (folder / "ports").exists():
                assert process.poll() is None and time.monotonic() < end, "the server did not start"
                time.sleep(0.02)
            ports = dict(line.split("=") for line in (folder / "ports").read_text().split())
            yield int(ports["grpc"])
        finally:
            process.terminate()
            process.wait()


class Rows:
    """Counts what was asked."""

    def __init__(self):
        self.count = 0

    def equal(self, what, found, expected):
        self.count += 1
        assert found == expected, f"{what}:\n  found    {found}\n  expected {expected}"

    def refused(self, call, request, code, text):
        self.count += 1
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            found = (error.code(), error.details())
            assert found == (code, text), f"\n  found    {found}\n  expected {(code, text)}"
        else:
            raise AssertionError(f"answered, expected {text}")


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
        request.inputs[name].CopyFrom(ndarray_to_tensor_proto(np.asarray(value)))
    return request


def floats(*values):
    return np.array(values, np.float32).reshape(-1, 1)


def small_client(rows, port):
    client = TensorServingClient(host="127.0.0.1", port=port)
    reply = client.predict_request("half", {"x": np.array([1, 2, 5], np.float32)})
    rows.equal("min-tfs-client", tensor_proto_to_ndarray(reply.outputs["y"]).tolist(), [2.5, 3.0, 4.5])
    rows.equal("float_val", list(reply.outputs["y"].float_val), [2.5, 3.0, 4.5])
    rows.equal("version", reply.model_spec.version.value, 1)
    images = np.load(ROOT / "models" / "digits" / "samples" / "images.npy")
    reply = client.predict_request("digits", {"image": images}, model_version=1)
    rows.equal("digits", tensor_proto_to_ndarray(reply.outputs["probabilities"]).argmax(axis=1).tolist(), list(range(10)))


def answers(rows, stub):
    reply = stub.Predict(predict(spec("half"), {"x": np.float32([4])}), 60)
    rows.equal("one number", list(reply.outputs["y"].float_val), [4.0])
    rows.equal("who answered", (reply.model_spec.name, reply.model_spec.signature_name), ("half", "serving_default"))
    reply = stub.Predict(predict(spec("half", label="stable"), {"x": floats(1)[0]}), 60)
    rows.equal("a label's version", reply.model_spec.version.value, 1)
    reply = stub.Predict(predict(spec(signature="renamed"), {"left": floats(1, 2)}, ["other"]), 60)
    rows.equal("a filter and a default", {k: list(v.float_val) for k, v in reply.outputs.items()}, {"other": [3.5, 3.5]})
    content = (("x-coracle-tensor-content", "1"),)
    reply = stub.Predict(predict(spec("half"), {"x": floats(1)[0]}), 60, metadata=content)
    rows.equal("tensor_content", reply.outputs["y"].tensor_content, np.float32(2.5).tobytes())

    two = examples({"x": [1.0]}, {"x": [2.0]})
    request = message(regression_pb2.RegressionRequest, model_spec=spec(signature="regress_x_to_y"), input=two)
    reply = stub.Regress(request, 60)
    rows.equal("Regress", [r.value for r in reply.result.regressions], [2.5, 3.0])
    rows.equal("its model_spec", (reply.model_spec.signature_name, reply.model_spec.version.value), ("regress_x_to_y", 1))
    request = message(classification_pb2.ClassificationRequest, model_spec=spec(signature="classify_x_to_y"), input=two)
    classes = stub.Classify(request, 60).result.classifications
    rows.equal("Classify", [(c.classes[0].label, c.classes[0].score) for c in classes], [("half plus two", 2.5), ("half plus two", 3.0)])
    tasks = [
        {"model_spec": spec(signature="regress_x_to_y2"), "method_name": REGRESS},
        {"model_spec": spec(signature="classify_x_to_y"), "method_name": CLASSIFY},
    ]
    results = stub.MultiInference(message(inference_pb2.MultiInferenceRequest, tasks=tasks, input=two), 60).results
    rows.equal("MultiInference", [r.value for r in results[0].regression_result.regressions], [3.5, 4.0])
    rows.equal("its second task", results[1].classification_result.classifications[1].classes[0].score, 3.0)
    request = message(get_model_metadata_pb2.GetModelMetadataRequest, model_spec=spec(), metadata_field=["signature_def"])
    reply = stub.GetModelMetadata(request, 60)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    rows.equal("the type of metadata", reply.metadata["signature_def"].Unpack(signatures), True)
    rows.equal("a method", signatures.signature_def["regress_ids"].method_name, REGRESS)


def refusals(rows, stub):
    code = grpc.StatusCode
    right = {"x": floats(1), "x2": floats(1), "ids": np.array([[1]], np.int64)}
    cases = [
        (predict_pb2.PredictRequest(), code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (predict(spec(""), {}), code.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (predict(spec("no"), {}), code.NOT_FOUND, "Servable not found for request: Latest(no)"),
        (predict(spec(version=0), {}), code.NOT_FOUND, "Servable not found for request: Specific(examples, 0)"),
        (predict(spec(label="no"), {}), code.INVALID_ARGUMENT, "Unrecognized servable version label: no"),
        (predict(spec(signature="s"), {}), code.FAILED_PRECONDITION, 'Serving signature key "s" not found.'),
        (
            predict(spec(), {"x": floats(1)}),
            code.INVALID_ARGUMENT,
            "input size does not match signature: 1!=3 len({x}) != len({ids,x,x2}). Sent extra: {}. Missing but required: {ids,x2}.",
        ),
        (
            predict(spec(signature="renamed"), {"right": floats(1)}),
            code.INVALID_ARGUMENT,
            "Signature input alias: left(feed name: left:0) not found in request and no default value provided. Inputs expected"
            " to be in the request {right}, or default input alias set: right",
        ),
        (
            predict(spec(signature="renamed"), {"left": floats(1), "x": floats(1)}),
            code.INVALID_ARGUMENT,
            "Inputs contains invalid name. Used request inputs: left, request input: left,x",
        ),
        (
            predict(spec("half"), {"x": np.int32([1])}),
            code.INVALID_ARGUMENT,
            "Expects arg[0] to be float but int32 is provided",
        ),
        (
            predict(spec(), right, ["z"]),
            code.INVALID_ARGUMENT,
            "output tensor alias not found in signature: z Outputs expected to be in the set {total,y,y2,y3}.",
        ),
        (predict(spec(), right, ["y", "y"]), code.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
    ]
    for request, status, text in cases:
        rows.refused(stub.Predict, request, status, text)
    regress = lambda **fields: message(regression_pb2.RegressionRequest, **fields)
    one = examples({"x": [1.0]})
    cases = [
        (regress(model_spec=spec(signature="s"), input=one), "No signature was found with the name: s"),
        (regress(model_spec=spec(signature="regress_x_to_y")), "Input is empty."),
        (
            regress(model_spec=spec(signature="regress_x_to_y"), input=examples({"x": [1]})),
            "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: int64 but expected type: float",
        ),
        (
            regress(model_spec=spec(signature="regress_all"), input=one),
            "Name: <unknown>, Feature: x2 (data type: float) is required but could not be found.",
        ),
    ]
    for request, text in cases:
        rows.refused(stub.Regress, request, code.INVALID_ARGUMENT, text)
    metadata = lambda **fields: message(get_model_metadata_pb2.GetModelMetadataRequest, **fields)
    cases = [
        (metadata(model_spec=spec()), "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata(model_spec=spec(), metadata_field=["f"]), "Metadata field f is not supported"),
    ]
    for request, text in cases:
        rows.refused(stub.GetModelMetadata, request, code.INVALID_ARGUMENT, text)
    task = lambda signature, method: {"model_spec": spec(signature=signature), "method_name": method}
    cases = [
        ([task("s", REGRESS)], code.INVALID_ARGUMENT, "Requested signature not found in model graph: s"),
        ([task("regress_ids", "m")], code.UNIMPLEMENTED, "Unsupported signature method_name: m"),
        ([task("regress_ids", REGRESS)] * 2, code.INVALID_ARGUMENT, "Duplicate evaluation of signature: regress_ids"),
    ]
    for tasks, status, text in cases:
        request = message(inference_pb2.MultiInferenceRequest, tasks=tasks, input=one)
        rows.refused(stub.MultiInference, request, status, text)


def lifecycle(rows, models):
    code = grpc.StatusCode
    status = lambda **choice: message(get_model_status_pb2.GetModelStatusRequest, model_spec=spec(**choice))
    reply = models.GetModelStatus(status(name="half"), 60)
    rows.equal("status", [(s.version, s.state, s.status.error_code) for s in reply.model_version_status], [(1, 30, 0)])
    rows.refused(models.GetModelStatus, status(name="no"), code.NOT_FOUND, "Could not find any versions of model no")
    rows.refused(models.GetModelStatus, status(version=9), code.NOT_FOUND, "Could not find version 9 of model examples")
    entry = lambda name, path, **more: {"name": name, "base_path": str(path), "model_platform": "tensorflow", **more}
    config = lambda *entries: message(
        model_management_pb2.ReloadConfigRequest, config={"model_config_list": {"config": list(entries)}}
    )
    new = entry("new", MODELS / "half_plus_two", version_labels={"stable": "1"})
    reply = models.HandleReloadConfigRequest(config(new), 90)
    rows.equal("a reload", (reply.status.error_code, reply.status.error_message), (0, ""))
    rows.equal("what it added", models.GetModelStatus(status(name="new", label="stable"), 60).model_version_status[0].state, 30)
    reply = models.HandleReloadConfigRequest(config(new, entry("missing", MODELS / "missing")), 90)
    rows.equal("a missing folder", reply.status.error_code, code.NOT_FOUND.value[0])
    cases = [
        (config(new, new), "Illegal to list model new multiple times in config list"),
        (config(entry("m", "a/b")), "Expected model m to have an absolute path or URI; got base_path()=a/b"),
        (
            config({**new, "model_platform": "onnx"}),
            "Illegal to change a model's platform. For model new platform was tensorflow and new platform requested is onnx",
        ),
        (
            model_management_pb2.ReloadConfigRequest(),
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
        ),
    ]
    for request, text in cases:
        rows.refused(models.HandleReloadConfigRequest, request, code.INVALID_ARGUMENT, text)


def main():
    rows = Rows()
    models = [
        ("half", MODELS / "half_plus_two", "version_labels { key: 'stable' value: 1 }"),
        ("digits", ROOT / "models" / "digits", ""),
        ("examples", MODELS / "examples", ""),
    ]
    with server(sys.argv[1], models, f"--model_roots={MODELS}") as port:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        small_client(rows, port)
        stub = prediction_service.PredictionServiceStub(channel)
        answers(rows, stub)
        refusals(rows, stub)
        lifecycle(rows, model_service.ModelServiceStub(channel))
        channel.close()
    print(f"{rows.count} rows with {prediction_service.__file__}")


if __name__ == "__main__":
    main()
