"""Shap-E through lift's door: diffusers' own classes, small, from a folder; and what is wrong with other folders."""

import json
import os
import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from lift_pictures import mug
from pxr import Usd
from tiny_shap_e import HIGH, LOW, save_shap_e

import neuralusd
from neuralusd.api import Cancelled, LiftWarning
from neuralusd.cli import main
from neuralusd.errors import BackendError, SceneError
from neuralusd.lifting import Request, cut_out, open_lifter
from neuralusd.lifting.shap_e import ShapELifter
from neuralusd.schema import NeuralProvenanceAPI

pytestmark = pytest.mark.filterwarnings("ignore::neuralusd.api.LiftWarning")
SIDE = 40


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return save_shap_e(tmp_path_factory.mktemp("shap-e"), "text")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return save_shap_e(tmp_path_factory.mktemp("shap-e-img2img"), "image")


@pytest.fixture(scope="module")
def box(words):
    """What words become: a box whose sides are known in Shap-E's own space."""
    return ShapELifter(words, SIDE)(Request(text="a bag", steps=2))


def bounds(lifted):
    inside = np.argwhere(lifted.distance < 0)
    return lifted.origin + lifted.spacing * inside.min(0), lifted.origin + lifted.spacing * inside.max(0)


class TestWhatItMakes:
    def test_its_up_and_its_front_are_ours(self, box):
        """Shap-E's Z is up and its +Y the front; a lifter's Y is up and its +Z the front."""
        low, high = bounds(box)
        assert np.allclose(low, [-HIGH[0], LOW[2], LOW[1]], atol=1.5 * box.spacing)
        assert np.allclose(high, [-LOW[0], HIGH[2], HIGH[1]], atol=1.5 * box.spacing)

    def test_its_distance_is_in_cells_and_closed(self, box):
        middle = np.round(-box.origin / box.spacing).astype(int)
        line = box.distance[middle[0], middle[1]]
        near = np.abs(line) < 1.5
        assert near.sum() >= 3 and np.allclose(np.abs(np.diff(line[near & np.roll(near, -1)])), 1, atol=0.35)
        for axis in range(3):
            for side in (0, -1):
                assert (np.take(box.distance, side, axis) > 0).all()

    def test_its_colours_are_of_the_place(self, box):
        front, back = np.array([[0, 0, 0.45]]), np.array([[0, 0, -0.25]])
        normal = np.array([[0, 0, 1.0]])
        assert box.color(front, normal)[0, 0] > 0.9 > 0.2 > box.color(back, normal)[0, 0]

    def test_words_become_an_asset(self, words, tmp_path):
        lifter = ShapELifter(words, SIDE)
        stage = neuralusd.lift(
            None, tmp_path / "bag.usda", text="A bag.", backend=lifter, steps=2, texture_size=64, tokens=None, seed=3
        )
        low, high = (np.array(corner) for corner in stage.GetDefaultPrim().GetAttribute("extentsHint").Get())
        size = (HIGH - LOW)[[0, 2, 1]]
        assert stage.GetDefaultPrim().GetName() == "Bag"
        assert np.allclose((high - low) / (high - low)[1], size / size[1], atol=0.1)
        made = NeuralProvenanceAPI(stage.GetDefaultPrim())
        assert made.GetPromptAttr().Get() == "A bag." and made.GetSeedAttr().Get() == 3
        assert made.GetBackendAttr().Get() == words and len(made.GetRevisionAttr().Get()) == 16

    def test_a_picture_becomes_an_asset_seen_from_where_it_was_taken(self, box, pictures):
        """The picture is one of the box itself, from its right and above."""
        from neuralusd.lifting.viewpoint import _aimed, portrait

        inside = box.origin + box.spacing * np.argwhere(box.distance < 0)
        view = _aimed(inside, 60, 20, (10, 20, 70, 60), (80, 80))
        cut = cut_out(portrait(box.distance, box.origin, box.spacing, box.color, view, 80))
        lifted = ShapELifter(pictures, SIDE)(Request([cut], candidates=2, steps=2))
        assert len(lifted.candidates) == 2 and lifted.candidates[0].score >= lifted.candidates[1].score > 0.8
        assert lifted.candidates[0].picture.shape[2] == 4
        found, taken = (camera.world_to_camera[:3, 2] for camera in (lifted.view, view))
        assert np.degrees(np.arccos(np.clip(found @ taken, -1, 1))) < 40
        assert "Shap-E does not say how the picture was taken" in lifted.notes[0]
        # What the asset is seen as by that camera covers what the picture shows.
        h, w, _ = lifted.view.project(inside).T
        assert abs(h.min() - 10 / 80) < 0.05 and abs(h.max() - 70 / 80) < 0.05

    def test_the_same_seed_gives_the_same_and_random_weights_do_not_fail(self, tmp_path):
        folder = save_shap_e(tmp_path / "random", "text", known=False)
        lifter = ShapELifter(folder, 16)
        try:
            first, again = (lifter(Request(text="a bag", steps=2, seed=1)) for _ in range(2))
        except SceneError as error:
            assert "Ask for another seed" in str(error)
        else:
            assert np.array_equal(first.distance, again.distance)

    def test_progress_goes_on_and_cancels(self, words, tmp_path):
        steps = []
        lifter = ShapELifter(words, 16)
        lifter(Request(text="a bag", steps=3, candidates=2), steps.append)
        assert len(steps) > 5 and steps == sorted(steps) and steps[-1] == 1
        with pytest.raises(Cancelled):
            neuralusd.lift(
                None, tmp_path / "x.usda", text="a bag", backend=lifter, steps=3, tokens=None,
                progress=lambda step, steps: step > 10,
            )  # fmt: skip
        assert os.listdir(tmp_path) == []


