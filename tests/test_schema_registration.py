"""The schema's files, and the ways in which the USD of a process finds them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuralusd import schema

PROJECT = Path(__file__).resolve().parents[1]


def test_generated_files_are_up_to_date(tmp_path):
    pytest.importorskip("jinja2")
    made = subprocess.run(
        [sys.executable, "usdschemas/generate.py", "--to", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 + 8
    for file in files:
        stale = f"{file} is not what schema.usda says; run python usdschemas/generate.py"
        assert (tmp_path / file).read_text() == (PROJECT / file).read_text(), stale


def run(code: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs `code` in a Python of its own, in which nothing has touched USD."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PXR_PLUGINPATH_NAME")}
    command = [sys.executable, "-W", "default", "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**clean, **environment})


WITHOUT_NEURALUSD = """
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
prim.ApplyAPI("NeuralAssetAPI")
prim.ApplyAPI("NeuralTokensAPI", "appearance")
print(prim.GetAttribute("neural:presence").Get(), prim.HasAttribute("neural:tokens:appearance:values"))
print(stage.DefinePrim("/V", "NeuralVolume").IsA(UsdGeom.Gprim))
"""
WITH_NEURALUSD = """
import neuralusd
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI, register
register(); register()
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
tokens = NeuralTokensAPI.Apply(prim, "appearance")
tokens.CreateShapeAttr((3, 4))
print(NeuralAssetAPI.Apply(prim).GetPresenceAttr().Get(), tokens.GetShapeAttr().Get())
from neuralusd.validators import validate
print([issue.rule for issue in validate(stage)])
print(neuralusd.__file__, Usd.GetVersion())
"""


def assert_works(done: subprocess.CompletedProcess, *lines: str) -> None:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[: len(lines)] == list(lines)


@pytest.fixture(scope="session")
def blender_usd() -> str:
    """The folder of the pxr inside Blender's wheel; importing bpy is not needed for it."""
    bpy = importlib.util.find_spec("bpy")
    found = sorted(Path(bpy.origin).parent.glob("*/python/lib/python*/site-packages/pxr")) if bpy and bpy.origin else []
    if not found:
        pytest.skip("Blender's module is not installed: pip install 'neuralusd[blender]'")
    return str(found[0].parent)


def test_usd_finds_the_schema_by_its_environment_variable(tmp_path):
    assert_works(run(WITHOUT_NEURALUSD, tmp_path, PXR_PLUGINPATH_NAME=str(PROJECT)), "1.0 True", "True")
    assert schema.plugin_path() == PROJECT


def test_importing_neuralusd_registers_the_schema(tmp_path):
    assert_works(run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(PROJECT)), "1.0 (3, 4)", "['NoPlace', 'TokensMissing']")


def test_the_variable_and_the_import_together_are_harmless(tmp_path):
    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(PROJECT), PXR_PLUGINPATH_NAME=str(PROJECT))
    assert_works(done, "1.0 (3, 4)")


def test_blenders_usd_finds_the_schema_by_its_environment_variable(tmp_path, blender_usd):
    done = run(WITHOUT_NEURALUSD, tmp_path, PYTHONPATH=blender_usd, PXR_PLUGINPATH_NAME=str(PROJECT))
    assert_works(done, "1.0 True", "True")


def test_importing_neuralusd_registers_the_schema_with_blenders_usd(tmp_path, blender_usd):
    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=os.pathsep.join([blender_usd, str(PROJECT)]))
    assert_works(done, "1.0 (3, 4)", "['NoPlace', 'TokensMissing']")
    assert done.stdout.splitlines()[-1].endswith("(0, 25, 8)")


