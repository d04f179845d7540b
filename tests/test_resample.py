"""`resample` as people ask for it: what is named is kept, the rest is sampled; in Python and in a shell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pxr import Usd, UsdGeom, UsdRender
from shots import photograph
from test_resample_stage import opinions, sound
from tiny_backend import save_tiny_backend
from tiny_resample import room, save_tiny_prior, tiny_prior

import neuralusd
from neuralusd import stage as stages
from neuralusd.api import Cancelled, ResampleWarning, encode_photo
from neuralusd.cli import main
from neuralusd.errors import BackendError, EditError, SceneError, TokensError
from neuralusd.images import read_provenance
from neuralusd.schema import (
    NeuralAnchorAPI,
    NeuralAssetAPI,
    NeuralProvenanceAPI,
    NeuralRenderSettingsAPI,
    NeuralTokensAPI,
)
from neuralusd.stage.errors import CameraError
from neuralusd.stage.variations import list_samples, select_variant

PATHS = ["/Room/Bed", "/Room/Chair", "/Room/Chair/Cup", "/Room/Shell", "/Room/Camera"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders of the prior and of what draws."""
    folder = tmp_path_factory.mktemp("weights")
    return save_tiny_prior(folder / "prior"), save_tiny_backend(folder / "render")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, weights):
    """A folder with a room and its tokens."""
    folder = tmp_path_factory.mktemp("encoded")
    room(folder / "room.usda")
    stage = stages.sidecar(folder / "room.usda")
    neuralusd.encode(stage, backend=weights[1])
    stages.save(stage)
    return folder


@pytest.fixture
def shot(encoded, tmp_path):
    """A room of one's own, with its tokens."""
    for file in encoded.iterdir():
        shutil.copy(file, tmp_path / file.name)
    return tmp_path / "room.usda"


@pytest.fixture
def ask(shot, weights):
    """`resample` of that room, with tiny weights, two samples."""

    def ask(output="out.usda", stage=shot, **options) -> Usd.Stage:
        given = {"samples": 2, "backend": weights[0], "render_backend": weights[1], **options}
        return neuralusd.resample(stage, None if output is None else shot.parent / output, **given)

    return ask


def touched(stage: Usd.Stage, base: Path, sample: str = "sample_1") -> set[str]:
    """The assets, and the camera, that are not in a sample what they were; and "new" where there are new ones."""
    before = Usd.Stage.Open(str(base.with_name("room.neural.usdc")))
    select_variant(stage, "neuralResample", sample)
    own = {path: opinions(before.GetPrimAtPath(path)) for path in PATHS}
    now = {path: opinions(stage.GetPrimAtPath(path)) for path in PATHS}
    found = set()
    for path in PATHS:
        # What an asset holds is a matter of its own.
        of = [below for below in {**own[path], **now[path]} if not any(
            other != path and other.startswith(path) and below.startswith(other) for other in PATHS)]  # fmt: skip
        if any(own[path].get(each) != now[path].get(each) for each in of):
            found.add(path.rsplit("/", 1)[-1])
    known = {prim.GetName() for prim in before.GetPrimAtPath("/Room").GetChildren()}
    return found | ({"new"} if {p.GetName() for p in stage.GetPrimAtPath("/Room").GetChildren()} - known else set())


