"""Talks to a neuralusd service: finds or starts the user's own, or uses one on another machine.

Python 3.10 to 3.13, standard library only, one file: an extension may carry a copy of it. Nothing here imports torch,
USD or the rest of neuralusd.

    client = connect()                                     # the user's own service, started if there is none
    job = client.submit("render", stage="shot.usda", camera="/World/Cam", size=[1280, 720], encode=True)
    result = job.wait(on_progress=lambda event: print(event["progress"]))
    job.download("image.png", "out.png")
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import http.client
import importlib.util
import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

PROTOCOL = 2
"""What this client speaks. A service of another protocol is refused, and refuses this client."""

ENDED = ("done", "failed", "cancelled")
BLOCK = 1 << 20
# A service of one's own that a client started stops after so many minutes in which nobody asked it for anything.
IDLE_MINUTES = 30
# How long a service that was there may be gone (restarted, network) before a wait for it is given up.
PATIENCE = 20.0


class ServiceError(Exception):
    """What is wrong and the cure, in a sentence or two.

    Attributes:
        code: the kind in one word, as "busy", "unauthorized", "bad_argument".
        retry_after: seconds after which to try again, where the service says so ("busy").
    """

    def __init__(self, message: str, code: str = "error", retry_after: float | None = None):
        super().__init__(message)
        self.code, self.retry_after = code, retry_after


class ServiceUnavailable(ServiceError):
    """There is no service, it cannot be started, or it does not answer."""


class VersionMismatch(ServiceError):
    """Client and service speak different protocols."""


class JobFailed(ServiceError):
    """A job ended without a result; the message is the reason."""


class JobCancelled(ServiceError):
    """A job was cancelled."""


# -- finding, starting ----------------------------------------------------------------------------------------------


def connect(
    url: str | None = None,
    token: str | None = None,
    *,
    python: str | None = None,
    start: bool = True,
    cache: str | None = None,
    timeout: float = 60.0,
) -> Client:
    """A client of the service at `url`, or of the user's own on this machine, which is started if there is none.

    However many ask at once, one service is started.

    Args:
        url: as "http://gpu:8750". None is the user's own. token: of that service; None reads NEURALUSD_TOKEN.
        python: the Python that has neuralusd, to start the service with; None takes the running one if it has it.
        start: whether to start one. cache: folder for results, uploads and downloaded weights of a service that is
            started; None takes the user's state folder.
        timeout: seconds that starting may take.

    Raises:
        ServiceUnavailable: there is none, it did not start, or it does not answer; the message says why.
        VersionMismatch: it speaks another protocol. ServiceError: the token is missing or wrong.
    """
    if url is not None:
        token = token or os.environ.get("NEURALUSD_TOKEN")
        if not token:
            raise ServiceError(
                f"The service at {url} wants a token. Ask whoever runs it for yours, and give it here or in "
                "NEURALUSD_TOKEN.",
                "unauthorized",
            )
        client = Client(url, token)
        client._greet(timeout)
        return client
    folder = state_folder()
    found = _local(folder, python, start, cache, timeout)
    again = functools.partial(_local, folder, python, start, cache, timeout)
    client = Client(found["url"], found["token"], local=True, restart=again)
    client._greet(timeout)
    return client


def state_folder() -> str:
    """Where the user's own service says that it is there: XDG's state folder, or the system's equivalent.

    NEURALUSD_STATE names another one.
    """
    if os.environ.get("NEURALUSD_STATE"):
        return os.path.abspath(os.environ["NEURALUSD_STATE"])
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        return os.path.join(os.environ.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local"), "neuralusd")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "neuralusd")
    state = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(state if os.path.isabs(state) else os.path.join(home, ".local", "state"), "neuralusd")


def _local(folder: str, python: str | None, start: bool, cache: str | None, timeout: float) -> dict[str, Any]:
    """Address and token of the user's own service, which is started where it may be and none answers."""
    found = _find(folder)
    if found is None and start:
        make_private_folder(folder)
        lock = Lock(os.path.join(folder, "starting.lock"))
        if not lock.acquire(timeout):
            raise ServiceUnavailable(
                f"Another program has been starting the service for {timeout:.0f} seconds. Wait, and try again; "
                f"{os.path.join(folder, 'service.log')} says what it does.",
                "starting",
            )
        with contextlib.closing(lock):
            found = _find(folder) or _start(folder, python, cache, timeout)
    if found is None:
        raise ServiceUnavailable("No neuralusd service of yours runs here. Start one: neuralusd serve", "not_running")
    return found


