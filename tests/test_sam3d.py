"""SAM 3D Objects as the encoder of objects.

Its package and weights cannot be had here. In their place stands a pipeline that answers its six calls with arrays of
its shapes, in its conventions; everything on our side of them is real.
"""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from safetensors.numpy import save_file
from scipy.spatial.transform import Rotation
from transformers import Dinov2Config, Dinov2Model, ViTConfig

from neuralusd import stage as stages
from neuralusd.annotate import Annotation
from neuralusd.annotate.dino import DinoPatches
from neuralusd.annotate.errors import ModelError
from neuralusd.annotate.sam3d import IDENTIFIER, Sam3dAppearance, Sam3dObjects, box_layout, points_of_depth
from neuralusd.api import encode_photo
from neuralusd.models.adapters.attention_pool import AttnPool
from neuralusd.models.adapters.backbone import EmptyPrompt
from neuralusd.models.adapters.background_token import BackgroundToken
from neuralusd.models.adapters.scene_adapters import SceneAdapters
from neuralusd.models.adapters.scene_tokens import SceneTokenizer
from neuralusd.pipelines.decode_scene import SceneDecoderPipeline
from neuralusd.stage.latents import read_latents
from neuralusd.stage.views import Views
from neuralusd.training.scene_examples import load_example, main, photo_example, save_example
from tests.tiny_flux2 import TOKENIZER, tiny_transformer
from tests.tiny_world import boxes_stage, frame

DINO = {
    "_target_": "sam3d_objects.model.backbone.dit.embedder.dino.Dino",
    "source": "local",
    "repo_or_dir": "/opt/dinov2",
    "backbone_kwargs": {"pretrained": False},
}
PIPELINE = {
    "_target_": "sam3d_objects.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap",
    "depth_model": {"_target_": "moge.model.v1.MoGeModel.from_pretrained"},
    "ss_generator_config_path": "ss_generator.yaml",
    "ss_generator_ckpt_path": "ss_generator.safetensors",
    "ss_decoder_ckpt_path": "ss_decoder.safetensors",
    "slat_decoder_gs_4_ckpt_path": None,
}
# An object that fills 16 x 32 x 64 of the cells of its cube, in the middle of it.
CELLS = np.stack(np.meshgrid([24, 39], [16, 47], [0, 63], indexing="ij"), -1).reshape(-1, 3)


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """As they are once they are converted."""
    save_file({f"_base_models.{name}.w": np.ones(1) for name in ("generator", "condition_embedder")},
              tmp_path / "ss_generator.safetensors")  # fmt: skip
    save_file({"w": np.ones(1)}, tmp_path / "ss_decoder.safetensors")
    write(tmp_path, "pipeline", PIPELINE)
    write(tmp_path, "ss_generator", {"module": {"condition_embedder": {"backbone": {"embedder_list": [[DINO, []]]}}}})
    return tmp_path


def write(folder: Path, name: str, values: dict) -> None:
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))


class StandIn:
    """What of `InferencePipelinePointMap` is called."""

    ss_preprocessor, slat_preprocessor = "shape", "look"
    slat_mean, slat_std = torch.full((8,), 3.0), torch.full((8,), 2.0)

    def __init__(self, config: dict) -> None:
        self.config, self.pointmap = config, None

    def compute_pointmap(self, image, pointmap):
        assert image.dtype == np.uint8 and image.shape[2] == 4 and set(np.unique(image[..., 3])) <= {0, 255}
        self.pointmap = pointmap
        return {"pointmap": pointmap.permute(2, 0, 1)}

    def preprocess_image(self, image, preprocessor, pointmap=None):
        if preprocessor == "look":
            return {"image": image}
        return {"image": image, "pointmap_scale": torch.tensor(2.0), "pointmap_shift": torch.tensor([0.0, 0.0, 1.0])}

    def sample_sparse_structure(self, inputs):
        coords = np.concatenate([np.zeros((len(CELLS), 1), int), CELLS], 1)
        return {"shape": torch.zeros(1, 4096, 8), "coords": torch.from_numpy(coords).int(), "downsample_factor": 1}

    def pose_decoder(self, found, scene_scale, scene_shift):
        """A quarter turn about its up axis, 4 m before the camera, 1 to the right, 0.5 up; 2 m a cube."""
        translation = torch.tensor([[-1.0, 0.5, 2.0]]) * torch.tensor([[1.0, 1.0, scene_scale.item()]])
        return {"translation": translation, "rotation": quaternion(), "scale": torch.full((1, 3), 2.0)}

    def sample_slat(self, inputs, coords):
        feats = torch.randn(len(coords), 8) * 2 + 3
        return SimpleNamespace(feats=feats, coords=coords)


