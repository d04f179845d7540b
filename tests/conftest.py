"""What several tests share: no network, one thread a worker, and what may be absent."""

import os
import subprocess
import sys
from pathlib import Path

# Before torch is imported: a worker a core, and a thread a worker, or they fight for the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
# Tests make their own small models; none may reach a hub.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402
from blender_process import blenders, installed, service  # noqa: E402

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def usd_wg() -> Path:
    """Assets of the USD Working Group, beside the project where they are at hand."""
    folder = PROJECT.parent / "shared/data/usd-wg"
    if not folder.is_dir():
        pytest.skip(f"the USD Working Group's assets are not beside the project ({folder.relative_to(PROJECT.parent)})")
    return folder


@pytest.fixture(scope="session")
def blender_python() -> str:
    """A Python that imports bpy, for tests that run Blender in a process of its own."""
    probe = subprocess.run([sys.executable, "-c", "import bpy"], capture_output=True, text=True)
    if probe.returncode:
        reason = probe.stderr.strip().splitlines()[-1] if probe.stderr.strip() else f"exit status {probe.returncode}"
        pytest.skip(f"Blender's module does not import here ({reason}): pip install 'neuralusd[blender]'")
    return sys.executable


@pytest.fixture(scope="module")
def blender_service(tmp_path_factory):
    """A real compute service for the tests of a module, as the variables of the environment that say where it is."""
    with service(tmp_path_factory.mktemp("state")) as found:
        yield found


@pytest.fixture(scope="module", params=blenders())
def blender(request, blender_python, blender_service, tmp_path_factory):
    """Blender with the extension installed; each there is, with a second one where the environment names it."""
    return installed(request.param or blender_python, tmp_path_factory.mktemp("blender"), blender_service)
