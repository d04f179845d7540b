"""Training the full size's decoder: adapters alone, on a frozen FLUX.2 Klein, here a small one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from neuralusd.cli import main
from neuralusd.latents import SceneLatents
from neuralusd.models.adapters import backbone
from neuralusd.models.adapters.backbone import image_latents, load_backbone
from neuralusd.pipelines.decode_scene import load_scene_decoder
from neuralusd.training.scene_decoder import (
    FULL,
    SceneDecoderConfig,
    collate,
    noise_levels,
    read_scene_decoder_config,
    train_scene_decoder,
)
from neuralusd.training.scene_examples import SceneExample, SceneExamples, load_example, save_example
from tests.tiny_flux2 import SIZE, a_scene, knowing_vae, save_klein

# `scene-decoder` with small components.
SMALL: SceneDecoderConfig = replace(
    FULL,
    tokenizer={"slots": 3, "context_dim": 16, "hidden_dim": 24},
    pool={"tokens": 2, "token_dim": 6, "hidden_dim": 16, "heads": 2, "layers": 1},
    background={"token_dim": 10, "hidden_dim": 16, "heads": 2},
    features=12,
    batch_size=4,
    steps=80,
    lr=1e-2,
    warmup_steps=5,
    ema_decay=0.9,
    gradient_checkpointing=False,
)


@pytest.fixture(autouse=True)
def its_own_precision():
    """accelerate knows one precision a process; and of 512 words of the empty prompt 8 will do."""
    AcceleratorState._reset_state(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "PROMPT_LENGTH", 8)
        yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="module")
def klein(with_tokens, tmp_path_factory) -> str:
    """Published weights, of which the autoencoder knows the pictures."""
    torch.manual_seed(0)
    pictures = np.stack([load_example(file).color for file in with_tokens.iterdir()])
    return save_klein(tmp_path_factory.mktemp("published") / "klein", vae=knowing_vae(pictures))


@pytest.fixture(scope="module")
def with_features(tmp_path_factory) -> Path:
    """Two pictures, a dark and a bright one, and what SAM 3D and DINOv2 said of them."""
    return _write(tmp_path_factory.mktemp("features"), features=True)


@pytest.fixture(scope="module")
def with_tokens(tmp_path_factory) -> Path:
    """The same with tokens of a codec."""
    return _write(tmp_path_factory.mktemp("tokens"), features=False)


def _write(folder: Path, features: bool) -> Path:
    for index in range(2):
        rng = np.random.default_rng(index)
        color = np.full((SIZE, SIZE, 3), (20, 235)[index], np.uint8)
        color[:, : SIZE // 2] = (235, 20)[index]
        latents = a_scene(index, encoder="a codec", revision="1")
        example = SceneExample(color, latents)
        if features:
            latents.background = None
            latents.encoder, latents.revision = "facebook/sam-3d-objects", ""
            example.features = [rng.normal(size=(number, 8)) for number in (20, 5)]
            example.points = [rng.uniform(-1, 1, (number, 3)) for number in (20, 5)]
            example.patches = rng.normal(size=(9, 12))
            example.behind = rng.uniform(size=9) < 0.5
        save_example(example, folder / f"{index:05d}.safetensors")
    return folder


def _digest(folder: str) -> str:
    whole = hashlib.sha256()
    for file in sorted(Path(folder).rglob("*.safetensors")):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def _logged(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@torch.no_grad()
def _error(model, klein: str, examples: SceneExamples, swapped: bool) -> float:
    """How far the velocities are off, of each picture with its own scene or with the other's."""
    frozen = load_backbone(klein)
    batch = collate([examples[0], examples[1]], model.tokenizer)
    other = collate([examples[1], examples[0]], model.tokenizer) if swapped else batch
    clean = image_latents(frozen.vae, batch.images)
    errors = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(clean.shape, generator=generator)
        sigma = noise_levels(SMALL, len(clean), generator)
        at = sigma.view(-1, 1, 1, 1)
        velocity = model((1 - at) * clean + at * noise, sigma, other)
        errors.append((velocity - (noise - clean)).square().mean().item())
    return float(np.mean(errors))