class TestOperations:
    @pytest.mark.parametrize(
        ("options", "may"),
        [
            ({"keep": ["everything"], "vary": ["/Room/Bed:pose"]}, {"Bed"}),
            ({"keep": ["everything"], "vary": ["/Room/Bed:appearance"]}, {"Bed"}),
            ({"keep": ["everything"], "vary": {"/Room/Bed": 0.5}}, {"Bed"}),
            ({"keep": ["everything"], "vary": ["layout"]}, {"Bed", "Chair", "Cup"}),
            ({"keep": ["everything"], "vary": ["camera"]}, {"Camera"}),
            ({"keep": ["everything"], "vary": ["background"]}, {"Shell"}),
            ({"keep": ["everything", "/Room/Bed"], "insert": True}, {"new"}),
            ({"keep": ["/Room/Bed", "camera"]}, {"Chair", "Cup", "Shell", "new"}),
            ({"vary": ["everything"]}, {"Bed", "Chair", "Cup", "Shell", "Camera", "new"}),
            ({"keep": ["camera", "background", "objects"]}, {"Bed", "Chair", "Cup"}),
            ({"keep": ["/Room/Chair", "/Room/Camera", "/Room/Shell"], "insert": False}, {"Bed"}),
        ],
        ids=["pose", "appearance", "a little", "layout", "camera", "background", "insert", "completion",
             "unconditional", "the same things", "by the prims' own paths"],
    )  # fmt: skip
    def test_only_what_is_not_kept_may_differ(self, ask, shot, options, may):
        stage = ask(**options)
        found = touched(stage, shot) | touched(stage, shot, "sample_2")
        assert found and found <= may
        assert not touched(stage, shot, "original")
        sound(stage)

    def test_what_is_removed_goes_and_nothing_else_does_that_is_kept(self, ask, shot):
        stage = ask(keep=["everything"], vary=["/Room/Bed:pose"], remove=["/Room/Chair"])
        for name in ("sample_1", "sample_2"):
            select_variant(stage, "neuralResample", name)
            assert [asset.path for asset in stages.read(stage).foreground if asset.presence] == ["/Room/Bed"]
            assert touched(stage, shot, name) == {"Bed", "Chair", "Cup"}

    def test_the_stages_own_anchors_decide_where_nothing_is_named(self, ask, shot):
        stage = stages.open_stage(shot)
        NeuralAnchorAPI.Apply(stage.GetPrimAtPath("/Room/Bed")).CreatePoseAttr(0.0)
        NeuralAnchorAPI.Apply(stage.GetPrimAtPath("/Room/Camera")).CreateCameraAttr(0.5)
        stage.Save()
        made = ask()
        assert touched(made, shot) == {"Bed", "Camera"}
        assert all(each.moved == ["/Room/Bed"] and not each.new for each in list_samples(made))
        NeuralAnchorAPI.Apply(stage.GetPrimAtPath("/Room/Bed")).CreatePoseAttr(1.5)
        stage.Save()
        with pytest.raises(EditError, match="</Room/Bed>: neural:anchor:pose is 1.5"):
            ask("other.usda")

    def test_a_sample_is_drawn_with_what_is_new_in_it(self, ask, weights):
        stage = ask(keep=["camera", "background", "/Room/Bed"], sheet=None)
        scene = stages.read(stage)
        new = next(one for each in list_samples(stage)[:1] for one in [*each.new, *each.changed])
        tokens = scene.asset(new).tokens
        assert set(tokens) == {"appearance", "geometry"} and np.isfinite(tokens["appearance"].points).any()
        image = neuralusd.render(stage, size=(32, 32), backend=weights[1])
        assert image.size == (32, 32)
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"{new}/Sampled"))
        assert 100 < len(mesh.GetFaceVertexCountsAttr().Get()) < 3500

    def test_the_same_seed_gives_the_same_files_and_another_one_others(self, ask, shot):
        bytes_of = {}
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            (shot.parent / name).mkdir()
            ask(f"{name}/out.usda", keep=["/Room/Bed", "camera"], seed=seed)
            files = sorted(path for path in (shot.parent / name).rglob("*") if path.is_file())
            bytes_of[name] = [(path.name, path.read_bytes()) for path in files]
        assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]

    def test_more_samples_begin_with_the_same(self, ask):
        few, more = (ask(f"{n}.usda", keep=["everything"], vary=["layout"], samples=n) for n in (1, 3))
        assert len(list_samples(more)) == 3
        for path in ("/Room/Bed", "/Room/Chair"):
            a, b = (stages.read(stage).asset(path).local_to_world for stage in (few, more))
            assert np.allclose(a, b, atol=1e-4)

    def test_it_says_how_it_was_made(self, ask, shot, weights):
        stage = ask(keep=["/Room/Bed", "camera"], seed=7)
        made = NeuralProvenanceAPI(stage.GetPrimAtPath("/Room"))
        assert (made.GetVerbAttr().Get(), made.GetSeedAttr().Get(), made.GetRevisionAttr().Get()) == (
            "resample", 7, "tiny",
        )  # fmt: skip
        assert made.GetBackendAttr().Get() == str(weights[0])
        assert [Path(each.resolvedPath).name for each in made.GetSourcesAttr().Get()] == ["room.neural.usdc"]
        select_variant(stage, "neuralResample", "original")
        assert not NeuralProvenanceAPI(stage.GetPrimAtPath("/Room"))

    def test_a_stage_and_its_variations_in_memory(self, ask, shot):
        stage = ask(None, stages.open_stage(shot.with_name("room.neural.usdc")), keep=["everything"], vary=["looks"])
        assert stage.GetPrimAtPath("/Room/Bed/Sampled") and stage.GetRootLayer().anonymous
        assert sorted(path.name for path in shot.parent.iterdir()) == ["room.neural.usdc", "room.usda"]

    def test_an_empty_slot_is_filled_again(self, ask, shot):
        stage = stages.open_stage(shot)
        NeuralAssetAPI(stage.GetPrimAtPath("/Room/Chair/Cup")).CreatePresenceAttr(0.0)
        stage.Save()
        made = ask(keep=["everything"], vary=["/Room/Chair/Cup"], samples=8)
        filled = set()
        for each in list_samples(made):
            select_variant(made, "neuralResample", each.name)
            filled.add(stages.read(made).asset("/Room/Chair/Cup").presence)
        assert 1.0 in filled

    def test_a_thing_that_has_only_a_box_in_the_image_is_kept_and_said(self, ask, shot):
        stage = stages.open_stage(shot)
        NeuralAssetAPI.Apply(UsdGeom.Xform.Define(stage, "/Room/Poster").GetPrim()).CreateBox2dAttr(
            (0.1, 0.1, 0.2, 0.2)
        )
        stage.Save()
        with pytest.warns(ResampleWarning, match="</Room/Poster> is kept as it is: it has a box in the image"):
            ask(keep=["camera"])
        with pytest.raises(EditError, match="/Room/Poster:pose cannot be resampled: it has a box in the image"):
            ask("b.usda", vary=["/Room/Poster:pose"])

    def test_of_a_photograph_with_depth_what_is_seen_can_be_another(self, weights, tmp_path):
        photo, ids, depth = photograph(tmp_path)
        options = {"masks": ids, "depth_map": depth, "field_of_view": 50}
        encode_photo(photo, tmp_path / "photo.usda", backend=weights[1], **options)
        stage = neuralusd.resample(
            tmp_path / "photo.usda",
            tmp_path / "out.usda",
            keep=["everything"],
            vary=["looks", "background"],
            samples=1,
            backend=weights[0],
            render_backend=weights[1],
        )
        [sample] = list_samples(stage)
        scene = stages.read(stage)
        assert set(sample.changed) == {asset.path for asset in scene.assets} and not sample.moved
        for asset in scene.assets:
            assert stage.GetPrimAtPath(f"{asset.path}/Sampled").IsA(UsdGeom.Mesh) and asset.tokens
        sound(stage)

    def test_what_is_within_a_thing_that_is_varied_moves_along_and_within_one_that_is_kept_it_stays(self, ask, shot):
        along = ask("a.usda", keep=["everything"], vary=["/Room/Chair:pose"])
        assert touched(along, shot) == {"Chair"}
        assert "Cup" not in touched(ask("b.usda", keep=["/Room/Chair"], insert=False), shot)

    def test_of_more_objects_than_the_prior_knows_the_nearest_count(self, ask, shot):
        prior = tiny_prior(slots=2)
        with pytest.warns(ResampleWarning, match="at most 2 objects: 1 that are kept"):
            stage = ask(backend=prior, keep=["everything"], vary=["/Room/Chair/Cup:pose"])
        assert touched(stage, shot) == {"Cup"}
        with pytest.raises(EditError, match="3 objects are to be resampled, and this prior knows scenes of at most 2"):
            ask("b.usda", backend=prior, vary=["layout"])


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"keep": ["lights"]}, "'lights' is no factor; there are: camera, background, layout"),
            ({"keep": ["/Room/Bed:colour"]}, "'colour' is no factor of </Room/Bed>; there are: pose"),
            (
                {"keep": ["/Room/Sofa"]},
                "</Room/Sofa> does not exist. The assets of .* are: .*</Room/Bed>, </Room/Chair>",
            ),
            ({"keep": ["/Room/Shell/Floor"]}, "</Room/Shell/Floor> is no asset"),
            ({"keep": ["/Room/Camera:pose"]}, "</Room/Camera> is the camera, which is one factor"),
            ({"vary": {"layout": 1.5}}, "layout cannot be varied by 1.5; alpha is 0 .* to 1"),
            ({"vary": {"layout": float("nan")}}, "layout cannot be varied by nan"),
            ({"keep": ["layout"], "vary": ["layout"]}, "layout and layout say different things"),
            ({"keep": ["/Room/Bed"], "remove": ["/Room/Bed"]}, "</Room/Bed> is to be removed, and /Room/Bed is to be"),
            ({"remove": ["background"]}, "background cannot be removed"),
            ({"remove": ["Bed"]}, "'Bed' cannot be removed: write an object's path"),
            ({"keep": ["everything"]}, "nothing of .* is to be resampled"),
            ({"keep": ["everything"], "remove": ["/Room/Bed"]}, "use `neuralusd edit --remove`"),
            ({}, "nothing of .* is to be resampled"),
            ({"keep": ["camera"], "samples": 0}, "0 samples are none"),
            ({"keep": ["camera"], "seed": -1}, "-1 is no seed"),
            ({"keep": ["camera"], "steps": 5000}, "5000 steps are none"),
            ({"keep": ["camera"], "guidance": float("inf")}, "a guidance of inf is none"),
        ],
    )
    def test_what_cannot_be_asked_for_says_what_can(self, ask, shot, options, said):
        with pytest.raises(EditError, match=said):
            ask(**options)
        assert sorted(path.name for path in shot.parent.iterdir()) == ["room.neural.usdc", "room.usda"]

    def test_a_stage_without_tokens_or_without_a_camera(self, ask, shot):
        bare = room(shot.with_name("bare.usda"))
        with pytest.raises(TokensError, match="bare.usda has no tokens on any prim; make them with: neuralusd encode"):
            ask(stage=bare, keep=["camera"])
        stage = stages.open_stage(shot)
        stage.RemovePrim("/Room/Camera")
        stage.Save()
        with pytest.raises(CameraError, match="has no camera, and poses are sampled as a camera sees them"):
            ask(keep=["background"])

    def test_a_named_prim_without_tokens(self, ask, shot):
        stage = stages.open_stage(shot)
        NeuralAssetAPI.Apply(UsdGeom.Cube.Define(stage, "/Room/Box").GetPrim())
        stage.Save()
        with pytest.raises(TokensError, match="/Room/Box has no tokens, so nothing is known of it"):
            ask(keep=["/Room/Box"])

    def test_weights_that_are_none_or_of_something_else(self, ask, weights, tmp_path_factory):
        empty = tmp_path_factory.mktemp("empty")
        for backend, said in (
            (weights[1], "holds a NeuralUSDPipeline, and no prior over scenes"),
            (empty, "holds no diffusers pipeline"),
            ("nowhere", "'nowhere' is no backend of resample"),
        ):
            with pytest.raises(BackendError, match=said):
                ask(backend=backend, keep=["camera"])

    def test_tokens_of_another_encoder_than_the_one_that_would_make_new_ones(self, ask, tmp_path_factory):
        other = save_tiny_backend(tmp_path_factory.mktemp("other"), seed=1)
        with pytest.raises(TokensError, match="Name the backend that made them \\(--render-backend\\)"):
            ask(keep=["camera"], render_backend=other)

    def test_a_volume_that_is_empty_leaves_the_thing_its_look(self, ask, shot):
        prior = tiny_prior()
        usual = prior.decode_object
        prior.decode_object = lambda tokens: tuple(0 * values for values in usual(tokens))
        with pytest.warns(ResampleWarning, match="</Room/Bed> keeps its look in a sample: the volume is empty"):
            stage = ask(backend=prior, keep=["everything"], vary=["/Room/Bed:appearance"])
        assert not touched(stage, shot)

    def test_what_exists_stays_unless_it_is_to_be_overwritten(self, ask, shot):
        ask(keep=["everything"], vary=["camera"])
        before = shot.with_name("out.usda").read_bytes()
        with pytest.raises(SceneError, match="out.usda exists"):
            ask(keep=["everything"], vary=["camera"], seed=9)
        assert shot.with_name("out.usda").read_bytes() == before
        ask(keep=["everything"], vary=["camera"], seed=9, overwrite=True)
        assert shot.with_name("out.usda").read_bytes() != before

    @pytest.mark.parametrize(("at", "how"), [(1, Cancelled), (30, KeyboardInterrupt), (60, Cancelled), (97, Cancelled)])
    def test_who_cancels_or_presses_ctrl_c_finds_nothing(self, ask, shot, at, how):
        sheet = shot.with_name("sheet.png")

        def progress(step: int, steps: int) -> bool:
            if step >= at and how is KeyboardInterrupt:
                raise how
            return step >= at

        with pytest.raises(how):
            ask(keep=["camera"], sheet=sheet, samples=1, progress=progress)
        assert sorted(path.name for path in shot.parent.iterdir()) == ["room.neural.usdc", "room.usda"]


