"""What every request has to pass: the right host, no browser, a token, the same protocol, a body within limits."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from .._version import __version__
from .client import PROTOCOL
from .errors import Refused
from .users import Users

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# Of what is not an upload.
LARGEST_BODY = 1_000_000
# What is read of a refused body: bytes, seconds, and seconds in which nothing more of it comes.
DRAINED_BYTES = 8_000_000
DRAINED_SECONDS = 30.0
DRAINED_PAUSE = 3.0


def own_names(shared: bool, more: Iterable[str] = ()) -> set[str]:
    """The names by which a request may call this service."""
    names = {*LOOPBACK, *(name.lower() for name in more)}
    if shared:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return names


class Gate:
    """An ASGI application around another, which is reached only by what passes.

    Args:
        names: by which the service may be called (`own_names`). shared: whether also by any address in numbers.
        largest_upload: bytes.
        active: called for every request that passes, with the moment.
    """

    def __init__(
        self,
        app: Any,
        *,
        users: Users,
        names: set[str],
        shared: bool,
        largest_upload: int,
        active: Callable[[float], None],
    ):
        self.app, self.users, self.names, self.shared = app, users, names, shared
        self.largest_upload, self.active = largest_upload, active

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets here
            return
        begun = False
        body = _Body(scope, receive, lambda: self._limit(scope), lambda: self._too_large(scope))

        async def sending(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = [*message.get("headers", []), *_HEADERS]
                if not body.whole:  # the rest of it is not waited for
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            scope["user_name"] = self._check(scope)
            await self.app(scope, body.receive, sending)
        except Refused as refused:
            if begun:
                raise
            await body.drain()
            await _refuse(sending, refused)

    def _check(self, scope: dict[str, Any]) -> str:
        """The user's name, empty for what needs none. Raises Refused."""
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._is_mine(hosts[0]):
            raise Refused(
                "The service is not known by this name. Use its address in numbers, or start it with --allow-host.",
                "host",
                421,
            )
        if b"origin" in headers or headers.get(b"sec-fetch-site", ["none"]) != ["none"]:
            raise Refused("Pages of the web may not use this service.", "origin", 403)
        if scope["path"] == "/v1/health":
            return ""
        [given, *others] = headers.get(b"authorization", [""])
        kind, _, token = given.partition(" ")
        user = self.users.find(token.strip()) if kind.lower() == "bearer" and token and not others else None
        if user is None:
            raise Refused(
                "The token is missing or wrong. Ask whoever runs this service for yours.",
                "unauthorized",
                401,
                {"WWW-Authenticate": "Bearer"},
            )
        self.active(time.monotonic())
        spoken = headers.get(b"neuralusd-protocol", [str(PROTOCOL)])
        # Stopping it is the same in all protocols, or no newer client could.
        if spoken != [str(PROTOCOL)] and scope["path"] != "/v1/shutdown":
            raise Refused(
                f"This service speaks protocol {PROTOCOL} (neuralusd {__version__}), the client {spoken[0][:20]}. "
                "Update the older one.",
                "version",
                426,
            )
        length = headers.get(b"content-length", ["0"])[0]
        if not length.isdigit() or int(length) > self._limit(scope):
            raise self._too_large(scope)
        return user

    def _is_mine(self, host: str) -> bool:
        name, bracket, _ = host.rpartition("]")
        name = (name + bracket).strip("[]") if bracket else host.partition(":")[0]
        name = name.lower().rstrip(".")
        if name in self.names:
            return True
        try:  # a name that is rebound to this machine is a name, never numbers
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.shared

    def _limit(self, scope: dict[str, Any]) -> int:
        return self.largest_upload if scope["path"] == "/v1/uploads" else LARGEST_BODY

    def _too_large(self, scope: dict[str, Any]) -> Refused:
        from .uploads import too_large

        if scope["path"] == "/v1/uploads":
            return too_large(self.largest_upload)
        return Refused(f"The request is larger than {LARGEST_BODY // 1_000_000} MB.", "too_large", 413)


class _Body:
    """A request's body as it comes, counted, since it may not say how long it is.

    Attributes:
        whole: whether all of it has come.
    """

    def __init__(self, scope: dict[str, Any], receive: Any, limit: Callable[[], int], refusal: Callable[[], Refused]):
        headers = dict(scope["headers"])
        self._declared = headers.get(b"content-length", b"" if b"transfer-encoding" in headers else b"0")
        self.whole = self._declared == b"0"
        self._receive, self._limit, self._refusal, self._came = receive, limit, refusal, 0

    async def receive(self) -> dict[str, Any]:
        """Raises Refused where it is too much."""
        message: dict[str, Any] = await self._receive()
        self._came += len(message.get("body", b""))
        if self._came > self._limit():
            raise self._refusal()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.whole = True
        return message

    async def drain(self) -> None:
        """Drops what is still to come of a small body: who is cut off while sending can lose the answer (RFC 9112)."""
        if not self._declared.isdigit() or int(self._declared) > DRAINED_BYTES:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(DRAINED_SECONDS):
                while not self.whole:
                    message = await asyncio.wait_for(self._receive(), DRAINED_PAUSE)
                    self.whole = message["type"] != "http.request" or not message.get("more_body", False)


_HEADERS = [
    (b"neuralusd-protocol", str(PROTOCOL).encode()),
    (b"neuralusd-version", __version__.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


async def _refuse(send: Any, refused: Refused) -> None:
    body = json.dumps({"error": {"code": refused.code, "message": refused.message}}).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refused.headers}
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