def _find(folder: str) -> dict[str, Any] | None:
    """What service.json says, if the service that wrote it answers and proves that it knows the user's token."""
    try:
        text = read_private(os.path.join(folder, "service.json"))
        token = read_private(os.path.join(folder, "token")).strip()
        said = json.loads(text)
        url = str(said["url"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServiceUnavailable(
            f"{folder} cannot be read ({error.strerror}). Name another in NEURALUSD_STATE."
        ) from error
    except (ValueError, KeyError, TypeError):  # half a file, or somebody else's
        return None
    challenge = secrets.token_hex(16)
    try:
        health = Client(url, "")._call("GET", f"/v1/health?challenge={challenge}", timeout=5)
    except VersionMismatch:
        raise
    except ServiceError:
        return None
    # Another user's program may have the port by now; it must not be sent the token.
    if not hmac.compare_digest(str(health.get("proof")), proof(token, challenge)):
        return None
    if health.get("protocol") != PROTOCOL and _retire(url, token, health):
        return None
    return {**said, "token": token}


def _retire(url: str, token: str, health: Mapping[str, Any]) -> bool:
    """Stops one's own service of an older protocol, as an update leaves it behind, if it has nothing to do."""
    if not isinstance(health.get("protocol"), int) or health["protocol"] > PROTOCOL:
        return False
    try:
        Client(url, token)._call("POST", "/v1/shutdown", {"if_idle": True}, timeout=5)
    except ServiceError:
        return False
    for _ in range(100):
        time.sleep(0.1)
        try:
            Client(url, "")._call("GET", "/v1/health", timeout=1)
        except ServiceError:
            return True
    return False


def _start(folder: str, python: str | None, cache: str | None, timeout: float) -> dict[str, Any]:
    if python is None:
        if importlib.util.find_spec("neuralusd") is None:
            raise ServiceUnavailable(
                "No neuralusd service runs here, and this Python has no neuralusd to start one with. Name the Python "
                "that has it (python=).",
                "no_python",
            )
        python = sys.executable
    command = [python, "-m", "neuralusd", "serve", "--port", "0", "--idle-exit", str(IDLE_MINUTES)]
    command += ["--cache", os.path.abspath(cache)] if cache else []
    log = os.path.join(folder, "service.log")
    with contextlib.suppress(OSError):
        os.replace(log, f"{log}.1")
    # A DCC's own Python and USD, named by its environment, are not for this process.
    mine = os.path.normcase(os.path.abspath(python)) == os.path.normcase(os.path.abspath(sys.executable))
    foreign = () if mine else ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PXR_PLUGINPATH_NAME", "LD_PRELOAD")
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    # The service belongs to nobody's terminal or window: it stays when the program that started it goes.
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        apart = {"creationflags": flags}
    try:
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**environment, "NEURALUSD_STATE": folder},
                **apart,
            )
        # Takes note of its end, whenever that is, so that it leaves no zombie in a program that runs for days.
        threading.Thread(target=process.wait, daemon=True).start()
    except OSError as error:
        raise ServiceUnavailable(
            f"{python} does not run ({error.strerror}). Name the Python that has neuralusd.", "no_python"
        ) from error
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found = _find(folder)
        if found is not None:
            return found
        if process.poll() is not None:
            raise ServiceUnavailable(f"The service did not start: {_last_words(log)}", "did_not_start")
        time.sleep(0.1)
    process.kill()
    raise ServiceUnavailable(
        f"The service did not answer within {timeout:.0f} seconds: {_last_words(log)}", "did_not_start"
    )


