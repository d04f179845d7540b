"""The one process that holds the models: takes jobs on stdin, a line of JSON each, and says how they go on stdout.

Whoever started it ends it by closing its stdin, or by going away.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

# Progress is told so often at most; the last step of a phase always.
EVERY = 0.05


class Worker:
    """Reads jobs, does them one at a time, and writes what happens.

    Args:
        output: takes the lines.
    """

    def __init__(self, output: BinaryIO):
        self.output = output
        self.lock = threading.Lock()
        self.jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.cancelled: set[str] = set()
        self.doing = ""
        self.broken = False

    def say(self, event: str, **more: Any) -> None:
        line = json.dumps({"event": event, **more}, default=str).encode() + b"\n"
        with self.lock:
            self.output.write(line)
            self.output.flush()

    def listen(self) -> None:
        """Takes jobs and cancels, until there is nobody who could send any."""
        for line in sys.stdin.buffer:
            asked = json.loads(line)
            if asked["do"] == "cancel":
                self.cancelled.add(asked["id"])
            else:
                self.jobs.put(asked)
        os._exit(0)

    def run(self) -> int:
        """Says that it is ready, then works. Returns only when this process should be replaced."""
        import PIL.Image
        import torch

        from . import work  # noqa: F401
        from .verbs import MOST_PIXELS

        # A picture is decoded to several times its pixels; twice as many as these are refused.
        PIL.Image.MAX_IMAGE_PIXELS = MOST_PIXELS
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        self.say("ready", device=device)
        with suppress(ImportError):  # seconds that the first job need not take; it says what is wrong
            importlib.import_module("neuralusd.pipelines.render")
        while not self.broken:
            self.one(self.jobs.get())
        return 3

    def one(self, asked: dict[str, Any]) -> None:
        """Does a job, and says how it ended."""
        from ..api import Cancelled
        from ..stage.open import quiet

        identifier = self.doing = asked["id"]
        try:
            with quiet(), warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = self.note
                ended: dict[str, Any] = {"event": "done", "result": self.work(asked), "files": _names(asked)}
        except Cancelled:
            ended = {"event": "cancelled"}
        except (Exception, RecursionError) as error:
            ended = {"event": "failed", **self.explain(error)}
        self.forget()
        self.cancelled.discard(identifier)
        self.say(**ended, id=identifier)

    def work(self, asked: dict[str, Any]) -> dict[str, Any]:
        from ..api import Cancelled
        from .work import RUN, Task

        identifier, folder = asked["id"], Path(asked["folder"])
        told = [0.0, 0.0]

        def step(step: int, steps: int, label: str) -> None:
            if identifier in self.cancelled:
                raise Cancelled
            now = time.monotonic()
            if now - told[0] >= EVERY or step == steps:
                told[0] = now
                self.say("progress", id=identifier, step=step, steps=steps, label=label)

        def show(picture: Any) -> None:
            partial = folder / ".preview.png"
            picture.save(partial, "PNG", compress_level=1)  # it is looked at once
            os.replace(partial, folder / "preview.png")
            self.say("preview", id=identifier)

        step(0, 0, "loading weights")
        task = Task(
            asked["arguments"],
            folder / "work",
            folder / "files",
            step,
            show,
            asked.get("confined", {}),
            asked.get("names", {}),
        )
        return RUN[asked["verb"]](task)

    def note(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        """A warning of ours is a line of the job's log; others' are nobody's."""
        if category.__module__.partition(".")[0] == "neuralusd":
            self.say("log", id=self.doing, line=" ".join(str(message).split()))

    def explain(self, error: BaseException) -> dict[str, str]:
        """Code and message of what went wrong; a bug's traceback goes to stderr."""
        import PIL.Image

        from ..errors import BackendError, SceneError

        kind, text = type(error).__name__, " ".join(str(error).split())
        if isinstance(error, (SceneError, BackendError)):
            return {"code": kind, "message": text}
        if isinstance(error, PIL.Image.DecompressionBombError):
            return {"code": "ImageError", "message": f"A picture is too large to be opened safely: {text} Reduce it."}
        if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
            cure = "Ask for less at a time, close what else uses the memory, or take a smaller backend."
            return {"code": "out_of_memory", "message": f"Memory ran out. {cure}"}
        if isinstance(error, OSError) and error.strerror:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            return {"code": "files", "message": f"{where}{error.strerror}."}
        if isinstance(error, ImportError):
            return {"code": "installation", "message": f"{text}. `neuralusd doctor` lists what is installed."}
        traceback.print_exception(error)
        # After such an error nothing works on the device any more.
        self.broken = "CUDA error" in text
        return {"code": "bug", "message": f"A bug of neuralusd: {kind}: {text}. Report it with the service's log."}

    def forget(self) -> None:
        """Lets go of layers: files of the same name may be others next time. Textures are kept until theirs change."""
        from ..stage.materialx import read_materialx

        read_materialx.cache_clear()
        gc.collect()


def _names(asked: dict[str, Any]) -> list[str]:
    return sorted(os.listdir(Path(asked["folder"]) / "files"))


def main() -> int:
    # Libraries print to stdout; the lines to the service go where no library writes.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the service ends this process
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    worker = Worker(output)
    threading.Thread(target=worker.listen, daemon=True).start()
    status = worker.run()
    output.flush()
    return status


if __name__ == "__main__":
    status = main()
    os._exit(status)
