"""Real service processes for tests, each with a state folder of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuralusd.service.client import Client, connect

PATIENCE = 300.0
"""Seconds after which something that a busy machine may do slowly has not come to pass."""

SLOW = {"steps": 1000, "times": [float(frame) for frame in range(200)]}
"""Arguments of a `render` that goes on for as long as any test does."""


class Process:
    """A service that runs."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], url: str):
        self.folder, self.process, self.url = folder, process, url

    def client(self, token: str | None = None) -> Client:
        """The client of a user of a shared service; without a token, of one's own."""
        if token is not None:
            return connect(self.url, token)
        with own_state(self.folder):
            return connect(start=False)

    def worker(self) -> int:
        """The process id of its worker."""
        import psutil

        [worker] = wait_for(lambda: psutil.Process(self.process.pid).children())
        return worker.pid

    def end(self, how: int = signal.SIGTERM) -> str:
        """Ends it by a signal, and returns what it said."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        said, _ = self.process.communicate(timeout=PATIENCE)
        return said

    def request(
        self, method: str, path: str, token: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """A plain request, as anybody could make it."""
        address = self.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        connection.request(method, path, body if body is None or isinstance(body, bytes) else json.dumps(body), sent)
        response = connection.getresponse()
        found = response.status, response.headers, response.read()
        connection.close()
        return found


@contextmanager
def service(folder: Path, *options: str, package: Path | None = None, **environment: str):
    """Runs `neuralusd serve` with options; its state is in `folder`."""
    command = [sys.executable, "-m", "neuralusd", "serve", *options]
    # One that is killed leaves its temporary files behind.
    temporary = folder.with_name(f"{folder.name}-tmp")
    temporary.mkdir(exist_ok=True)
    own = {"NEURALUSD_STATE": str(folder), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    variables = {**os.environ, **own, **environment}
    if package is not None:
        variables["PYTHONPATH"] = str(package)
    process = subprocess.Popen(
        command, env=variables, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    while not said or "serves at" not in said[-1]:
        line = process.stdout.readline()
        assert line, f"the service did not start: {''.join(said)}"
        said.append(line)
    try:
        yield Process(folder, process, said[-1].split()[-1])
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
        process.stdout.close()


@contextmanager
def shared_service(folder: Path, users: dict[str, str], *options: str, **environment: str):
    """A shared service on loopback; users are names to tokens."""
    tokens = folder.parent / f"{folder.name}.tokens"
    tokens.write_text("".join(f"{name} {token}\n" for name, token in users.items()))
    tokens.chmod(0o600)
    with service(folder, "--host", "127.0.0.1", "--port", "0", "--tokens", str(tokens), *options, **environment) as it:
        yield it


@contextmanager
def own_state(folder: Path):
    """Within it, `connect()` is about the service of this state folder."""
    before = os.environ.get("NEURALUSD_STATE")
    os.environ["NEURALUSD_STATE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["NEURALUSD_STATE"]
        else:
            os.environ["NEURALUSD_STATE"] = before


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What it returns, once that is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)
    return found


def started(job):
    """Waits until a job has begun its work in earnest."""
    wait_for(lambda: job.state()["progress"]["step"] > 0)
    return job


def alive(pid: int) -> bool:
    """Whether a process runs."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def package(path: Path, *files: Path, **zipped: Any) -> Path:
    """A .usdz with files of a folder, its data aligned as USD asks for. `zipped` goes to ZipFile."""
    with zipfile.ZipFile(path, "w", **zipped) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.name)
            entry.compress_type = archive.compression
            padding = -(archive.fp.tell() + 30 + len(file.name) + 4) % 64
            entry.extra = b"\x86\x19" + padding.to_bytes(2, "little") + bytes(padding)
            archive.writestr(entry, file.read_bytes())
    return path