class TestTheCommand:
    def test_it_opens_a_folder_and_lifts_words(self, words, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(ShapELifter.__init__, "__defaults__", (16, "cpu"))
        arguments = ["--backend", words, "--steps", "2", "--candidates", "2", "--sheet", str(tmp_path / "sheet.png")]
        out = tmp_path / "bag.usdz"
        status = main(
            ["lift", "--text", "a bag", "-o", str(out), "--no-tokens", "--texture-size", "64", "--json", *arguments]
        )
        made = json.loads(capsys.readouterr().out)
        assert status == 0 and made["prim"] == "/Bag" and made["sheet"].endswith("sheet.png")
        assert Usd.Stage.Open(str(out)).GetDefaultPrim().GetName() == "Bag"
        with PIL.Image.open(tmp_path / "sheet.png") as sheet:
            assert sheet.size[0] == 2 * sheet.size[1] * 192 // 214

    def test_a_lifter_of_words_refuses_pictures_and_the_other_way(self, words, pictures, tmp_path, capsys):
        mug().save(tmp_path / "mug.png")
        for arguments, said in (
            ([str(tmp_path / "mug.png"), "--backend", words], "looks at no pictures"),
            (["--text", "a bag", "--backend", pictures], "takes no words; it makes things of pictures"),
            (["--random", "--backend", pictures], "makes things of pictures"),
            ([str(tmp_path / "mug.png"), "--text", "a mug", "--backend", pictures], "takes no words"),
        ):
            assert main(["lift", *arguments, "-o", str(tmp_path / "x.usda")]) == 1
            err = capsys.readouterr().err
            assert said in err and "Traceback" not in err
        assert os.listdir(tmp_path) == ["mug.png"]


def broken(folder, how):
    """A folder of weights with something wrong in it."""
    index = folder / "model_index.json"
    if how == "of something else":
        index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    elif how == "without a name":
        index.write_text("{}")
    elif how == "an index that is no JSON":
        index.write_text("{")
    elif how == "without an index":
        index.unlink()
    elif how == "with pickles":
        weights = folder / "prior" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
    elif how == "truncated":
        weights = folder / "prior" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "a part missing":
        shutil.rmtree(folder / "shap_e_renderer")


@pytest.mark.parametrize(
    "how, said",
    [
        ("of something else", "holds a StableDiffusionPipeline, which does not lift; these do: LiftPipeline, ShapE"),
        ("without a name", "pipeline without a name"),
        ("an index that is no JSON", "model_index.json cannot be read"),
        ("without an index", "has no model_index.json"),
        ("with pickles", "diffusion_pytorch_model.bin is a pickle.*safetensors"),
        ("truncated", "cannot be loaded"),
        ("a part missing", "cannot be loaded"),
    ],
)
def test_folders_that_are_not_it_say_what_they_are(words, tmp_path, how, said):
    shutil.copytree(words, tmp_path / "copy")
    broken(tmp_path / "copy", how)
    with pytest.raises(BackendError, match=said):
        neuralusd.lift(None, tmp_path / "x.usda", text="a bag", backend=tmp_path / "copy", tokens=None)
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize(
    "name, said",
    [
        ("openai/shap-e", "'openai/shap-e' cannot be had from the hub.*local folder"),
        ("a b/c?", "no id of the hub"),
        ("./nowhere", "'./nowhere' is no lifter"),
        ("magic", "'magic' is no lifter; there is: silhouette, mini"),
    ],
)
def test_names_that_lead_nowhere_say_so(name, said):
    with pytest.raises(BackendError, match=said):
        open_lifter(name)


def test_what_is_drawn_empty_is_said(words):
    lifter = ShapELifter(words, 16)
    with torch.no_grad():
        bias = lifter.pipeline.shap_e_renderer.mlp.mlp[6].bias
        kept, bias[0] = bias[0].clone(), -9
        try:
            with pytest.raises(SceneError, match="what Shap-E drew is empty. Ask for another seed"):
                lifter(Request(text="a bag", steps=2))
        finally:
            bias[0] = kept


def test_a_thickness_is_not_for_it(words):
    with pytest.raises(SceneError, match="for the lifter 'silhouette' alone"):
        neuralusd.lift(None, text="a bag", backend=words, thickness=0.5, tokens=None)
    with pytest.warns(LiftWarning):
        neuralusd.lift(mug(), backend="silhouette", thickness=0.5, tokens=None, texture_size=64)