@pytest.mark.parametrize("kind", ["with_features", "with_tokens"])
def test_it_learns_what_a_scene_looks_like_and_the_backbone_stays(kind, klein, request, tmp_path):
    examples = SceneExamples(request.getfixturevalue(kind))
    before = _digest(klein)
    model = train_scene_decoder(
        examples, SMALL, tmp_path / "out", backbone=klein, log_steps=10, mixed_precision="no", checkpoint_steps=30
    )
    losses = _logged(tmp_path / "out")
    assert losses[-1] < 0.8 * losses[0]
    own, swapped = (_error(model, klein, examples, each) for each in (False, True))
    assert own < 0.95 * swapped

    # what was trained: adapters and tokens, of which alone there are weights and states of the optimizer
    assert _digest(klein) == before
    parts = {file.parent.name for file in (tmp_path / "out").glob("*/*.safetensors")} - {"checkpoint"}
    trained = {"scene_tokenizer", "adapters", "prompt"}
    assert parts == trained | ({"appearance_pool", "background_token"} if kind == "with_features" else set())
    [saved] = (tmp_path / "out/checkpoint").glob("*.safetensors")
    names = {name.split(".")[0] for name in load_file(saved)}
    assert names == {"tokenizer", "adapters"} | ({"pool", "background"} if kind == "with_features" else set())

    # and it draws: with tokens that its own pool makes, and no others
    pipeline = load_scene_decoder(tmp_path / "out", device="cpu")
    pipeline.set_progress_bar_config(disable=True)
    scene = _encoded(pipeline, examples[0])
    image = pipeline(scene, num_inference_steps=2, output_type="np").images
    assert image.shape == (1, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="encode the scene again"):
        pipeline(replace(scene, revision="another"), num_inference_steps=2)


def _encoded(pipeline, example: SceneExample) -> SceneLatents:
    """What E of the full size makes of a picture."""
    if example.encoded:
        with pytest.raises(ValueError, match="reads tokens of a codec 1; encode"):
            pipeline.encode(example.latents, [], [], np.zeros((9, 12)), np.ones(9, bool))
        return example.latents
    return pipeline.encode(example.latents, example.features, example.points, example.patches, example.behind)


def test_a_run_that_was_ended_goes_on_where_it_was(klein, with_tokens, tmp_path):
    examples = SceneExamples(with_tokens)
    options = {"backbone": klein, "mixed_precision": "no", "log_steps": 1}
    config = replace(SMALL, steps=6, lr=1e-3, ema_decay=0.5)

    class Killed(Exception):
        pass

    class Until(SceneExamples):
        """Ends the run when the examples of its fifth step are read."""

        asked = 0

        def __getitem__(self, index):
            Until.asked += 1
            if Until.asked > 4 * config.batch_size:
                raise Killed
            return super().__getitem__(index)

    with pytest.raises(Killed):
        train_scene_decoder(Until(with_tokens), config, tmp_path / "killed", checkpoint_steps=2, **options)
    whole = train_scene_decoder(examples, config, tmp_path / "whole", checkpoint_steps=2, **options)
    resumed = train_scene_decoder(examples, config, tmp_path / "killed", checkpoint_steps=2, **options)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name


def test_activations_computed_again_give_the_same_gradients(klein, with_features, tmp_path):
    options = {"backbone": klein, "mixed_precision": "no"}
    config = replace(SMALL, steps=2)
    found = [
        train_scene_decoder(
            SceneExamples(with_features),
            replace(config, gradient_checkpointing=again, adapters={"single_stream": True}),
            tmp_path / str(again),
            **options,
        ).state_dict()
        for again in (False, True)
    ]
    for name, value in found[0].items():
        assert torch.allclose(value, found[1][name], atol=1e-5), name


def test_half_precision_and_a_batch_without_objects(klein, with_features, tmp_path):
    """Rooms may be empty: then there is nothing to pool."""
    folder = tmp_path / "examples"
    folder.mkdir()
    first = load_example(next(iter(sorted(with_features.glob("*")))))
    save_example(first, folder / "0.safetensors")
    empty = replace(first, latents=replace(first.latents, objects=[]), features=[], points=[])
    for index in range(1, 4):
        save_example(empty, folder / f"{index}.safetensors")
    config = replace(SMALL, steps=3, batch_size=1)
    train_scene_decoder(
        SceneExamples(folder), config, tmp_path / "out", backbone=klein, mixed_precision="bf16", log_steps=1
    )
    assert np.isfinite(_logged(tmp_path / "out")).all()


