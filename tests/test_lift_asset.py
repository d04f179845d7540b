"""What a lifter that makes volumes leaves in an asset: the NeuralVolume, the Gaussians, and nothing that disturbs."""

import shutil

import numpy as np
import pytest
from pxr import Gf, Sdf, Usd, UsdGeom, UsdVol
from scipy.spatial.transform import Rotation
from shots import two_boxes
from tiny_backend import save_tiny_backend
from tiny_lifter import BACK, SEAT, UPRIGHT, BlockLifter

import neuralusd
from neuralusd import stage as stages
from neuralusd.errors import SceneError
from neuralusd.schema import NeuralProvenanceAPI, NeuralVolume
from neuralusd.validators import validate

UsdValidation = pytest.importorskip("pxr.UsdValidation")
pytestmark = pytest.mark.filterwarnings("ignore::neuralusd.api.LiftWarning")


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    return str(save_tiny_backend(tmp_path_factory.mktemp("weights") / "tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, backend):
    """A folder with chair.usda, chair.usdc and chair.usdz, each with its volume and Gaussians; and plain.usdz."""
    folder = tmp_path_factory.mktemp("chair")
    options = {
        "text": "a red chair",
        "backend": BlockLifter(),
        "height": 1.2,
        "texture_size": 64,
        "seed": 5,
        "overwrite": True,
    }
    neuralusd.lift(None, folder / "chair.usda", gaussians=True, tokens=backend, **options)
    for name in ("chair.usdc", "chair.usdz"):
        neuralusd.lift(None, folder / name, gaussians=True, tokens=None, **options)
    return folder


@pytest.mark.parametrize("representation", ["mesh", "gaussians"])
@pytest.mark.parametrize("name", ["chair.usda", "chair.usdc", "chair.usdz"])
def test_usd_finds_nothing_wrong_with_it(folder, name, representation):
    stage = Usd.Stage.Open(str(folder / name))
    stage.SetEditTarget(stage.GetSessionLayer())
    stage.GetDefaultPrim().GetVariantSet("representation").SetVariantSelection(representation)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [f"{error.GetName()}: {error.GetMessage()}" for error in errors] == []
    assert validate(stage) == []


class TestVolume:
    @pytest.mark.parametrize("name", ["chair.usda", "chair.usdc", "chair.usdz"])
    def test_it_comes_back_as_the_lifter_gave_it(self, folder, name):
        stage = Usd.Stage.Open(str(folder / name))
        code = stages.read_volume(stage.GetPrimAtPath("/RedChair/Volume"))
        rng = np.random.default_rng(5)
        assert np.array_equal(code.latent, rng.normal(size=(4, 4, 4, 8)).astype(np.float16))
        assert np.allclose(code.embedding, rng.normal(size=16)) and code.embedding.dtype == np.float32
        assert (code.decoder, code.revision) == ("blocks", "7")

    def test_it_fills_the_place_of_the_asset(self, folder):
        """The decoder's cube stands where the mesh does: 1.2 m high is 1.2 of the lifter's units, so scale 1."""
        stage = Usd.Stage.Open(str(folder / "chair.usda"))
        code = stages.read_volume(stage.GetPrimAtPath("/RedChair/Volume"))
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/RedChair/Mesh"))
        points = np.array(mesh.GetPointsAttr().Get())
        in_cube = (points - code.to_lifter[3, :3]) @ np.linalg.inv(code.to_lifter[:3, :3])
        assert np.allclose(in_cube.min(0), [-0.6, -0.6, -0.6], atol=0.04)
        assert np.allclose(in_cube.max(0), [0.6, 0.6, 0.6], atol=0.04)
        # The back is at the cube's +Y, since its front is -Y, and up is +Z.
        assert in_cube[in_cube[:, 2] > 0.3][:, 1].min() > 0.1
        assert np.allclose(np.linalg.det(code.to_lifter[:3, :3]), np.linalg.det(UPRIGHT[:3, :3]), rtol=0.15)

    def test_nothing_draws_it_and_it_counts_in_no_bound(self, folder):
        stage = Usd.Stage.Open(str(folder / "chair.usda"))
        volume = NeuralVolume.Get(stage, "/RedChair/Volume")
        assert volume.GetPurposeAttr().Get() == "guide"
        purposes = ["default", "render", "proxy"]
        bound = UsdGeom.BBoxCache(0, purposes, useExtentsHint=False).ComputeWorldBound(stage.GetDefaultPrim())
        assert bound.ComputeAlignedRange().GetMax()[1] == pytest.approx(1.2)

    def test_a_volume_that_is_moved_and_boxed_otherwise_is_read_through_both(self):
        stage = Usd.Stage.CreateInMemory()
        volume = NeuralVolume.Define(stage, "/Thing/Volume")
        volume.CreateLatentAttr(np.zeros(8, np.float16))
        volume.CreateLatentShapeAttr((1, 2, 2, 2))
        volume.CreateDecoderAttr("someone/decoder")
        volume.CreateExtentAttr([(0, 0, 0), (4, 4, 2)])
        volume.AddTranslateOp().Set((10, 0, 0))
        code = stages.read_volume(volume.GetPrim())
        assert code.latent.shape == (1, 2, 2, 2) and code.embedding.size == 0
        corners = np.array([[-1, -1, -1, 1], [1, 1, 1, 1]]) @ code.to_lifter
        assert np.allclose(corners[:, :3], [[10, 0, 0], [14, 4, 2]])

    @pytest.mark.parametrize(
        "change, said",
        [
            (lambda v: v.GetPrim().RemoveProperty("neural:decoder"), "which decoder"),
            (lambda v: v.GetLatentShapeAttr().Set(Gf.Vec4i(4, 4, 4, 9)), r"512 values.*\(4, 4, 4, 9\)"),
            (lambda v: v.GetLatentShapeAttr().Set(Gf.Vec4i(-4, -4, 4, 8)), "latentShape"),
            (lambda v: v.GetPrim().RemoveProperty("neural:latentShape"), "latentShape is none"),
            (lambda v: v.GetLatentAttr().Set(np.full(512, np.nan, np.float16)), "NaN"),
            (lambda v: v.GetExtentAttr().Set([(0, 0, 0), (0, 1, 1)]), "no box"),
            (lambda v: v.GetPrim().GetAttribute("xformOp:transform").Set(Gf.Matrix4d(0)), "singular"),
            (lambda v: [v.GetPrim().RemoveProperty(f"neural:{n}") for n in ("latent", "embedding")], "neither"),
        ],
    )
    def test_what_is_wrong_with_one_is_said(self, folder, change, said):
        stage = Usd.Stage.Open(str(folder / "chair.usda"), Usd.Stage.LoadAll)
        copy = Sdf.Layer.CreateAnonymous(".usda")
        copy.TransferContent(stage.Flatten())
        stage = Usd.Stage.Open(copy)
        change(NeuralVolume.Get(stage, "/RedChair/Volume"))
        with pytest.raises(SceneError, match=f"</RedChair/Volume>.*{said}"):
            stages.read_volume(stage.GetPrimAtPath("/RedChair/Volume"))

    def test_other_prims_are_refused_with_where_one_is(self, folder):
        stage = Usd.Stage.Open(str(folder / "chair.usda"))
        with pytest.raises(SceneError, match="is a Xform, not a NeuralVolume. Below it is </RedChair/Volume>"):
            stages.read_volume(stage.GetDefaultPrim())
        with pytest.raises(SceneError, match="is a Mesh"):
            stages.read_volume(stage.GetPrimAtPath("/RedChair/Mesh"))
        with pytest.raises(SceneError, match="no prim"):
            stages.read_volume(stage.GetPrimAtPath("/Nothing"))


class TestGaussians:
    @pytest.fixture
    def splats(self, folder):
        """The splats of chair.usda, where they are chosen."""
        stage = Usd.Stage.Open(str(folder / "chair.usda"))
        stage.SetEditTarget(stage.GetSessionLayer())
        stage.GetDefaultPrim().GetVariantSet("representation").SetVariantSelection("gaussians")
        yield UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/RedChair/Gaussians"))

    def test_they_are_a_variant_beside_the_mesh_and_not_drawn_with_it(self, folder, splats):
        stage = Usd.Stage.Open(str(folder / "chair.usda"))
        root = stage.GetDefaultPrim()
        assert root.GetVariantSet("representation").GetVariantSelection() == "mesh"
        assert not root.GetChild("Gaussians")
        assert UsdGeom.Imageable(root.GetChild("Mesh")).ComputePurpose() == "default"
        mesh = splats.GetPrim().GetParent().GetChild("Mesh")
        assert splats.ComputePurpose() == "render" and UsdGeom.Imageable(mesh).ComputePurpose() == "proxy"
        assert splats.ComputeProxyPrim()[0] == mesh

    def test_what_the_schema_knows_is_there_and_agrees(self, splats):
        count = len(splats.GetPositionsAttr().Get())
        assert 500 < count < 20_000
        assert splats.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 0
        for attribute in (
            splats.GetOrientationsAttr(),
            splats.GetScalesAttr(),
            splats.GetOpacitiesAttr(),
            splats.GetRadianceSphericalHarmonicsCoefficientsAttr(),
        ):
            assert len(attribute.Get()) == count and not attribute.IsCustom()
        opacity = np.array(splats.GetOpacitiesAttr().Get())
        assert opacity.min() > 0 and opacity.max() <= 1
        low, high = (np.array(corner) for corner in splats.GetExtentAttr().Get())
        points = np.array(splats.GetPositionsAttr().Get())
        assert (points > low).all() and (points < high).all()

    def test_splatted_they_look_like_the_mesh(self, splats):
        """Their weighted sums along Z, as any rasteriser of splats makes them, in front of the asset."""
        points, scales = np.array(splats.GetPositionsAttr().Get()), np.array(splats.GetScalesAttr().Get())
        turns = [(*q.imaginary, q.real) for q in splats.GetOrientationsAttr().Get()]
        axes = Rotation.from_quat(turns).as_matrix()
        spread = np.einsum("nij,nj,nkj->nik", axes, scales.astype(float) ** 2, axes)[:, :2, :2]
        opacity = np.array(splats.GetOpacitiesAttr().Get())
        color = 0.5 + 0.28209479 * np.array(splats.GetRadianceSphericalHarmonicsCoefficientsAttr().Get())
        x, y = np.meshgrid(np.linspace(-0.8, 0.8, 40), np.linspace(1.4, -0.2, 40))
        picture, through = np.zeros((40, 40, 3)), np.ones((40, 40))
        for index in np.argsort(-points[:, 2]):
            away = np.stack([x - points[index, 0], y - points[index, 1]], -1)
            alpha = opacity[index] * np.exp(-((away @ np.linalg.inv(spread[index])) * away).sum(-1) / 2)
            picture += (through * alpha)[..., None] * color[index]
            through *= 1 - alpha
        inside = (abs(x) < 0.6) & (y > 0) & (y < 1.2)
        found = through < 0.5
        assert (inside & found).sum() / (inside | found).sum() > 0.85
        assert through[(abs(x) < 0.5) & (y > 0.1) & (y < 1.1)].max() < 0.1  # nothing shines through
        assert np.allclose(picture[(abs(x) < 0.5) & (y > 0.75) & (y < 1.1)], BACK, atol=0.1)
        assert np.allclose(picture[(abs(x) < 0.5) & (y > 0.1) & (y < 0.45)], SEAT, atol=0.1)

    def test_a_lifter_without_a_volume_gives_them_too(self, tmp_path):
        from lift_pictures import mug

        mug().save(tmp_path / "mug.png")
        stage = neuralusd.lift(tmp_path / "mug.png", tokens=None, texture_size=64, gaussians=True, height=1)
        stage.GetDefaultPrim().GetVariantSet("representation").SetVariantSelection("gaussians")
        prim = stage.GetPrimAtPath("/Mug/Gaussians")
        points = np.array(prim.GetAttribute("positions").Get())
        low, high = stage.GetDefaultPrim().GetAttribute("extentsHint").Get()
        assert len(points) > 1000
        assert np.allclose(points.min(0), low, atol=0.02) and np.allclose(points.max(0), high, atol=0.02)
        color = 0.5 + 0.28209479 * np.array(prim.GetAttribute("radiance:sphericalHarmonicsCoefficients").Get())
        assert (color[points[:, 0] < -0.2, 0] > 0.5).mean() > 0.95 and (
            color[points[:, 0] > 0.1, 2] > 0.5
        ).mean() > 0.95


def test_the_reader_sees_the_same_asset_with_and_without_them(folder, tmp_path, backend, recwarn):
    """`render` beside encoded assets: prims that are not geometry change no pixel."""
    pictures = []
    for stripped in (False, True):
        place = tmp_path / str(stripped)
        shutil.copytree(folder, place)
        if stripped:
            layer = Sdf.Layer.FindOrOpen(str(place / "chair.usda"))
            spec = layer.GetPrimAtPath("/RedChair")
            del spec.nameChildren["Volume"]
            del spec.variantSets["representation"]
            spec.ClearInfo("variantSelection")
            layer.Save()
        stage = stages.sidecar(two_boxes(place / "shot.usda"))
        neuralusd.encode(stage, backend=backend)
        prim = UsdGeom.Xform.Define(stage, "/World/Chair").GetPrim()
        prim.GetReferences().AddReference(str(place / "chair.usda"))
        assert (prim.GetChild("Volume").IsValid()) != stripped
        scene = stages.read(stage)
        asset = scene.asset("/World/Chair")
        assert np.allclose(asset.extent[:, 1], [0, 1.2], atol=1e-6)
        assert {"appearance", "geometry"} == set(asset.tokens)
        pictures.append(np.asarray(neuralusd.render(stage, backend=backend, seed=1)))
    assert np.array_equal(*pictures)
    assert not [warning for warning in recwarn if "not drawn" in str(warning.message)]


def test_it_says_how_it_was_made(folder):
    stage = Usd.Stage.Open(str(folder / "chair.usda"))
    made = NeuralProvenanceAPI(stage.GetDefaultPrim())
    assert (made.GetVerbAttr().Get(), made.GetPromptAttr().Get()) == ("lift", "a red chair")
    assert (made.GetBackendAttr().Get(), made.GetRevisionAttr().Get()) == ("blocks", "7")
    assert made.GetSeedAttr().Get() == 5 and not made.GetSourcesAttr().Get()
    assert "torch" in {version.split("==")[0] for version in made.GetVersionsAttr().Get()}
