# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the extension's zip: this folder, the client of the service, the schema, and neuralusd itself as a wheel.

python blender_addon/build.py [--output DIR] [--without-wheel]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
# What stands where in the zip, of the rest of the project.
CLIENT, SCHEMA, WHEELS = "service/client.py", "schema", "wheels_for_service"
SCHEMA_FILES = ("generatedSchema.usda", "plugInfo.json")
WHEEL_SOURCES = (
    "neuralusd", "usdschemas", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "constraints.txt",
)  # fmt: skip
NOT_SHIPPED = {"build.py", "__pycache__"}
LONGEST_TAGLINE = 64


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the Blender extension's zip.")
    parser.add_argument("--output", type=Path, default=PROJECT / "out", help="folder for the zip (default: out)")
    parser.add_argument("--without-wheel", action="store_true", help="leave out neuralusd, which Set Up installs")
    given = parser.parse_args(arguments)
    try:
        print(build(given.output, wheel=not given.without_wheel))
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"build: error: {error}", file=sys.stderr)
        return 1
    return 0


def build(output: Path, wheel: bool = True) -> Path:
    """Builds the zip into a folder, and returns its path.

    Raises ValueError for a manifest that Blender would refuse.
    """
    manifest = tomllib.loads((HERE / "blender_manifest.toml").read_text(encoding="utf-8"))
    version = re.search(r'^__version__ = "([^"]+)"$', (PROJECT / "neuralusd/_version.py").read_text(), re.MULTILINE)[1]
    problems = manifest_problems(manifest, version)
    if problems:
        raise ValueError("blender_manifest.toml: " + "; ".join(problems))
    files = {
        str(path.relative_to(HERE)): path.read_bytes()
        for path in sorted(HERE.rglob("*"))
        if path.is_file() and not NOT_SHIPPED & set(path.relative_to(HERE).parts)
    }
    files[CLIENT] = (PROJECT / "neuralusd/service/client.py").read_bytes()
    files["service/__init__.py"] = b'"""The client of the compute service; a copy of neuralusd/service/client.py."""\n'
    for name in SCHEMA_FILES:
        files[f"{SCHEMA}/{name}"] = (PROJECT / "usdschemas" / name).read_bytes()
    if wheel:
        with tempfile.TemporaryDirectory() as folder:
            made = build_wheel(Path(folder))
            files[f"{WHEELS}/{made.name}"] = made.read_bytes()
        files[f"{WHEELS}/constraints.txt"] = (PROJECT / "constraints.txt").read_bytes()
    output.mkdir(parents=True, exist_ok=True)
    target = output / f"{manifest['id']}-blender-{manifest['version']}.zip"
    partial = target.with_suffix(".part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as package:
            for name, data in sorted(files.items()):
                # One date for all, so that the same files make the same zip.
                entry = zipfile.ZipInfo(name.replace(os.sep, "/"), (2025, 1, 1, 0, 0, 0))
                entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                package.writestr(entry, data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def build_wheel(folder: Path) -> Path:
    """Builds neuralusd's wheel into a folder, from a copy, so that nothing is left in the project."""
    source = folder / "source"
    source.mkdir()
    for name in WHEEL_SOURCES:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(PROJECT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-build-isolation", "-w", str(folder), str(source)], capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"neuralusd's wheel could not be built: {(done.stderr or done.stdout).strip()[-2000:]}")
    [made] = folder.glob("*.whl")
    return made


def manifest_problems(manifest: dict, version: str) -> list[str]:
    """What Blender, or a reader, would refuse of a manifest: see "Extensions" in Blender's manual."""
    out = []
    needed = (
        "schema_version",
        "id",
        "version",
        "name",
        "tagline",
        "maintainer",
        "type",
        "blender_version_min",
        "license",
    )
    out += [f"{key} is missing" for key in needed if not manifest.get(key)]
    if out:
        return out
    if manifest["version"] != version:
        out.append(f"version is {manifest['version']}, neuralusd's is {version}")
    if not manifest["id"].isidentifier():
        out.append("id is not a Python identifier")
    texts = {"tagline": manifest["tagline"], **manifest.get("permissions", {})}
    for key, text in texts.items():
        if len(text) > LONGEST_TAGLINE:
            out.append(f"{key} has {len(text)} characters, more than {LONGEST_TAGLINE}")
        if not (text[-1].isalnum() or text[-1] in ")]}"):
            out.append(f"{key} ends with punctuation")
    out += [f"permission {key} is unknown" for key in set(manifest.get("permissions", {})) - {
        "files", "network", "clipboard", "camera", "microphone"}]  # fmt: skip
    out += [f"license {each} is no SPDX id" for each in manifest["license"] if not each.startswith("SPDX:")]
    if not re.fullmatch(r"\d+\.\d+\.\d+", manifest["blender_version_min"]):
        out.append("blender_version_min is not of the form 4.2.0")
    if manifest["type"] not in ("add-on", "theme"):
        out.append("type is neither add-on nor theme")
    return out


if __name__ == "__main__":
    sys.exit(main())