def test_a_wheel_carries_the_schema(tmp_path):
    # From a copy, since building leaves files beside the sources.
    kept = ("neuralusd", "usdschemas", "setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in kept:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, source / name)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    built = subprocess.run([*pip, "--target", installed, source], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    done = run(WITH_NEURALUSD, tmp_path, PYTHONPATH=str(installed))
    assert_works(done, "1.0 (3, 4)")
    assert str(installed) in done.stdout  # it was the installed one
    done = run("import neuralusd.schema; print(neuralusd.schema.plugin_path())", tmp_path, PYTHONPATH=str(installed))
    plugin_path = done.stdout.strip()
    assert plugin_path == str(installed / "neuralusd")
    assert_works(run(WITHOUT_NEURALUSD, tmp_path, PXR_PLUGINPATH_NAME=plugin_path), "1.0 True", "True")


TOO_LATE = """
import warnings
from pxr import Usd, UsdGeom
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
{forget}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import neuralusd.schema
print([str(w.message) for w in caught if w.category is RuntimeWarning])
from neuralusd.schema import NeuralAssetAPI, NeuralVolume, require
for attempt in (lambda: NeuralAssetAPI.Apply(prim), lambda: bool(NeuralAssetAPI(prim)),
                lambda: NeuralVolume.Define(stage, "/V"), require):
    try:
        attempt()
    except RuntimeError as error:
        print(error)
"""
CURE = "Import neuralusd before the first stage is opened, or set the environment variable "
CURE += f"PXR_PLUGINPATH_NAME={PROJECT}"


def test_importing_after_a_stage_was_opened_warns_with_the_cure(tmp_path):
    done = run(TOO_LATE.format(forget=""), tmp_path, PYTHONPATH=str(PROJECT))
    warning, *errors = done.stdout.splitlines()
    assert CURE in warning, done.stderr
    assert len(errors) == 4 and all(CURE in error for error in errors)


def test_using_the_schema_after_a_stage_was_opened_and_closed_is_an_error_with_the_cure(tmp_path):
    # No layer is open at the import, so that only the first use can tell.
    forget = "del stage, prim"
    again = 'stage = Usd.Stage.CreateInMemory(); prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()\nfor attempt'
    code = TOO_LATE.format(forget=forget).replace("\nfor attempt", "\n" + again)
    done = run(code, tmp_path, PYTHONPATH=str(PROJECT))
    warning, *errors = done.stdout.splitlines()
    assert warning == "[]", done.stderr
    assert len(errors) == 4 and all(CURE in error for error in errors)


def test_the_environment_variable_cures_it(tmp_path):
    done = run(TOO_LATE.format(forget=""), tmp_path, PYTHONPATH=str(PROJECT), PXR_PLUGINPATH_NAME=str(PROJECT))
    assert done.stdout.splitlines() == ["[]"], done.stderr


def test_other_schemas_can_still_register_after_ours(tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    text = (PROJECT / "usdschemas/plugInfo.json").read_text()
    (folder / "plugInfo.json").write_text(text.replace("usdNeural", "usdOther").replace("Neural", "Other"))
    text = (PROJECT / "usdschemas/generatedSchema.usda").read_text()
    (folder / "generatedSchema.usda").write_text(text.replace("Neural", "Other").replace("neural:", "other:"))
    code = f"""
import neuralusd
from pxr import Plug, Usd, UsdGeom
Plug.Registry().RegisterPlugins({str(folder)!r})
stage = Usd.Stage.CreateInMemory()
prim = UsdGeom.Xform.Define(stage, "/A").GetPrim()
print(prim.ApplyAPI("OtherAssetAPI"), prim.ApplyAPI("NeuralAssetAPI"))
"""
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "True True")


def test_importing_costs_no_torch_and_little_else(tmp_path):
    heavy = "{'torch', 'numpy', 'scipy', 'trimesh', 'diffusers', 'transformers', 'bpy'}"
    code = f"import sys, neuralusd, neuralusd.schema; print({heavy} & set(sys.modules))"
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "set()")


def test_neuralusd_can_be_imported_without_usd(tmp_path):
    hidden = "import sys; sys.modules['pxr'] = None; import importlib.util as u; find = u.find_spec\n"
    hidden += "u.find_spec = lambda name, *rest: None if name == 'pxr' else find(name, *rest)\n"
    code = hidden + "import neuralusd.scene; print('ok')"
    assert_works(run(code, tmp_path, PYTHONPATH=str(PROJECT)), "ok")
