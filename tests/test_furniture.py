"""The furniture world, made of a few assets that these tests make themselves. Blender runs in other processes."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pxr import Gf, Kind, Sdf, Usd, UsdGeom, UsdSemantics, UsdShade, UsdUtils

from neuralusd.cli import main
from neuralusd.datasets.furniture_assets import (
    FurnitureAsset,
    convert_catalogs,
    is_held_out,
    open_library,
)
from neuralusd.datasets.furniture_layout import (
    FRAMES,
    aim_camera,
    build_room,
    move_some,
    overlap,
    place_on_floor,
)
from neuralusd.datasets.furniture_textures import KINDS, make_texture
from neuralusd.datasets.workers import run_tasks
from neuralusd.datasets.world import open_world
from neuralusd.scene import Camera

needs_blender = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs bpy, the extra `blender`")


def write_asset(folder: Path, name: str, size: tuple[float, float, float]) -> None:
    """A coloured block with a material, standing on z = 0."""
    stage = Usd.Stage.CreateNew(str(folder / f"{name}.usda"))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, f"/{name}")
    stage.SetDefaultPrim(root.GetPrim())
    mesh = UsdGeom.Mesh.Define(stage, f"/{name}/block")
    corners = [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)]
    mesh.CreatePointsAttr([Gf.Vec3f(*(c * s for c, s in zip(corner, size, strict=True))) for corner in corners])
    mesh.CreateFaceVertexCountsAttr([4] * 6)
    mesh.CreateFaceVertexIndicesAttr([0, 1, 3, 2, 4, 6, 7, 5, 0, 4, 5, 1, 2, 3, 7, 6, 0, 2, 6, 4, 1, 5, 7, 3])
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    look = UsdShade.Material.Define(stage, f"/{name}/look")
    surface = UsdShade.Shader.Define(stage, f"/{name}/look/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(0.7, 0.3, 0.1))
    look.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(look)
    stage.Save()


@pytest.fixture(scope="module")
def blocks(tmp_path_factory) -> Path:
    """A library of blocks: six to train on and two held-out models."""
    folder = tmp_path_factory.mktemp("blocks")
    wanted = {False: 6, True: 2}
    sizes = [(0.5, 0.5, 0.5), (0.8, 0.4, 0.45), (0.3, 0.3, 0.9), (1.0, 0.6, 0.5), (0.2, 0.2, 0.25), (0.6, 0.6, 0.3)]
    for number in range(200):
        name = f"block_{number}"
        if wanted[is_held_out(name)]:
            wanted[is_held_out(name)] -= 1
            write_asset(folder, name, sizes[number % len(sizes)])
    assert wanted == {False: 0, True: 0}
    return folder


def generate(out: Path, blocks: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "neuralusd.datasets.furniture_world", "--out", str(out)]
    return [*command, "--furniture", str(blocks), "--resolution", "48", "--samples", "2", *arguments]


@pytest.fixture(scope="module")
def world(tmp_path_factory, blocks) -> Path:
    """A world of two scenes to train on and one of held-out models, by the command."""
    out = tmp_path_factory.mktemp("world")
    command = generate(out, blocks, "--scenes", "2", "--held-out-scenes", "0", "--held-out-models", "1")
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 train" in done.stdout
    return out


# --- catalogues to assets ---------------------------------------------------------------------------------------------

OBJ = """mtllib thing.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 4
v 2 0 4
v 2 1 4
v 0 1 4
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 1/1 2/2 3/3 4/4
f 5/1 6/2 7/3 8/4
usemtl plain
f 1 2 6 5
f 4 3 7 8
"""
MTL = """newmtl painted
Kd 1 1 1
map_Kd wood.png

