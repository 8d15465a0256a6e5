"""A server of ours for as long as a measurement takes, and the client that drives it."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request


class Server:
    """`binary serve` with `flags`, on free ports."""

    def __init__(self, binary, flags):
        self.binary = binary
        self.folder = tempfile.TemporaryDirectory()
        ports = os.path.join(self.folder.name, "ports")
        self.process = subprocess.Popen(
            [binary, "serve", "--host=127.0.0.1", "--port=0", "--rest_api_port=0", f"--ports_file={ports}", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 600
        while not os.path.exists(ports):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit("the server did not start")
            time.sleep(0.05)
        found = dict(line.split("=") for line in open(ports).read().split())
        self.grpc, self.http = f"127.0.0.1:{found['grpc']}", f"127.0.0.1:{found['http']}"

    def page(self, path):
        return urllib.request.urlopen(f"http://{self.http}{path}", timeout=30).read().decode()

    def begin(self, model, *flags):
        """Starts to drive `model`; `figures` gives what came of it."""
        return subprocess.Popen([self.binary, "bench", model, "--server", self.grpc, "--json", *flags],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def warm(self, model, *flags):
        """Drives `model` without looking at what comes of it: while batch sizes are still being made a limit may refuse some."""
        self.begin(model, *flags).communicate()

    def bench(self, model, *flags):
        return figures(self.begin(model, *flags))

    def close(self):
        self.process.terminate()
        self.process.wait(60)


def figures(driver):
    """What a driver found out, once it has ended."""
    text, _ = driver.communicate()
    lines = text.splitlines()
    if driver.returncode != 0 or not lines:
        raise SystemExit("a client failed")
    return json.loads(lines[-1])