def _last_words(log: str) -> str:
    try:
        with open(log, encoding="utf-8", errors="replace") as lines:
            said = [line.strip() for line in lines if line.strip()]
    except OSError:
        said = []
    where = f"{log} has the rest."
    return f"{said[-1].rstrip('.')}. {where}" if said else f"it said nothing. {where}"


# -- files of one's own ---------------------------------------------------------------------------------------------


def proof(token: str, challenge: str) -> str:
    """What shows that a service knows the token, without its being sent."""
    return hmac.new(token.encode(), f"neuralusd:{challenge}".encode(), hashlib.sha256).hexdigest()


def make_private_folder(folder: str) -> None:
    """Makes a folder that only its user can enter. Raises ServiceError where it is another user's."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if hasattr(os, "getuid"):
        found = os.stat(folder)
        if found.st_uid != os.getuid():
            raise ServiceError(f"{folder} belongs to another user. Name another one in NEURALUSD_STATE.", "not_private")
        if found.st_mode & 0o077:
            os.chmod(folder, 0o700)


def read_private(path: str) -> str:
    """A file that only its user can read. Raises ServiceError where others could have read or written it."""
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), encoding="utf-8") as opened:
        if hasattr(os, "getuid"):
            found = os.fstat(opened.fileno())
            if found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise ServiceError(
                    f"{path} can be read by others than you, so it is no secret. Delete it; a new one is made.",
                    "not_private",
                )
        return opened.read()


def write_private(path: str, text: str) -> None:
    """Writes a file that only its user can read, whole or not at all."""
    partial = f"{path}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


class Lock:
    """A file that one process at a time holds; the system lets go of it when that process ends, however it ends."""

    def __init__(self, path: str):
        self.path = path
        self._file: Any = None

    def acquire(self, timeout: float = 0.0) -> bool:
        """Whether it is held now; waits so many seconds for it."""
        until = time.monotonic() + timeout
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        while True:
            try:
                if sys.platform == "win32":
                    import msvcrt

                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    import fcntl

                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= until:
                    file.close()
                    return False
                time.sleep(0.05)
            else:
                self._file = file
                return True

    def close(self) -> None:
        """Lets go."""
        if self._file is not None:
            self._file.close()
            self._file = None


# -- talking --------------------------------------------------------------------------------------------------------


class Client:
    """A service that answers. Made by `connect`; may be used from several threads.

    Attributes:
        url: of the service. version: of neuralusd there.
        local: whether it is the user's own on this machine, which reads the user's files; another one gets uploads.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        local: bool = False,
        restart: Callable[[], dict[str, Any]] | None = None,
    ):
        self.url, self.local, self.version = url.rstrip("/"), local, ""
        self._token, self._restart = token, restart
        self._verbs: dict[str, Any] = {}

    def info(self) -> dict[str, Any]:
        """What the service is and offers.

        Returns:
            "protocol", "version", "verbs" (name to "arguments", those that are "files", those that are "donors"; only
            what is offered), "backends" (names), "device" (None until the worker has started), "local", "limits"
            ("upload", bytes; "queue" and "queue_each", jobs; "keep_hours").
        """
        return self._retried("GET", "/v1/info")

    def upload(self, path: str | os.PathLike[str], progress: Callable[[int, int], Any] | None = None) -> str:
        """Sends a file, and returns the name ("upload:...") that a job's argument may have in place of a path.

        Args:
            progress: called with (bytes sent, bytes); returning True stops it.

        Raises:
            ServiceError: there is no such file, or the service does not take it; says why. JobCancelled: stopped.
        """
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise ServiceError(f"{path} is no file that could be sent. Check the path.", "bad_argument")
        size = os.path.getsize(path)
        target = "/v1/uploads?" + urllib.parse.urlencode({"name": os.path.basename(path)})

        def body() -> Iterator[bytes]:
            sent = 0
            with open(path, "rb") as file:
                while block := file.read(BLOCK):
                    yield block
                    sent += len(block)
                    if progress is not None and progress(sent, size):
                        raise JobCancelled(f"Sending {os.path.basename(path)} was cancelled.", "cancelled")

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        return str(self._retried("POST", target, body, headers=headers, timeout=120)["id"])

    def submit(self, verb: str, **arguments: Any) -> Job:
        """Asks for a job, and returns as soon as it is queued.

        Args:
            verb: "encode", "encode_photo", "render", "edit", "resample", "lift": see `info()["verbs"]`.
            arguments: of the verb; None is as good as leaving it away. A file is a path; to a service that is not
                local it is sent first, unless it is "upload:..." (see `upload`) or "root:..." (a file there).

        Raises:
            ServiceError: an argument is wrong ("bad_argument"), the queue is full ("busy"), or the verb is not built
                ("not_offered").
        """
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if not self._verbs:
            self._verbs = self.info()["verbs"]
        shape = self._verbs.get(verb, {})
        for name in shape.get("files", ()):
            if name in arguments:
                arguments[name] = self._file(arguments[name])
        for name in shape.get("donors", ()):
            if name in arguments:
                arguments[name] = self._donors(arguments[name])
        # The key makes it the same job when the answer got lost and it is asked for again.
        asked = {"verb": verb, "arguments": arguments, "key": secrets.token_hex(16)}
        return Job(self, str(self._retried("POST", "/v1/jobs", asked)["id"]))

    def job(self, identifier: str) -> Job:
        """A job by its id, as one that was submitted before a restart of the program."""
        return Job(self, identifier)

    def jobs(self) -> list[dict[str, Any]]:
        """The states of the user's jobs, the latest first."""
        return list(self._retried("GET", "/v1/jobs")["jobs"])

    def shutdown(self) -> None:
        """Stops the user's own service."""
        self._call("POST", "/v1/shutdown", {})

    def _file(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._file(one) for one in value]
        text = os.fspath(value)
        if text.startswith(("upload:", "root:")):
            return text
        return os.path.abspath(text) if self.local else self.upload(text)

    def _donors(self, value: Any) -> Any:
        """Donors, "/World/Bottle" or "other.usda:/World/Bottle", with their files as the service can read them."""
        if isinstance(value, Mapping):
            return {path: self._donors(donor) for path, donor in value.items()}
        file, colon, prim = str(value).rpartition(":")
        return f"{self._file(file)}:{prim}" if colon and file else value

    # -- requests

    def _greet(self, timeout: float) -> None:
        """Checks that both speak the same protocol and that the token is right."""
        self._check(self._retried("GET", "/v1/health", patience=min(timeout, 5.0)))
        self.version = str(self.info()["version"])

    def _check(self, health: Mapping[str, Any]) -> None:
        theirs = health.get("protocol")
        if health.get("service") != "neuralusd" or not isinstance(theirs, int):
            raise ServiceUnavailable(f"What answers at {self.url} is no neuralusd service. Check the address.", "other")
        if theirs != PROTOCOL:
            raise VersionMismatch(_mismatch(theirs, str(health.get("version")), self.url), "version")

    def _retried(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        patience: float = PATIENCE,
    ) -> dict[str, Any]:
        """`_call` of what does no harm when it is asked twice, again where the connection broke."""
        until, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return self._call(method, path, body, headers=headers, timeout=timeout)
            except VersionMismatch:
                raise
            except ServiceUnavailable:
                if time.monotonic() >= until:
                    raise
                if not self._find_again():
                    time.sleep(pause)
                    pause = min(2 * pause, 2.0)

    def _find_again(self) -> bool:
        """Whether the user's own service has another address by now, or was started again."""
        if self._restart is None:
            return False
        try:
            found = self._restart()
        except VersionMismatch:
            raise
        except ServiceError:
            return False
        moved = found["url"] != self.url
        self.url, self._token = found["url"], found["token"]
        return moved

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """The JSON that the service answers. Raises ServiceError with its reason, or ServiceUnavailable."""
        with self._open(method, path, body, headers=headers, timeout=timeout) as response:
            try:
                found = json.loads(response.read())
                if not isinstance(found, dict):
                    raise ValueError("not an object")
                return found
            except (OSError, http.client.HTTPException) as error:
                raise self._unavailable(error) from error
            except ValueError as error:
                raise ServiceUnavailable(
                    f"What answers at {self.url} is no neuralusd service. Check the address.", "other"
                ) from error

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Iterator[http.client.HTTPResponse]:
        """A successful response, its body still to be read."""
        where = urllib.parse.urlsplit(self.url)
        secure = where.scheme == "https"
        if where.scheme not in ("http", "https") or not where.hostname:
            raise ServiceUnavailable(f"{self.url} is no address of a service. Write it as http://gpu:8750", "other")
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(where.hostname, where.port, timeout=timeout)
        sent = {"Authorization": f"Bearer {self._token}", "Neuralusd-Protocol": str(PROTOCOL), **(headers or {})}
        if not self._token:
            del sent["Authorization"]
        if body is not None and not callable(body):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            try:
                # Not gone through: an answer may be there all the same, as that the body is too large.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, path, body() if callable(body) else body, sent)
                response = connection.getresponse()
            except ssl.SSLError as error:
                raise ServiceUnavailable(f"{self.url} cannot be trusted: {error}.", "other") from error
            except (OSError, http.client.HTTPException) as error:
                raise self._unavailable(error) from error
            if response.status >= 400:
                raise self._refusal(response)
            yield response
        finally:
            connection.close()

    def _unavailable(self, error: Exception) -> ServiceUnavailable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ServiceUnavailable(
            f"The service at {self.url} does not answer ({reason}). Check that it runs and can be reached.",
            "no_answer",
        )

    def _refusal(self, response: http.client.HTTPResponse) -> ServiceError:
        try:
            error = json.loads(response.read(BLOCK))["error"]
            message, code = str(error["message"]), str(error["code"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return ServiceUnavailable(
                f"What answers at {self.url} says {response.status} {response.reason}, and is no neuralusd service.",
                "other",
            )
        if response.status == 426:
            theirs = response.headers.get("Neuralusd-Protocol", "")
            version = response.headers.get("Neuralusd-Version", "")
            return VersionMismatch(_mismatch(int(theirs), version, self.url) if theirs.isdigit() else message, code)
        if response.status == 503:
            return ServiceUnavailable(message, code)
        after = response.headers.get("Retry-After", "")
        return ServiceError(message, code, float(after) if after.isdigit() else None)


def _mismatch(theirs: int, version: str, url: str) -> str:
    both = (
        f"The service at {url} is neuralusd {version}, which speaks protocol {theirs}; this program speaks {PROTOCOL}."
    )
    if theirs < PROTOCOL:
        return f"{both} Update neuralusd where the service runs (pip install --upgrade neuralusd), and start it again."
    return f"{both} Update this program (its neuralusd extension or package)."


class Job:
    """A job of a service.

    Attributes:
        id: nobody can guess it, and only its owner can use it.
    """

    def __init__(self, client: Client, identifier: str):
        self.client, self.id = client, identifier
        self._path = "/v1/jobs/" + urllib.parse.quote(identifier, safe="")

    def state(self) -> dict[str, Any]:
        """How it is now.

        Returns:
            "id", "verb", "state" ("queued", "running", "done", "failed", "cancelled"), "position" (jobs that come
            before it), "progress" ("step" of "steps", "label"), "preview" (number of the latest intermediate picture,
            0 for none), "error" (None, or "code" and "message"), "log" (lines), "result" (None, or of the verb),
            "files" (names for `download`).
        """
        return self.client._retried("GET", self._path)

    def events(self, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Each change as it comes, until the job has ended; a dropped connection is taken up where it broke.

        Each has "seq", "event" ("state", "progress", "log", or "queue": another position), "state", "position",
        "progress" and "preview"; those of the log have "line"; the last has "error" and "files".

        Args:
            timeout: seconds after which to stop, ended or not.
        """
        for event in self._stream(timeout, beat=2.0 if timeout is None else min(2.0, max(timeout / 4, 0.1))):
            if event is not None:
                yield event

    def preview(self) -> bytes | None:
        """The PNG of the latest intermediate picture, if there is one."""
        with self.client._open("GET", f"{self._path}/preview") as response:
            return response.read() if response.status == 200 else None

    def wait(
        self,
        on_progress: Callable[[dict[str, Any]], Any] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """The result, once it is there.

        Args:
            on_progress: called with each event (see `events`). cancelled: asked several times a second; True cancels.

        Raises:
            JobFailed: with the reason. JobCancelled. ServiceUnavailable: the service is gone, and did not come back.
        """
        asked = False
        for event in self._stream(None, beat=0.2 if cancelled else 2.0):
            if event is not None and on_progress is not None:
                on_progress(event)
            if cancelled is not None and not asked and cancelled():
                asked = True
                self.cancel()
        state = self.state()
        if state["state"] == "done":
            return dict(state["result"] or {})
        error = state["error"] or {"code": state["state"], "message": f"The job is {state['state']}."}
        kind = JobCancelled if state["state"] == "cancelled" else JobFailed
        raise kind(error["message"], error["code"])

    def download(self, name: str, path: str | os.PathLike[str]) -> str:
        """Writes a file of the result to `path`, whole or not at all, and returns the path."""
        path = os.path.abspath(os.fspath(path))
        partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.part")
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._fetch(name, partial)
                os.replace(partial, path)
                return path
            except ServiceUnavailable:
                if time.monotonic() >= until:
                    raise
                if not self.client._find_again():
                    time.sleep(0.5)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(partial)

    def cancel(self) -> None:
        """Asks it to stop: one that waits at once, one that runs at its next step. One that has ended stays so."""
        self.client._retried("POST", f"{self._path}/cancel", {})

    def remove(self) -> None:
        """Deletes an ended job and its files from the service."""
        self.client._retried("DELETE", self._path)

    def _fetch(self, name: str, partial: str) -> None:
        target = f"{self._path}/files/{urllib.parse.quote(name, safe='')}"
        with self.client._open("GET", target, timeout=60) as response:
            left = int(response.headers["Content-Length"])
            try:
                with open(partial, "xb") as file:
                    while block := response.read(BLOCK):
                        file.write(block)
                        left -= len(block)
            except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
                raise self.client._unavailable(error) from error
            if left:
                raise self.client._unavailable(ConnectionError("the connection broke"))

    def _stream(self, timeout: float | None, beat: float) -> Iterator[dict[str, Any] | None]:
        """Events, and None every `beat` seconds in which there is none."""
        until = None if timeout is None else time.monotonic() + timeout
        seen, gone, pause = 0, None, 0.1
        while until is None or time.monotonic() < until:
            try:
                query = f"{self._path}/events?after={seen}&beat={beat}"
                with self.client._open("GET", query, timeout=beat + 15) as response:
                    for event in self._lines(response):
                        gone, pause = None, 0.1
                        if event["event"] == "beat":
                            yield None
                        else:
                            seen = event["seq"]
                            yield event
                            if event["event"] == "state" and event["state"] in ENDED:
                                return
                        if until is not None and time.monotonic() >= until:
                            return
            except ServiceUnavailable:
                now = time.monotonic()
                gone = gone or now
                if now - gone >= PATIENCE:
                    raise
                yield None
                if self.client._find_again():
                    seen = 0
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        while True:
            try:
                line = response.readline()
            except (OSError, http.client.HTTPException) as error:
                raise self.client._unavailable(error) from error
            if not line.endswith(b"\n"):  # the connection ended, perhaps within a line
                return
            yield json.loads(line)
