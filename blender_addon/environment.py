# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment that the service runs in: a Python of its own with neuralusd and torch, beside Blender's.

Standard library only, and no bpy: it runs in a thread.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .problems import Problem
from .tasks import Stopped, Task

# Written last: an environment without it was not finished.
READY = "neuralusd-ready.json"
# Where torch has builds without CUDA, which for Linux are not on the general index.
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
NEEDED_BYTES = {"CPU": 4e9, "GPU": 12e9}
OLDEST = (3, 11)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what, whether it is well, what was found, and what to do about it."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


def python_of(folder: str) -> str | None:
    """The Python of a finished environment; None where there is none."""
    if not os.path.isfile(os.path.join(folder, READY)):
        return None
    return _python(folder)


def create(task: Task, folder: str, base: str, wheel: str, device: str) -> str:
    """Makes the environment, in place of one that is there, and returns its Python.

    What was there stays until the new one is complete.

    Args:
        base: the Python to make it with. wheel: of neuralusd, or what else pip can install. device: "CPU" or "GPU".

    Raises:
        Problem: what failed and what to do. Stopped: it was cancelled; nothing is left of it.
    """
    task.tell(0.01, "looking at Python")
    _check_base(base, folder, device)
    # An environment knows its own path, so it is made where it stays, and the one before is put aside.
    aside = folder + ".before"
    if os.path.isdir(folder):
        if python_of(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(folder, aside)
    try:
        _make(task, folder, base, wheel, device)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if os.path.isdir(aside):
            os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    return _python(folder)


def _make(task: Task, folder: str, base: str, wheel: str, device: str) -> None:
    task.tell(0.02, "making the environment")
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    run(task, [base, "-m", "venv", folder], 0.02, 0.08, "making the environment")
    python = _python(folder)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    constraints = os.path.join(os.path.dirname(wheel), "constraints.txt")
    pinned = ["--constraint", constraints] if os.path.isfile(constraints) else []
    if device == "CPU" and sys.platform.startswith("linux"):
        # Alone: that index has few of its dependencies, which come with the rest.
        alone = ["--no-deps", "--index-url", TORCH_CPU, "torch"]
        run(task, [*pip, *pinned, *alone], 0.08, 0.45, "getting torch", optional=True)
    run(task, [*pip, *pinned, wheel], 0.45, 0.9, "getting neuralusd and its libraries")
    task.tell(0.92, "trying it")
    said = output([python, "-c", "import neuralusd, torch; print(neuralusd.__version__, torch.__version__)"], task)
    with open(os.path.join(folder, READY), "w", encoding="utf-8") as file:
        json.dump({"versions": said.strip(), "device": device}, file)


def run(task: Task, command: Sequence[str], low: float, high: float, said: str, optional: bool = False) -> None:
    """Runs a command, its lines in the task's log; its end is that of the task where that is cancelled.

    Args:
        low, high: the task's fraction at its start and end; lines move it on between.
        optional: whether what follows may do without it.
    """
    task.tell(low, said)
    task.note("> " + " ".join(command))
    process = _start(command)
    lines, done = [], low
    try:
        for line in process.stdout:
            line = line.rstrip()
            if line:
                lines.append(line)
                task.note(line)
                done += (high - done) * 0.03
                words = line.split()
                doing = f"{said}: {words[1]}" if words[0] in ("Collecting", "Downloading") and len(words) > 1 else said
                task.tell(done, doing)
        status = process.wait()
    except BaseException:
        _kill(process)
        raise
    if status and not optional:
        raise Problem(f"{said.capitalize()} failed: {_reason(lines)}")
    if status:
        task.note(f"(exit status {status}; going on without)")
    task.tell(high, said)


def output(command: Sequence[str], task: Task) -> str:
    """What a short command prints. Raises Problem with its last line where it fails."""
    process = _start(command)
    try:
        said = []
        for line in process.stdout:
            task.check()
            said.append(line)
            task.note(line.rstrip())
    except BaseException:
        _kill(process)
        raise
    if process.wait():
        raise Problem(f"neuralusd was installed, but does not start: {_reason([s.rstrip() for s in said])}")
    return "".join(said)


def look(python: str | None, wheel_version: str = "") -> list[Finding]:
    """What there is of what a service on this computer needs, found without starting one."""
    if python is None:
        cure = "Press Set Up; or name a Python that has neuralusd under Python"
        return [Finding("Environment", False, "neuralusd is not installed on this computer yet", cure)]
    if not os.path.isfile(python):
        return [
            Finding("Python", False, f"there is no file {python}", "Correct the path, or empty it and press Set Up")
        ]
    code = (
        "import sys, json, importlib.util as u, importlib.metadata as m\n"
        "def v(n):\n"
        "    try: return m.version(n)\n"
        "    except m.PackageNotFoundError: return None\n"
        "names = ['neuralusd', 'torch', 'usd-core', 'fastapi', 'uvicorn', 'diffusers', 'transformers']\n"
        "print(json.dumps([sys.version.split()[0], list(sys.version_info[:2]), {n: v(n) for n in names}]))\n"
    )
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, env=clean_environment(), **_quiet()
        )
        version, pair, found = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        return [Finding("Python", False, f"{python} does not run ({error})", "Name another, or press Set Up")]
    out = [Finding("Python", True, f"{version} at {python}")]
    if tuple(pair) < OLDEST:
        out[0] = Finding(
            "Python", False, f"{python} is Python {version}", "neuralusd needs 3.11 or newer: press Set Up"
        )
    for name, there in found.items():
        if there is None:
            cure = f"Press Set Up; or, in that Python's environment: pip install {name}"
            out.append(Finding(name, False, "is not installed", cure))
    if found["neuralusd"] and wheel_version and found["neuralusd"] != wheel_version:
        detail = f"{found['neuralusd']} is installed, the extension comes with {wheel_version}"
        out.append(Finding("neuralusd", True, detail, "Press Set Up to update it"))
    elif found["neuralusd"] and found["torch"]:
        out.append(Finding("neuralusd", True, f"{found['neuralusd']} with torch {found['torch']}"))
    return out


