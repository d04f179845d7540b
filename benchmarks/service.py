"""Many clients at one service at once, and its worker killed in the middle: how every job ends, as a Markdown table.

python benchmarks/service.py [--clients 32] [--jobs 500] [--backend mini]

Every client is a user of a shared service, with a token and an upload of its own. Of its jobs, most encode and render
the upload, some are edits; some are cancelled, some cannot be done. With half of the jobs ended the worker is killed
(SIGKILL).
"""

from __future__ import annotations

import argparse
import collections
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from pxr import Usd, UsdGeom, UsdUtils

from neuralusd.service.client import Client, JobCancelled, JobFailed, ServiceError, connect

STATES = {"done", "failed", "cancelled"}


def make_shot(folder: Path) -> Path:
    """A package with two boxes and a camera."""
    stage = Usd.Stage.CreateNew(str(folder / "shot.usda"))
    UsdGeom.SetStageUpAxis(stage, "Y")
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    for name, x, color in (("Cup", -1.2, (0.8, 0.2, 0.1)), ("Bottle", 1.2, (0.1, 0.2, 0.9))):
        box = UsdGeom.Cube.Define(stage, f"/World/{name}")
        box.AddTranslateOp().Set((x, 0, 0))
        box.CreateSizeAttr(1.0)
        box.CreateDisplayColorAttr([color])
    camera = UsdGeom.Camera.Define(stage, "/World/Cam")
    camera.AddTranslateOp().Set((0, 1, 8))
    stage.Save()
    UsdUtils.CreateNewUsdzPackage(str(folder / "shot.usda"), str(folder / "shot.usdz"))
    return folder / "shot.usdz"


class Load:
    """What the clients do and see.

    Attributes:
        ended: id to (state, code) as `wait` told it. waits: seconds from submitting to the end. busy: refusals (429).
    """

    def __init__(self, shot: Path, backend: str | None):
        self.shot, self.backend = shot, backend
        self.ended: dict[str, tuple[str, str]] = {}
        self.waits: list[float] = []
        self.asking: list[float] = []
        self.busy = 0
        self.broken: list[str] = []
        self.lock = threading.Lock()

    def run(self, client: Client, numbers: list[int]) -> None:
        """One client: sends its stage, asks for its jobs as fast as it may, then waits for each."""
        try:
            stage = client.upload(self.shot)
            jobs = [(number, *self.submit(client, number, stage)) for number in numbers]
            for number, job, asked in jobs:
                if number % 25 == 10:
                    job.cancel()
                try:
                    job.wait()
                    found = "done", ""
                except JobCancelled as error:
                    found = "cancelled", error.code
                except JobFailed as error:
                    found = "failed", error.code
                with self.lock:
                    self.ended[job.id] = found
                    self.waits.append(time.monotonic() - asked)
        except Exception as error:  # of whatever kind: it is a finding
            with self.lock:
                self.broken.append(f"{type(error).__name__}: {error}")

    def submit(self, client: Client, number: int, stage: str):
        """A job, asked for again while the queue is full; and when it was taken."""
        arguments: dict = {"verb": "render", "stage": stage, "encode": True, "seed": number, "backend": self.backend}
        if number % 4 == 1:
            arguments = {"verb": "edit", "stage": stage, "move": {"/World/Cup": [0.1, 0, 0]}}
        if number % 25 == 5:
            arguments = {"verb": "encode", "stage": stage, "camera": "/World/Nope"}
        while True:
            begun = time.monotonic()
            try:
                job = client.submit(**arguments)
            except ServiceError as error:
                if error.code != "busy":
                    raise
                with self.lock:
                    self.busy += 1
                time.sleep(error.retry_after or 1.0)
                continue
            with self.lock:
                self.asking.append(time.monotonic() - begun)
            return job, time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--backend", help="weights for the renders (default: mini)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), given.clients, given.jobs, given.backend)


def run(folder: Path, clients: int, jobs: int, backend: str | None) -> None:
    tokens = {f"user{number}": secrets.token_urlsafe(32) for number in range(clients)}
    listed = folder / "tokens"
    listed.write_text("".join(f"{name} {token}\n" for name, token in tokens.items()))
    listed.chmod(0o600)
    command = [
        sys.executable,
        "-m",
        "neuralusd",
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--tokens",
        str(listed),
    ]
    command += ["--allow-weights", backend] if backend else []
    environment = {**os.environ, "NEURALUSD_STATE": str(folder / "state")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    load, service = Load(make_shot(folder), backend), psutil.Process(process.pid)
    connected = [connect(url, token) for token in tokens.values()]
    begun = time.monotonic()
    threads = [
        threading.Thread(target=load.run, args=(client, list(range(index, jobs, clients))))
        for index, client in enumerate(connected)
    ]
    for thread in threads:
        thread.start()
    largest, worst, first = 0, 0.0, None
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.25)
        asked = time.monotonic()
        connected[0].info()
        worst = max(worst, time.monotonic() - asked)
        largest = max(largest, service.memory_info().rss)
        if first is None and len(load.ended) >= jobs // 2:
            [first] = service.children()
            first.send_signal(signal.SIGKILL)
    took = time.monotonic() - begun
    states = {job["id"]: job for client in connected for job in client.jobs()}
    process.terminate()
    process.wait(20)
    told = {identifier: (job["state"], (job["error"] or {}).get("code", "")) for identifier, job in states.items()}
    counts = collections.Counter(told.values())
    rows = [
        ("clients, jobs", f"{clients}, {jobs}"),
        *(
            (f"{state}{f' ({code})' if code and code != state else ''}", count)
            for (state, code), count in counts.items()
        ),
        ("in no known state", sum(state not in STATES for state, _ in told.values()) + jobs - len(told)),
        (
            "told its client otherwise than the service lists it",
            sum(load.ended.get(i) != found for i, found in told.items()),
        ),
        ("clients that broke", len(load.broken)),
        ("refused for now, the queue being full (429)", load.busy),
        ("all jobs, seconds", f"{took:.0f}"),
        ("jobs a second", f"{jobs / took:.1f}"),
        (
            "submit: median, worst, milliseconds",
            f"{1e3 * statistics.median(load.asking):.0f}, {1e3 * max(load.asking):.0f}",
        ),
        ("submit to end: median, worst, seconds", f"{statistics.median(load.waits):.0f}, {max(load.waits):.0f}"),
        ("worst answer to `info` meanwhile, milliseconds", f"{1e3 * worst:.0f}"),
        ("memory of the service without its worker, MB", f"{largest / 1e6:.0f}"),
    ]
    print("| | |\n| --- | --- |")
    for name, value in rows:
        print(f"| {name} | {value} |")
    for broken in load.broken:
        print(f"\n{broken}")
    wrong = sum(state not in STATES for state, _ in told.values()) or len(told) != jobs or load.broken
    sys.exit(1 if wrong or load.ended != told else 0)


if __name__ == "__main__":
    main()