class TestPictures:
    def test_a_sheet_of_the_source_and_the_samples(self, ask, shot):
        seen = {}
        steps = []
        ask(
            keep=["/Room/Bed", "camera"],
            sheet=shot.with_name("sheet.png"),
            on_picture=seen.__setitem__,
            progress=lambda step, of: steps.append((step, of)),
        )
        assert list(seen) == ["source", "sample_1", "sample_2"]
        with PIL.Image.open(shot.with_name("sheet.png")) as sheet:
            assert sheet.width > 2 * 256 and sheet.height > 2 * 256
        assert steps == sorted(steps) and steps[-1] == (100, 100)

    def test_what_a_sample_leaves_alone_looks_as_before(self, ask):
        seen = {}
        ask(keep=["everything"], vary=["/Room/Bed:pose"], on_picture=seen.__setitem__)
        source, sample = (np.asarray(seen[name]).astype(int) for name in ("source", "sample_1"))
        # The bed is left of the middle; what is far right of it is not in its footprint, wherever it goes.
        assert np.abs(source - sample).max() > 8 and (np.abs(source - sample).max(-1) == 0).mean() > 0.1


def cli(*arguments) -> int:
    return main([str(each) for each in arguments])


class TestShell:
    def test_the_issues_own_line(self, shot, weights, capsys):
        out, sheet = shot.with_name("variations.usda"), shot.with_name("sheet.png")
        status = cli(
            "resample", shot, "--keep", "/Room/Bed", "--keep", "camera", "-n", 2, "-o", out, "--sheet", sheet,
            "--seed", 0, "--steps", 2, "--guidance", 1, "--backend", weights[0], "--render-backend", weights[1],
            "--json",
        )  # fmt: skip
        made = json.loads(capsys.readouterr().out)
        assert status == 0 and made["variantSet"] == "neuralResample" and made["seed"] == 0
        assert [each["name"] for each in made["samples"]] == ["sample_1", "sample_2"]
        assert not any("/Room/Bed" in each["moved"] + each["changed"] for each in made["samples"])
        assert made["output"] == str(out) and Path(made["sheet"]).is_file()
        image = shot.with_name("x.png")
        status = cli("render", out, "--variant", "neuralResample=sample_2", "-o", image, "--backend", weights[1])
        assert status == 0 and read_provenance(image)["variants"] == {"neuralResample": "sample_2"}
        assert cli("render", out, "--variant", "neuralResample=sample_9", "-o", image, "--backend", weights[1]) == 1
        assert "no variant 'sample_9'; it has: original, sample_1, sample_2" in capsys.readouterr().err
        # The file itself still shows the first.
        assert stages.open_stage(out).GetPrimAtPath("/Room").GetVariantSet("neuralResample").GetVariantSelection() == (
            "sample_1"
        )

    def test_it_says_what_each_sample_did_and_what_was_assumed(self, shot, weights, capsys):
        arguments = ["--backend", weights[0], "--render-backend", weights[1], "-n", 1]
        out = shot.with_name("out.usdc")
        assert cli("resample", shot, "--keep", "everything", "--vary", "/Room/Bed:pose=0.5", *arguments, "-o", out) == 0
        said = capsys.readouterr()
        assert "sample_1: moved Bed" in said.out and "--variant neuralResample=sample_1" in said.out
        assert cli("resample", shot, "--keep", "everything", "--insert", *arguments, "-o", out) == 1
        assert "out.usdc exists" in capsys.readouterr().err

    def test_wrong_usage(self, shot, capsys):
        out = shot.with_name("out.usda")
        for wrong in (["--vary", "=0.5"], ["--vary", "layout=much"], ["-n", "0"], ["--insert", "--no-insert"]):
            assert cli("resample", shot, *wrong, "-o", out) == 2
        assert cli("resample", shot, "--vary", "layout=0.1", "--vary", "layout=0.2", "-o", out) == 2
        assert cli("resample", shot.with_name("no.usda"), "-o", out, "--keep", "camera") == 1
        assert "no.usda does not exist" in capsys.readouterr().err


