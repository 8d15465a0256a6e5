"""TensorFlow Serving's REST API."""

import gzip
import json
import shutil
import tempfile
import pathlib

from tfs.asking import MODELS, ROOT, server

HALF, TWO = "/v1/models/half", "/v1/models/two"


def answered(rows, running, path, body, expected):
    code, headers, text = running.rest("POST", path, body)
    rows.equal(f"{path} {body}", (code, headers["content-type"], text), (200, "application/json", expected))


def refused(rows, running, method, path, body, code, text):
    found, headers, reply = running.rest(method, path, body)
    assert headers["content-type"] == "application/json", f"{path}: {headers}"
    rows.equal(f"{method} {path} {body}", (found, json.loads(reply)["error"]), (code, text))


def predictions(rows, running):
    for path, body, expected in (
        (f"{HALF}:predict", '{"instances": [1.0, 2, 5]}', '{"predictions":[2.5,3.0,4.5]}'),
        (f"{HALF}:predict", '{"instances": [[1, 2], [3, 4]]}', '{"predictions":[[2.5,3.0],[3.5,4.0]]}'),
        (f"{HALF}:predict", '{"instances": [{"x": 1}, {"x": 2}]}', '{"predictions":[2.5,3.0]}'),
        (f"{HALF}:predict", '{"inputs": [1.0, 2, 5]}', '{"outputs":[2.5,3.0,4.5]}'),
        (f"{HALF}:predict", '{"inputs": {"x": [1], "other": 5}}', '{"outputs":[2.5]}'),
        (f"{HALF}:predict", '{"inputs": 4}', '{"outputs":4.0}'),
        (f"{HALF}:predict", '{"signature_name": "serving_default", "inputs": 4}', '{"outputs":4.0}'),
        (f"{HALF}:predict", '{"instances": [NaN, Infinity, -Infinity]}', '{"predictions":[NaN,Infinity,-Infinity]}'),
        (f"{HALF}:predict", '{"instances": [1e39, 1e-60]}', '{"predictions":[Infinity,2.0]}'),
        (f"{HALF}/versions/1:predict?any=query", '{"instances": [1]}', '{"predictions":[2.5]}'),
        (f"{HALF}/labels/stable:predict", '{"instances": [1]}', '{"predictions":[2.5]}'),
        ("/v1/models/%68alf/labels/a%20b:predict", '{"instances": [1]}', '{"predictions":[2.5]}'),
        ("/V1/MODELS/half/VERSIONS/0001:PREDICT", '{"instances": [1]}', '{"predictions":[2.5]}'),
        (f"{TWO}:predict", '{"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}, "output_filter": ["sum"]}', '{"outputs":[[2.0,3.0,4.0]]}'),
        ("/v1/models/summed:predict", '{"inputs": [1, 2]}', '{"outputs":3.0}'),
        (
            "/v1/models/strings:predict",
            '{"instances": ["a", {"b64": "YmM="}, {"b64": "YmM"}]}',
            '{"predictions":[{"same":"a","same_bytes":{"b64":"YQ=="}},{"same":"bc","same_bytes":{"b64":"YmM="}},'
            '{"same":"bc","same_bytes":{"b64":"YmM="}}]}',
        ),
    ):
        answered(rows, running, path, body, expected)
    two = json.loads(running.rest("POST", f"{TWO}:predict", '{"instances": [{"b": [0, 0, 0], "a": [1, 1, 1]}]}')[2])
    rows.equal("several outputs are objects", sorted(two["predictions"][0]), ["product", "sum"])
    whole = {"float": 1.5, "double": 0.1, "int32": -3, "uint8": 200, "int16": -5, "int8": -6, "int64": 1 << 53, "bool": True}
    more = {"string": "s", "bfloat16": 1.5, "uint16": 65535, "half": 0.5, "uint32": 4294967295, "uint64": (1 << 64) - 1}
    _, _, text = running.rest("POST", "/v1/models/dtypes:predict", {"instances": [whole | more]})
    rows.equal("every type", json.loads(text), {"predictions": [{f"same_{k}": v for k, v in (whole | more).items()}]})


