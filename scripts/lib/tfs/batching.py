"""BatchingParameters, one by one, and what batching refuses."""

import concurrent.futures
import json
import pathlib
import shutil
import tempfile

import numpy as np

from tfs.asking import CODE, MODELS, ROOT, configured, predict, refused_start, server, spec

DIGITS = [("digits", ROOT / "models" / "digits", "")]


def blanks(count):
    return predict(spec("digits"), {"image": np.zeros([count, 1, 8, 8], np.float32)})


def parameters(folder, text):
    path = pathlib.Path(folder) / "parameters"
    path.write_text(text)
    return f"--batching_parameters_file={path}"


def report(running, name="digits"):
    return running.json(f"/v1/models/{name}/batching")


def together(running, counts):
    """Asks for so many rows at a time; gives how many came back."""
    with concurrent.futures.ThreadPoolExecutor(len(counts)) as callers:
        ask = lambda count: len(running.predictions.Predict(blanks(count), 60).outputs["probabilities"].float_val) // 10
        return list(callers.map(ask, counts))


def sizes(rows, running, counts, expected):
    """Asks until batches of each of these sizes have run: right after the start not all are ready."""
    found = lambda: (together(running, counts), {entry["rows"] for entry in report(running)["sizes"]})[1] >= expected
    rows.becomes(f"batches of {expected}", found, True)


def fields(binary, rows, folder):
    text = "max_batch_size { value: 4 } enable_large_batch_splitting { value: false }"
    with server(binary, DIGITS, parameters(folder, text)) as running:
        rows.equal("a whole batch", together(running, [4]), [4])
        refused = "Task size 5 is larger than maximum input batch size 4"
        rows.refused(running.predictions.Predict, blanks(5), CODE.INVALID_ARGUMENT, refused)
    text = "max_batch_size { value: 4 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2 }"
    with server(binary, DIGITS, parameters(folder, text)) as running:
        rows.equal("larger than a batch", together(running, [9]), [9])
        sizes(rows, running, [9], {2})
        rows.equal("none is larger", max(entry["rows"] for entry in report(running)["sizes"]), 2)
    text = "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    with server(binary, DIGITS, parameters(folder, text)) as running:
        rows.equal("padded", together(running, [3]), [3])
        found = lambda: (together(running, [3]), [e["padded_rows"] > 0 for e in report(running)["sizes"] if e["rows"] == 4])[1]
        rows.becomes("a row more", found, [True])
    # Whoever is alone waits for company as long as the timeout says, and no longer.
    text = "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 }"
    with server(binary, DIGITS, parameters(folder, text)) as running:
        closed = lambda: (together(running, [1]), report(running)["closed"].get("delay", {}).get("batches", 0) > 0)[1]
        rows.becomes("closed by the timeout", closed, True)
        rows.equal("the mode", report(running)["mode"], "timed")
    text = "max_batch_size { value: 2 } batch_timeout_micros { value: 1000000 } num_batch_threads { value: 1 } thread_pool_name { value: 'pool' }"
    with server(binary, DIGITS, parameters(folder, text)) as running:
        merged = lambda: (together(running, [1, 1]), [e["requests"] >= 2 for e in report(running)["sizes"] if e["rows"] == 2])[1]
        rows.becomes("two in one", merged, [True])
        rows.equal("one batch at a time", report(running)["now"]["batches_in_flight_max"], 1)


def padded(binary, rows, folder):
    """Requests of different lengths in batches of three rows, which wait for nothing else."""
    text = "max_batch_size { value: 3 } batch_timeout_micros { value: 600000000 } pad_variable_length_inputs: true"
    models = [(name, MODELS / name, "") for name in ("lengths", "tokens")]
    with server(binary, models, parameters(folder, text)) as running:

        def ask(name, inputs, output):
            with concurrent.futures.ThreadPoolExecutor(len(inputs)) as callers:
                call = lambda given: running.predictions.Predict(predict(spec(name), given), 60).outputs[output]
                return list(callers.map(call, inputs))

        floats = [{"x": np.array([row], np.float32)} for row in ([5], [1, 2, 3, 4], [7, 1])]
        sums = lambda: [list(total.float_val) for total in ask("lengths", floats, "total")]
        # Right after the start the smallest size is ready alone, and full with one row.
        rows.becomes("sums", sums, [[20], [10], [22]])
        texts = [{"ids": np.array([row], np.int64)} for row in ([3, 1], [9], [2, 4, 6])]
        tokens = lambda: [list(ids.int64_val) for ids in ask("tokens", texts, "same_ids")]
        rows.becomes("tokens", tokens, [[3, 1, 3], [9, 9, 9], [2, 4, 6]])
        before = report(running, "tokens")["batches"]
        tokens()
        rows.equal("batches", report(running, "tokens")["batches"] - before, 1)


