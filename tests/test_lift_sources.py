"""What `lift` can be made of: pictures, words, nothing; candidates and their sheet; and what is refused."""

import json
import os

import numpy as np
import PIL.Image
import pytest
from lift_pictures import RED, mask_of, mug
from pxr import Usd, UsdSemantics
from tiny_lifter import BACK, BlockLifter

import neuralusd
from neuralusd.api import Cancelled, LiftWarning
from neuralusd.cli import main
from neuralusd.errors import SceneError
from neuralusd.lifting import IMAGE, TEXT, default_lifter
from neuralusd.schema import NeuralAssetAPI, NeuralProvenanceAPI
from neuralusd.service.errors import Refused
from neuralusd.service.verbs import check

pytestmark = pytest.mark.filterwarnings("ignore::neuralusd.api.LiftWarning")


def lifted(images=None, output=None, **options):
    return neuralusd.lift(images, output, tokens=None, **{"backend": BlockLifter(), "texture_size": 64, **options})


def texels(file):
    with PIL.Image.open(file) as image:
        return np.array(image).reshape(-1, 3) / 255


@pytest.fixture
def pictures(tmp_path):
    """Three pictures of a mug, as files."""
    for name in ("front.png", "side.png", "back.png"):
        mug().save(tmp_path / name)
    return [str(tmp_path / name) for name in ("front.png", "side.png", "back.png")]


class TestWords:
    def test_they_name_the_thing_and_tell_its_height(self):
        lifter = BlockLifter()
        with pytest.warns(LiftWarning, match="0.85 m high, as a armchair usually is|0.85 m high, as an? armchair"):
            stage = lifted(text="  a red\n armchair.", backend=lifter)
        prim = stage.GetDefaultPrim()
        assert prim.GetName() == "RedArmchair"
        assert NeuralAssetAPI(prim).GetTextAttr().Get() == "red armchair"
        assert list(UsdSemantics.LabelsAPI(prim, "category").GetLabelsAttr().Get()) == ["red armchair"]
        assert NeuralProvenanceAPI(prim).GetPromptAttr().Get() == "a red armchair."
        assert lifter.asked[0].text == "a red armchair." and not lifter.asked[0].pictures

    def test_a_name_goes_before_them(self):
        stage = lifted(text="something to sit on", name="stool")
        assert stage.GetDefaultPrim().GetName() == "Stool"
        assert NeuralProvenanceAPI(stage.GetDefaultPrim()).GetPromptAttr().Get() == "something to sit on"

    @pytest.mark.parametrize("text, said", [("  ", "says nothing"), ("x" * 3000, "3000 characters")])
    def test_what_says_nothing_is_refused(self, text, said):
        with pytest.raises(SceneError, match=said):
            lifted(text=text)

    def test_words_that_no_prim_can_be_called_are_kept_as_text(self, tmp_path):
        stage = lifted(None, tmp_path / "x.usdc", text="ein »großer« Stuhl / 椅子")
        assert NeuralAssetAPI(stage.GetDefaultPrim()).GetTextAttr().Get() == "ein »großer« Stuhl / 椅子"
        assert Usd.Stage.Open(str(tmp_path / "x.usdc")).GetDefaultPrim()


class TestNothing:
    def test_what_comes_is_of_the_seed_and_as_high_as_the_lifter_guesses(self):
        lifter = BlockLifter()
        with pytest.warns(LiftWarning, match="0.9 m high, as the lifter guesses"):
            stage = lifted(backend=lifter, seed=11)
        assert stage.GetDefaultPrim().GetName() == "Object"
        assert stage.GetDefaultPrim().GetAttribute("extentsHint").Get()[1][1] == pytest.approx(0.9)
        assert lifter.asked[0].seed == 11
        made = NeuralProvenanceAPI(stage.GetDefaultPrim())
        assert made.GetSeedAttr().Get() == 11 and not made.GetPromptAttr().HasAuthoredValue()

    def test_its_tokens_are_of_how_it_looks_itself(self, tmp_path):
        from tiny_backend import save_tiny_backend

        from neuralusd import stage as stages

        backend = save_tiny_backend(tmp_path / "tiny")
        stage = neuralusd.lift(backend=BlockLifter(), tokens=str(backend), texture_size=64)
        tokens = stages.read(stage).asset("/Object").tokens["appearance"]
        assert tokens.source == "" and np.isfinite(tokens.points).all(1).any()


