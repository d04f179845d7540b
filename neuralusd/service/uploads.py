"""Files that users sent: stored within limits, looked at, and given to their jobs."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .client import write_private
from .errors import Refused, not_found
from .packages import check_upload, safe_name

PREFIX = "upload:"
# A disk is left this much, whatever else is asked for.
SPARE = 500_000_000
# An upload that brings nothing for so many seconds is given up.
STALLED = 60.0


class Uploads:
    """Uploads by id. Only whole and checked ones are there.

    Args:
        folder: holds a folder for each. largest: bytes of one. quota: bytes of all.
    """

    def __init__(self, folder: Path, largest: int, quota: int):
        self.folder, self.largest, self.quota = folder, largest, quota
        self._coming = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[str, dict[str, Any]] = {}
        for each in list(folder.iterdir()):
            try:
                self._known[each.name] = json.loads((each / "upload.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):  # half an upload of a service that was killed
                shutil.rmtree(each, ignore_errors=True)

    async def store(self, owner: str, name: str, declared: int | None, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Stores what comes, and returns "id" and "bytes". Raises Refused, and then nothing is left of it."""
        name = safe_name(name)
        if (declared or 0) > self.largest:
            raise too_large(self.largest)
        self._make_room(declared or 0)
        identifier = secrets.token_urlsafe(18)
        folder = self.folder / identifier
        os.mkdir(folder, 0o700)
        size = 0
        try:
            path = folder / name
            with open(path, "xb") as file:
                async for block in _in_time(body):
                    size += len(block)
                    if size > self.largest:
                        raise too_large(self.largest)
                    self._coming += len(block)
                    self._make_room(0)
                    await asyncio.to_thread(file.write, block)
            if declared is not None and size != declared:
                raise Refused("The upload is not whole. Send it again.", "bad_upload")
            if not size:
                raise Refused(f"{name} is empty (0 bytes). Export it again.", "bad_upload")
            await asyncio.to_thread(check_upload, path)
            known = {"owner": owner, "name": name, "bytes": size, "used": time.time()}
            write_private(str(folder / "upload.json"), json.dumps(known))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self._coming -= size
        self._known[identifier] = known
        return {"id": PREFIX + identifier, "bytes": size}

    def _make_room(self, more: int) -> None:
        """Raises Refused where no further bytes can be taken."""
        held = sum(known["bytes"] for known in self._known.values()) + self._coming
        if held + more > self.quota or shutil.disk_usage(self.folder).free < SPARE + more:
            raise Refused(
                "The service has no room for further uploads. Delete those that you need no more, or try again later.",
                "no_room",
                507,
            )

    def path(self, name: str, owner: str) -> Path:
        """The file of a user's "upload:..."; raises Refused where it is not the user's."""
        identifier = name.removeprefix(PREFIX)
        known = self._known.get(identifier)
        if known is None or known["owner"] != owner:
            raise not_found("upload")
        known["used"] = time.time()
        return self.folder / identifier / known["name"]

    def remove(self, name: str, owner: str) -> None:
        self.path(name, owner)
        self.forget(name.removeprefix(PREFIX))

    def forget(self, identifier: str) -> None:
        self._known.pop(identifier, None)
        shutil.rmtree(self.folder / identifier, ignore_errors=True)

    def every(self) -> list[tuple[str, float, int]]:
        """Id, when last used (seconds since 1970) and bytes of each, the longest unused first."""
        found = [(identifier, known["used"], known["bytes"]) for identifier, known in self._known.items()]
        return sorted(found, key=lambda one: one[1])


def too_large(largest: int) -> Refused:
    return Refused(
        f"More than {largest / 1e6:.0f} MB are not taken here. Make the textures smaller, or ask whoever runs the "
        "service for a larger --max-upload.",
        "too_large",
        413,
    )


async def _in_time(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    iterator = aiter(body)
    while True:
        try:
            yield await asyncio.wait_for(anext(iterator), STALLED)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(f"Nothing came for {STALLED:.0f} seconds. Send it again.", "bad_upload", 408) from None
