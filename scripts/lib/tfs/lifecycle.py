"""Versions, labels, configurations: what is served when."""

import pathlib
import shutil
import tempfile

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from tfs.asking import CODE, MODELS, message, predict, refused_start, server, spec

HALF = MODELS / "half_plus_two"


def status(**choice):
    return message(get_model_status_pb2.GetModelStatusRequest, model_spec=spec(**choice))


def states(running, name):
    """Of each version; None where there is none."""
    try:
        reply = running.models.GetModelStatus(status(name=name), 60)
    except grpc.RpcError:
        return None
    return {s.version: s.state for s in reply.model_version_status}


def entry(name, path, **more):
    return {"name": name, "base_path": str(path), "model_platform": "tensorflow", **more}


def config(*entries):
    return message(model_management_pb2.ReloadConfigRequest, config={"model_config_list": {"config": list(entries)}})


def reload(running, *entries):
    reply = running.models.HandleReloadConfigRequest(config(*entries), 90)
    return reply.status.error_code, reply.status.error_message


def version(base, number, file="model.onnx", content=None):
    """Puts a version below `base`, all of it at once."""
    draft = base.with_name(f"draft of {base.name}")
    draft.mkdir(parents=True)
    (draft / file).write_bytes(content if content is not None else (HALF / "1" / "model.onnx").read_bytes())
    base.mkdir(parents=True, exist_ok=True)
    draft.rename(base / number)


def answering(running, name, **choice):
    """The version that answers, or the text of what refuses."""
    try:
        reply = running.predictions.Predict(predict(spec(name, **choice), {"x": np.float32([1])}), 60)
    except grpc.RpcError as error:
        return error.details()
    return reply.model_spec.version.value


def reloads(rows, running):
    models = running.models
    reply = models.GetModelStatus(status(name="half"), 60)
    rows.equal("status", [(s.version, s.state, s.status.error_code) for s in reply.model_version_status], [(1, 30, 0)])
    rows.refused(models.GetModelStatus, status(name="no"), CODE.NOT_FOUND, "Could not find any versions of model no")
    rows.refused(models.GetModelStatus, status(name="half", version=9), CODE.NOT_FOUND, "Could not find version 9 of model half")
    new = entry("new", HALF, version_labels={"stable": "1"})
    rows.equal("a reload", reload(running, new), (0, ""))
    rows.equal("what it added", answering(running, "new", label="stable"), 1)
    rows.equal("what it left out", answering(running, "half"), "Servable not found for request: Latest(half)")
    code, told = reload(running, new, entry("missing", MODELS / "missing"))
    rows.equal("a missing folder", code, CODE.NOT_FOUND.value[0])
    rows.holds("which one", told, f"missing: model folder {MODELS / 'missing'}")
    code, told = reload(running, new, entry("labelled", HALF, version_labels={"canary": "3"}))
    expected = "labelled: Request to assign label to version 3 of model labelled, which is not currently available for inference"
    rows.equal("a label too many", (code, told), (CODE.FAILED_PRECONDITION.value[0], expected))
    rows.equal("the model all the same", answering(running, "labelled"), 1)
    unknown = "Unrecognized servable version label: canary"
    rows.equal("but not its label", answering(running, "labelled", label="canary"), unknown)
    cases = [
        (config(new, new), "Illegal to list model new multiple times in config list"),
        (config(entry("m", "a/b")), "Expected model m to have an absolute path or URI; got base_path()=a/b"),
        (
            config({**new, "model_platform": "onnx"}),
            "Illegal to change a model's platform. For model new platform was tensorflow and new platform requested is onnx",
        ),
        (
            config(entry("m", HALF) | {"model_platform": ""}),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model name is m",
        ),
        (
            config(entry("m", HALF) | {"model_platform": "caffe"}),
            "Model m requests unsupported platform caffe: expected tensorflow, onnx or onnxruntime_onnx",
        ),
        (
            model_management_pb2.ReloadConfigRequest(),
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
        ),
    ]
    for request, text in cases:
        rows.refused(models.HandleReloadConfigRequest, request, CODE.INVALID_ARGUMENT, text)
    rows.equal("which change nothing", answering(running, "new"), 1)