def quaternion() -> torch.Tensor:
    """An upright object (its z is the camera's y) that is turned a quarter about its up axis."""
    rows = _axes() @ np.diag([-1.0, 1.0, -1.0])  # the canonical axes in PyTorch3D's camera space
    x, y, z, w = Rotation.from_matrix(rows).as_quat()
    return torch.tensor([[w, x, y, z]], dtype=torch.float32)


def _axes() -> np.ndarray:
    """Rows: the canonical axes in our camera space: x goes away from the camera, y to the right... z up."""
    return np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])


@pytest.fixture
def installed(monkeypatch):
    """The package, of which nothing is real."""

    def module(name: str, **contents) -> None:
        made = ModuleType(name)
        made.__spec__ = importlib.machinery.ModuleSpec(name, None)
        vars(made).update(contents)
        monkeypatch.setitem(sys.modules, name, made)

    module("sam3d_objects")
    module("omegaconf", OmegaConf=SimpleNamespace(load=lambda file: yaml.safe_load(Path(file).read_text())))
    module("hydra")
    module("hydra.utils", instantiate=lambda config: Configured(config))


class Configured(StandIn):
    def __init__(self, config):
        super().__init__(config)


def test_it_says_what_an_object_is_and_where(checkpoints, installed):
    objects = Sam3dObjects(checkpoints, device="cuda:1")
    config = objects.pipeline.config
    assert config["depth_model"] is None and config["device"] == "cuda:1" and not config["compile_model"]
    depth = np.full((6, 8), 4.0)
    depth[0] = np.inf
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:5] = True
    found = objects(np.zeros((6, 8, 3), np.float32), mask, points_of_depth(depth, np.array([1.0, 4 / 3])))
    # where things are is told in PyTorch3D's camera space: x to the left, y up, z forward; not a number where unknown
    given = objects.pipeline.pointmap.numpy()
    assert np.isnan(given[0]).all() and np.allclose(given[1:, :, 2], 4) and given[1, 0, 0] > 0 and given[1, 0, 1] > 0
    assert found.features.shape == (8, 8) and abs(found.features.mean()) < 0.5 and 0.5 < found.features.std() < 1.5
    assert found.points.min() > -1 and found.points.max() < 1
    # the layout is in ours
    assert np.allclose(found.translation, [1.0, 0.5, -4.0])
    assert np.allclose(found.scale, [0.5, 1.0, 2.0])
    w, x, y, z = found.rotation
    assert np.allclose(Rotation.from_quat([x, y, z, w]).as_matrix().T, _axes(), atol=1e-6)
    with pytest.raises(ModelError, match="empty mask"):
        objects(np.zeros((6, 8, 3), np.float32), np.zeros((6, 8), bool), points_of_depth(depth, np.ones(2)))


def test_a_box_that_is_not_in_the_middle_of_its_cube_is_where_its_cells_are():
    """Every corner of the cells, placed as SAM 3D places points, is a corner of the box, placed as ours are."""
    rng = np.random.default_rng(0)
    turned = Rotation.random(random_state=1)
    x, y, z, w = turned.as_quat()
    translation, scale = rng.normal(size=3), np.full(3, 1.7)
    cells = np.array([[3, 10, 20], [9, 40, 63]])
    corners = np.array([cells[0], cells[1] + 1]) / 64 - 0.5
    theirs = (corners * scale) @ turned.as_matrix() + translation  # PyTorch3D's transforms are of row vectors
    middle, rotation, size = box_layout(cells, translation, np.array([w, x, y, z]), scale)
    w, x, y, z = rotation
    ours = Rotation.from_quat([x, y, z, w]).apply(np.array([[-0.5] * 3, [0.5] * 3]) * size) + middle
    assert np.allclose(ours * [-1, 1, -1], theirs)


