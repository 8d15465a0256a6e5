"""Requests written down, and warm-up files: TFRecords of TensorFlow Serving's own PredictionLog."""

import pathlib
import shutil
import struct
import tempfile

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from tfs.asking import MODELS, configured, examples, message, predict, refused_start, server, spec

LOGGING = "logging_config { log_collector_config { filename_prefix: 'asked' } sampling_config { sampling_rate: 1 } }"


def crc32c(data):
    """Castagnoli's sum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(log):
    data = log.SerializeToString()
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def read(data):
    """The logs in a file; every sum must be right."""
    logs, at = [], 0
    while at < len(data):
        length = data[at : at + 8]
        assert data[at + 8 : at + 12] == masked(length), f"the sum at {at + 8}"
        end = at + 12 + struct.unpack("<Q", length)[0]
        record = data[at + 12 : end]
        assert data[end : end + 4] == masked(record), f"the sum at {end}"
        logs.append(prediction_log_pb2.PredictionLog.FromString(record))
        at = end + 4
    return logs


def requests():
    one = examples({"x": [1.0]})
    task = {"model_spec": spec(signature="regress_x_to_y"), "method_name": "tensorflow/serving/regress"}
    return (
        predict(spec(signature="renamed"), {"left": np.float32([[1]])}, ["half"]),
        message(classification_pb2.ClassificationRequest, model_spec=spec(signature="classify_x_to_y"), input=one),
        message(regression_pb2.RegressionRequest, model_spec=spec(signature="regress_x_to_y"), input=one),
        message(inference_pb2.MultiInferenceRequest, tasks=[task], input=one),
    )


KINDS = ("predict_log", "classify_log", "regress_log", "multi_inference_log")


def written(binary, rows, folder):
    """What a server writes down, read by TensorFlow Serving's classes."""
    flag = f"--request_log_dir={folder}"
    with server(binary, [("examples", MODELS / "examples", LOGGING)], flag) as running:
        stub = running.predictions
        for request, call in zip(requests(), (stub.Predict, stub.Classify, stub.Regress, stub.MultiInference)):
            call(request, 60)
    logs = read((folder / "asked.tfrecord").read_bytes())
    rows.equal("kinds", [log.WhichOneof("log_type") for log in logs], list(KINDS))
    first = logs[0].predict_log
    rows.equal("a request", (first.request.model_spec.signature_name, list(first.request.output_filter)), ("renamed", ["half"]))
    rows.equal("its reply", first.response.outputs["half"].tensor_content, np.float32(2.5).tobytes())
    rows.equal("a class", logs[1].classify_log.response.result.classifications[0].classes[0].score, 2.5)
    rows.equal("a number", logs[2].regress_log.response.result.regressions[0].value, 2.5)
    rows.equal("an answer of several", logs[3].multi_inference_log.response.results[0].regression_result.regressions[0].value, 2.5)


def warmed(binary, rows, folder):
    """Warm-up files made by TensorFlow Serving's classes."""
    base = folder / "examples"
    shutil.copytree(MODELS / "examples" / "1", base / "1")
    (base / "1" / "assets.extra").mkdir()
    path = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    models = [("examples", base, "")]
    logs = [prediction_log_pb2.PredictionLog() for _ in KINDS]
    for log, kind, request in zip(logs, KINDS, requests()):
        getattr(log, kind).request.CopyFrom(request)
    good = b"".join(map(framed, logs))

    def told(content):
        path.write_bytes(content)
        return refused_start(binary, configured(models), "--version_settle_ms=0")

    path.write_bytes(good)
    with server(binary, models, "--version_settle_ms=0", "--log_level=info") as running:
        reply = running.models.GetModelStatus(message(get_model_status_pb2.GetModelStatusRequest, model_spec=spec()), 60)
        rows.equal("it serves", reply.model_version_status[0].state, 30)
        rows.holds("warmed", (running.folder / "log").read_text(), "warmed with recorded requests")
    session = prediction_log_pb2.PredictionLog()
    session.session_run_log.SetInParent()
    failing = prediction_log_pb2.PredictionLog()
    failing.predict_log.request.CopyFrom(predict(spec(signature="no_such"), {}))
    rows.holds("a session's run", told(framed(session)), "Unsupported log_type for warmup: 5")
    rows.holds("a request that fails", told(framed(failing)), 'Serving signature key "no_such" not found.')
    damaged = bytearray(good)
    damaged[20] ^= 1
    rows.holds("damaged", told(bytes(damaged)), "Please verify your warmup data is in TFRecord format.")
    rows.holds("cut", told(good[:-1]), "Please verify your warmup data is in TFRecord format.")
    rows.holds("too many", told(framed(logs[2]) * 1001), "Number of warmup records exceeds the maximum (1000)")
    path.write_bytes(b"no records")
    with server(binary, models, "--version_settle_ms=0", "--enable_model_warmup=false") as running:
        rows.equal("not looked at", running.json("/v1/models/examples")["model_version_status"][0]["state"], "AVAILABLE")


def rows_of(binary, rows):
    with tempfile.TemporaryDirectory() as logs, tempfile.TemporaryDirectory() as models:
        written(binary, rows, pathlib.Path(logs))
        warmed(binary, rows, pathlib.Path(models))
