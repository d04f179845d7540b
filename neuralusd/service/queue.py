"""The jobs that wait, taken in turn from each user, so that one with many does not keep the others waiting."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from .errors import Refused
from .jobs import Job


class Queue:
    """Waiting jobs.

    Args:
        total: how many may wait. each: how many of one user.
    """

    def __init__(self, total: int, each: int):
        self.total, self.each = total, each
        # The user whose turn it is comes first.
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return sum(len(jobs) for jobs in self._waiting.values())

    def check(self, owner: str) -> None:
        """Raises Refused where no further job of this user can wait."""
        if len(self._waiting.get(owner, ())) >= self.each:
            raise Refused(
                f"{self.each} of your jobs are waiting, and no user may have more. Submit again when some are done.",
                "busy",
                429,
                {"Retry-After": "1"},
            )
        if len(self) >= self.total:
            raise Refused(
                f"{self.total} jobs are waiting, and the queue is full. Submit again in a while.",
                "busy",
                429,
                {"Retry-After": "2"},
            )

    def add(self, job: Job) -> None:
        self._waiting.setdefault(job.owner, deque()).append(job)
        self._some.set()

    def discard(self, job: Job) -> None:
        """Takes a job out, if it waits."""
        jobs = self._waiting.get(job.owner)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.owner]

    async def next(self) -> Job:
        """Waits for a job, and takes it out; its user's next turn comes after all others'."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        owner, jobs = next(iter(self._waiting.items()))
        job = jobs.popleft()
        del self._waiting[owner]
        if jobs:
            self._waiting[owner] = jobs
        return job

    def position(self, job: Job) -> int:
        """How many waiting jobs come before this one."""
        jobs = self._waiting.get(job.owner)
        if jobs is None or job not in jobs:
            return 0
        index, before, passed = jobs.index(job), 0, False
        for owner, others in self._waiting.items():
            if owner == job.owner:
                passed = True
                before += index
            else:
                before += min(len(others), index if passed else index + 1)
        return before
