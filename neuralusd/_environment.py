"""What this machine has of what neuralusd needs: the environment part of `neuralusd doctor`."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Check(NamedTuple):
    """One finding.

    Attributes:
        name: what was looked at, in a word or two.
        ok: False when neuralusd cannot work, or not well, because of it. What is optional and absent is ok.
        detail: what was found.
        cure: what to do about it; empty when there is nothing to do.
    """

    name: str
    ok: bool
    detail: str
    cure: str = ""


REINSTALL = "reinstall neuralusd with its constraints file: pip install --constraint constraints.txt --editable ."
FREE_MEMORY_NEEDED = 2e9


def check_environment() -> list[Check]:
    """Looks at Python, USD and its schema, torch and its devices, the other libraries, the `mini` weights, memory.

    Takes seconds: it imports torch, and tries Blender's module in a process of its own. Never raises: what breaks is
    a finding.
    """
    checks: dict[str, Callable[[str], Check]] = {
        "python": _python,
        "usd": _usd,
        "schema": _schema,
        "torch": _torch,
        "gpu": _gpu,
        "libraries": _libraries,
        "ray casting": _ray_casting,
        "mini weights": lambda name: _shipped(name, "mini"),
        "lift weights": lambda name: _shipped(name, "mini_lift"),
        "resample weights": lambda name: _shipped(name, "mini_rooms"),
        "blender": _blender,
        "memory": _memory,
    }
    findings = []
    for name, check in checks.items():
        try:
            findings.append(check(name))
        except Exception as error:  # a broken installation can fail in any way; the finding says which
            findings.append(Check(name, False, f"{type(error).__name__}: {error}", REINSTALL))
    return findings


def check_weights(name: str, folder: Path) -> Check:
    """Whether `folder` is a whole pipeline in diffusers' format.

    It has an index, the configuration of every component, and tensors that open and are finite.
    """
    import torch
    from safetensors import safe_open

    cure = f"get {folder} again: it is part of neuralusd's repository and of its wheel"
    if not (folder / "model_index.json").is_file():
        return Check(name, False, f"{folder} has no model_index.json", cure)
    index = json.loads((folder / "model_index.json").read_text())
    components = [key for key, value in index.items() if isinstance(value, list) and value[0] is not None]
    missing = [component for component in components if not any((folder / component).glob("*.json"))]
    if missing:
        return Check(name, False, f"{folder} lacks the configuration of: {', '.join(missing)}", cure)
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        return Check(name, False, f"{folder} has no .safetensors file", cure)
    count = 0
    for file in files:
        if file.read_bytes()[:40].startswith(b"version https://git-lfs"):
            return Check(name, False, f"{file} is a Git LFS pointer, not weights", "run: git lfs pull")
        try:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():
                    tensor = tensors.get_tensor(key)
                    count += tensor.numel()
                    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                        return Check(name, False, f"{file}: {key} has values that are not finite", cure)
        except Exception as error:
            return Check(name, False, f"{file} does not open: {error}", cure)
    return Check(name, True, f"{folder}, {count / 1e6:.1f} million parameters in {len(files)} files")


def _python(name: str) -> Check:
    return Check(name, True, f"{sys.version.split()[0]} at {sys.executable}")


def _usd(name: str) -> Check:
    from pxr import Usd

    major, minor, patch = Usd.GetVersion()
    detail = f"OpenUSD {minor}.{patch:02d} at {Path(Usd.__file__).parents[1]}"
    if (major, minor, patch) < (0, 25, 2):
        return Check(name, False, detail, "neuralusd needs OpenUSD 25.02 or newer: pip install --upgrade usd-core")
    return Check(name, True, detail)


def _schema(name: str) -> Check:
    importlib.import_module("neuralusd")
    from pxr import Plug, Usd

    plugin = Plug.Registry().GetPluginWithName("usdNeural")
    if not plugin:
        return Check(name, False, "no plug-in named usdNeural is registered", REINSTALL)
    if not Usd.SchemaRegistry().FindAppliedAPIPrimDefinition("NeuralAssetAPI"):
        cure = "import neuralusd before anything uses USD's schemas, or put its folder on PXR_PLUGINPATH_NAME"
        return Check(name, False, f"usdNeural at {plugin.path} was registered after USD read its schemas", cure)
    return Check(name, True, f"usdNeural at {plugin.path}")


def _torch(name: str) -> Check:
    import torch

    # oneDNN computes in bfloat16 with either; without them bfloat16 works but is slower than float32.
    capabilities = torch.cpu.get_capabilities()
    fast = [feature for feature in ("amx_bf16", "avx512_bf16") if capabilities.get(feature)]
    bf16 = f"bfloat16 by {' and '.join(fast)}" if fast else "no fast bfloat16 on this CPU, so float32"
    return Check(name, True, f"{torch.__version__}, {torch.get_num_threads()} threads, {bf16}")


def _gpu(name: str) -> Check:
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        detail = f"{torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        return Check(name, True, detail)
    if torch.backends.mps.is_available():
        return Check(name, True, "Apple Metal (mps)")
    if Path("/proc/driver/nvidia/version").exists():
        cure = "install the CUDA build of torch (pytorch.org shows the command), or go on without: `mini` needs no GPU"
        return Check(name, False, f"there is an NVIDIA driver, but torch {torch.__version__} does not see a GPU", cure)
    return Check(name, True, "none; `mini` needs none, the full-size models do")


def _libraries(name: str) -> Check:
    versions, broken = [], []
    for library in ("diffusers", "transformers", "accelerate", "peft", "safetensors", "PIL", "scipy"):
        try:
            module = importlib.import_module(library)
        except Exception as error:
            broken.append(f"{library} ({error})")
        else:
            versions.append(f"{library} {module.__version__}")
    if broken:
        return Check(name, False, f"these do not import: {', '.join(broken)}", REINSTALL)
    return Check(name, True, ", ".join(versions))


def _ray_casting(name: str) -> Check:
    import numpy as np
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    box = trimesh.creation.box()
    hit = RayMeshIntersector(box).intersects_first(np.array([[0.0, 0.0, 5.0]]), np.array([[0.0, 0.0, -1.0]]))
    detail = f"trimesh {trimesh.__version__} with embreex {importlib.metadata.version('embreex')}"
    if hit[0] < 0:
        return Check(name, False, f"{detail} misses a box that is in the way of the ray", REINSTALL)
    return Check(name, True, detail)


def _shipped(name: str, folder: str) -> Check:
    from neuralusd import weights

    return check_weights(name, Path(weights.__file__).parent / folder)


def _blender(name: str) -> Check:
    if importlib.util.find_spec("bpy") is None:
        how = "pip install 'neuralusd[blender]'" if sys.version_info[:2] == (3, 11) else "its wheel is for Python 3.11"
        return Check(name, True, f"not installed; only making training scenes needs it ({how})")
    # In a process of its own: Blender brings its own USD.
    code = "import bpy; print(bpy.app.version_string)"
    probe = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if probe.returncode:
        reason = probe.stderr.strip().splitlines()[-1:] or [f"exit status {probe.returncode}"]
        cure = "install the system libraries that it names; on Debian see the list in .ci/run"
        return Check(name, False, f"installed, but does not import: {reason[0]}", cure)
    return Check(name, True, f"Blender {probe.stdout.strip().splitlines()[-1]} as a module")


def _memory(name: str) -> Check:
    import psutil

    memory = psutil.virtual_memory()
    detail = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free, {os.cpu_count()} CPU cores"
    if memory.available < FREE_MEMORY_NEEDED:
        return Check(name, False, detail, f"`mini` wants {FREE_MEMORY_NEEDED / 1e9:.0f} GB: close something")
    return Check(name, True, detail)
