"""Opening stages: what is wrong with a file is said by name, what can still be used is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pxr import UsdGeom
from stages import new_stage

from neuralusd.stage import open_stage, read
from neuralusd.stage.errors import EmptyStageError, StageOpenError, StageWarning


def test_paths_may_hold_any_character(tmp_path):
    folder = tmp_path / "scène 日本"
    folder.mkdir()
    stage = new_stage(path=folder / "plan ñ.usda")
    UsdGeom.Cube.Define(stage, "/Cube")
    stage.Save()
    assert read(open_stage(folder / "plan ñ.usda")).assets[0].path == "/Cube"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("gone.usda", None, "does not exist"),
        ("empty.usda", b"", r"is empty \(0 bytes\)"),
        ("cut.usda", b'#usda 1.0\ndef Xform "A" {\n', "cannot be read.*:3:1"),
        ("cut.usdc", b"PXR-USDC", "cannot be read"),
        ("garbage.usd", b"hello", "cannot be read: it is not USD"),
        ("picture.png", b"\x89PNG", "not a USD file: its extension is none of .*usda"),
        ("empty.usdz", b"", r"is empty \(0 bytes\)"),
        ("garbage.usdz", b"hello", "cannot be read"),
    ],
)
def test_a_file_that_is_no_stage(tmp_path, name, content, what):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StageOpenError, match=f"{name}.*{what}"):
        open_stage(tmp_path / name)


def test_a_truncated_crate(tmp_path):
    stage = new_stage(path=tmp_path / "whole.usdc")
    for index in range(50):
        UsdGeom.Cube.Define(stage, f"/Cube{index}")
    stage.Save()
    data = (tmp_path / "whole.usdc").read_bytes()
    (tmp_path / "cut.usdc").write_bytes(data[: len(data) // 2])
    with pytest.raises(StageOpenError, match="cut.usdc cannot be read:.*truncated"):
        open_stage(tmp_path / "cut.usdc")


def test_a_folder_is_not_a_stage(tmp_path):
    with pytest.raises(StageOpenError, match="is a folder"):
        open_stage(tmp_path)


def test_missing_and_damaged_parts_are_named_and_the_rest_is_read(tmp_path):
    (tmp_path / "damaged.usda").write_bytes(b"not usd")
    (tmp_path / "shot.usda").write_text(
        """#usda 1.0
def Xform "Chair" (references = @./chair.usda@) {
}
def Xform "Lamp" (payload = @./damaged.usda@) {
}
def Xform "Desk" (references = </NoSuchPrim>) {
}
def Sphere "Ball" {
}
"""
    )
    with pytest.warns(StageWarning) as warned:
        stage = open_stage(tmp_path / "shot.usda")
    said = [str(w.message) for w in warned]
    assert len(said) == 3
    for file, prim in (("chair.usda", "/Chair"), ("damaged.usda", "/Lamp"), ("shot.usda", "/NoSuchPrim")):
        assert any(f"{file}@" in s and f"<{prim}>" in s for s in said), said
    assert [a.path for a in read(stage).assets] == ["/Ball"]


def test_a_missing_sublayer_is_named(tmp_path):
    (tmp_path / "shot.usda").write_text('#usda 1.0\n(\n    subLayers = [@./anim.usda@]\n)\ndef Cube "Cube" {\n}\n')
    with pytest.warns(StageWarning, match="anim.usda"):
        open_stage(tmp_path / "shot.usda")


def test_when_nothing_is_left_the_error_says_what_was_missing(tmp_path):
    (tmp_path / "shot.usda").write_text('#usda 1.0\ndef Xform "Chair" (payload = @./chair.usda@) {\n}\n')
    with pytest.warns(StageWarning):
        stage = open_stage(tmp_path / "shot.usda")
    with pytest.raises(EmptyStageError, match=r"nothing to see.*chair\.usda"):
        read(stage)


def test_usd_prints_nothing_of_its_own(tmp_path):
    (tmp_path / "shot.usda").write_text('#usda 1.0\ndef Xform "Chair" (payload = @./chair.usda@) {\n}\n')
    code = f"import neuralusd.stage as s; s.open_stage({str(tmp_path / 'shot.usda')!r})"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