def test_it_stands_behind_the_door_of_the_small_codec(checkpoints, installed):
    pool = AttnPool(tokens=2, token_dim=6, hidden_dim=16, heads=2, layers=1)
    encoder = Sam3dAppearance(Sam3dObjects(checkpoints), pool)
    pictures = torch.zeros(3, 4, 16, 16)
    pictures[:, :, 4:12, 4:12] = 1
    tokens = encoder.encode(pictures)
    assert encoder.shape == (2, 6) and tokens.shape == (3, 2, 6) and torch.isfinite(tokens).all()


def test_without_the_package_it_says_how_to_get_it(checkpoints):
    with pytest.raises(ModelError, match="SAM 3D Objects is not installed.*doc/setup.md"):
        Sam3dObjects(checkpoints)


def _pickled(folder: Path) -> None:
    write(folder, "pipeline", {**PIPELINE, "ss_decoder_ckpt_path": "ss_decoder.ckpt"})


def _downloaded(folder: Path) -> None:
    write(folder, "ss_generator", {"a": [{**DINO, "source": "github"}]})


def save_dino(folder: Path) -> str:
    """A DINOv2 as it is published, small."""
    config = Dinov2Config(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=1
    )
    Dinov2Model(config).save_pretrained(folder)
    return str(folder)


def a_photograph() -> Annotation:
    """A box before a wall, as `annotate` finds it."""
    rng = np.random.default_rng(0)
    ids = np.full((24, 32), -1, np.int32)
    ids[8:20, 12:22] = 0
    depth = np.where(ids == 0, 4.0, 6.0).astype(np.float32)
    color = rng.uniform(size=(24, 32, 3)).astype(np.float32)
    return Annotation(color, ids, ["a box"], [1.0], depth, field_of_view=90.0, source="photo.png")


def test_a_photograph_becomes_scene_latents(checkpoints, installed, tmp_path):
    """E of the full size: what trains a decoder, and what that decoder draws again."""
    dino = DinoPatches(save_dino(tmp_path / "dino"), device="cpu")
    example = photo_example(a_photograph(), Sam3dObjects(checkpoints), dino, size=64)
    assert example.color.shape == (48, 64, 3)
    assert np.allclose(example.latents.focal, [0.5, 2 / 3])
    [box] = example.latents.objects
    assert box.text == "a box" and np.allclose(box.translation, [1.0, 0.5, -4.0])
    assert example.patches.shape == (4, 12) and example.behind.tolist() == [True, True, True, True]
    save_example(example, tmp_path / "examples/0.safetensors")
    again = load_example(tmp_path / "examples/0.safetensors")
    assert np.allclose(again.features[0], example.features[0], atol=1e-2) and again.latents.encoder == IDENTIFIER

    pool = AttnPool(tokens=2, token_dim=6, hidden_dim=16, heads=2, layers=1, revision="1")
    token = BackgroundToken(patch_dim=12, token_dim=10, hidden_dim=16, heads=2)
    tokenizer = SceneTokenizer(**TOKENIZER, encoder=IDENTIFIER, revision="1")
    adapters = SceneAdapters.of(tiny_transformer(), context_dim=16)
    decoder = SceneDecoderPipeline(tokenizer, adapters, EmptyPrompt(5, 24), pool, token)
    latents = decoder.encode(again.latents, again.features, again.points, again.patches, again.behind)
    assert latents.objects[0].appearance.shape == (2, 6) and latents.background.shape == (10,)
    tokenizer.batch([latents])  # it is what the decoder reads
    without = a_photograph()
    without.depth = None
    with pytest.raises(ModelError, match="photo.png has no depth"):
        photo_example(without, Sam3dObjects(checkpoints), dino)