def test_the_modalities_of_a_repainted_prim_are_its_own(ask, shot):
    """A look that was borrowed is not, once it was sampled."""
    stage = stages.open_stage(shot.with_name("room.neural.usdc"))
    NeuralTokensAPI(stage.GetPrimAtPath("/Room/Bed"), "appearance").CreateFromRel().SetTargets(["/Room/Chair"])
    stages.save(stage)
    made = ask(keep=["everything"], vary=["/Room/Bed:appearance"])
    assert not NeuralTokensAPI(made.GetPrimAtPath("/Room/Bed"), "appearance").GetFromRel().GetTargets()
    select_variant(made, "neuralResample", "original")
    targets = NeuralTokensAPI(made.GetPrimAtPath("/Room/Bed"), "appearance").GetFromRel().GetTargets()
    assert [str(path) for path in targets] == ["/Room/Chair"]


def test_samples_say_what_draws_them(ask, shot, weights):
    stage = ask(keep=["camera"])
    assert stages.render_settings(stage) == {"backend": str(weights[1])}
    # Samples of samples leave that to them.
    again = ask("again.usda", shot.parent / "out.usda", keep=["camera"], render_backend=None)
    assert not again.GetRootLayer().GetPrimAtPath("/Render/Neural")
    assert stages.render_settings(again) == {"backend": str(weights[1])}


def test_what_a_stage_says_of_drawing_is_left_alone(ask, shot, weights):
    stage = Usd.Stage.Open(str(shot.with_name("room.neural.usdc")))
    settings = UsdRender.Settings.Define(stage, "/Render/Mine")
    stage.SetMetadata("renderSettingsPrimPath", "/Render/Mine")
    NeuralRenderSettingsAPI.Apply(settings.GetPrim()).CreateSeedAttr(7)
    stage.Save()
    out = ask(keep=["camera"])
    assert stages.render_settings(out) == {"backend": str(weights[1]), "seed": 7}
    assert not out.GetPrimAtPath("/Render/Neural")
