"""Which files a job may read: all, on the user's own service; elsewhere uploads, and what lies below a root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .errors import Refused
from .jobs import Job
from .uploads import PREFIX, Uploads
from .verbs import Verb

ROOT = "root:"


class Places:
    """Turns the files that a job names into paths of this machine.

    Args:
        shared: whether others than this machine's user send jobs. root: the folder they may read; None is none.
        weights: backends and models that may be named, on a shared service; all others are refused there.
    """

    def __init__(self, uploads: Uploads, *, shared: bool, root: Path | None, weights: set[str]):
        self.uploads, self.shared, self.root, self.weights = uploads, shared, root, weights

    def resolve(self, job: Job, verb: type[Verb]) -> None:
        """Sets `job.resolved` and what goes with it. Raises Refused for a file that the job may not read."""
        resolved = dict(job.arguments)
        for name in verb.weights:
            if name in resolved and not (name == "backend" and resolved[name] in verb.names):
                self._check_weights(name, resolved[name])
        for name in verb.files:
            if name in resolved:
                value = resolved[name]
                several = isinstance(value, list)
                found = [self._file(job, each) for each in (value if several else [value])]
                resolved[name] = found if several else found[0]
        for name in verb.donors:
            if name in resolved:
                resolved[name] = self._donors(job, resolved[name])
        job.resolved = resolved

    def _file(self, job: Job, text: str) -> str:
        if "\0" in text:
            raise Refused("A path has a character in it that no path can have.", "bad_argument")
        if text.startswith(PREFIX):
            path = self.uploads.path(text, job.owner)
            job.uploads.append(text.removeprefix(PREFIX))
            job.names[str(path)] = path.name
            job.confined[str(path)] = [str(path.parent), *([str(self.root)] if self.root else [])]
            return str(path)
        if not self.shared and not text.startswith(ROOT):
            if not os.path.isabs(text):
                raise Refused(
                    f"{text[:200]} is not a full path, and the service's folder is not yours.", "bad_argument"
                )
            return text
        if self.root is None:
            raise Refused("This service reads no files of its machine. Send yours (upload:...).", "outside_root", 403)
        path = Path(os.path.realpath(os.path.join(self.root, text.removeprefix(ROOT))))
        if not path.is_relative_to(self.root):
            raise Refused(f"{text[:200]} is not below the folder that this service reads.", "outside_root", 403)
        job.confined[str(path)] = [str(self.root)]
        return str(path)

    def _donors(self, job: Job, value: Any) -> Any:
        if isinstance(value, dict):
            return {path: self._donors(job, donor) for path, donor in value.items()}
        file, colon, prim = value.rpartition(":")
        return f"{self._file(job, file)}:{prim}" if colon and file else value

    def _check_weights(self, argument: str, name: str) -> None:
        if self.shared and name not in self.weights:
            known = ", ".join(sorted(self.weights)) or "none"
            raise Refused(
                f"{argument}: '{name[:100]}' is not among the weights that this service uses: {known}. Whoever runs it "
                "can add others (--allow-weights).",
                "bad_argument",
                403,
            )