def test_a_photograph_becomes_scene_latents_through_a_stage(tmp_path):
    """E without SAM 3D: `encode` makes a stage of the photograph, of which latents are read as of any other."""
    photo = a_photograph()
    PIL.Image.fromarray((photo.color * 255).astype(np.uint8)).save(tmp_path / "photo.png")
    options = {"masks": photo.ids + 1, "depth_map": photo.depth, "field_of_view": 90.0}
    stage = encode_photo(tmp_path / "photo.png", tmp_path / "scene.usda", **options)
    scene = stages.read(stage, aspect=4 / 3)  # the photograph's
    latents = read_latents(scene).latents
    assert np.allclose(latents.focal, [0.5, 2 / 3], atol=1e-3)
    [box] = latents.objects
    assert -6 < box.translation[2] < -4 and box.scale.max() < 4  # it begins at 4 m
    [asset] = scene.foreground
    cutout = Views(stage, scene).cutout(asset)  # of the photograph: what an appearance codec is shown
    assert cutout.shape == (4, 64, 64) and 0.3 < cutout[3].mean() < 1 and cutout[:3].std() > 0.1


def test_a_world_becomes_examples(checkpoints, installed, tmp_path, capsys):
    scene = tmp_path / "world/scenes/train/train_00000"
    scene.mkdir(parents=True)
    stage = boxes_stage(boxes=1, frames=1)
    stage.Export(str(scene / "scene.usda"))
    seen, passes = frame(stage, 0.0, 32)
    PIL.Image.fromarray((passes.color * 255).astype(np.uint8)).save(scene / "rgb.0000.png")
    paths = [asset.path for asset in seen.assets]
    np.savez(scene / "passes.0000.npz", depth=passes.depth, ids=passes.ids.astype(np.int8), paths=paths)
    (scene / "scene.json").write_text('{"frames": [0]}')
    options = ["--world", str(tmp_path / "world"), "--sam3d", str(checkpoints), "--out", str(tmp_path / "out")]
    assert main([*options, "--dino", save_dino(tmp_path / "dino"), "--size", "32"]) == 0
    [file] = (tmp_path / "out").glob("*.safetensors")
    example = load_example(file)
    assert [each.text for each in example.latents.objects] == [asset.text or asset.path.split("/")[-1]
                                                               for asset in seen.foreground]  # fmt: skip
    half = 0.5 * seen.camera.horizontal_aperture / seen.camera.focal_length
    assert np.isclose(example.latents.focal[0], 0.5 / half)
    assert main(["--world", str(tmp_path / "nowhere"), "--sam3d", "x", "--out", "y"]) == 1
    assert "has no split 'train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, says",
    [("facebook/dinov2-base", "cannot be had from the hub.*give a local folder"), ("vit", "is a vit, not a DINOv2")],
)
def test_patches_are_a_dinov2s(name, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2).save_pretrained("vit")
    Path("vit/model.safetensors").touch()
    with pytest.raises(ModelError, match=says):
        DinoPatches(name)


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda folder: (folder / "pipeline.yaml").unlink(), "has no pipeline.yaml; .*gated: ask for access"),
        (lambda folder: (folder / "pipeline.yaml").write_text("a: ["), "pipeline.yaml cannot be read"),
        (_pickled, "ss_decoder_ckpt_path is ss_decoder.ckpt, a pickle.*docs/scene_decoder.md"),
        (lambda folder: (folder / "ss_decoder.safetensors").unlink(), "ss_decoder.safetensors is missing"),
        (lambda folder: (folder / "ss_decoder.safetensors").write_bytes(b"half"), "ss_decoder.safetensors is damaged"),
        (
            lambda folder: save_file({"w": np.ones(1)}, folder / "ss_generator.safetensors"),
            "begins with _base_models.generator.; convert the whole",
        ),
        (_downloaded, "its DINOv2 would be downloaded as code and run.*source: local"),
        (lambda folder: write(folder, "x", {"a": {"_target_": "os.system"}}), "x.yaml would call os.system"),
    ],
)
def test_a_folder_that_cannot_be_taken_says_why_before_anything_is_loaded(spoil, says, checkpoints, installed):
    spoil(checkpoints)
    with pytest.raises(ModelError, match=says):
        Sam3dObjects(checkpoints)