newmtl plain
Kd 0.5 0.25 0.125
d 0.5
"""


@pytest.fixture
def catalog(tmp_path) -> Path:
    """A folder with one `.sh3f` of three entries: a thing, a door, and a thing whose OBJ is not there."""
    furniture = tmp_path / "furniture"
    furniture.mkdir()
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (700, 900, 3), dtype=np.uint8))
    image.save(tmp_path / "wood.png")
    entry = "id#{0}=Test#{1}\nname#{0}={2}\ncategory#{0}={3}\nmodel#{0}=/things/{1}/{1}.obj\n"
    entry += "width#{0}=60\ndepth#{0}=80\nheight#{0}=120\ndoorOrWindow#{0}={4}\ncreator#{0}=Jos\xe9\n"
    text = "license=Free for all\n" + entry.format(1, "thing", "Big thing", "Kitchen", "false")
    text += entry.format(2, "door", "Door", "Doors and windows", "true")
    text += entry.format(3, "broken", "Broken", "Kitchen", "false")
    with zipfile.ZipFile(furniture / "test.sh3f", "w") as zipped:
        zipped.writestr("PluginFurnitureCatalog.properties", text.encode("latin-1"))
        zipped.writestr("things/thing/thing.obj", OBJ)
        zipped.writestr("things/thing/thing.mtl", MTL)
        zipped.write(tmp_path / "wood.png", "things/thing/wood.png")
    return furniture


def test_a_catalog_becomes_component_assets_of_the_catalogs_size(catalog, tmp_path):
    library = tmp_path / "assets"
    (asset,) = convert_catalogs(catalog, library, progress=False)
    assert (asset.name, asset.category, asset.creator, asset.licence) == (
        "Big thing",
        "Kitchen",
        "Jos\xe9",
        "Free for all",
    )

    stage = Usd.Stage.Open(str(library / asset.path))
    prim = stage.GetDefaultPrim()
    assert Usd.ModelAPI(prim).GetKind() == Kind.Tokens.component
    assert UsdGeom.GetStageUpAxis(stage) == "Z" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert list(UsdSemantics.LabelsAPI(prim, "category").GetLabelsAttr().Get()) == ["big thing", "kitchen"]
    assert prim.GetCustomDataByKey("furniture:creator") == "Jos\xe9"
    box = UsdGeom.BBoxCache(Usd.TimeCode.Default(), ["default"]).ComputeWorldBound(prim).ComputeAlignedRange()
    # width, depth and height of the catalogue, standing on z = 0, centred
    np.testing.assert_allclose(np.array(box.GetMin()), [-0.3, -0.4, 0.0], atol=1e-6)
    np.testing.assert_allclose(np.array(box.GetMax()), [0.3, 0.4, 1.2], atol=1e-6)
    hint = UsdGeom.ModelAPI(prim).GetExtentsHintAttr().Get()
    np.testing.assert_allclose(np.array(hint), [[-0.3, -0.4, 0.0], [0.3, 0.4, 1.2]], atol=1e-6)


def test_a_converted_asset_has_its_look_and_nothing_absolute(catalog, tmp_path):
    library = tmp_path / "assets"
    (asset,) = convert_catalogs(catalog, library, progress=False)
    stage = Usd.Stage.Open(str(library / asset.path))
    colors, opacities, images = [], [], []
    for prim in stage.Traverse():
        shader = UsdShade.Shader(prim)
        if shader and shader.GetIdAttr().Get() == "UsdUVTexture":
            images.append(shader.GetInput("file").Get())
        elif shader and shader.GetInput("diffuseColor") and not shader.GetInput("diffuseColor").HasConnectedSource():
            colors.append(shader.GetInput("diffuseColor").Get())
            opacities.append(shader.GetInput("opacity").Get())
        if prim.IsA(UsdGeom.Mesh):
            material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
            assert material
            normals = np.array(UsdGeom.PrimvarsAPI(prim).GetPrimvar("normals").Get())
            np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)
    (color,), (opacity,), (image,) = colors, opacities, images
    np.testing.assert_allclose(np.array(color), [0.5, 0.25, 0.125], atol=0.01)
    assert opacity == pytest.approx(0.5)
    assert image.path.startswith("./textures/") and Path(image.resolvedPath).is_relative_to(library.resolve())
    with PIL.Image.open(image.resolvedPath) as texture:
        assert max(texture.size) == 512
    _, _, unresolved = UsdUtils.ComputeAllDependencies(str(library / asset.path))
    assert not unresolved


def test_models_left_out_are_listed_with_the_reason(catalog, tmp_path):
    convert_catalogs(catalog, tmp_path / "assets", progress=False)
    left_out = json.loads((tmp_path / "assets" / "assets.json").read_text())["left_out"]
    assert left_out["Test#door"] == "category 'Doors and windows'"
    assert left_out["Test#broken"].startswith("unreadable")


def test_conversion_is_taken_up_where_it_was(catalog, tmp_path):
    library = tmp_path / "assets"
    (asset,) = convert_catalogs(catalog, library, progress=False)
    before = (library / asset.path).stat().st_mtime_ns
    assert convert_catalogs(catalog, library, progress=False) == [asset] == open_library(library)
    assert (library / asset.path).stat().st_mtime_ns == before


def test_without_furniture_the_error_names_the_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install sweethome3d-furniture"):
        convert_catalogs(tmp_path / "nothing", tmp_path / "assets")


def test_a_file_that_is_no_catalog_is_named(tmp_path):
    (tmp_path / "bad.sh3f").write_text("not a zip")
    with pytest.raises(ValueError, match="bad.sh3f is not a Sweet Home 3D furniture catalogue"):
        convert_catalogs(tmp_path, tmp_path / "assets")


def test_a_folder_without_usd_is_no_library(tmp_path):
    with pytest.raises(FileNotFoundError, match="no usable USD asset"):
        open_library(tmp_path)


def test_about_an_eighth_of_all_models_is_held_out_whatever_the_library():
    held_out = [is_held_out(f"Scopia#model{i}") for i in range(4000)]
    assert 0.10 < np.mean(held_out) < 0.14


# --- layouts ----------------------------------------------------------------------------------------------------------

assets_strategy = st.lists(
    st.tuples(*[st.floats(0.05, 3.0)] * 3).map(
        lambda size: FurnitureAsset("a", "a.usd", "a", size=size, minimum=(-size[0] / 2, -size[1] / 2, 0.0))
    ),
    min_size=2,
    max_size=12,
)


@settings(max_examples=15, deadline=None)
@given(assets=assets_strategy, seed=st.integers(0, 2**32 - 1))
def test_layouts_keep_things_apart_on_the_floor_and_the_camera_inside_the_room(assets, seed):
    rng = np.random.default_rng(seed)
    layout = place_on_floor(assets, rng)
    move_some(layout, rng, share=1.0)
    aim_camera(layout, rng)
    floor, walls = build_room(layout, rng)
    assert 2 <= len(walls) <= 4
    for frame in range(FRAMES):
        for i, placement in enumerate(layout.placements):
            assert placement.corners(frame)[:, 2].min() == pytest.approx(0.0, abs=1e-6)
            for other in layout.placements[:i]:
                assert not overlap(placement.footprint(frame), other.footprint(frame))
    middle = floor.mean(0)
    for wall in walls:
        along = wall.end - wall.start
        normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
        normal *= np.sign((middle - wall.start) @ normal)
        for placement in layout.placements:
            for frame in range(FRAMES):
                assert ((placement.corners(frame)[:, :2] - wall.start) @ normal).min() > 0
        assert ((layout.eye[:, :2] - wall.start) @ normal).min() > 0


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
@settings(max_examples=16, deadline=None)
def test_textures_are_neither_black_nor_white(kind, seed):
    image = make_texture(kind, np.random.default_rng(seed))
    assert image.shape == (256, 256, 3) and image.dtype == np.uint8
    assert 40 < image.mean() < 235


# --- workers ----------------------------------------------------------------------------------------------------------


def work(task: tuple[str, str]) -> None:
    """A task of the test below: write a file, raise, or die."""
    folder, kind = task
    if kind == "raise":
        raise ValueError("no such chair")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(folder, kind).write_text("done")


def test_a_crash_takes_only_its_own_task_with_it(tmp_path):
    tasks = [(str(tmp_path), kind) for kind in ("a", "die", "b", "raise", "c")]
    assert run_tasks(work, tasks, 1, tmp_path / "failed.jsonl") == 2
    assert [(tmp_path / kind).exists() for kind in "abc"] == [True] * 3
    died, raised = (json.loads(line)["problem"] for line in (tmp_path / "failed.jsonl").read_text().splitlines())
    assert "died with exit code -9" in died
    assert "no such chair" in raised


# --- the world --------------------------------------------------------------------------------------------------------


def cast(stage: Usd.Stage, paths: tuple[str, ...], frame: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and depth through pixel centres, by `scene.Camera` and the stage's own meshes: no Blender in it."""
    import trimesh

    vertices, faces, owner, count = [], [], [], 0
    for index, path in enumerate(paths):
        for prim in Usd.PrimRange(stage.GetPrimAtPath(path)):
            if not prim.IsA(UsdGeom.Mesh):
                continue
            mesh = UsdGeom.Mesh(prim)
            matrix = np.array(mesh.ComputeLocalToWorldTransform(frame))
            vertices.append(np.array(mesh.GetPointsAttr().Get()) @ matrix[:3, :3] + matrix[3, :3])
            quads = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 4)
            faces.append(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]) + count)
            owner += [index] * len(faces[-1])
            count += len(vertices[-1])
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera"))
    lens = camera.GetCamera(frame)
    view = Camera(
        np.linalg.inv(np.array(camera.ComputeLocalToWorldTransform(frame))),
        lens.focalLength,
        lens.horizontalAperture,
        lens.verticalAperture,
    )
    origins, directions = view.rays(size, size)
    scene = trimesh.Trimesh(np.concatenate(vertices), np.concatenate(faces), process=False)
    points, ray, triangle = scene.ray.intersects_location(
        origins.reshape(-1, 3), directions.reshape(-1, 3), multiple_hits=False
    )
    ids, depth = np.full(size * size, -1), np.full(size * size, np.inf)
    ids[ray], depth[ray] = np.array(owner)[triangle], view.project(points)[:, 2]
    return ids.reshape(size, size), depth.reshape(size, size)