class TestPictures:
    def test_several_go_to_the_lifter_with_a_mask_each(self, pictures, tmp_path):
        lifter = BlockLifter()
        mask = np.zeros((128, 160), bool)
        mask[20:60, 20:90] = True
        lifted(pictures, backend=lifter, mask=[None, mask, tmp_path / "front.png"])
        shares = [picture.coverage.mean() for picture in lifter.asked[0].pictures]
        assert shares[0] == pytest.approx(mask_of(mug()).mean()) and shares[1] == pytest.approx(mask.mean())

    @pytest.mark.parametrize("name", ["chair.usda", "chair.usdz"])
    def test_all_of_them_are_its_sources(self, pictures, tmp_path, name):
        lifted(pictures, tmp_path / name)
        stage = Usd.Stage.Open(str(tmp_path / name))
        sources = NeuralProvenanceAPI(stage.GetDefaultPrim()).GetSourcesAttr().Get()
        assert len(sources) == 3 and all(source.resolvedPath for source in sources)

    def test_the_side_that_they_show_has_their_pixels_and_the_rest_the_volumes(self, pictures, tmp_path):
        lifted(pictures[0], tmp_path / "chair.usda", texture_size=128)
        found = texels(tmp_path / "textures/chair.png")
        red = np.abs(found - np.array(RED) / 255).max(1) < 0.05
        own = np.abs(found - BACK).max(1) < 0.05
        assert red.mean() > 0.03 and own.mean() > 0.1

    def test_words_may_go_with_them(self, pictures):
        lifter = BlockLifter()
        stage = lifted(pictures[0], text="a mug", backend=lifter)
        assert lifter.asked[0].text == "a mug" and len(lifter.asked[0].pictures) == 1
        assert stage.GetDefaultPrim().GetName() == "Mug"


class TestCandidates:
    def test_the_numbers_reach_the_lifter_and_the_sheet_shows_them_best_first(self, pictures, tmp_path):
        lifter = BlockLifter()
        lifted(pictures[:2], tmp_path / "x.usda", backend=lifter, candidates=5, steps=9, sheet=tmp_path / "x.png")
        assert (lifter.asked[0].candidates, lifter.asked[0].steps) == (5, 9)
        with PIL.Image.open(tmp_path / "x.png") as sheet:
            assert sheet.size == (6 * 192, 2 * 214)  # two pictures and five candidates, six in a row
            tiles = np.asarray(sheet)
        assert tiles[96, 2 * 192 + 96].min() > 250 > tiles[96, 3 * 192 + 96].max()  # as the lifter ranked them

    def test_without_asking_the_lifter_takes_its_own(self):
        lifter = BlockLifter()
        lifted(backend=lifter)
        assert (lifter.asked[0].candidates, lifter.asked[0].steps) == (None, None)

    def test_a_sheet_is_not_left_where_the_asset_fails(self, tmp_path):
        (tmp_path / "textures").write_text("a file where the folder of textures would be")
        with pytest.raises(SceneError, match="x.usda cannot be written"):
            lifted(None, tmp_path / "x.usda", sheet=tmp_path / "x.png")
        assert os.listdir(tmp_path) == ["textures"]

    def test_cancelled_nothing_is_left(self, tmp_path):
        with pytest.raises(Cancelled):
            lifted(None, tmp_path / "x.usda", sheet=tmp_path / "x.png", progress=lambda step, steps: step >= 30)
        assert os.listdir(tmp_path) == []

    def test_to_cancel_what_is_written_is_too_late(self, tmp_path):
        stage = lifted(None, tmp_path / "x.usdz", progress=lambda step, steps: step == steps)
        assert stage.GetDefaultPrim() and os.listdir(tmp_path) == ["x.usdz"]


class WordLifter(BlockLifter):
    name = "words"
    takes = frozenset({TEXT})


class PictureLifter(BlockLifter):
    name = "pictures"
    takes = frozenset({IMAGE})


