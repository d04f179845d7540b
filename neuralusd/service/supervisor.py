"""Runs jobs in one worker process, which keeps the models warm, and starts another when that one dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from typing import Any

from .jobs import CANCELLED, DONE, FAILED, Job
from .queue import Queue

LONGEST_LINE = 64 << 20
LAST_LINES = 30


class Process:
    """A worker process and what it says.

    Attributes:
        messages: what it says, None when it has ended. ready: what it said when it could begin.
    """

    def __init__(self, process: asyncio.subprocess.Process):
        self.process = process
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.ready: dict[str, Any] | None = None
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._overhear())]

    @classmethod
    async def start(cls, folder: str, confined: bool) -> Process:
        """Starts one, in a folder that has nothing in it."""
        environment = dict(os.environ)
        if confined:  # where USD looks for files that are named without a folder
            environment.pop("PXR_AR_DEFAULT_SEARCH_PATH", None)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "neuralusd.service.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=environment,
            limit=LONGEST_LINE,
            start_new_session=True,  # a terminal's Ctrl-C is for the service
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):  # dead: `messages` ends, and that says it
            self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def stop(self, patience: float = 2.0) -> None:
        """Ends it, with force where it does not go by itself."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), patience)
        except TimeoutError:
            self.kill()
            await self.process.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            async for line in self.process.stdout:
                message = json.loads(line)
                if message["event"] == "ready":
                    self.ready = message
                self.messages.put_nowait(message)
        await self.process.wait()
        self.messages.put_nowait(None)

    async def _overhear(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            async for line in self.process.stderr:
                text = line.decode(errors="replace").rstrip()
                self.last_lines.append(text)
                print(f"worker: {text}", file=sys.stderr, flush=True)


class Supervisor:
    """Takes jobs from the queue, one at a time.

    Args:
        confined: whether other people's jobs run here, see `Process.start`.
        patience: seconds that a running job has to answer a cancel, before its worker is killed.
        memory: bytes that the worker may hold before it is killed; None sets no limit.
    """

    def __init__(self, queue: Queue, *, confined: bool, patience: float, memory: int | None):
        self.queue, self.confined, self.patience, self.memory = queue, confined, patience, memory
        self.running: Job | None = None
        self._process: Process | None = None
        self._reason = ""
        self._folder = tempfile.TemporaryDirectory(prefix="neuralusd-", ignore_cleanup_errors=True)

    @property
    def device(self) -> str | None:
        """What the worker computes on; None until it has started."""
        ready = self._process.ready if self._process is not None else None
        return ready["device"] if ready else None

    async def run(self) -> None:
        """Works until it is cancelled; then ends the worker."""
        try:
            await self._worker()  # so that libraries are imported before the first job comes
            while True:
                job = await self.queue.next()
                if job.over:
                    continue
                self.running = job
                try:
                    await self._do(job)
                finally:
                    self.running = None
                with contextlib.suppress(OSError):  # after a death another is ready, or on its way, for the next job
                    await self._worker()
        finally:
            if self._process is not None:
                await asyncio.shield(self._process.stop(0.5))
            self._folder.cleanup()

    def cancel(self, job: Job) -> None:
        """Cancels a job: one that waits at once, one that runs at its next step or, failing that, with its worker."""
        if job.over or job.cancelling:
            return
        if job is not self.running:
            self.queue.discard(job)
            job.end(CANCELLED, code="cancelled", message="Cancelled before it began.")
            return
        job.cancelling = True
        process = self._process
        if process is not None:
            process.send({"do": "cancel", "id": job.id})
            asyncio.get_running_loop().call_later(self.patience, self._force, job, process)

    def _force(self, job: Job, process: Process) -> None:
        if self.running is job and not job.over:
            process.kill()

    async def _worker(self) -> Process:
        if self._process is not None and self._process.alive:
            return self._process
        if self._process is not None:
            await self._process.stop()
        self._reason = ""
        self._process = await Process.start(self._folder.name, self.confined)
        return self._process

    async def _do(self, job: Job) -> None:
        job.start()
        # A worker that died while it had nothing to do may be known to be dead only now.
        if not await self._attempt(job):
            await self._attempt(job, last=True)

    async def _attempt(self, job: Job, last: bool = False) -> bool:
        """Whether the job has ended. It has not where the worker was dead before it took the job."""
        try:
            process = await self._worker()
        except OSError as error:
            job.end(FAILED, code="worker_died", message=f"The worker cannot be started: {error}.")
            return True
        if job.cancelling:
            job.end(CANCELLED, code="cancelled", message="Cancelled.")
            return True
        process.send(
            {
                "do": "job",
                "id": job.id,
                "verb": job.verb,
                "arguments": job.resolved,
                "folder": str(job.folder),
                "confined": job.confined,
                "names": job.names,
            }
        )
        watching = asyncio.create_task(self._watch(process)) if self.memory else None
        try:
            return await self._follow(job, process, last)
        finally:
            if watching is not None:
                watching.cancel()

    async def _follow(self, job: Job, process: Process, last: bool) -> bool:
        """Passes on what the worker says of a job, until that has ended; see `_attempt`."""
        taken = False
        while not job.over:
            message = await process.messages.get()
            if message is None:
                await process.stop()
                if not (taken or last or job.cancelling) and process.ready is not None:
                    return False
                self._died(job, process)
                return True
            event = message["event"]
            if message.get("id") != job.id:  # of a job before this one, or of none
                continue
            taken = True
            if event == "progress":
                job.step(message["step"], message["steps"], message["label"])
            elif event == "preview":
                job.show()
            elif event == "log":
                job.say(message["line"])
            elif event == "done":
                job.end(DONE, result=message["result"], files=message["files"])
            elif event == "failed":
                job.end(FAILED, code=message["code"], message=message["message"])
            elif event == "cancelled":
                job.end(CANCELLED, code="cancelled", message="Cancelled while it ran.")
        return True

    def _died(self, job: Job, process: Process) -> None:
        if job.cancelling:
            seconds = f"{self.patience:g} seconds"
            job.end(CANCELLED, code="cancelled", message=f"Cancelled; it did not stop within {seconds}, and was ended.")
            return
        job.end(FAILED, code="worker_died", message=self._reason or _why(process))

    async def _watch(self, process: Process) -> None:
        """Kills a worker that takes more memory than it may, before the whole machine suffers."""
        import psutil

        assert self.memory is not None
        while process.alive:
            await asyncio.sleep(0.5)
            with contextlib.suppress(psutil.Error):
                used = psutil.Process(process.process.pid).memory_info().rss
                if used > self.memory:
                    self._reason = (
                        f"The worker took {used / 1e9:.1f} GB of memory, more than the {self.memory / 1e9:.1f} GB that "
                        "it may, and was ended. Ask for less at a time, or start the service with a larger "
                        "--worker-memory."
                    )
                    process.kill()


def _why(process: Process) -> str:
    """What can be said about a worker that ended without being asked to."""
    status = process.process.returncode or 0
    again = "Another one is started for the next job."
    if process.ready is None:
        last = next((line for line in reversed(process.last_lines) if line.strip()), "it said nothing")
        return f"The worker does not start: {last.strip().rstrip('.')}. `neuralusd doctor` looks for the cause."
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = "unknown"
        cause = {
            "SIGKILL": " Perhaps memory ran out: ask for less at a time, or close what else uses it.",
            "SIGSEGV": " A library crashed, perhaps on a damaged file.",
            "SIGBUS": " Perhaps a file that it read was changed meanwhile.",
        }.get(name, "")
        return f"The worker was killed by signal {-status} ({name}).{cause} {again}"
    return f"The worker ended by itself with status {status}. {again}"
