# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the service. Nothing here imports bpy, so it may run in any thread."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from .problems import Problem
from .service import client as protocol
from .tasks import Stopped, Task

NO_PYTHON = (
    "neuralusd is not installed on this computer yet. Open Edit > Preferences > Add-ons > Neural USD and press Set Up; "
    "or name a Python that has it there."
)


@dataclass(frozen=True)
class Where:
    """Which service: the user's own, started with `python` where it does not run; or that at `url`."""

    url: str = ""
    token: str = ""
    python: str | None = None
    cache: str | None = None

    @property
    def remote(self) -> bool:
        return bool(self.url)


_clients: dict[Where, protocol.Client] = {}
_lock = threading.Lock()


def connect(where: Where) -> protocol.Client:
    """A client of the service, started where it is the user's own and does not run. Raises Problem."""
    with _lock:
        if where in _clients:
            return _clients[where]
        if not where.url and where.python and not os.path.isfile(where.python):
            raise Problem(f"There is no Python at {where.python}. Correct the path in the preferences of Neural USD.")
        try:
            if where.url:
                found = protocol.connect(where.url, where.token or None)
            else:
                found = protocol.connect(python=where.python, cache=where.cache)
        except protocol.ServiceError as error:
            raise Problem(NO_PYTHON if error.code == "no_python" and not where.python else str(error)) from error
        _clients[where] = found
        return found


def forget() -> None:
    """Connects anew at the next request, as when the preferences have changed."""
    with _lock:
        _clients.clear()


def ask(
    where: Where,
    task: Task,
    verb: str,
    downloads: dict[str, str],
    share: tuple[float, float] = (0.0, 1.0),
    **arguments: Any,
) -> dict[str, Any]:
    """Has the service do a verb, and returns its result.

    Args:
        downloads: names of result files to where they go; those that the job did not make are left out.
        share: the part of the task that this is.

    Raises:
        Problem: what is wrong and the cure. Stopped: the task was cancelled; the job is, too.
    """
    low, high = share

    def on_progress(event: dict[str, Any]) -> None:
        if event.get("event") == "log":
            task.note(str(event.get("line", "")))
        progress = event.get("progress") or {}
        done = progress.get("step", 0) / max(progress.get("steps") or 1, 1)
        said = f"waiting, {event['position']} before" if event.get("position") else progress.get("label") or verb
        task.fraction, task.said = low + (high - low) * min(done, 1.0), said
        if event.get("preview", 0) > seen[0]:
            seen[0] = event["preview"]
            task.picture = job.preview()

    seen = [0]
    task.tell(low, "looking for the service")
    try:
        client = connect(where)
        task.check()
        offered = client.info()["verbs"]
        if verb not in offered:
            raise Problem(f"The service at {client.url} does not offer {verb}. Update neuralusd where it runs.")
        given = {name: value for name, value in arguments.items() if value is not None}
        unknown = sorted(given.keys() - set(offered[verb].get("arguments", given)))
        if unknown:
            raise Problem(
                f"The service at {client.url} is older than this extension: its {verb} knows no {', '.join(unknown)}. "
                "Update neuralusd where it runs."
            )
        task.tell(low, "sending" if not client.local else verb)
        job = client.submit(verb, **given)
        try:
            result = job.wait(on_progress, task.cancelled)
        except BaseException as error:
            if not isinstance(error, protocol.ServiceError):  # as Ctrl-C in a script
                job.cancel()
            raise
        there = set(job.state()["files"])
        for name, path in downloads.items():
            if name in there:
                job.download(name, path)
        job.remove()
        return result
    except protocol.JobCancelled:
        if task.cancelled():
            raise Stopped from None
        raise Problem(f"The service cancelled {verb}. Try again.") from None
    except protocol.ServiceUnavailable as error:
        forget()
        raise Problem(str(error)) from error
    except protocol.ServiceError as error:
        if error.code in ("unauthorized", "version"):
            forget()
        raise Problem(str(error)) from error
