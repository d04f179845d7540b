"""The service's state: jobs, uploads, the queue, the worker; and what is done about them from time to time."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _version
from .client import make_private_folder
from .errors import Refused
from .jobs import FAILED, Job, Jobs
from .places import Places
from .queue import Queue
from .supervisor import Supervisor
from .uploads import Uploads
from .verbs import VERBS, check

HOUSEKEEPING = 5.0


@dataclass
class Settings:
    """How a service is run.

    Attributes:
        folder: for jobs and uploads. shared: whether others than this machine's user use it.
        root: the folder that jobs of a shared service may read. weights: those they may name beside the registered.
        queue, queue_each: jobs that may wait, in total and of one user.
        keep_hours, keep_bytes: how long ended jobs and unused uploads stay, and how much of both.
        largest_upload: bytes. cancel_seconds: see `Supervisor`. worker_memory: bytes; None sets no limit.
        idle_minutes: after so many without a request the service stops; None never.
    """

    folder: Path
    shared: bool = False
    root: Path | None = None
    weights: set[str] = field(default_factory=set)
    queue: int = 256
    queue_each: int = 64
    keep_hours: float = 24.0
    keep_bytes: int = 10_000_000_000
    largest_upload: int = 2_000_000_000
    cancel_seconds: float = 10.0
    worker_memory: int | None = None
    idle_minutes: float | None = None


class Service:
    """See the module.

    Args:
        own_token: of the user's own service, which it can prove to know; empty on a shared one.
    """

    def __init__(self, settings: Settings, own_token: str = ""):
        make_private_folder(str(settings.folder))
        self.settings, self.own_token = settings, own_token
        self.jobs = Jobs(settings.folder / "jobs")
        self.uploads = Uploads(settings.folder / "uploads", settings.largest_upload, settings.keep_bytes)
        self.queue = Queue(settings.queue, settings.queue_each)
        weights = {*registered_backends(), *settings.weights}
        self.places = Places(self.uploads, shared=settings.shared, root=settings.root, weights=weights)
        self.supervisor = Supervisor(
            self.queue,
            confined=settings.shared,
            patience=settings.cancel_seconds,
            memory=settings.worker_memory,
        )
        self.closing = asyncio.Event()
        self.why = ""
        self._active = time.monotonic()
        self._installed = _installation()

    # -- what is asked of it

    def backends(self) -> list[str]:
        return sorted(self.places.weights)

    def limits(self) -> dict[str, Any]:
        return {
            "upload": self.settings.largest_upload,
            "queue": self.settings.queue,
            "queue_each": self.settings.queue_each,
            "keep_hours": self.settings.keep_hours,
        }

    def submit(self, owner: str, verb: str, arguments: dict[str, Any], key: str) -> Job:
        """A new job in the queue, or the one that was made with this key. Raises Refused."""
        known = self.jobs.by_key(owner, key)
        if known is not None:
            return known
        if self.closing.is_set():
            raise Refused("The service is stopping. Start it again.", "stopping", 503)
        checked = check(verb, arguments)
        self.queue.check(owner)
        draft = Job("", owner, verb, checked, Path())
        self.places.resolve(draft, VERBS[verb])
        job = self.jobs.make(owner, verb, checked, key)
        job.resolved, job.uploads = draft.resolved, draft.uploads
        job.confined, job.names = draft.confined, draft.names
        job.save()
        self.queue.add(job)
        job.tell("state")
        return job

    async def upload(self, owner: str, name: str, size: int | None, body: AsyncIterator[bytes]) -> dict[str, Any]:
        self.sweep()
        return await self.uploads.store(owner, name, size, body)

    def remove_upload(self, owner: str, identifier: str) -> None:
        """Deletes a user's upload. Raises Refused while a job needs it."""
        self.uploads.path(identifier, owner)
        if identifier in self._needed():
            raise Refused("A job still needs this upload.", "running", 409)
        self.uploads.forget(identifier)

    def active(self, moment: float) -> None:
        self._active = max(self._active, moment)

    @property
    def busy(self) -> bool:
        return bool(len(self.queue) or self.supervisor.running)

    def stop(self, why: str) -> None:
        """Begins to stop; `run` ends."""
        self.why = self.why or why
        self.closing.set()

    # -- what it does by itself

    async def run(self) -> None:
        """Works until it is stopped; then no job is left without an end."""
        working = asyncio.create_task(self.supervisor.run())
        keeping = asyncio.create_task(self._keep_house())
        closing = asyncio.create_task(self.closing.wait())
        try:
            done, _ = await asyncio.wait({working, keeping, closing}, return_when=asyncio.FIRST_COMPLETED)
            self.closing.set()
            for task in done - {closing}:
                task.result()
        finally:
            for job in self.jobs.every():
                if not job.over:
                    was = "while this job ran" if job is self.supervisor.running else "before this job began"
                    job.end(FAILED, code="interrupted", message=f"The service was stopped {was}. Submit it again.")
            for task in (working, keeping, closing):
                task.cancel()
            await asyncio.gather(working, keeping, closing, return_exceptions=True)

    async def _keep_house(self) -> None:
        while True:
            self.sweep()
            await asyncio.sleep(HOUSEKEEPING)
            now = _installation()
            if now is None:
                self.stop("its installation is gone")
            elif now != self._installed and not self.busy:
                self.stop("its installation has changed")
            if self.busy:
                self._active = time.monotonic()
            idle = self.settings.idle_minutes
            if idle is not None and time.monotonic() - self._active > idle * 60:
                self.stop(f"nobody asked for anything for {idle:g} minutes")

    def sweep(self) -> None:
        """Deletes ended jobs and unused uploads that are older, or take more space, than is kept."""
        now, needed = time.time(), self._needed()
        oldest = now - self.settings.keep_hours * 3600
        space = 0
        kept: list[tuple[float, int, Any]] = []
        for job in self.jobs.every():
            if job.over and job.ended is not None:
                kept.append((job.ended, job.size, job))
        for identifier, used, size in self.uploads.every():
            if identifier not in needed:
                kept.append((used, size, identifier))
        for moment, size, what in sorted(kept, key=lambda one: -one[0]):
            space += size
            if moment >= oldest and space <= self.settings.keep_bytes:
                continue
            if isinstance(what, Job):
                self.jobs.remove(what)
            else:
                self.uploads.forget(what)

    def _needed(self) -> set[str]:
        return {upload for job in self.jobs.every() if not job.over for upload in job.uploads}


def registered_backends() -> set[str]:
    return {"mini", *(entry.name for entry in importlib.metadata.entry_points(group="neuralusd.backends"))}


def _installation() -> tuple[int, int] | None:
    """What changes when neuralusd is installed anew; None where it, or its Python, is gone."""
    try:
        found = os.stat(_version.__file__)
        os.stat(sys.executable)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
