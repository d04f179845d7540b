"""What neuralusd writes: tokens, poses and backgrounds, in a layer of their own, safely."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from pxr import Sdf, UsdGeom
from stages import new_stage

from neuralusd.scene import BACKGROUND, Tokens
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.stage import ensure_background, open_stage, read, save, sidecar, sidecar_path, write_tokens
from neuralusd.stage.errors import SaveError, SceneError, StageOpenError, TokensError


def make_tokens(seed: int = 0, count: tuple[int, int] = (4, 5), width: int = 16) -> Tokens:
    random = np.random.default_rng(seed)
    points = random.normal(size=(count[0] * count[1], 3)).astype(np.float32)
    points[0] = np.nan
    return Tokens(
        values=random.normal(size=(count[0] * count[1], width)).astype(np.float16),
        encoder="tests/encoder",
        revision=f"r{seed}",
        grid=count,
        points=points,
        extent=np.array([[-1, -2, -3], [1, 2, 3]], np.float32),
        crop=(0.25, 0.5, 0.125, 0.375),
        view=random.normal(size=(4, 4)),
        source="./pictures/photo.png",
    )


@pytest.fixture
def shot(tmp_path):
    """An artist's file: a cube and a ball, in centimetres, Z up."""
    stage = new_stage("Z", 0.01, tmp_path / "shot.usda")
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
    UsdGeom.Cube.Define(stage, "/World/Cube")
    UsdGeom.Sphere.Define(stage, "/World/Ball").AddTranslateOp().Set((5, 0, 0))
    stage.SetStartTimeCode(1)
    stage.SetEndTimeCode(48)
    stage.SetTimeCodesPerSecond(30)
    stage.Save()
    return tmp_path / "shot.usda"


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("extension", ["usda", "usdc"])
def test_tokens_come_back_byte_for_byte_and_the_artists_file_is_untouched(shot, tmp_path, extension):
    before = digest(shot)
    stage = sidecar(shot, tmp_path / f"over.{extension}")
    written = {"appearance": make_tokens(1), "geometry": make_tokens(2, (2, 3), 8)}
    write_tokens(stage, {"/World/Cube": written})
    assert save(stage) == tmp_path / f"over.{extension}"
    assert digest(shot) == before and sorted(os.listdir(tmp_path)) == [f"over.{extension}", "shot.usda"]
    del stage
    (asset,) = read(open_stage(tmp_path / f"over.{extension}")).assets
    assert asset.path == "/World/Cube" and set(asset.tokens) == set(written)
    for modality, tokens in written.items():
        back = asset.tokens[modality]
        for name in ("values", "points", "extent", "view"):
            ours, theirs = getattr(tokens, name), getattr(back, name)
            assert theirs.dtype == ours.dtype and theirs.tobytes() == ours.tobytes(), name
        for name in ("encoder", "revision", "grid", "crop", "source"):
            assert getattr(back, name) == getattr(tokens, name), name


def test_values_are_views_of_the_file(shot):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens(count=(28, 28), width=64)}})
    save(stage)
    first, second = (read(stage).assets[0].tokens["appearance"].values for _ in range(2))
    assert not first.flags.owndata and np.shares_memory(first, second)


def test_a_sidecar_is_the_whole_shot_with_the_root_layers_metadata(shot):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens()}})
    path = save(stage)
    assert path.name == "shot.neural.usdc" and stage.GetRootLayer().subLayerPaths == ["./shot.usda"]
    opened = open_stage(path)
    assert UsdGeom.GetStageUpAxis(opened) == "Z" and UsdGeom.GetStageMetersPerUnit(opened) == 0.01
    assert opened.GetDefaultPrim().GetPath() == "/World"
    assert (opened.GetStartTimeCode(), opened.GetEndTimeCode(), opened.GetTimeCodesPerSecond()) == (1, 48, 30)
    assert opened.GetPrimAtPath("/World/Ball").IsA(UsdGeom.Sphere)


def test_sidecars_are_beside_what_they_are_over():
    assert sidecar_path("a/shot.usda").as_posix() == "a/shot.neural.usdc"
    assert sidecar_path("shot.v2.usdz").as_posix() == "shot.v2.neural.usdc"
    assert sidecar_path("a/shot.neural.usdc").as_posix() == "a/shot.neural.usdc"


def test_nothing_is_on_disk_until_it_is_saved(shot, tmp_path):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens()}})
    assert os.listdir(tmp_path) == ["shot.usda"]
    assert read(stage).assets[0].tokens["appearance"].revision == "r0"


def test_encoding_again_replaces_in_place(shot):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens(1), "geometry": make_tokens(3)}})
    save(stage)
    del stage
    again = sidecar(shot)
    bare = Tokens(np.ones((1, 2), np.float16), "tests/encoder", "new", (1, 1))
    write_tokens(again, {"/World/Cube": {"appearance": bare}})
    save(again)
    del again
    tokens = read(sidecar(shot)).assets[0].tokens
    assert tokens["appearance"].revision == "new" and tokens["appearance"].values.shape == (1, 2)
    assert tokens["appearance"].points is None and tokens["appearance"].view is None
    assert tokens["geometry"].revision == "r3"