def policies(rows, running, base):
    for number in ("0003", "7", "12", "no_number"):
        version(base, number)
    policy = lambda **kind: entry("many", base, model_version_policy=kind)
    rows.equal("the latest", (reload(running, policy(latest={})), states(running, "many")), ((0, ""), {12: 30}))
    rows.equal("two", (reload(running, policy(latest={"num_versions": 2})), states(running, "many")), ((0, ""), {12: 30, 7: 30}))
    rows.equal("all", (reload(running, policy(all={})), states(running, "many")), ((0, ""), {12: 30, 7: 30, 3: 30}))
    rows.equal("the highest answers", answering(running, "many"), 12)
    rows.equal("or the one asked for", answering(running, "many", version=3), 3)
    chosen = policy(specific={"versions": ["3", "7"]})
    rows.equal("some", reload(running, chosen), (0, ""))
    rows.becomes("one was unloaded", lambda: states(running, "many"), {12: 50, 7: 30, 3: 30})
    gone = "Servable not found for request: Specific(many, 12)"
    rows.equal("it answers no more", answering(running, "many", version=12), gone)
    labels = lambda stable: {**chosen, "version_labels": {"stable": stable, "canary": "7"}}
    rows.equal("labels", reload(running, labels("3")), (0, ""))
    rows.equal("each its own", [answering(running, "many", label=l) for l in ("stable", "canary")], [3, 7])
    rows.equal("one goes over", (reload(running, labels("7")), answering(running, "many", label="stable")), ((0, ""), 7))
    rows.equal("none", (reload(running, chosen), answering(running, "many", label="stable")), ((0, ""), "Unrecognized servable version label: stable"))


def folders(rows, running, base):
    """What happens in a model's folder while it is served."""
    version(base, "1")
    rows.equal("the first", (reload(running, entry("live", base)), answering(running, "live")), ((0, ""), 1))
    version(base, "2")
    rows.becomes("a new version", lambda: answering(running, "live"), 2)
    rows.becomes("takes the place of the old", lambda: states(running, "live"), {2: 30, 1: 50})
    version(base, "3", content=b"no model")
    rows.becomes("a broken one fails", lambda: states(running, "live").get(3), 50)
    reply = running.models.GetModelStatus(status(name="live", version=3), 60)
    rows.holds("and says why", reply.model_version_status[0].status.error_message, "not an ONNX model")
    rows.equal("and changes nothing", (answering(running, "live"), states(running, "live")[2]), (2, 30))
    (base / "3" / "model.onnx").write_bytes((HALF / "1" / "model.onnx").read_bytes())
    rows.becomes("until its file changes", lambda: answering(running, "live"), 3)
    version(base, "9", file="something_else")
    version(base, "4")
    rows.becomes("one without a model is none", lambda: answering(running, "live"), 4)
    shutil.rmtree(base)
    base.mkdir()
    metric = 'coracle_model_folder_unusable{model="live"} 1'
    rows.becomes("an empty folder is told", lambda: metric in running.rest("GET", "/metrics")[2], True)
    rows.equal("and keeps what serves", answering(running, "live"), 4)
    version(base, "5")
    rows.becomes("until something comes", lambda: answering(running, "live"), 5)


def files(binary, rows):
    """Configuration files that are wrong."""
    good = f"name: 'm' base_path: '{HALF}' model_platform: 'tensorflow'"
    for text, told in (
        ("model_config_list {\n confg {} }", "models.config:2: Error parsing text-format tensorflow.serving.ModelServerConfig"),
        (f"model_config_list {{ config {{ {good} }}\n config {{ {good} }} }}", "Illegal to list model m multiple times in config list"),
        ("model_config_list {\n config { name: 'm' } }", "models.config:2: model m has no base_path"),
        (
            f"model_config_list {{ config {{ name: 'm' base_path: '{HALF}' model_platform: 'caffe' }} }}",
            "Model m requests unsupported platform caffe",
        ),
        (f"model_config_list {{ config {{ {good} model_version_policy {{ specific {{}} }} }} }}", "the policy specific names no version"),
        (f"model_config_list {{ config {{ {good} logging_config {{}} }} }}", "filename_prefix"),
    ):
        rows.holds(text, refused_start(binary, text, "--check"), told)


def lenient(binary, rows):
    """Labels of versions that are not there."""
    labelled = [("half", HALF, "version_labels { key: 'next', value: 2 }")]
    with server(binary, labelled) as running:
        rows.equal("a label too early", answering(running, "half", label="next"), "Unrecognized servable version label: next")
    with server(binary, labelled, "--allow_version_labels_for_unavailable_models") as running:
        expected = "Servable not found for request: Specific(half, 2)"
        rows.equal("or allowed", answering(running, "half", label="next"), expected)


def rows_of(binary, rows):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        flags = [f"--model_roots={MODELS},{folder}", "--version_settle_ms=0", "--reload_timeout_s=80"]
        with server(binary, [("half", HALF, "")], *flags) as running:
            reloads(rows, running)
            policies(rows, running, folder / "many")
            folders(rows, running, folder / "live")
    # Text as people write it.
    text = f"# models\nmodel_config_list: {{ config: {{ name: \"h\" \"alf\", base_path: '{HALF}'; model_platform: 'tensor' 'flow' model_version_policy {{ specific: {{ versions: [1] }} }} }} }}"
    with server(binary, [], config=text) as running:
        rows.equal("commas, colons, parts of texts", answering(running, "half"), 1)
    files(binary, rows)
    lenient(binary, rows)