@needs_blender
@pytest.mark.parametrize("split", ["train", "held_out_models"])
def test_ids_and_depth_are_those_of_the_stage_and_its_camera(world, split):
    for scene in open_world(world, split):
        stage = scene.open_stage()
        for frame in (1, FRAMES):
            passes = scene.read(frame)
            ids, depth = cast(stage, passes.paths, frame, 48)
            assert (ids == passes.ids).mean() > 0.995
            agreed = (ids == passes.ids) & np.isfinite(depth)
            np.testing.assert_allclose(passes.depth[agreed], depth[agreed], rtol=1e-2)
            assert np.isinf(passes.depth[passes.ids == -1]).all()


@needs_blender
def test_scenes_are_stages_that_a_pipeline_can_use(world):
    for scene, frame in open_world(world, "train").frames():
        if frame > 1:
            continue
        stage = scene.open_stage()
        assert stage.GetDefaultPrim().GetPath() == "/World"
        assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (1, FRAMES)
        passes = scene.read(frame)
        roles = [stage.GetPrimAtPath(path).GetAttribute("neural:role").Get() for path in passes.paths]
        assert roles[0] == "background" and set(roles[1:]) == {"foreground"} and 2 <= len(roles) - 1 <= 8
        assert all(stage.GetPrimAtPath(path).GetAttribute("neural:text").Get() for path in passes.paths)
        assert passes.rgb.shape == (48, 48, 3) and 20 < passes.rgb.mean() < 245
        camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Camera"))
        assert camera.ComputeLocalToWorldTransform(1) != camera.ComputeLocalToWorldTransform(FRAMES)
        layer = stage.GetRootLayer()
        assert layer.externalReferences
        assert not any(Path(reference).is_absolute() for reference in layer.externalReferences)
        _, _, unresolved = UsdUtils.ComputeAllDependencies(str(scene.stage_path))
        assert not unresolved


