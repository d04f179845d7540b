"""Jobs: what is known of one, its events, its record on disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import ENDED, write_private

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", *ENDED
LOG_LINES = 500
EVENTS = 1000


@dataclass(eq=False)
class Job:
    """One job.

    Attributes:
        owner: name of the user whose token made it. key: what the user calls it.
        arguments: as they were given. resolved: with files as paths of this machine. uploads: ids that it reads.
        confined: path of a stage to the folders that all it refers to must lie in. names: path of an upload to its
            name.
        created, started, ended: seconds since 1970. size: bytes of its folder, once it has ended.
        preview: number of the latest intermediate picture.
    """

    id: str
    owner: str
    verb: str
    arguments: dict[str, Any]
    folder: Path
    key: str = ""
    resolved: dict[str, Any] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    confined: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    size: int = 0
    state: str = QUEUED
    progress: dict[str, Any] = field(default_factory=lambda: {"step": 0, "steps": 0, "label": "waiting"})
    preview: int = 0
    error: dict[str, str] | None = None
    result: dict[str, Any] | None = None
    files: list[str] = field(default_factory=list)
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    cancelling: bool = False
    _events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    _sequence: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        return self.state in ENDED

    def describe(self, position: int) -> dict[str, Any]:
        """For its owner; see `client.Job.state`."""
        return {
            "id": self.id,
            "verb": self.verb,
            "state": self.state,
            "position": position,
            "progress": self.progress,
            "preview": self.preview,
            "error": self.error,
            "log": list(self.log),
            "result": self.result,
            "files": self.files,
            "arguments": self.arguments,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
        }

    # -- what happens to it

    def start(self) -> None:
        self.state, self.started = RUNNING, time.time()
        self.progress = {"step": 0, "steps": 0, "label": "starting"}
        self.save()
        self.tell("state")

    def say(self, line: str) -> None:
        """Adds a line to its log."""
        self.log.append(line)
        self.tell("log", line=line)

    def step(self, step: int, steps: int, label: str) -> None:
        self.progress = {"step": step, "steps": steps, "label": label}
        self.tell("progress")

    def show(self) -> None:
        """There is a new intermediate picture."""
        self.preview += 1
        self.tell("progress")

    def end(
        self,
        state: str,
        *,
        code: str = "",
        message: str = "",
        result: dict[str, Any] | None = None,
        files: list[str] | None = None,
    ) -> None:
        """Ends it, once."""
        if self.over:
            return
        self.state, self.ended, self.result, self.files = state, time.time(), result, files or []
        if state != DONE:
            self.error = {"code": code, "message": message}
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        self.size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        self.save()
        self.tell("state", error=self.error, files=self.files)

    def tell(self, event: str, **more: Any) -> None:
        """Notes an event and wakes those who wait for one."""
        self._sequence += 1
        self._events.append({**self.event(event), **more})
        self._changed.set()
        self._changed = asyncio.Event()

    def event(self, event: str) -> dict[str, Any]:
        """How it is now, as an event."""
        now = {"state": self.state, "progress": self.progress, "preview": self.preview}
        return {"seq": self._sequence, "event": event, **now}

    async def since(self, after: int, beat: float, closing: asyncio.Event) -> AsyncIterator[dict[str, Any] | None]:
        """Events later than number `after`, until it has ended; None every `beat` seconds in which there is none."""
        if after > self._sequence:  # of the service before this one
            after = 0
        while not closing.is_set():
            changed = self._changed
            waiting = [event for event in self._events if event["seq"] > after]
            for event in waiting:
                after = event["seq"]
                yield event
            if self.over and after >= self._sequence:
                return
            if changed.is_set():
                continue
            try:
                await asyncio.wait_for(changed.wait(), beat)
            except TimeoutError:
                yield None

    # -- on disk

    def save(self) -> None:
        """Writes its record. A disk that is full loses the record, not the job."""
        kept = {
            key: getattr(self, key)
            for key in (
                "id",
                "owner",
                "verb",
                "arguments",
                "key",
                "uploads",
                "created",
                "started",
                "ended",
                "size",
                "state",
            )
        }
        kept |= {"error": self.error, "result": self.result, "files": self.files, "log": list(self.log)}
        with contextlib.suppress(OSError):
            write_private(str(self.folder / "job.json"), json.dumps(kept))

    @classmethod
    def load(cls, folder: Path) -> Job | None:
        """The job of a folder; None where there is none. One that had not ended has failed."""
        try:
            kept = json.loads((folder / "job.json").read_text(encoding="utf-8"))
            job = cls(kept["id"], kept["owner"], kept["verb"], kept["arguments"], folder)
            for name in ("key", "uploads", "created", "started", "ended", "size", "state", "error", "result", "files"):
                setattr(job, name, kept[name])
            job.log.extend(kept["log"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if job.over:
            job.progress = {"step": 1, "steps": 1, "label": job.state}
            job.tell("state", error=job.error, files=job.files)
        else:
            was = "while this job ran" if job.state == RUNNING else "before this job began"
            job.end(FAILED, code="interrupted", message=f"The service ended {was}. Submit it again.")
        return job


class Jobs:
    """All jobs, by id; those of before are read from disk.

    Args:
        folder: holds a folder for each.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._all: dict[str, Job] = {}
        self._keys: dict[tuple[str, str], str] = {}
        found = [job for each in folder.iterdir() if (job := Job.load(each))]
        for job in sorted(found, key=lambda job: job.created):
            self._keep(job)
        for each in folder.iterdir():
            if each.name not in self._all:
                shutil.rmtree(each, ignore_errors=True)

    def make(self, owner: str, verb: str, arguments: dict[str, Any], key: str) -> Job:
        """A new job, its folder and its record."""
        identifier = secrets.token_urlsafe(18)
        job = Job(identifier, owner, verb, arguments, self.folder / identifier, key)
        for part in (job.folder, job.folder / "files", job.folder / "work"):
            os.mkdir(part, 0o700)
        self._keep(job)
        return job

    def get(self, identifier: str, owner: str) -> Job | None:
        """A user's job; None also where it is another user's."""
        job = self._all.get(identifier)
        return job if job is not None and job.owner == owner else None

    def by_key(self, owner: str, key: str) -> Job | None:
        """The job that a user made with a key."""
        return self._all.get(self._keys.get((owner, key), "")) if key else None

    def of(self, owner: str) -> list[Job]:
        """A user's jobs, the latest first."""
        return [job for job in reversed(self._all.values()) if job.owner == owner]

    def every(self) -> list[Job]:
        """All jobs, the oldest first."""
        return list(self._all.values())

    def remove(self, job: Job) -> None:
        """Forgets an ended job and deletes its files."""
        self._all.pop(job.id, None)
        self._keys.pop((job.owner, job.key), None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _keep(self, job: Job) -> None:
        self._all[job.id] = job
        if job.key:
            self._keys[job.owner, job.key] = job.id