def late(binary, rows, folder):
    text = "max_batch_size { value: 8 } batch_timeout_micros { value: 60000000 }"
    flags = [parameters(folder, text), "--rest_api_timeout_in_ms=500"]
    with server(binary, [("half", MODELS / "half_plus_two", "")], *flags) as running:
        # Right after the start the smallest size is ready alone, and full with one row.
        ask = lambda: running.rest("POST", "/v1/models/half:predict", {"instances": [1.0]})[::2]
        error = {"error": "Run() timeout exceeded while waiting in batching queue"}
        rows.becomes("late in the queue", lambda: (lambda code, text: (code, json.loads(text)))(*ask()), (429, error))


def wrong(binary, rows, folder):
    config = configured(DIGITS)
    for text, told in (
        (
            "max_batch_size { value: 32 } allowed_batch_sizes: 8 allowed_batch_sizes: 16",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 16; expected 32",
        ),
        ("allowed_batch_sizes: 8 allowed_batch_sizes: 4", "allowed_batch_sizes must be positive and ascending"),
        ("max_batch_size { value: 0 }", "max_batch_size must be positive; was 0"),
        ("max_batch_size { value: -1 }", "max_batch_size is -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1"),
        (
            "max_batch_size { value: 4 } max_execution_batch_size { value: 8 } enable_large_batch_splitting { value: true }",
            "max_execution_batch_size must be between 1 and max_batch_size; was 8, max_batch_size is 4",
        ),
        ("\nmax_batch { value: 4 }", "parameters:2: Error parsing text-format tensorflow.serving.BatchingParameters"),
    ):
        rows.holds(text, refused_start(binary, config, parameters(folder, text)), told)
    alone = "batching_parameters_file is set without enable_batching"
    told = refused_start(binary, config, parameters(folder, "max_batch_size { value: 4 }"), "--enable_batching=false")
    rows.holds("parameters without batching", told, alone)


def per_model(binary, rows, folder):
    models = []
    for name, text in (("with", "max_batch_size { value: 2 } allowed_batch_sizes: 2"), ("without", None), ("wrong", "max_batch_size { value: 0 }")):
        base = pathlib.Path(folder) / name
        shutil.copytree(MODELS / "half_plus_two" / "1", base / "1")
        if text:
            (base / "1" / "batching_params.pbtxt").write_text(text)
        models.append((name, base, ""))
    with server(binary, models, "--enable_per_model_batching_parameters", "--version_settle_ms=0") as running:
        for name in ("with", "without"):
            ask = predict(spec(name), {"x": np.float32([1, 2, 3])})
            rows.equal(name, list(running.predictions.Predict(ask, 60).outputs["y"].float_val), [2.5, 3.0, 3.5])
        rows.equal("its own", report(running, "with")["parameters"]["allowed_batch_sizes"], [2])
        rows.equal("none: not merged", report(running, "without")["merging"]["merges"], False)
        state = running.json("/v1/models/wrong")["model_version_status"][0]
        rows.equal("wrong ones keep it from loading", (state["state"], state["status"]["error_code"]), ("END", "INVALID_ARGUMENT"))
        rows.holds("and are told", state["status"]["error_message"], "max_batch_size must be positive; was 0")


def rows_of(binary, rows):
    with tempfile.TemporaryDirectory() as folder:
        fields(binary, rows, folder)
        padded(binary, rows, folder)
        late(binary, rows, folder)
        wrong(binary, rows, folder)
        per_model(binary, rows, folder)