@needs_blender
def test_held_out_models_are_in_no_training_scene(world):
    shown = {
        split: {asset for scene in open_world(world, split) for asset in scene.about["assets"]}
        for split in ("train", "held_out_models")
    }
    assert shown["train"] and shown["held_out_models"]
    assert not any(map(is_held_out, shown["train"])) and all(map(is_held_out, shown["held_out_models"]))


@needs_blender
def test_the_same_seed_makes_the_same_scene_and_a_killed_run_is_taken_up(world, blocks, tmp_path):
    command = generate(tmp_path, blocks, "--scenes", "2", "--held-out-scenes", "0", "--held-out-models", "0")
    process = subprocess.Popen([*command, "--workers", "1"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    first = tmp_path / "scenes" / "train" / "train_00000"
    deadline = time.monotonic() + 60
    while not first.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = (first / "scene.usda").stat().st_mtime_ns
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (first / "scene.usda").stat().st_mtime_ns == before
    scenes = open_world(tmp_path, "train")
    assert [scene.id for scene in scenes] == ["train_00000", "train_00001"]
    for made, reference in zip(scenes, open_world(world, "train"), strict=True):
        assert made.stage_path.read_text().count("def ") == reference.stage_path.read_text().count("def ")
        for frame in reference.frames:
            np.testing.assert_array_equal(made.read(frame).ids, reference.read(frame).ids)


GENERAL = """
import sys
import numpy as np
from neuralusd.datasets.cycles import render_frames
render_frames(sys.argv[1], [1, 2.5], (60, 40), sys.argv[2], samples=2)
"""


@needs_blender
def test_any_stage_renders_in_metres_whatever_its_units_up_axis_and_instances(tmp_path):
    stage = Usd.Stage.CreateNew(str(tmp_path / "any.usda"))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Root").GetPrim())
    prototype = stage.CreateClassPrim("/Prototype")
    UsdGeom.Cube.Define(stage, "/Prototype/Cube").CreateSizeAttr(20.0)
    for name, x in (("Left", -40.0), ("Right", 40.0)):
        instance = UsdGeom.Xform.Define(stage, f"/Root/{name}")
        instance.GetPrim().GetReferences().AddInternalReference(prototype.GetPath())
        instance.GetPrim().SetInstanceable(True)
        instance.GetPrim().AddAppliedSchema("NeuralAssetAPI")
        move = instance.AddTranslateOp()
        # each goes up by 20 cm a frame
        move.Set(Gf.Vec3d(x, 0, 0), 1)
        move.Set(Gf.Vec3d(x, 60, 0), 4)
    camera = UsdGeom.Camera.Define(stage, "/Root/View")
    camera.AddTranslateOp().Set(Gf.Vec3d(0, 0, 210))
    camera.CreateFocalLengthAttr(36)
    camera.CreateHorizontalApertureAttr(36)
    camera.CreateVerticalApertureAttr(24)
    stage.Save()
    command = [sys.executable, "-c", GENERAL, str(tmp_path / "any.usda"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    first = np.load(tmp_path / "out" / "passes.0001.npz")
    later = np.load(tmp_path / "out" / "passes.0002.5000.npz")
    assert list(first["paths"]) == ["/Root/Left", "/Root/Right"]
    for index in (0, 1):
        # the face towards the camera, 2 m away
        assert np.median(first["depth"][first["ids"] == index]) == pytest.approx(2.0, abs=1e-3)
        assert first["depth"][first["ids"] == index].max() < 2.2
    assert np.isinf(first["depth"][first["ids"] < 0]).all()
    for index, side in enumerate((-1, 1)):
        rows, columns = np.nonzero(first["ids"] == index)
        # 40 cm off the axis at 200 cm, in a view as wide as it is far: a fifth of the image's width
        assert columns.mean() + 0.5 == pytest.approx(60 * (0.5 + side * 0.2), abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx(20, abs=0.6)
        rows, _ = np.nonzero(later["ids"] == index)
        # 30 cm up at 200 cm: 9 of 40 rows
        assert rows.mean() + 0.5 == pytest.approx(20 - 9, abs=0.6)
    with PIL.Image.open(tmp_path / "out" / "rgb.0001.png") as image:
        assert image.size == (60, 40)


@needs_blender
def test_orbits_show_each_model_by_itself_from_all_around(tmp_path, blocks, capsys):
    from neuralusd.datasets.objects import object_views

    command = ["data", "orbits", "--out", str(tmp_path / "orbits"), "--furniture", str(blocks), "--workers", "1"]
    small = ["--views", "5", "--resolution", "24", "--samples", "1", "--models", "2"]
    assert main([*command, *small]) == 0
    assert "0 held_out_categories, 2 held_out_models, 2 train" in capsys.readouterr().out
    views = object_views(tmp_path / "orbits", "train")
    assert views.color.shape == (2, 5, 24, 24, 3) and len(set(views.names)) == 2
    assert 0.02 < views.mask.mean() < 0.6 and not views.mask[:, :, 0].any()  # all of it is in view
    assert (views.color[~views.mask] == 0).all() and views.color[views.mask].mean() > 20
    # All cameras look at the cube's middle, from different sides.
    eyes = views.camera_to_canonical[..., 3, :3]
    toward = -views.camera_to_canonical[..., 2, :3]
    cosine = -(eyes * toward).sum(-1) / np.linalg.norm(eyes, axis=-1) / np.linalg.norm(toward, axis=-1)
    assert cosine == pytest.approx(1, abs=1e-4)
    sides = eyes[0] / np.linalg.norm(eyes[0], axis=-1, keepdims=True)
    assert (sides @ sides.T - np.eye(5)).max() < 0.9
    assert main([*command, *small]) == 0  # nothing is left to do
    assert main([*command, "--hold-out", "Lights"]) == 1
    assert "no model is of the category 'Lights'" in capsys.readouterr().err


def test_errors_name_what_is_missing_and_the_cure(tmp_path, blocks):
    from neuralusd.datasets.cycles import render_frames

    with pytest.raises(FileNotFoundError, match="no USD stage at"):
        render_frames(tmp_path / "none.usda", [1], 32, tmp_path)
    block = next(blocks.glob("*.usda"))
    with pytest.raises(ValueError, match="has no camera to render from"):
        render_frames(block, [1], 32, tmp_path)
    with pytest.raises(ValueError, match="</nowhere> is not a camera of"):
        render_frames(block, [1], 32, tmp_path, camera="/nowhere")
    with pytest.raises(FileNotFoundError, match="has no split 'train'"):
        open_world(tmp_path, "train")
