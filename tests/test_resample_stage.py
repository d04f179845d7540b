"""Scene latents off a stage, and samples as variants over it: exact poses, nothing lost, what is kept untouched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neural_stage import add_tokens
from pxr import Gf, Sdf, Usd, UsdGeom, UsdLux, UsdShade
from scipy.spatial.transform import Rotation
from stages import add_camera, add_material, bind, new_stage
from tiny_resample import room

from neuralusd import stage as stages
from neuralusd.errors import EditError, SceneError
from neuralusd.latents import ObjectLatents
from neuralusd.lifting.volume_mesh import ColoredMesh, mesh_of_volume
from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.stage.errors import CameraError
from neuralusd.stage.latents import placed, placed_anew, quaternion_of, read_latents, rotation_of
from neuralusd.stage.variation_edits import Backdrop, ObjectChange, SampleChange, write_sample
from neuralusd.stage.variations import ORIGINAL, Variations, list_samples, sample_name, select_variant, variant_set
from neuralusd.stage.views import Views
from neuralusd.validators import validate

UsdValidation = pytest.importorskip("pxr.UsdValidation")
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
BLOCK = ColoredMesh(
    CORNERS,
    np.array([triangle for a, b, c, d in QUADS for triangle in ((a, b, c), (a, c, d))], np.int32),
    CORNERS / np.sqrt(3),
    np.tile(np.float32([0.9, 0.8, 0.1]), (8, 1)),
)


def variations(base, changes, output=None, roots=("Room",)) -> Usd.Stage:
    """A stage of the samples, published, its first one selected."""
    scene = stages.read(base)
    made = Variations(base, output, len(changes), roots)
    background = scene.background.path if scene.background else None
    for number, change in enumerate(changes, 1):
        made.select(sample_name(number))
        write_sample(made, change, scene.camera, background, [asset.path for asset in scene.assets])
    made.select(sample_name(1))
    return made.publish()


def look(change: ObjectChange, base: Usd.Stage) -> ObjectChange:
    """The same change, and a yellow block for its looks."""
    return replace(change, mesh=BLOCK, extent=np.asarray(stages.read(base).asset(change.path).extent))


def opinions(prim: Usd.Prim) -> dict:
    """All that a prim says, and all below it: type, metadata, values and targets."""
    out = {}
    for each in Usd.PrimRange(prim, Usd.TraverseInstanceProxies(Usd.PrimAllPrimsPredicate)):
        said = {"type": each.GetTypeName(), "active": each.IsActive(), "schemas": tuple(each.GetAppliedSchemas())}
        for prop in each.GetAuthoredProperties():
            if isinstance(prop, Usd.Relationship):
                said[prop.GetName()] = tuple(prop.GetTargets())
            else:
                samples = {time: str(prop.Get(time)) for time in prop.GetTimeSamples()}
                said[prop.GetName()] = (str(prop.Get()), samples, tuple(prop.GetConnections()))
        out[str(each.GetPath())] = said
    return out


def sound(stage: Usd.Stage) -> None:
    """Neither USD nor we find anything wrong in any variant."""
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    for name in [ORIGINAL, *(each.name for each in list_samples(stage))]:
        select_variant(stage, variant_set(stage), name)
        errors = UsdValidation.ValidationContext(validators).Validate(stage)
        assert [f"{error.GetName()}: {error.GetMessage()}" for error in errors] == []
        assert [issue for issue in validate(stage) if issue.severity == "error"] == []
        assert stages.composition_problems(stage) == []


def axis_aligned(stage: Usd.Stage, path: str) -> np.ndarray:
    """(2, 3) the world box of a prim in metres."""
    corners = stages.read(stage).asset(path).corners()
    return np.array([corners.min(0), corners.max(0)])


class TestLatents:
    def test_a_room_as_its_camera_sees_it(self):
        stage = room()
        found = read_latents(stages.read(stage)).latents
        bed, chair, cup = found.objects
        assert [one.path for one in found.objects] == ["/Room/Bed", "/Room/Chair", "/Room/Chair/Cup"]
        assert (bed.text, chair.text, cup.text) == ("bed", "chair", "cup")
        # Canonical axes: as wide as it was, 2 m deep, 0.6 m high.
        assert np.allclose(bed.scale, [1.6, 2.0, 0.6]) and np.allclose(chair.scale, [0.5, 0.5, 0.5])
        assert bed.translation[0] == pytest.approx(-1) and bed.translation[2] < -5
        # It stands upright: its up axis is the camera's but for the camera's own tilt, its front is towards it.
        up, front = rotation_of(bed.rotation)[2], -rotation_of(bed.rotation)[1]
        assert up[1] > 0.95 and front[2] > 0.95
        assert np.allclose(found.focal, 1.0)

    @pytest.mark.parametrize(("up", "unit"), [("Y", 1.0), ("Z", 1.0), ("Y", 0.01), ("Z", 0.0254)])
    def test_the_same_room_in_other_axes_and_units_has_the_same_latents(self, up, unit):
        want, got = (read_latents(stages.read(room(None, *how))).latents for how in (("Y", 1.0), (up, unit)))
        for a, b in zip(want.objects, got.objects, strict=True):
            assert np.allclose(a.translation, b.translation, atol=1e-5) and np.allclose(a.scale, b.scale, atol=1e-5)
            assert abs(a.rotation @ b.rotation) == pytest.approx(1)
        assert np.allclose(want.focal, got.focal)

    @settings(max_examples=40, deadline=None)
    @given(
        up=st.sampled_from(["Y", "Z"]),
        unit=st.sampled_from([1.0, 0.01]),
        angles=st.tuples(*[st.floats(-180, 180)] * 3),
        scale=st.tuples(*[st.floats(0.2, 5)] * 3),
        mirror=st.booleans(),
        shear=st.floats(0, 0.3),
        seed=st.integers(0, 99),
    )
    def test_a_pose_comes_back_as_it_was_read_and_a_new_one_as_it_was_sampled(
        self, up, unit, angles, scale, mirror, shear, seed
    ):
        scene = stages.read(room(None, up, unit))
        asset = scene.asset("/Room/Chair")
        linear = (
            np.diag(scale) @ (np.eye(3) + shear * np.eye(3, k=1)) @ Rotation.from_euler("xyz", angles, True).as_matrix()
        )
        linear[0] *= -1 if mirror else 1
        asset.local_to_world = asset.local_to_world.copy()
        asset.local_to_world[:3, :3] = linear * unit
        asset.local_to_world[3, :3] = 0, 0, 0
        scene.assets = [asset]
        # Where the camera sees it, whatever its size.
        scene.camera = replace(scene.camera, focal_length=0.01)
        found = read_latents(scene)
        if found.left_alone:
            return
        [one] = found.latents.objects
        assert np.linalg.norm(one.rotation) == pytest.approx(1)
        again = placed(asset, scene, one)
        assert np.allclose(again, asset.local_to_world, atol=1e-9 + 1e-7 * np.abs(asset.local_to_world).max())
        rng = np.random.default_rng(seed)
        new = ObjectLatents(
            one.translation + rng.normal(size=3), quaternion_of(Rotation.random(random_state=seed).as_matrix()),
            rng.uniform(0.1, 3, 3),
        )  # fmt: skip
        moved = replace(asset, local_to_world=placed(asset, scene, new))
        [back] = read_latents(replace_assets(scene, moved)).latents.objects or [None]
        if back is not None:  # it may have left the view
            assert np.allclose(back.translation, new.translation) and np.allclose(back.scale, new.scale)
            assert abs(back.rotation @ new.rotation) == pytest.approx(1, abs=1e-6)
        # A mirrored prim stays mirrored.
        assert np.sign(np.linalg.det(moved.local_to_world[:3, :3])) == np.sign(np.linalg.det(linear))

    def test_what_is_not_in_front_of_the_camera_or_in_space_is_left_alone_and_says_why(self):
        stage = room()
        UsdGeom.Cube(stage.GetPrimAtPath("/Room/Bed/Frame")).GetOrderedXformOps()[0].Set((0, 1, 30))
        photo = UsdGeom.Xform.Define(stage, "/Room/Poster").GetPrim()
        NeuralAssetAPI.Apply(photo).CreateBox2dAttr((0.1, 0.1, 0.2, 0.2))
        NeuralAssetAPI(stage.GetPrimAtPath("/Room/Chair/Cup")).CreatePresenceAttr(0.0)
        scene = stages.read(stage)
        found = read_latents(scene)
        assert [one.path for one in found.latents.objects] == ["/Room/Chair"]
        assert "does not see it" in found.left_alone["/Room/Bed"]
        assert "no place in space" in found.left_alone["/Room/Poster"]
        assert found.left_alone["/Room/Chair/Cup"] == "its presence is 0"
        wanted = read_latents(scene, absent=["/Room/Chair/Cup"]).latents.objects
        assert [(one.path, one.presence) for one in wanted] == [("/Room/Chair", True), ("/Room/Chair/Cup", False)]

    def test_a_shear_is_said_and_a_flat_thing_has_a_side_all_the_same(self):
        stage = room()
        UsdGeom.Xformable(stage.GetPrimAtPath("/Room/Bed")).AddTransformOp().Set(
            Gf.Matrix4d(1, 0, 0, 0, 0.5, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1)
        )
        rug = UsdGeom.Mesh.Define(stage, "/Room/Rug")
        rug.CreatePointsAttr([(0, 0.01, 0), (1, 0.01, 0), (1, 0.01, 1), (0, 0.01, 1)])
        rug.CreateFaceVertexCountsAttr([4])
        rug.CreateFaceVertexIndicesAttr([0, 1, 2, 3])
        NeuralAssetAPI.Apply(rug.GetPrim())
        scene = stages.read(stage)
        found = read_latents(scene)
        assert len(found.notes) == 1 and "<Room/Bed> is sheared" in found.notes[0].replace("</", "<")
        flat = next(one for one in found.latents.objects if one.path == "/Room/Rug")
        assert flat.scale[2] == pytest.approx(1e-3) and flat.scale[0] == pytest.approx(1)
        assert np.allclose(placed(scene.asset("/Room/Rug"), scene, flat), np.eye(4), atol=1e-9)

    def test_an_orthographic_camera_has_no_focal_length(self):
        stage = room()
        UsdGeom.Camera(stage.GetPrimAtPath("/Room/Camera")).CreateProjectionAttr("orthographic")
        with pytest.raises(CameraError, match="</Room/Camera> is orthographic"):
            read_latents(stages.read(stage))


def replace_assets(scene, *assets):
    return replace(scene, assets=list(assets))


class TestViews:
    def test_an_object_is_seen_by_itself_whole_and_in_its_window(self):
        stage = room()
        # Before the bed stands a wall that hides it from the camera.
        wall = UsdGeom.Cube.Define(stage, "/Room/Screen")
        wall.AddTranslateOp().Set((-1, 1, 2))
        NeuralAssetAPI.Apply(wall.GetPrim())
        scene = stages.read(stage)
        picture = Views(stage, scene).cutout(scene.asset("/Room/Bed"))
        assert picture.shape == (4, 64, 64) and picture.min() >= 0 and picture.max() <= 1
        coverage = picture[3]
        assert coverage.mean() > 0.3 and coverage[:2].max() == 0 and coverage[:, :1].max() == 0
        color = picture[:3, coverage == 1]
        assert (color.argmax(0) == 0).all()  # red
        assert (picture[:3] <= coverage + 1e-6).all()  # premultiplied

    def test_a_parent_without_what_it_holds(self):
        stage = room()
        scene = stages.read(stage)
        chair = Views(stage, scene).cutout(scene.asset("/Room/Chair"))
        assert not (chair[1] > chair[2]).any()  # nothing of the green cup

    def test_the_background_without_objects_and_how_deep_it_is(self):
        stage = room()
        color, depth = Views(stage, stages.read(stage)).background()
        assert color.shape == (32, 32, 3) and depth.shape == (32, 32)
        assert not ((color[..., 0] > 2 * color[..., 2]) & np.isfinite(depth)).any()  # no red bed
        floor, wall = depth[24, 16], depth[12, 16]
        assert 4 < floor < 7 and 8.5 < wall < 9.5
        assert np.isinf(depth[0]).all()

    def test_of_a_photograph_its_own_pixels(self, tmp_path):
        from shots import photograph
        from tiny_backend import save_tiny_backend

        from neuralusd import api

        photo, ids, depth = photograph(tmp_path)
        backend = save_tiny_backend(tmp_path / "backend")
        stage = api.encode_photo(
            photo, tmp_path / "scene.usda", masks=ids, depth_map=depth, backend=backend, field_of_view=50
        )
        scene = stages.read(stage)
        red = next(asset for asset in scene.foreground)
        picture = Views(stage, scene).cutout(red)
        inside = picture[:, 24:40, 24:40]
        assert (inside[0] > 2 * inside[2]).all() and inside[3].min() > 0.9
        color, far = Views(stage, scene).background()
        assert np.abs(color - 90 / 255).max() < 0.2 and np.allclose(far, 3.0, atol=0.3)
        # A service opens no picture by a name in somebody's stage.
        assert Views(stage, scene, photographs=False).cutout(red) is None


class TestVariants:
    def test_a_sample_moves_removes_adds_and_repaints(self, tmp_path):
        base = room(tmp_path / "room.usda")
        scene = stages.read(base)
        [bed, *_] = read_latents(scene).latents.objects
        there = scene.camera.to_camera(np.array([1.0, 0.4, 1.0]))
        matrix, extent = placed_anew(scene, replace(bed, translation=there, scale=np.array([0.4, 0.4, 0.8])))
        moved = replace(bed, translation=bed.translation + [0.5, 0, 0])
        change = SampleChange(
            [
                ObjectChange("/Room/Bed", local_to_world=placed(scene.asset("/Room/Bed"), scene, moved)),
                look(ObjectChange("/Room/Chair"), base),
                ObjectChange("/Room/Chair/Cup", presence=False),
                ObjectChange("", local_to_world=matrix, mesh=BLOCK, extent=extent, text="lamp"),
            ],
            focal_length=40.0,
        )
        stage = variations(base, [change], tmp_path / "out.usda")
        assert axis_aligned(stage, "/Room/Bed")[0] == pytest.approx([-1.3, 0, -1.5], abs=1e-5)
        assert axis_aligned(stage, "/Room/lamp") == pytest.approx(np.array([[0.8, 0, 0.8], [1.2, 0.8, 1.2]]), abs=1e-5)
        assert axis_aligned(stage, "/Room/Chair") == pytest.approx(axis_aligned(base, "/Room/Chair"), abs=1e-5)
        assert [asset.path for asset in stages.read(stage).assets] == [
            "/Room/Shell", "/Room/Bed", "/Room/Chair", "/Room/lamp",
        ]  # fmt: skip
        assert stages.read(stage).camera.focal_length == 40
        [summary] = list_samples(stage)
        assert (summary.moved, summary.changed) == (["/Room/Bed"], ["/Room/Chair"])
        assert (summary.new, summary.gone, summary.camera) == (["/Room/lamp"], ["/Room/Chair/Cup"], True)
        # What the chair looks like is yellow now, for who casts rays and for who reads materials.
        now = stages.read(stage)
        picture = Views(stage, now).cutout(now.asset("/Room/Chair"))
        seen = picture[:3, picture[3] == 1]
        assert (seen[0] > 2 * seen[2]).all() and (seen[1] > 2 * seen[2]).all()
        sound(stage)

    @pytest.mark.parametrize("extension", ["usda", "usdc", "usd"])
    def test_what_is_kept_is_unchanged_to_the_bit(self, tmp_path, extension):
        base = room(tmp_path / "room.usda")
        scene = stages.read(base)
        place = scene.asset("/Room/Chair").local_to_world.copy()
        place[3, 0] += 1 / 3
        changes = [
            SampleChange([ObjectChange("/Room/Chair", local_to_world=place)]),
            SampleChange([look(ObjectChange("/Room/Chair"), base)], focal_length=31.0),
        ]
        stage = variations(base, changes, tmp_path / f"out.{extension}")
        before = opinions(base.GetPrimAtPath("/Room"))
        for name in ("original", "sample_1", "sample_2"):
            select_variant(stage, "neuralResample", name)
            after = opinions(stage.GetPrimAtPath("/Room"))
            for path in before:
                free = path.startswith("/Room/Chair") or (path == "/Room/Camera" and name == "sample_2")
                if name == "original" or not free:
                    assert after[path] == before[path]
        assert after["/Room/Chair/Cup/Body"] == before["/Room/Chair/Cup/Body"]
        select_variant(stage, "neuralResample", "sample_1")
        assert axis_aligned(stage, "/Room/Chair/Cup")[0, 0] == pytest.approx(1.2 - 0.075 + 1 / 3)  # it rides along
        sound(stage)

    def test_the_stage_moves_with_its_variations_to_another_folder(self, tmp_path):
        (tmp_path / "here").mkdir()
        base = room(tmp_path / "here/room.usda")
        variations(base, [SampleChange([look(ObjectChange("/Room/Bed"), base)])], tmp_path / "here/out.usda")
        (tmp_path / "here").rename(tmp_path / "there")
        stage = Usd.Stage.Open(str(tmp_path / "there/out.usda"))
        assert stage.GetPrimAtPath("/Room/Bed/Sampled").IsA(UsdGeom.Mesh) and stage.GetPrimAtPath("/Room/Chair/Seat")
        assert [path.name for path in (tmp_path / "there/out.objects").iterdir()] == [
            path.name for path in (tmp_path / "there/out.objects").glob("sample_1.????????.usdc")
        ]
        assert (tmp_path / "there/out.usda").stat().st_size < 10_000  # arrays are in the crate

    def test_several_root_prims_and_what_points_across_them(self, tmp_path):
        """Materials, a class that prims inherit, a camera, render settings and tokens of a donor, each below another
        root."""
        stage = new_stage(path=str(tmp_path / "shot.usda"))
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/World").GetPrim())
        red, blue = (
            add_material(stage, f"/Looks/{name}", color) for name, color in (("Red", (1, 0, 0)), ("Blue", (0, 0, 1)))
        )
        shared = UsdShade.Shader.Define(stage, "/Shared/Roughness")
        shared.CreateIdAttr("ND_constant_float")
        UsdShade.Shader(stage.GetPrimAtPath("/Looks/Red/Surface")).CreateInput(
            "roughness", Sdf.ValueTypeNames.Float
        ).ConnectToSource(shared.CreateOutput("out", Sdf.ValueTypeNames.Float))
        stage.CreateClassPrim("/_class_Box")
        UsdGeom.Cube.Define(stage, "/_class_Box/Geom")
        for name, place, material in (("A", -1.5, red), ("B", 1.5, blue)):
            prim = UsdGeom.Xform.Define(stage, f"/World/{name}")
            prim.GetPrim().GetInherits().AddInherit("/_class_Box")
            prim.AddTranslateOp().Set((place, 0, 0))
            NeuralAssetAPI.Apply(prim.GetPrim())
            bind(prim.GetPrim(), material)
        other = UsdGeom.Sphere.Define(stage, "/Ball")
        other.AddTranslateOp().Set((0, 2, 0))
        NeuralAssetAPI.Apply(other.GetPrim())
        donor = stage.CreateClassPrim("/NeuralDonors")
        add_tokens(donor)
        NeuralTokensAPI.Apply(stage.GetPrimAtPath("/World/B"), "appearance").CreateFromRel().SetTargets(
            [donor.GetPath()]
        )
        add_camera(stage, (0, 1, 8), path="/Cam")
        stage.Save()
        before = {
            path: opinions(stage.GetPrimAtPath(path)) for path in ("/World/A", "/World/B", "/Ball", "/Looks", "/Cam")
        }
        matrix = np.eye(4)
        matrix[3, 1] = 3
        changes = [
            SampleChange([ObjectChange("/Ball", local_to_world=matrix)], focal_length=70.0),
            SampleChange([look(ObjectChange("/World/B"), stage), look(ObjectChange("/Ball"), stage)]),
        ]
        made = variations(stage, changes, tmp_path / "out.usda", roots=("World", "Ball", "Cam"))
        assert [prim.GetName() for prim in made.GetPseudoRoot().GetAllChildren()] == [
            prim.GetName() for prim in stage.GetPseudoRoot().GetAllChildren()
        ]
        for name, free in ((ORIGINAL, ()), ("sample_1", ("/Ball", "/Cam")), ("sample_2", ("/World/B", "/Ball"))):
            select_variant(made, "neuralResample", name)
            for path, said in before.items():
                assert path in free or opinions(made.GetPrimAtPath(path)) == said
        assert stages.read(made).asset("/Ball").extent is not None
        assert made.GetPrimAtPath("/Ball").GetTypeName() == "Xform" and made.GetPrimAtPath("/Ball/Sampled")
        # B is yellow in the second sample, though it is bound to blue and took another's tokens.
        assert not NeuralTokensAPI(made.GetPrimAtPath("/World/B"), "appearance").GetFromRel().GetTargets()
        now = stages.read(made)
        for path in ("/World/B", "/Ball"):
            picture = Views(made, now).cutout(now.asset(path))
            seen = picture[:3, picture[3] == 1]
            assert (seen[1] > 2 * seen[2]).all()

    def test_an_instance_becomes_one_of_a_kind_where_it_changes_and_only_there(self, tmp_path):
        library = new_stage(path=str(tmp_path / "box.usda"))
        library.SetDefaultPrim(UsdGeom.Xform.Define(library, "/Box").GetPrim())
        UsdGeom.Cube.Define(library, "/Box/Geom").CreateSizeAttr(1.0)
        library.Save()
        stage = new_stage(path=str(tmp_path / "shot.usda"))
        stage.SetDefaultPrim(UsdGeom.Xform.Define(stage, "/Room").GetPrim())
        for name, place in (("A", -1), ("B", 1)):
            prim = UsdGeom.Xform.Define(stage, f"/Room/{name}")
            prim.GetPrim().GetReferences().AddReference("./box.usda")
            prim.GetPrim().SetInstanceable(True)
            prim.AddTranslateOp().Set((place, 0, 0))
            NeuralAssetAPI.Apply(prim.GetPrim())
        add_camera(stage, (0, 1, 8), path="/Room/Camera")
        stage.Save()
        made = variations(stage, [SampleChange([look(ObjectChange("/Room/A"), stage)])], tmp_path / "out.usda")
        assert not made.GetPrimAtPath("/Room/A").IsInstance() and made.GetPrimAtPath("/Room/B").IsInstance()
        select_variant(made, "neuralResample", ORIGINAL)
        assert made.GetPrimAtPath("/Room/A").IsInstance()
        sound(made)

    @pytest.mark.parametrize(
        "ops",
        [("translate",), ("translate", "rotateXYZ", "scale"), ("scale", "orient", "translate"), ("transform",), ()],
        ids=" ".join,
    )
    def test_a_pose_is_written_by_the_ops_there_are_and_the_children_come_along(self, tmp_path, ops):
        base = room(tmp_path / "room.usda")
        prim = UsdGeom.Xformable(base.GetPrimAtPath("/Room/Chair"))
        for op in ops:
            getattr(prim, f"Add{op[0].upper()}{op[1:]}Op")()
            value = {"translate": (0.1, 0, 0), "rotateXYZ": (0, 20, 0), "scale": (1, 1.2, 1), "orient": Gf.Quatf(1)}
            prim.GetOrderedXformOps()[-1].Set(value.get(op, Gf.Matrix4d(1)))
        base.Save()
        scene = stages.read(base)
        chair = next(one for one in read_latents(scene).latents.objects if one.path == "/Room/Chair")
        target = placed(scene.asset("/Room/Chair"), scene, replace(chair, translation=chair.translation + [0, 0, 0.5]))
        made = variations(
            base, [SampleChange([ObjectChange("/Room/Chair", local_to_world=target)])], tmp_path / "o.usda"
        )
        assert np.allclose(stages.read(made).asset("/Room/Chair").local_to_world, target, atol=1e-5)
        if ops in ((("translate", "rotateXYZ", "scale")), ("translate",)):
            names = [op.GetOpName() for op in UsdGeom.Xformable(made.GetPrimAtPath("/Room/Chair")).GetOrderedXformOps()]
            assert names == [f"xformOp:{op}" for op in ops]

    def test_what_is_animated_stands_still_in_a_sample_and_moves_on_in_the_others(self, tmp_path):
        base = room(tmp_path / "room.usda")
        shift = UsdGeom.Xformable(base.GetPrimAtPath("/Room/Bed")).AddTranslateOp()
        shift.Set((0, 0, 0), 1)
        shift.Set((0.5, 0, 0), 10)
        base.Save()
        matrix = np.eye(4)
        matrix[3, :3] = 0, 0, 1
        still = SampleChange([ObjectChange("/Room/Bed", local_to_world=matrix)])
        made = variations(base, [still, SampleChange()], tmp_path / "o.usda")
        for time in (1, 10):
            assert np.allclose(stages.read(made, time=time).asset("/Room/Bed").local_to_world, matrix)
        select_variant(made, "neuralResample", "sample_2")
        assert stages.read(made, time=10).asset("/Room/Bed").local_to_world[3, 0] == 0.5

    def test_below_what_moves_a_pose_holds_at_its_time(self, tmp_path):
        base = room(tmp_path / "room.usda")
        shift = UsdGeom.Xformable(base.GetPrimAtPath("/Room")).AddTranslateOp()
        shift.Set((0, 0, 0), 1)
        shift.Set((2, 0, 0), 10)
        base.Save()
        matrix = np.eye(4)
        matrix[3, :3] = 2, 0, 1
        scene = stages.read(base, time=10)
        made = Variations(base, tmp_path / "o.usda", 1, ["Room"])
        made.select("sample_1")
        change = SampleChange([ObjectChange("/Room/Bed", local_to_world=matrix)])
        write_sample(made, change, scene.camera, None, [asset.path for asset in scene.assets], 10)
        assert np.allclose(stages.read(made.publish(), time=10).asset("/Room/Bed").local_to_world, matrix)

    def test_what_goes_takes_along_neither_what_stands_on_it_nor_its_neighbours(self, tmp_path):
        base = room(tmp_path / "room.usda")
        made = variations(base, [SampleChange([ObjectChange("/Room/Chair", presence=False)])], tmp_path / "o.usda")
        scene = stages.read(made)
        views = Views(made, scene)
        assert views.cutout(scene.asset("/Room/Chair/Cup")) is not None
        assert not [piece for piece in views.pieces if str(piece.path).endswith("Seat")]
        assert scene.asset("/Room/Chair").presence == 0

    def test_a_lamp_that_looks_different_still_shines(self, tmp_path):
        base = room(tmp_path / "room.usda")
        UsdGeom.Xform.Define(base, "/Room/Bed/Head")
        UsdGeom.Sphere.Define(base, "/Room/Bed/Head/Bulb")
        UsdLux.SphereLight.Define(base, "/Room/Bed/Head/Light")
        base.Save()
        made = variations(base, [SampleChange([look(ObjectChange("/Room/Bed"), base)])], tmp_path / "o.usda")
        visible = {
            name: UsdGeom.Imageable(made.GetPrimAtPath(f"/Room/Bed/{name}")).ComputeVisibility() == "inherited"
            for name in ("Frame", "Head/Bulb", "Head/Light", "Sampled")
        }
        assert visible == {"Frame": False, "Head/Bulb": False, "Head/Light": True, "Sampled": True}

    def test_another_background_is_where_the_camera_sees_it_and_the_old_one_is_gone(self, tmp_path):
        base = room(tmp_path / "room.usda")
        depth = np.full((32, 32), 7.0)
        depth[:4] = np.inf  # sky
        color = np.tile(np.float32([0.1, 0.2, 0.9]), (32, 32, 1))
        made = variations(base, [SampleChange(background=Backdrop(color, depth))], tmp_path / "o.usda")
        scene = stages.read(made)
        seen, far = Views(made, scene).background()
        assert np.allclose(far[6:], 7.0, atol=1e-3) and np.isinf(far[:3]).all()
        assert (seen[6:].argmax(-1) == 2).all()
        assert {asset.path for asset in scene.foreground} == {"/Room/Bed", "/Room/Chair", "/Room/Chair/Cup"}
        assert [name for name in ("Floor", "Wall") if UsdGeom.Imageable(
            made.GetPrimAtPath(f"/Room/Shell/{name}")).ComputeVisibility() == "inherited"] == []  # fmt: skip
        sound(made)

    def test_samples_of_a_sample_leave_it_as_it_was_chosen(self, tmp_path):
        base = room(tmp_path / "room.usda")
        first = variations(
            base, [SampleChange(focal_length=30.0), SampleChange(focal_length=50.0)], tmp_path / "a.usda"
        )
        select_variant(first, "neuralResample", "sample_2")
        stages.save(first)
        second = variations(first, [SampleChange([look(ObjectChange("/Room/Bed"), first)])], tmp_path / "b.usda")
        assert variant_set(second) == "neuralResample_2"
        assert stages.read(second).camera.focal_length == 50
        assert [each.changed for each in list_samples(second)] == [["/Room/Bed"]]

    def test_a_stage_in_memory_has_its_variations_in_memory(self):
        base = room()
        made = variations(base, [SampleChange([look(ObjectChange("/Room/Bed"), base)])])
        assert made.GetPrimAtPath("/Room/Bed/Sampled") and made.GetRootLayer().anonymous

    def test_new_things_have_a_home_where_every_root_is_an_object(self, tmp_path):
        stage = new_stage(path=str(tmp_path / "two.usda"))
        for name, place in (("Cup", -1), ("Can", 1)):
            cube = UsdGeom.Cube.Define(stage, f"/{name}")
            cube.AddTranslateOp().Set((place * 2, 0, 0))
            NeuralAssetAPI.Apply(cube.GetPrim())
        add_camera(stage, (0, 1, 8), path="/Cam")
        stage.Save()
        scene = stages.read(stage)
        matrix, extent = placed_anew(scene, read_latents(scene).latents.objects[0])
        new = ObjectChange("", local_to_world=matrix, mesh=BLOCK, extent=extent)
        made = variations(stage, [SampleChange([new])], tmp_path / "o.usda", roots=("Cup", "Can"))
        assert made.GetPrimAtPath("/Resampled/Object/Sampled")
        select_variant(made, "neuralResample", ORIGINAL)
        assert not made.GetPrimAtPath("/Resampled/Object")


class TestFiles:
    def test_wrong_names_are_refused_before_anything_is_written(self, tmp_path):
        base = room(tmp_path / "room.usda")
        for output, said in (("room.usda", "is part of"), ("out.usdz", "extension is none of"), ("out", "extension")):
            with pytest.raises(SceneError, match=said):
                Variations(base, tmp_path / output, 1, ["Room"])
        with pytest.raises(SceneError, match="in memory only"):
            Variations(room(), tmp_path / "out.usda", 1, ["Room"])
        UsdGeom.Xform.Define(base, "/Room/New")
        with pytest.raises(SceneError, match="changes that are not on disk"):
            Variations(base, tmp_path / "out.usda", 1, ["Room"])
        assert [path.name for path in tmp_path.iterdir()] == ["room.usda"]

    def test_what_cannot_be_finished_leaves_the_old_files(self, tmp_path, monkeypatch):
        import os

        base = room(tmp_path / "room.usda")
        change = SampleChange([look(ObjectChange("/Room/Bed"), base)])
        variations(base, [change], tmp_path / "out.usda")
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        usual = os.replace

        def full(source, target):
            if str(target).endswith("out.usda"):
                raise OSError(28, "No space left on device")
            usual(source, target)

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(SceneError, match="No space left on device"):
            variations(base, [change, replace(change, focal_length=44.0)], tmp_path / "out.usda")
        monkeypatch.undo()
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
        again = variations(base, [SampleChange([look(ObjectChange("/Room/Chair"), base)])], tmp_path / "out.usda")
        assert again.GetPrimAtPath("/Room/Chair/Sampled") and not again.GetPrimAtPath("/Room/Bed/Sampled")
        assert len(list((tmp_path / "out.objects").iterdir())) == 1  # what the old layer referred to is gone

    def test_a_variant_that_there_is_not(self, tmp_path):
        base = room(tmp_path / "room.usda")
        made = variations(base, [SampleChange()], tmp_path / "out.usda")
        with pytest.raises(EditError, match="no variant 'sample_9'; it has: original, sample_1"):
            select_variant(made, "neuralResample", "sample_9")
        with pytest.raises(EditError, match="no variant set 'looks'; it has: neuralResample"):
            select_variant(made, "looks", "red")
        assert variant_set(base) is None and list_samples(base) == []


class TestVolumes:
    def test_a_volume_becomes_a_small_closed_mesh_in_its_own_colours(self):
        import trimesh

        axis = (np.arange(24) + 0.5) / 12 - 1
        z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
        inside = (abs(x) < 0.3) & (abs(y) < 0.6) & (abs(z) < 0.8)
        color = np.where((z > 0)[..., None], [1.0, 0, 0], [0, 0, 1.0])  # red above
        mesh = mesh_of_volume(np.where(inside, 200.0, 0.0).astype(np.float32), color.astype(np.float32))
        solid = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
        assert solid.is_watertight and solid.volume > 0 and len(mesh.faces) <= 3000
        assert np.allclose([mesh.points.min(0), mesh.points.max(0)], [[-1] * 3, [1] * 3], atol=1e-5)
        assert (mesh.colors[mesh.points[:, 2] > 0.2].argmax(1) == 0).all()
        assert (mesh.colors[mesh.points[:, 2] < -0.2].argmax(1) == 2).all()
        top = mesh.points[:, 2] > 0.99
        assert (mesh.normals[top, 2] > 0.5).any()

    def test_nothing_is_no_mesh(self):
        with pytest.raises(ValueError, match="empty"):
            mesh_of_volume(np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8, 3), np.float32))