def test_what_a_weaker_layer_has_of_the_old_tokens_is_blocked(shot, tmp_path):
    first = sidecar(shot)
    write_tokens(first, {"/World/Cube": {"appearance": make_tokens(1)}})
    save(first)
    second = sidecar(first, tmp_path / "edit.usda")
    write_tokens(second, {"/World/Cube": {"appearance": Tokens(np.ones((1, 2), np.float16), "e", "new", (1, 1))}})
    tokens = read(second).assets[0].tokens["appearance"]
    assert tokens.points is None and tokens.extent is None and tokens.crop is None and tokens.revision == "new"


def test_the_sidecar_of_a_stage_in_memory_or_of_another_file_is_refused(shot, tmp_path):
    with pytest.raises(SceneError, match="in memory only"):
        sidecar(new_stage())
    other = new_stage(path=tmp_path / "other.usda")
    other.Save()
    with pytest.raises(SceneError, match="other.usda exists and is not a layer over"):
        sidecar(shot, tmp_path / "other.usda")
    with pytest.raises(SceneError, match="over itself"):
        sidecar(shot, shot)
    with pytest.raises(SceneError, match="extension"):
        sidecar(shot, tmp_path / "edit.txt")
    sidecar_path(shot).write_bytes(b"")
    with pytest.raises(StageOpenError, match=r"shot\.neural\.usdc is empty.*delete it"):
        sidecar(shot)


def test_a_folder_that_cannot_be_written_to_is_named(shot, tmp_path):
    (tmp_path / "file").touch()
    stage = sidecar(shot, tmp_path / "file" / "edit.usda")
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens()}})
    with pytest.raises(SaveError, match=r"file/edit\.usda cannot be written"):
        save(stage)


def test_a_stage_in_memory_is_not_saved():
    with pytest.raises(SaveError, match="in memory only"):
        save(new_stage())


def test_a_killed_save_loses_nothing(shot, tmp_path):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens(1)}})
    path = save(stage)
    before = digest(path)
    code = f"""
import os, signal
import numpy as np
from neuralusd.scene import Tokens
from neuralusd.stage import save, sidecar, write_tokens
stage = sidecar({str(shot)!r})
tokens = Tokens(np.ones((900, 700), np.float16), "e", "r", (30, 30))
write_tokens(stage, {{"/World/Ball": {{"appearance": tokens}}}})
os.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
save(stage)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert digest(path) == before
    assert [a.path for a in read(open_stage(path)).assets] == ["/World/Cube"]


def test_an_error_while_saving_leaves_no_rubbish(shot, tmp_path, monkeypatch):
    stage = sidecar(shot)
    write_tokens(stage, {"/World/Cube": {"appearance": make_tokens()}})

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match="No space left"):
        save(stage)
    assert os.listdir(tmp_path) == ["shot.usda"]


@pytest.mark.parametrize(
    ("change", "what"),
    [({"values": np.full((4, 2), np.nan)}, "NaN"), ({"values": np.full((4, 2), 1e6)}, "too large"),
     ({"values": np.ones(8)}, r"\(K, D\)"), ({"grid": (3, 2)}, "grid is 3 x 2"),
     ({"points": np.zeros((3, 3))}, r"points are of shape \(3, 3\)")],
)  # fmt: skip
def test_tokens_that_are_none_are_not_written(change, what):
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    fields = {"values": np.ones((4, 2)), "encoder": "e", "revision": "r", "grid": (2, 2)} | change
    with pytest.raises(TokensError, match=f"</Cube>: appearance tokens.*{what}"):
        write_tokens(stage, {"/Cube": {"appearance": Tokens(**fields)}})


def test_a_path_that_is_no_asset_is_named():
    stage = new_stage()
    stage.DefinePrim("/Untyped")
    with pytest.raises(SceneError, match="</Nowhere> is no prim"):
        write_tokens(stage, {"/Nowhere": {}})
    with pytest.raises(SceneError, match="</Untyped>.*type"):
        write_tokens(stage, {"/Untyped": {}})


def test_a_scene_is_written_with_its_words(shot):
    stage = sidecar(shot)
    ensure_background(stage)
    scene = read(stage)
    scene.assets[0].text, scene.assets[0].presence = "a cube", 0.25
    scene.assets[0].tokens = {"appearance": make_tokens()}
    write_tokens(stage, scene)
    cube, ball, background = read(stage).assets
    assert (cube.text, cube.presence, background.role) == ("a cube", 0.25, BACKGROUND)
    assert NeuralAssetAPI(stage.GetPrimAtPath("/World/Ball")) and not ball.tokens
    assert not NeuralAssetAPI(stage.GetPrimAtPath("/World/Ball")).GetPresenceAttr().HasAuthoredValue()


def test_a_stage_has_one_background(shot):
    stage = sidecar(shot)
    assert ensure_background(stage) == "/World/Background" == ensure_background(stage)
    taken = new_stage()
    UsdGeom.Cube.Define(taken, "/Background")
    assert ensure_background(taken) == "/Background1"


def test_a_layers_format_is_the_files(shot, tmp_path):
    for name, format_id in (("a.usda", "usda"), ("a.usdc", "usdc")):
        stage = sidecar(shot, tmp_path / name)
        write_tokens(stage, {"/World/Cube": {"appearance": make_tokens()}})
        layer = Sdf.Layer.FindOrOpen(str(save(stage)))
        assert layer.GetFileFormat().formatId == format_id
        assert NeuralTokensAPI(stage.GetPrimAtPath("/World/Cube"), "appearance")
