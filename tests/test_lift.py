"""`lift` by outline, as its users meet it: what is in the asset, that it is sound, its looks, and wrong inputs."""

import json
import os
from dataclasses import replace

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import tiny_annotators
import torch
import trimesh
from lift_pictures import BLUE, RED, mask_of, mug, on
from pxr import Kind, Usd, UsdGeom, UsdSemantics, UsdShade, UsdUtils
from shots import two_boxes
from tiny_backend import save_tiny_backend

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import Cancelled, LiftWarning
from neuralusd.cli import main
from neuralusd.errors import BackendError, SceneError
from neuralusd.lifting import typical_height
from neuralusd.scene import Camera
from neuralusd.schema import NeuralAssetAPI, NeuralProvenanceAPI
from neuralusd.stage.errors import StageWarning
from neuralusd.validators import validate

UsdValidation = pytest.importorskip("pxr.UsdValidation")
pytestmark = pytest.mark.filterwarnings("ignore::neuralusd.api.LiftWarning")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return str(save_tiny_backend(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backend):
    """A folder with mug.png, and mug.usda with its texture, and mug.usdz, lifted from it."""
    folder = tmp_path_factory.mktemp("mug")
    mug().save(folder / "mug.png")
    for name in ("mug.usda", "mug.usdz"):
        lift(folder / "mug.png", folder / name, name="two-coloured mug", height=0.12, tokens=backend)
    return folder


def lift(images, output=None, **options):
    return neuralusd.lift(images, output, **{"backend": "silhouette", **options})


def lifted(image, **options):
    """A picture lifted to a stage in memory, without tokens: the fastest way to a mesh."""
    return lift(image, tokens=None, **{"height": 1.0, "texture_size": 64, **options})


@pytest.fixture(scope="module")
def plain():
    """The mesh of a mug a metre high."""
    return mesh_of(lifted(mug()))


def picture(file):
    with PIL.Image.open(file) as image:
        return np.array(image)


def mesh_of(stage):
    """The default prim's mesh, its points as they are shared."""
    mesh = UsdGeom.Mesh(stage.GetDefaultPrim().GetChild("Mesh"))
    assert set(mesh.GetFaceVertexCountsAttr().Get()) == {3}
    points, faces = np.array(mesh.GetPointsAttr().Get()), np.array(mesh.GetFaceVertexIndicesAttr().Get())
    return trimesh.Trimesh(points, faces.reshape(-1, 3), process=False)


def seen(stage, turn=0.0, size=(160, 128)):
    """What an orthographic camera sees that is turned about the asset, 0 from its front."""
    low, high = (np.array(corner) for corner in stage.GetDefaultPrim().GetAttribute("extentsHint").Get())
    angle = np.radians(turn)
    place = np.eye(4)
    place[:3, :3] = [[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]
    place[3, :3] = (low + high) / 2 + 5 * place[2, :3]
    width = (high[0] - low[0]) * 1.2
    camera = Camera(
        np.linalg.inv(place),
        projection="orthographic",
        horizontal_aperture=width,
        vertical_aperture=width * size[1] / size[0],
    )
    scene = replace(stages.read(stage), camera=camera)
    return stages.render_passes(stage, scene, size[1], size[0])


class TestTheAsset:
    def test_it_drops_into_any_stage(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        prim = stage.GetDefaultPrim()
        assert prim.GetPath() == "/TwoColouredMug" and prim.IsA(UsdGeom.Xform)
        assert [child.GetTypeName() for child in prim.GetChildren()] == ["Mesh", "Scope"]
        assert Usd.ModelAPI(prim).GetKind() == Kind.Tokens.component
        assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
        assert NeuralAssetAPI(prim).GetTextAttr().Get() == "two-coloured mug"
        assert list(UsdSemantics.LabelsAPI(prim, "category").GetLabelsAttr().Get()) == ["two-coloured mug"]

    def test_it_is_as_large_as_the_picture_says_and_stands_on_the_ground(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        mesh = UsdGeom.Mesh(stage.GetDefaultPrim().GetChild("Mesh"))
        low, high = (np.array(corner) for corner in mesh.GetExtentAttr().Get())
        assert np.allclose([low, high], UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
        assert low[1] == 0 and high[1] == pytest.approx(0.12)
        assert np.allclose(low[[0, 2]], -high[[0, 2]], atol=1e-6)
        assert (high - low)[0] / (high - low)[1] == pytest.approx(107 / 90, abs=0.02)

    def test_it_says_how_it_was_made(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        made = NeuralProvenanceAPI(stage.GetDefaultPrim())
        assert made.GetVerbAttr().Get() == "lift" and made.GetBackendAttr().Get() == "silhouette"
        assert [source.path for source in made.GetSourcesAttr().Get()] == ["./mug.png"]
        assert not made.GetSeedAttr().HasAuthoredValue()  # nothing was drawn at random
        assert {"neuralusd", "xatlas"} <= {version.split("==")[0] for version in made.GetVersionsAttr().Get()}

    @pytest.mark.parametrize("name", ["mug.usda", "mug.usdz"])
    def test_usd_finds_nothing_wrong_with_it(self, folder, name):
        stage = Usd.Stage.Open(str(folder / name))
        validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
        assert len(validators) > 20
        errors = UsdValidation.ValidationContext(validators).Validate(stage)
        assert [f"{error.GetName()}: {error.GetMessage()}" for error in errors] == []
        assert validate(stage) == []

    def test_a_package_holds_all_it_needs(self, folder, tmp_path):
        (tmp_path / "elsewhere.usdz").write_bytes((folder / "mug.usdz").read_bytes())
        layers, files, missing = UsdUtils.ComputeAllDependencies(str(tmp_path / "elsewhere.usdz"))
        assert len(layers) == 1 and len(files) == 2 and not missing  # the texture, and the picture without background
        stage = Usd.Stage.Open(str(tmp_path / "elsewhere.usdz"))
        made = NeuralProvenanceAPI(stage.GetDefaultPrim())
        assert made.GetSourcesAttr().Get()[0].resolvedPath

    def test_the_surface_is_one_closed_shell_wound_outward_with_normals(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        mesh = mesh_of(stage)
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
        assert mesh.body_count == 1 and mesh.euler_number == 0  # the handle's hole goes through
        assert len(np.unique(mesh.faces)) == len(mesh.vertices) and mesh.area_faces.min() >= 0
        usd = UsdGeom.Mesh(stage.GetDefaultPrim().GetChild("Mesh"))
        normals = np.array(usd.GetNormalsAttr().Get())
        assert usd.GetNormalsInterpolation() == "vertex" and np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
        assert (np.einsum("fd,fd->f", normals[mesh.faces].mean(1), mesh.face_normals) > 0).mean() > 0.99

    def test_thickness_bounds_it(self):
        thin, thick = (lifted(mug(), thickness=part) for part in (0.1, 0.6))
        for stage, part in ((thin, 0.1), (thick, 0.6)):
            low, high = stage.GetDefaultPrim().GetAttribute("extentsHint").Get()
            assert high[2] - low[2] == pytest.approx(part, rel=0.05)  # its smaller side is its height, a metre

    def test_charts_stand_four_texels_apart(self, folder):
        from skimage.draw import polygon

        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        st = UsdGeom.PrimvarsAPI(stage.GetDefaultPrim().GetChild("Mesh")).GetPrimvar("st")
        assert st.GetInterpolation() == "faceVarying"
        uv, corners = np.array(st.Get()), np.array(st.GetIndices()).reshape(-1, 3)
        assert uv.min() >= 0 and uv.max() <= 1
        height, width = picture(folder / "textures/mug.png").shape[:2]
        charts = np.zeros((height, width), int)
        flat = trimesh.Trimesh(np.c_[uv, uv[:, 0]], corners, process=False)
        joined = trimesh.graph.connected_component_labels(flat.edges, node_count=len(uv))
        for face in corners:
            rows, columns = polygon((1 - uv[face, 1]) * height - 0.5, uv[face, 0] * width - 0.5, charts.shape)
            charts[rows, columns] = joined[face[0]] + 1
        assert len(np.unique(charts)) > 2
        for down in range(-4, 5):
            for right in range(-4, 5):
                near = np.roll(charts, (down, right), (0, 1))
                assert not ((near != charts) & (near > 0) & (charts > 0))[4:-4, 4:-4].any()

    def test_the_same_picture_gives_the_same_asset(self, folder, tmp_path, backend):
        mug().save(tmp_path / "mug.png")
        lift(tmp_path / "mug.png", tmp_path / "mug.usda", name="two-coloured mug", height=0.12, tokens=backend)
        for file in ("mug.usda", "textures/mug.png"):
            assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


class TestWhatItLooksLike:
    def test_from_the_front_it_is_the_picture(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        passes = seen(stage)
        scene, mask = passes.ids >= 0, mask_of(mug())
        rows, columns = np.nonzero(mask)
        mask = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        rows, columns = np.nonzero(scene)
        found = scene[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        mask = np.asarray(PIL.Image.fromarray(mask).resize(found.shape[::-1], PIL.Image.Resampling.NEAREST))
        assert (mask & found).sum() / (mask | found).sum() > 0.97
        # Lit as the shaded view is: which channel wins is the picture's.
        left, right = passes.color[64, 50], passes.color[64, 75]
        assert left.argmax() == np.argmax(RED) and right.argmax() == np.argmax(BLUE)

    def test_from_behind_it_is_mirrored(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        front, back = seen(stage), seen(stage, 180)
        assert ((front.ids >= 0) == (back.ids >= 0)[:, ::-1]).mean() > 0.995
        assert np.abs(front.color - back.color[:, ::-1]).mean() < 0.02

    def test_the_texture_has_the_pictures_colours_and_no_background(self, folder):
        texture = picture(folder / "textures/mug.png").reshape(-1, 3).astype(int)
        near = [np.abs(texture - color).max(1) < 8 for color in (RED, BLUE)]
        assert min(each.mean() for each in near) > 0.2
        assert (near[0] | near[1]).mean() > 0.97  # the rest is between the two; nothing is the black under alpha 0

    def test_it_keeps_its_look_where_it_is_referenced(self, folder, recwarn):
        stage = Usd.Stage.CreateInMemory()
        stage.SetDefaultPrim(stage.DefinePrim("/Shelf", "Xform"))
        prim = stage.DefinePrim("/Shelf/Mug", "Xform")
        prim.GetReferences().AddReference(str(folder / "mug.usdz"))
        scene = stages.read(stage)
        color = stages.render_passes(stage, scene, 32, 32).color
        assert (color.argmax(-1) == 0).sum() > 30 and (color.argmax(-1) == 2).sum() > 30
        assert not [warning for warning in recwarn if warning.category is StageWarning]

    def test_in_memory_its_points_have_the_colours(self):
        stage = lifted(mug())
        assert not UsdShade.MaterialBindingAPI(stage.GetDefaultPrim().GetChild("Mesh")).GetDirectBinding().GetMaterial()
        color = seen(stage).color
        assert color[64, 50].argmax() == np.argmax(RED) and color[64, 75].argmax() == np.argmax(BLUE)


class TestTokens:
    def test_render_shows_it_beside_encoded_assets(self, folder, tmp_path, backend):
        stage = stages.sidecar(two_boxes(tmp_path / "shot.usda"))
        neuralusd.encode(stage, backend=backend)
        before = np.asarray(neuralusd.render(stage, backend=backend, seed=1)).astype(int)
        prim = UsdGeom.Xform.Define(stage, "/World/Mug").GetPrim()
        prim.GetReferences().AddReference(str(folder / "mug.usdz"))
        UsdGeom.Xformable(prim).AddScaleOp().Set((10.0, 10.0, 10.0))
        assert {"appearance", "geometry"} == set(stages.read(stage).asset("/World/Mug").tokens)
        after = np.asarray(neuralusd.render(stage, backend=backend, seed=1)).astype(int)
        assert np.abs(after - before).max() > 8

    def test_tokens_know_the_picture_and_where_it_was_taken(self, folder):
        stage = Usd.Stage.Open(str(folder / "mug.usda"))
        tokens = stages.read(stage).asset("/TwoColouredMug").tokens["appearance"]
        assert tokens.source == "./mug.png"
        # The box of what is opaque in the picture of 160 x 128, and the crop's margin.
        assert np.allclose(tokens.crop, (30 / 160, 20 / 128, 90 / 128, 107 / 160), atol=0.07)
        low, high = stage.GetDefaultPrim().GetAttribute("extentsHint").Get()
        points = tokens.points[np.isfinite(tokens.points).all(1)]
        assert len(points) > 4 and (points > np.array(low) - 0.02).all() and (points < np.array(high) + 0.02).all()
        assert points[:, 2].min() > -0.005  # the seen side is in front

    def test_they_can_be_left_out(self, folder):
        assert not stages.read(lifted(folder / "mug.png")).asset("/Mug").tokens


class TestBackgrounds:
    def test_a_mask_says_what_is_object(self, tmp_path, plain):
        on(mug(), np.random.default_rng(0)).save(tmp_path / "photo.png")
        PIL.Image.fromarray(mask_of(mug())).save(tmp_path / "mask.png")
        from_mask = mesh_of(lifted(tmp_path / "photo.png", mask=tmp_path / "mask.png"))
        assert np.allclose(from_mask.bounds, plain.bounds, atol=0.02)
        assert from_mask.volume == pytest.approx(plain.volume, rel=0.02)
        from_array = mesh_of(lifted(on(mug(), np.random.default_rng(0)), mask=mask_of(mug())))
        assert np.array_equal(from_array.vertices, from_mask.vertices)

    def test_a_plain_background_is_cut_and_said_to_be(self, plain):
        with pytest.warns(LiftWarning, match="cut by its colour"):
            stage = lifted(on(mug(), (235, 235, 230)))
        mesh = mesh_of(stage)
        assert mesh.volume == pytest.approx(plain.volume, rel=0.05)
        assert mesh.euler_number == 0  # what is seen through the handle is background too

    def test_a_picture_that_does_not_say_is_refused_with_what_to_give(self):
        with pytest.raises(SceneError, match="--mask.*alpha channel.*--segmenter"):
            lifted(on(mug(), np.random.default_rng(0)))

    def test_a_segmenter_is_asked(self, tmp_path):
        """One of random weights, so what it finds means nothing; what is lifted is what it finds."""
        from neuralusd.annotate.segment import segment

        sam = tiny_annotators.seeded(tiny_annotators.sam, tmp_path / "sam")
        picture = on(mug(), np.random.default_rng(3))
        width, height = picture.size
        [mask] = segment(picture, sam, [(0.02 * width, 0.02 * height, 0.98 * width, 0.98 * height)])
        assert 0 < mask.mean() < 0.98
        found = mesh_of(lifted(picture, segmenter=sam))
        assert np.array_equal(found.vertices, mesh_of(lifted(picture, mask=mask)).vertices)


class TestOutlines:
    def test_parts_that_do_not_touch_are_a_shell_each_and_specks_are_left_out(self):
        mask = np.zeros((100, 120), bool)
        mask[20:80, 10:50] = mask[20:60, 70:110] = mask[5:7, 60:62] = True
        with pytest.warns(LiftWarning, match="2 parts") as said:
            mesh = mesh_of(lifted(np.zeros((100, 120, 3), np.uint8), mask=mask))
        assert any("1 specks" in str(warning.message) for warning in said)
        shells = mesh.split(only_watertight=True)
        assert len(shells) == 2 and all(shell.volume > 0 for shell in shells)
        assert mesh.is_watertight and mesh.is_winding_consistent

    @pytest.mark.parametrize("side, wide", [(96, 1), (1600, 3)])
    def test_thin_legs_stay_on(self, side, wide):
        """A table whose legs are a pixel of a small picture, or less than a cell of a large one."""
        image = PIL.Image.new("L", (side, side), 0)
        draw = PIL.ImageDraw.Draw(image)
        draw.rectangle((side // 6, side // 5, side * 5 // 6, side // 4), fill=255)
        for end in (side // 5, side * 4 // 5):
            draw.line((side // 2, side // 4, end, side * 9 // 10), fill=255, width=wide)
        mesh = mesh_of(lifted(PIL.Image.new("RGB", (side, side), "brown"), mask=image))
        assert mesh.body_count == 1 and mesh.is_watertight
        feet = mesh.vertices[mesh.vertices[:, 1] < 0.03]
        assert (feet[:, 0] < -0.2).any() and (feet[:, 0] > 0.2).any()

    def test_an_object_that_the_picture_cuts_off_is_said_to_be(self):
        mask = np.zeros((60, 60), bool)
        mask[20:, 20:40] = True
        with pytest.warns(LiftWarning, match="picture's bottom edge"):
            assert mesh_of(lifted(np.zeros((60, 60, 3), np.uint8), mask=mask)).is_watertight

    def test_noise_is_no_object(self):
        mask = np.random.default_rng(0).random((300, 300)) > 0.5
        with pytest.raises(SceneError, match="too ragged to lift"):
            lifted(np.zeros((300, 300, 3), np.uint8), mask=mask)


class TestSizes:
    @pytest.mark.parametrize(
        "said, height, kind",
        [
            ("wooden chairs", 0.87, "chair"),
            ("a coffee table", 0.48, "coffee table"),
            ("armchair beside a plant", 0.4, "plant"),
            ("gizmo", 1.0, ""),
            ("", 1.0, ""),
        ],
    )
    def test_kinds_of_things_have_a_usual_height(self, said, height, kind):
        assert typical_height(said) == (height, kind)

    def test_without_a_height_it_is_as_high_as_its_files_name_says_and_that_is_said(self, tmp_path):
        mug().save(tmp_path / "blueVase_02.png")
        with pytest.warns(LiftWarning, match="0.4 m high, as a vase usually is, by its file's name"):
            stage = lifted(tmp_path / "blueVase_02.png", height=None)
        assert stage.GetDefaultPrim().GetPath() == "/BlueVase02"
        assert stage.GetDefaultPrim().GetAttribute("extentsHint").Get()[1][1] == pytest.approx(0.4)


class TestFiles:
    def test_a_glb_is_the_same_thing(self, folder, tmp_path):
        stage = lift(folder / "mug.png", tmp_path / "mug.glb", name="mug", height=0.12, tokens=None)
        scene = trimesh.load(tmp_path / "mug.glb")
        assert list(scene.geometry) == ["Mug"]
        mesh = scene.geometry["Mug"]
        assert np.allclose(mesh.bounds, mesh_of(stage).bounds, atol=1e-5)
        assert np.array_equal(mesh.visual.material.baseColorTexture, picture(folder / "textures/mug.png"))
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        assert mesh.is_watertight and mesh.volume > 0
        assert scene.metadata["neuralusd"]["verb"] == "lift"

    @pytest.mark.parametrize("extension", ["usda", "usdc", "usdz"])
    def test_names_of_any_kind_work(self, tmp_path, extension):
        place = tmp_path / "Stühle #1" / "椅子 [2]"
        place.mkdir(parents=True)
        mug().save(place / "красный стул.png")
        output = place / f"ü @ 1%.{extension}"
        lift(place / "красный стул.png", output, tokens=None, texture_size=64, name="赤い椅子")
        stage = Usd.Stage.Open(str(output))
        assert stage.GetDefaultPrim().GetName() == "Object"
        assert NeuralAssetAPI(stage.GetDefaultPrim()).GetTextAttr().Get() == "赤い椅子"
        assert not UsdUtils.ComputeAllDependencies(str(output))[2]
        assert seen(stage).color[64, 50].argmax() == np.argmax(RED)

    def test_what_is_there_is_not_replaced_unasked(self, folder, tmp_path):
        (tmp_path / "textures").mkdir()
        (tmp_path / "textures/mug.png").write_text("mine")
        with pytest.raises(SceneError, match="textures/mug.png exists.*--overwrite"):
            lift(folder / "mug.png", tmp_path / "mug.usda", tokens=None)
        assert (tmp_path / "textures/mug.png").read_text() == "mine" and not (tmp_path / "mug.usda").exists()
        held = Usd.Stage.Open(
            lift(folder / "mug.png", tmp_path / "mug.usda", tokens=None, overwrite=True).GetRootLayer()
        )
        lift(folder / "mug.png", tmp_path / "mug.usda", tokens=None, overwrite=True, height=7)
        assert held.GetDefaultPrim().GetAttribute("extentsHint").Get()[1][1] == pytest.approx(7)
        assert sorted(os.listdir(tmp_path)) == ["mug.usda", "textures"]

    def test_nothing_half_written_stays(self, folder, tmp_path):
        (tmp_path / "textures").write_text("a file where the folder of textures would be")
        with pytest.raises(SceneError, match="mug.usda cannot be written"):
            lift(folder / "mug.png", tmp_path / "mug.usda", tokens=None, texture_size=64)
        assert os.listdir(tmp_path) == ["textures"]

    @pytest.mark.parametrize("at", [0, 20, 80, 97])
    def test_cancelled_it_leaves_nothing(self, folder, tmp_path, backend, at):
        with pytest.raises(Cancelled):
            lift(
                folder / "mug.png",
                tmp_path / "mug.usda",
                tokens=backend,
                texture_size=64,
                progress=lambda step, steps: step >= at,
            )
        assert os.listdir(tmp_path) == []


BLANK = np.full((40, 50, 3), 255, np.uint8)
NOTHING = np.zeros((40, 50), bool)
ONE_PIXEL = NOTHING.copy()
ONE_PIXEL[10, 10] = True
# What is given in a folder with a good mug.png and some bad files, and what the error says.
WRONG = {
    "an empty mask": ({"images": BLANK, "mask": NOTHING}, "empty"),
    "a mask of all": ({"images": BLANK, "mask": ~NOTHING}, "covers all of the picture"),
    "one pixel": ({"images": BLANK, "mask": ONE_PIXEL}, "too few to lift"),
    "a mask of another size": ({"images": BLANK, "mask": NOTHING[:20]}, "50x20.*50x40"),
    "a mask of colours": ({"images": BLANK, "mask": BLANK}, r"must be \(height, width\)"),
    "nothing in the picture": ({"images": BLANK}, "no object"),
    "a transparent picture": ({"images": np.zeros((40, 50, 4), np.uint8)}, "no object"),
    "no picture": ({"images": []}, "no picture"),
    "two pictures": ({"images": [BLANK, BLANK]}, "takes one picture, and there are 2"),
    "a mask for each": ({"mask": [None, None]}, "1 pictures and 2 masks"),
    "0 bytes": ({"images": "empty.png"}, r"empty.png is empty \(0 bytes\)"),
    "no image": ({"images": "notes.png"}, "not an image"),
    "a truncated image": ({"images": "cut.png"}, "cut.png is damaged"),
    "no file": ({"images": "none.png"}, "none.png does not exist"),
    "a folder": ({"images": "."}, "is a folder"),
    "height NaN": ({"height": float("nan")}, "height of nan"),
    "height 0": ({"height": 0}, "height of 0"),
    "thickness 2": ({"thickness": 2.0}, "thickness of 2"),
    "a texture of none": ({"texture_size": 0}, "texture of 0"),
    "a seed below 0": ({"seed": -1}, "-1 is no seed"),
    "another lifter": ({"backend": "magic"}, "'magic' is no lifter; there is: silhouette, mini"),
    "other weights": ({"tokens": "magic"}, "'magic' is no backend"),
    "an extension": ({"output": "mug.obj"}, "none of usd, usda, usdc, usdz, glb"),
    "a detector alone": ({"images": BLANK, "detector": "someone/detector"}, "give a segmenter too"),
    "a segmenter that is not here": ({"images": BLANK, "segmenter": "./sam"}, "segmenter ./sam is not a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_say_what_is_wrong_and_write_nothing(tmp_path, monkeypatch, case):
    options, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    mug().save("mug.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "mug.png").read_bytes()[:400])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.png").write_text("no picture")
    before = sorted(os.listdir())
    with pytest.raises((SceneError, BackendError), match=said):
        lift(**{"images": "mug.png", "output": "out.usda", "tokens": None, **options})
    assert sorted(os.listdir()) == before


class TestCommand:
    def test_it_lifts_and_says_what_it_made(self, folder, tmp_path, capsys, backend):
        options = ["--name", "mug", "--tokens", backend, "--backend", "silhouette", "--json"]
        status = main(["lift", f"{folder}/mug.png", "-o", f"{tmp_path}/mug.usdz", *options])
        out, err = capsys.readouterr()
        made = json.loads(out)
        assert status == 0 and made["prim"] == "/Mug" and made["extent"][1][1] == pytest.approx(0.1)
        assert any("0.1 m high, as a mug" in note for note in made["notes"]) and "note:" in err
        command = ["render", str(tmp_path / "mug.usdz"), "-o", str(tmp_path / "out.png"), "--size", "32x32"]
        assert main([*command, "--backend", backend]) == 0
        assert picture(tmp_path / "out.png").shape == (32, 32, 3)

    @pytest.mark.parametrize(
        "arguments, status, said",
        [
            (["mug.png", "-o", "mug.obj"], 1, "none of usd"),
            (["mug.png"], 2, "-o/--output"),
            (["mug.png", "-o", "m.usda", "--height", "nan"], 2, "not a finite number"),
            (["scene.usda", "-o", "m.usda"], 1, "no picture by its name"),
            (["mug.png", "-o", "m.usda", "--tokens", "mini", "--no-tokens"], 2, "not allowed with"),
        ],
    )
    def test_wrong_usage(self, folder, tmp_path, monkeypatch, capsys, arguments, status, said):
        monkeypatch.chdir(tmp_path)
        mug().save("mug.png")
        assert main(["lift", *arguments]) == status
        out, err = capsys.readouterr()
        assert said in err and "Traceback" not in err
        assert os.listdir(tmp_path) == ["mug.png"]
