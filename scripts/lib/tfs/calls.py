"""PredictionService: who answers what, and what is refused with which code and text."""

import pathlib
import shutil
import tempfile

import grpc
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfs.asking import CODE, MODELS, ROOT, examples, floats, message, predict, server, spec

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def small_client(rows, running):
    client = TensorServingClient(host="127.0.0.1", port=running.port)
    reply = client.predict_request("half", {"x": np.array([1, 2, 5], np.float32)})
    rows.equal("min-tfs-client", tensor_proto_to_ndarray(reply.outputs["y"]).tolist(), [2.5, 3.0, 4.5])
    rows.equal("float_val", list(reply.outputs["y"].float_val), [2.5, 3.0, 4.5])
    rows.equal("version", reply.model_spec.version.value, 1)
    images = np.load(ROOT / "models" / "digits" / "samples" / "images.npy")
    reply = client.predict_request("digits", {"image": images}, model_version=1)
    rows.equal("digits", tensor_proto_to_ndarray(reply.outputs["probabilities"]).argmax(axis=1).tolist(), list(range(10)))


def answers(rows, running):
    stub = running.predictions
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
    rows.equal("whose metadata", (reply.model_spec.name, reply.model_spec.signature_name), ("examples", ""))
    # Shapes that no signature promises.
    for dims in ([], [3], [2, 3, 4]):
        reply = stub.Predict(predict(spec("half"), {"x": np.ones(dims, np.float32)}), 60)
        rows.equal(f"shape {dims}", [d.size for d in reply.outputs["y"].tensor_shape.dim], dims)
    # More than gRPC's own limit of 4 MiB, there and back.
    long, options = "ab" * (3 << 20), [("grpc.max_receive_message_length", -1)]
    for compression in grpc.Compression:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}", options, compression=compression) as channel:
            text = predict(spec("strings"), {"text": np.array([long])})
            reply = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(text, 120)
        rows.equal(f"six megabytes, {compression}", reply.outputs["same"].string_val[0] == long.encode(), True)
    context = {"example_list_with_context": {**two["example_list"], "context": examples({"x": [9.0]})["example_list"]["examples"][0]}}
    request = message(regression_pb2.RegressionRequest, model_spec=spec(signature="regress_x_to_y"), input=context)
    rows.equal("a context", [r.value for r in stub.Regress(request, 60).result.regressions], [2.5, 3.0])


def refusals(rows, running):
    stub, code = running.predictions, CODE
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
        (predict(spec("broken"), {}), code.NOT_FOUND, "Servable not found for request: Latest(broken)"),
        (
            predict(spec("half"), {"z": floats(1)}),
            code.INVALID_ARGUMENT,
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs expected"
            " to be in the request {z}, or default input alias set: ",
        ),
        (
            predict(spec("half"), {"x": floats(1), "z": floats(1)}),
            code.INVALID_ARGUMENT,
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
        ),
        (
            predict(spec("two"), {"a": np.ones([2, 3], np.float32), "b": np.ones([1, 3], np.float32)}),
            code.INVALID_ARGUMENT,
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
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
    ids = examples({"ids": [1, 2, 3, 4, 5]})
    classify = lambda **fields: message(classification_pb2.ClassificationRequest, **fields)
    cases = [
        (classify(input=one), "Missing ModelSpec"),
        (classify(model_spec=spec(signature="s"), input=one), "No signature was found with the name: s"),
        (classify(model_spec=spec(signature="classify_x_to_y")), "Input is empty."),
        (classify(model_spec=spec("odd", "numbers"), input=ids), "Expected scores Tensor of DT_FLOAT. Got: DT_INT64"),
        (
            classify(model_spec=spec("odd", "deep"), input=ids),
            "Expected Tensor shape: [batch_size num_classes] but got [1,5,4]",
        ),
    ]
    for request, text in cases:
        rows.refused(stub.Classify, request, code.INVALID_ARGUMENT, text)
    wide = regress(model_spec=spec("odd", "wide"), input=ids)
    text = "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,5,4]"
    rows.refused(stub.Regress, wide, code.INVALID_ARGUMENT, text)
    metadata = lambda **fields: message(get_model_metadata_pb2.GetModelMetadataRequest, **fields)
    cases = [
        (metadata(model_spec=spec()), "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata(model_spec=spec(), metadata_field=["f"]), "Metadata field f is not supported"),
    ]
    for request, text in cases:
        rows.refused(stub.GetModelMetadata, request, code.INVALID_ARGUMENT, text)
    task = lambda signature, method: {"model_spec": spec(signature=signature), "method_name": method}
    other = {"model_spec": spec("half"), "method_name": REGRESS}
    cases = [
        (
            [task("regress_ids", REGRESS), other],
            code.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        ([task("s", REGRESS)], code.INVALID_ARGUMENT, "Requested signature not found in model graph: s"),
        ([task("regress_ids", "m")], code.UNIMPLEMENTED, "Unsupported signature method_name: m"),
        ([task("regress_ids", REGRESS)] * 2, code.INVALID_ARGUMENT, "Duplicate evaluation of signature: regress_ids"),
    ]
    for tasks, status, text in cases:
        request = message(inference_pb2.MultiInferenceRequest, tasks=tasks, input=one)
        rows.refused(stub.MultiInference, request, status, text)
    # What the model itself refuses: its text is ours, its code that of TensorFlow.
    try:
        stub.Predict(predict(spec("two"), {name: np.ones([1, 4], np.float32) for name in "ab"}), 60)
    except grpc.RpcError as error:
        rows.equal("a wrong extent", error.code(), code.INVALID_ARGUMENT)
    else:
        raise AssertionError("a wrong extent was answered")
    # Long texts are cut.
    try:
        stub.Predict(predict(spec("n" * 2000), {}), 60)
    except grpc.RpcError as error:
        text = ("Servable not found for request: Latest(" + "n" * 2000)[:1024] + "...TRUNCATED"
        rows.equal("a long text", (error.code(), error.details()), (code.NOT_FOUND, text))


def late(rows, running):
    """What does not end in time, by a deadline that the server keeps."""
    rounds = {"inputs": {"x": [[1, 1, 1]], "rounds": 1 << 40}}
    code, _, text = running.rest("POST", "/v1/models/control_flow:predict", rounds)
    rows.equal("late in its run", (code, text), (504, '{"error":"Timed out waiting for notification"}'))


# Signatures by which a model gives what is no class and no number for each row.
ODD = """
[numbers]
method = "classify"
outputs = { scores = "ids_or_minus_one" }
[deep]
method = "classify"
outputs = { scores = "embedded" }
[wide]
method = "regress"
outputs = { outputs = "embedded" }
"""


def rows_of(binary, rows):
    models = [
        ("half", MODELS / "half_plus_two", "version_labels { key: 'stable' value: 1 }"),
        ("digits", ROOT / "models" / "digits", ""),
        *((name, MODELS / name, "") for name in ("examples", "strings", "broken")),
        ("two", MODELS / "two_inputs_two_outputs", ""),
    ]
    with tempfile.TemporaryDirectory() as odd:
        shutil.copytree(MODELS / "ints" / "1", pathlib.Path(odd) / "1")
        (pathlib.Path(odd) / "1" / "signatures.toml").write_text(ODD)
        models.append(("odd", odd, ""))
        with server(binary, models, "--version_settle_ms=0") as running:
            small_client(rows, running)
            answers(rows, running)
            refusals(rows, running)
    models = [("control_flow", MODELS / "control_flow", "")]
    with server(binary, models, "--rest_api_timeout_in_ms=400") as running:
        late(rows, running)