def mistakes(rows, running):
    invalid = "JSON Value: {} Type: {} is not of expected type: {}"
    typed = lambda name, value: json.dumps({"inputs": {"ids": [[value]]}})
    bad = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
    for path, body, code, text in (
        ("/v1/models/no:predict", '{"instances": [1]}', 404, "Servable not found for request: Latest(no)"),
        (f"{HALF}/versions/9:predict", '{"instances": [1]}', 404, "Servable not found for request: Specific(half, 9)"),
        (f"{HALF}/versions/0:predict", '{"instances": [1]}', 404, "Servable not found for request: Specific(half, 0)"),
        (f"{HALF}/labels/no:predict", '{"instances": [1]}', 400, "Unrecognized servable version label: no"),
        (f"{HALF}/versions/99999999999999999999:predict", "{}", 400, "Failed to convert version: 99999999999999999999 to numeric."),
        (f"{HALF}:explain", "{}", 400, f"Malformed request: POST {HALF}:explain"),
        (HALF, "{}", 400, f"Malformed request: POST {HALF}"),
        (f"{HALF}:predict", '{"signature_name": "s", "instances": [1]}', 400, 'Serving signature name: "s" not found in signature def'),
        (f"{HALF}:predict", '{"instances": [1], "inputs": [1]}', 400, "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "),
        (f"{HALF}:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
        (f"{HALF}:predict", '{"instances": []}', 400, "JSON Value: [] No values in 'instances' array"),
        (f"{HALF}:predict", '{"instances": ["a"]}', 400, bad.format(0, invalid.format('"a"', "String", "float"))),
        (f"{HALF}:predict", '{"instances": [1, true]}', 400, bad.format(1, invalid.format("true", "True", "float"))),
        (f"{HALF}:predict", '{"instances": [1, null]}', 400, bad.format(1, invalid.format("null", "Null", "float"))),
        (f"{HALF}:predict", '{"inputs": {"y": [1]}}', 400, "Missing named input: x in 'inputs' object."),
        ("/v1/models/ints:predict", typed("ids", 1.5), 400, invalid.format("1.5", "Number", "int64")),
        ("/v1/models/summed:predict", '{"instances": [1, 2]}', 400, "Tensor name: total has no shape information "),
        ("/v1/models/examples:classify", '{"signature_name": "s", "examples": [{}]}', 400, "No signature was found with the name: s"),
    ):
        refused(rows, running, "POST", path, body, code, text)
    for method, path, code, text in (
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("GET", f"{HALF}:predict", 400, f"Malformed request: GET {HALF}:predict"),
        ("PUT", f"{HALF}:predict", 400, f"Malformed request: PUT {HALF}:predict"),
        ("DELETE", HALF, 400, f"Malformed request: DELETE {HALF}"),
        ("GET", "/v1/models/no", 404, "Could not find any versions of model no"),
        ("GET", f"{HALF}/versions/9", 404, "Could not find version 9 of model half"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
        ("OPTIONS", f"{HALF}:predict", 400, "Origin header is missing in CORS preflight"),
    ):
        refused(rows, running, method, path, None, code, text)
    rows.equal("outside", running.rest("GET", "/none")[0], 404)


def examples(rows, running):
    answered(
        rows,
        running,
        "/v1/models/examples:classify",
        '{"signature_name": "classify_x_to_y", "examples": [{"x": 80.0}, {"x": [20.0]}]}',
        '{"results":[[["half plus two",42.0]],[["half plus two",12.0]]]}',
    )
    answered(rows, running, "/v1/models/examples:regress", '{"signature_name": "regress_x_to_y", "examples": [{"x": 2.0}, {}]}', '{"results":[3.0,2.0]}')
    body = '{"signature_name": "regress_ids", "context": {"tokens": [1, 2]}, "examples": [{}, {"tokens": [5]}, {"tokens": true}]}'
    answered(rows, running, "/v1/models/examples:regress", body, '{"results":[3.0,5.0,1.0]}')


def pages(rows, running):
    state = lambda version: {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    rows.equal("states, highest first", running.json("/v1/models/many"), {"model_version_status": [state("10"), state("2")]})
    rows.equal("one version", running.json("/v1/models/many/versions/2"), {"model_version_status": [state("2")]})
    rows.equal("a label counts for nothing", running.json("/v1/models/many/labels/no"), running.json("/v1/models/many"))
    rows.equal("case and query", running.rest("GET", "/V1/models/half?a")[0], 200)
    dim = lambda size, name: {"size": size, "name": name}
    info = lambda name: {
        "name": f"{name}:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [dim("-1", "batch")], "unknown_rank": False},
    }
    signature = {"inputs": {"x": info("x")}, "outputs": {"y": info("y")}, "method_name": "tensorflow/serving/predict", "defaults": {}}
    rows.equal(
        "metadata",
        running.json("/v1/models/many/versions/2/metadata"),
        {
            "model_spec": {"name": "many", "signature_name": "", "version": "2"},
            "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
        },
    )
    rows.equal("metadata by label", running.json("/v1/models/half/labels/stable/metadata")["model_spec"]["version"], "1")
    inner = running.json("/v1/models/digits/metadata")["metadata"]["signature_def"]["signature_def"]["serving_default"]
    shape = inner["inputs"]["image"]["tensor_shape"]["dim"]
    rows.equal("extents are texts", [d["size"] for d in shape], ["-1", "1", "8", "8"])


def transport(rows, running):
    packed = gzip.compress(b'{"instances": [1.0]}')
    code, headers, text = running.rest("POST", f"{HALF}:predict", packed, {"Content-Encoding": "gzip"})
    rows.equal("gzip is read", (code, text), (200, '{"predictions":[2.5]}'))
    code, headers, text = running.rest("POST", f"{HALF}:predict", '{"instances": [1.0]}', {"Content-Type": "text/plain"})
    rows.equal("no type of content is asked for", (code, headers["content-type"]), (200, "application/json"))
    cors = {"access-control-allow-origin": "*", "access-control-allow-methods": "POST, GET", "access-control-allow-headers": "Content-Type"}
    told = lambda headers: {name: value for name, value in headers.items() if name.startswith("access-control")}
    rows.equal("other origins", told(headers), cors)
    rows.equal("their errors", told(running.rest("GET", "/v1/models/no")[1]), cors)
    code, headers, _ = running.rest("OPTIONS", f"{HALF}:predict", None, {"Origin": "https://example.org"})
    rows.equal("what they ask first", (code, told(headers)), (200, cors))
    code, _, text = running.rest("POST", f"{HALF}:predict", '{"instances": [1.0]} and more')
    rows.equal("what follows is an error", code, 400)


def rows_of(binary, rows):
    with tempfile.TemporaryDirectory() as base:
        for version in ("2", "00000010", "not_one"):
            shutil.copytree(MODELS / "half_plus_two" / "1", pathlib.Path(base) / version)
        models = [
            ("half", MODELS / "half_plus_two", "version_labels { key: 'stable' value: 1 } version_labels { key: 'a b' value: 1 }"),
            ("two", MODELS / "two_inputs_two_outputs", ""),
            ("many", base, "model_version_policy { all {} }"),
            ("digits", ROOT / "models" / "digits", ""),
            *((name, MODELS / name, "") for name in ("strings", "dtypes", "summed", "ints", "examples")),
        ]
        with server(binary, models, "--rest_api_enable_cors_support", "--version_settle_ms=0") as running:
            predictions(rows, running)
            mistakes(rows, running)
            examples(rows, running)
            pages(rows, running)
            transport(rows, running)