def test_examples_that_do_not_go_together_say_so(klein, with_tokens, with_features, tmp_path):
    with pytest.raises(ValueError, match="has no examples of scenes; `python -m neuralusd.training.scene_examples`"):
        SceneExamples(tmp_path)
    first = load_example(with_tokens / "00000.safetensors")
    save_example(first, tmp_path / "a.safetensors")
    save_example(replace(first, color=first.color[:16]), tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="b.safetensors is unlike a.safetensors: its picture is of another size"):
        SceneExamples(tmp_path)[1]
    save_example(load_example(with_features / "00000.safetensors"), tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="it has tokens, or none, unlike it"):
        SceneExamples(tmp_path)[1]
    (tmp_path / "b.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match="b.safetensors is no example of a scene"):
        SceneExamples(tmp_path)[1]
    save_example(replace(first, color=first.color[:30]), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="32x30; both have to be multiples of 4"):
        train_scene_decoder(SceneExamples(tmp_path), SMALL, tmp_path / "out", backbone=klein)
    missing = replace(first.latents.objects[0], appearance=None)
    with pytest.raises(ValueError, match="not every object has appearance tokens"):
        save_example(replace(first, latents=replace(first.latents, objects=[missing])), tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="features of 0 objects, and 2 objects"):
        save_example(replace(first, latents=replace(first.latents, background=None)), tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_a_configuration_of_a_file(tmp_path):
    values = {**SMALL.to_dict(), "seed": 0, "trained_steps": 3, "backbone": "x/y"}
    assert read_scene_decoder_config(values, "a.json") == SMALL
    with pytest.raises(ValueError, match="a.json: there is no field widht; the fields are adapters"):
        read_scene_decoder_config({"widht": 3}, "a.json")


# -- the command ------------------------------------------------------------------------------------------------------


def _train(*arguments: str) -> int:
    return main(["train", "--precision", "fp32", *arguments])


def test_the_command_trains_a_decoder(klein, with_tokens, tmp_path, capsys):
    config = tmp_path / "small.json"
    config.write_text(json.dumps(SMALL.to_dict()))
    world, out = str(with_tokens), str(tmp_path / "out")
    options = ["--config", str(config), "--world", world, "-o", out, "--diffusion", klein]
    assert _train(*options, "--steps", "2", "--batch-size", "2") == 0
    assert "trained on 2 pictures; load it with `load_scene_decoder`" in capsys.readouterr().out
    written = json.loads((tmp_path / "out/training_config.json").read_text())
    assert written["steps"] == 2 and written["batch_size"] == 2 and written["backbone"] == klein
    load_scene_decoder(out, device="cpu")


def test_the_command_says_what_a_run_takes(klein, with_features, tmp_path, capsys):
    """Of the full size without its weights, which cannot be had here; and of a folder's."""
    world = str(with_features)
    assert (
        main(["train", "--json", "--dry-run", "--config", "scene-decoder", "--world", world, "--batch-size", "1"]) == 0
    )
    full = json.loads(capsys.readouterr().out)
    assert 3.8e9 < full["frozen"]["transformer"] < 4e9  # Klein 4B
    assert set(full["trained"]) == {"scene_tokenizer", "adapters", "appearance_pool", "background_token"}
    number = sum(full["trained"].values())
    assert 1.2e8 < number < 1.6e8
    assert full["memory"]["Adam's two moments"] == 8 * number  # of nothing else
    config = tmp_path / "small.json"
    config.write_text(json.dumps(SMALL.to_dict()))
    options = ["--dry-run", "--config", str(config), "--world", world, "--diffusion", klein]
    assert _train(*options) == 0
    assert "memory of a GPU, 4 pictures of 32x32" in capsys.readouterr().out
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    "arguments, status, says",
    [
        (["--vgg", "x"], 2, "--vgg: configurations of the scene decoder do not take it"),
        (["--world", "another"], 1, "trains on one folder of examples"),
        (["--diffusion", "nowhere/at/all"], 1, "nowhere/at/all is not a folder here"),
        (["--config", "wrong.json"], 1, "there is no field widht"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, status, says, with_tokens, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("wrong.json").write_text(json.dumps({**SMALL.to_dict(), "widht": 3}))
    assert _status(["--config", "scene-decoder", "--world", str(with_tokens), "-o", "out", *arguments]) == status
    assert says in capsys.readouterr().err


def _status(arguments: list[str]) -> int:
    try:
        return _train(*arguments)
    except SystemExit as end:
        return int(end.code or 0)
