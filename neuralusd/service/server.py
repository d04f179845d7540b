"""Runs a service: the socket, the signals, the file that says where it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from .._version import __version__
from .app import make_app
from .client import PROTOCOL, Lock, ServiceError, ServiceUnavailable, make_private_folder, write_private
from .gate import Gate, own_names
from .service import Service, Settings
from .users import LOCAL, Users, own_token

# Connections that may be open at once; more are refused with 503.
CONNECTIONS = 1000


class _Server(uvicorn.Server):
    """Whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(
    settings: Settings,
    *,
    state: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    users: Users | None = None,
    names: list[str] | None = None,
    certificate: tuple[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Runs a service until it is stopped, and returns why it was.

    Args:
        state: folder with the lock, and (of the user's own service) the token and service.json.
        users: of a shared service; None is the user's own. names: further names that it may be called by.
        certificate: files of the certificate and its key, for https.
        say: takes lines for people.

    Raises:
        ServiceUnavailable: another one runs, or the address cannot be had.
    """
    make_private_folder(str(state))
    lock = Lock(str(state / "service.lock"))
    if not lock.acquire(1.0):
        raise ServiceUnavailable(f"A service with the state folder {state} runs already{_where(state)}.", "running")
    with contextlib.closing(lock), contextlib.closing(_bind(host, port)) as listening:
        token = "" if settings.shared else own_token(state)
        scheme = "https" if certificate else "http"
        shown = f"[{host}]" if ":" in host else host
        url = f"{scheme}://{shown}:{listening.getsockname()[1]}"
        return asyncio.run(_run(settings, state, listening, url, token, users, names or [], certificate, say))


async def _run(
    settings: Settings,
    state: Path,
    listening: socket.socket,
    url: str,
    token: str,
    users: Users | None,
    names: list[str],
    certificate: tuple[str, str] | None,
    say: Callable[[str], None],
) -> str:
    service = Service(settings, token)
    gate = Gate(
        make_app(service),
        users=users or Users({token: LOCAL}),
        names=own_names(settings.shared, names),
        shared=settings.shared,
        largest_upload=settings.largest_upload,
        active=service.active,
    )
    config = uvicorn.Config(
        gate,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        ssl_certfile=certificate[0] if certificate else None,
        ssl_keyfile=certificate[1] if certificate else None,
    )
    try:
        config.load()
    except OSError as error:  # ssl's errors are of this kind
        files = " and ".join(certificate or ())
        raise ServiceUnavailable(
            f"{files} are no certificate and its key ({error.strerror or error}). Give both as PEM.", "certificate"
        ) from error
    server = _Server(config)
    own = None if settings.shared else state / "service.json"
    with _signals(service):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        working = asyncio.create_task(service.run())
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if own is not None and not serving.done():
                said = {"url": url, "pid": os.getpid(), "version": __version__, "protocol": PROTOCOL}
                write_private(str(own), json.dumps({**said, "python": sys.executable, "started": time.time()}))
            if not serving.done():
                say(f"neuralusd {__version__} serves at {url}")
            await asyncio.wait({serving, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if own is not None:
                own.unlink(missing_ok=True)
            service.stop("it ended")
            server.should_exit = True
            await asyncio.gather(serving, working)
    return service.why


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    """SIGTERM, Ctrl-C and a closed terminal stop the service."""
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None = None) -> None:
        loop.call_soon_threadsafe(service.stop, f"of {signal.Signals(number).name}")

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bind(host: str, port: int) -> socket.socket:
    try:
        [family, _, _, _, address] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there it would let others take the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
        return listening
    except OSError as error:
        raise ServiceUnavailable(
            f"{host}:{port} cannot be listened at ({error.strerror or error}). Choose another --port, or --host.",
            "port",
        ) from error


def _where(state: Path) -> str:
    try:
        return " at " + str(json.loads((state / "service.json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


__all__ = ["ServiceError", "Settings", "serve"]