MUG = np.asarray(mug())
# What is given, and what the error says.
WRONG = {
    "pictures to words": ({"images": MUG, "backend": WordLifter()}, r"'words' looks at no pictures.*--text"),
    "words to pictures": ({"text": "a mug", "backend": PictureLifter()}, "takes no words; it makes things of pictures"),
    "both to pictures": ({"images": MUG, "text": "a mug", "backend": PictureLifter()}, "Leave the text out.*--name"),
    "nothing to words": ({"backend": WordLifter()}, "neither picture nor text"),
    "four of three": ({"images": [MUG] * 4}, "takes 3 pictures, and there are 4"),
    "a mask of nothing": ({"mask": mask_of(mug())}, "no picture that it is of"),
    "words to silhouette": ({"text": "a mug", "backend": "silhouette"}, "takes no words"),
    "nothing to silhouette": ({"backend": "silhouette"}, "makes things of pictures, and there is neither"),
    "candidates of silhouette": ({"images": MUG, "backend": "silhouette", "candidates": 2}, "no --candidates"),
    "a sheet of silhouette": ({"images": MUG, "backend": "silhouette", "sheet": "x.png"}, "no --sheet"),
    "no candidates": ({"candidates": 0}, "0 candidates are none"),
    "half a candidate": ({"candidates": 1.5}, "1.5 candidates are none"),
    "many steps": ({"steps": 10**6}, "1000000 steps are none"),
    "a sheet that is no PNG": ({"sheet": "x.jpg"}, "is a PNG"),
    "a sheet in the way": ({"sheet": "there.png"}, "there.png exists.*--overwrite"),
    "Gaussians in glTF": ({"output": "x.glb", "gaussians": True}, "glTF holds no Gaussians"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_say_what_is_wrong_and_write_nothing(tmp_path, monkeypatch, case):
    options, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_text("mine")
    with pytest.raises(SceneError, match=said):
        lifted(**{"output": "x.usda", **options})
    assert os.listdir(tmp_path) == ["there.png"] and (tmp_path / "there.png").read_text() == "mine"


class TestCommand:
    @pytest.mark.parametrize(
        "arguments, status, said",
        [
            ([], 2, "name an IMAGE, give --text, or ask for --random"),
            (["--random", "--text", "a mug"], 2, "--random is for what is made of nothing, and there is --text"),
            (["mug.png", "--random"], 2, "there is an IMAGE"),
            (["mug.png", "--mask", "a.png", "--mask", "b.png"], 2, "2 --mask and 1 IMAGE"),
            (["mug.png", "--candidates", "0"], 2, "--candidates"),
            (["--text", " ", "--backend", "silhouette"], 1, "says nothing"),
            (["--random", "--backend", "silhouette"], 1, "makes things of pictures"),
            (["--text", "a mug", "--backend", "./nowhere"], 1, "'./nowhere' is no lifter"),
            (["mug.png", "mug.png", "--backend", "silhouette"], 1, "takes one picture, and there are 2"),
        ],
    )
    def test_wrong_usage(self, tmp_path, monkeypatch, capsys, arguments, status, said):
        monkeypatch.chdir(tmp_path)
        mug().save("mug.png")
        assert main(["lift", *arguments, "-o", "x.usda"]) == status
        err = capsys.readouterr().err
        assert said in err and "Traceback" not in err
        assert os.listdir(tmp_path) == ["mug.png"]

    def test_a_silhouette_with_gaussians(self, tmp_path, capsys):
        mug().save(tmp_path / "mug.png")
        arguments = ["--backend", "silhouette", "--no-tokens", "--texture-size", "64", "--gaussians", "--json"]
        assert main(["lift", f"{tmp_path}/mug.png", "-o", f"{tmp_path}/mug.usdz", *arguments]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["volume"] is None and made["prim"] == "/Mug"
        stage = Usd.Stage.Open(f"{tmp_path}/mug.usdz")
        assert stage.GetDefaultPrim().GetVariantSets().GetNames() == ["representation"]


class TestService:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"text": "a red armchair", "candidates": 4, "steps": 16, "sheet": True, "backend": "mini"},
            {"random": True, "seed": 3, "gaussians": True, "backend": "mini"},
            {"images": ["/a.png", "/b.png"], "text": "a chair"},
            {"text": "a chair", "backend": "openai/shap-e"},
        ],
    )
    def test_it_takes_what_lift_takes(self, arguments):
        assert check("lift", arguments) == arguments

    @pytest.mark.parametrize(
        "arguments, said",
        [
            ({}, "give image or images, text, or random=true"),
            ({"random": True, "text": "a chair"}, "random is for what is made of nothing"),
            ({"image": "/a.png", "images": ["/a.png"]}, "one of them"),
            ({"text": "a chair", "candidates": 0}, "candidates"),
            ({"text": ""}, "text"),
        ],
    )
    def test_what_contradicts_itself_is_refused(self, arguments, said):
        with pytest.raises(Refused, match=said):
            check("lift", arguments)


def test_which_lifter_is_taken_where_none_is_named():
    assert default_lifter(1) == "silhouette"  # quick, and always something
    assert default_lifter(1, sampled=True) == default_lifter(2) == default_lifter(0, "a red chair") == "mini"


def test_words_become_a_thing_without_anything_being_named(tmp_path):
    stage = neuralusd.lift(
        None, tmp_path / "chair.usdz", text="a red armchair", candidates=1, steps=8, tokens=None, texture_size=64
    )
    prim = stage.GetDefaultPrim()
    assert NeuralProvenanceAPI(prim).GetBackendAttr().Get() == "mini" and prim.GetChild("Volume")