def clean_environment() -> dict[str, str]:
    """The environment variables for another Python: not those that Blender's was started with."""
    foreign = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PXR_PLUGINPATH_NAME", "LD_PRELOAD", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _check_base(base: str, folder: str, device: str) -> None:
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [base, "-c", code], capture_output=True, text=True, timeout=60, env=clean_environment(), **_quiet()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Problem(f"{base} does not run ({error}), so no environment can be made with it.") from error
    if done.returncode:
        last = _reason(done.stderr.splitlines())
        raise Problem(
            f"{base} cannot make environments ({last}). On Debian and Ubuntu: apt install python3-venv. Or install "
            "neuralusd by hand, and name its Python in the preferences."
        )
    pair = tuple(int(part) for part in done.stdout.split())
    if pair < OLDEST:
        raise Problem(f"{base} is Python {pair[0]}.{pair[1]}; neuralusd needs 3.11 or newer.")
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if free < NEEDED_BYTES[device]:
        raise Problem(
            f"{parent} has {free / 1e9:.1f} GB free, and this takes about {NEEDED_BYTES[device] / 1e9:.0f}. Make room "
            "first."
        )


def _python(folder: str) -> str:
    return os.path.join(folder, *(("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")))


def _quiet() -> dict[str, object]:
    return {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {}


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    apart = _quiet() if sys.platform == "win32" else {"start_new_session": True}
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**clean_environment(), "PYTHONUNBUFFERED": "1"},
            **apart,
        )
    except OSError as error:
        raise Problem(f"{command[0]} does not run ({error.strerror}).") from error


def _kill(process: subprocess.Popen[str]) -> None:
    """Ends a process and what it started."""
    try:
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, **_quiet())
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        pass
    process.wait()


def _reason(lines: Sequence[str]) -> str:
    """The line that says what is wrong, of a command that failed."""
    said = [line.strip() for line in lines if line.strip()]
    errors = [line for line in said if line.startswith("ERROR:")]
    network = (
        "Name or service not known",
        "Temporary failure in name resolution",
        "getaddrinfo failed",
        "Network is unreachable",
    )
    if any(word in line for line in said for word in network):
        return "there is no connection to the internet. Connect, and press Set Up again"
    return (errors or said or ["it said nothing"])[-1].removeprefix("ERROR: ")


__all__ = ["Finding", "Stopped", "create", "look", "python_of"]
