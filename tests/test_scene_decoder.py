"""The full size's decoder of Anchored Generation: a FLUX.2 that listens to a scene's latents through adapters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel

from neuralusd.errors import BackendError
from neuralusd.models.adapters.attention_pool import AttnPool
from neuralusd.models.adapters.backbone import EmptyPrompt, load_backbone, load_empty_prompt
from neuralusd.models.adapters.background_token import BackgroundToken
from neuralusd.models.adapters.scene_adapters import SceneAdapters, SceneCondition, image_rays
from neuralusd.models.adapters.scene_tokens import SceneTokenizer
from neuralusd.pipelines.decode_scene import SceneDecoderPipeline, load_scene_decoder
from tests.tiny_flux2 import SIZE, TOKENIZER, B, D, K, a_scene, noisy, save_klein, tiny_transformer


@pytest.fixture
def tokenizer() -> SceneTokenizer:
    torch.manual_seed(1)
    return SceneTokenizer(**TOKENIZER)


def condition(tokenizer: SceneTokenizer, *scenes, keep=None) -> SceneCondition:
    batch = tokenizer.batch(scenes)
    return SceneCondition(*tokenizer(batch, keep), image_rays(8, 8, batch.focal))


def spoken(adapters: SceneAdapters) -> SceneAdapters:
    """As if they were trained: what they find is not 0."""
    torch.manual_seed(2)
    for adapter in adapters.adapters:
        torch.nn.init.normal_(adapter.attention.to_out.weight, std=0.5)
    return adapters


# -- the adapters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single_stream", [False, True])
def test_untrained_adapters_change_no_bit_of_the_backbone(tokenizer, single_stream):
    transformer = tiny_transformer()
    adapters = SceneAdapters.of(transformer, context_dim=16, single_stream=single_stream)
    assert len(adapters.adapters) == (4 if single_stream else 2)  # one for each joint block, and each single one
    inputs = noisy()
    with torch.no_grad():
        plain = transformer(**inputs).sample
        with adapters.attached(transformer):
            adapters.condition = condition(tokenizer, a_scene())
            assert torch.equal(transformer(**inputs).sample, plain)
            for adapter in adapters.adapters:  # each of them is heard
                torch.nn.init.normal_(adapter.attention.to_out.weight, std=0.5)
                assert (transformer(**inputs).sample - plain).abs().mean() > 0.01
                torch.nn.init.zeros_(adapter.attention.to_out.weight)
            spoken(adapters)
        assert torch.equal(transformer(**inputs).sample, plain)  # detached


def test_what_is_said_of_a_scene_moves_with_it(tokenizer):
    """Another pose, look, background or camera is another prediction; an absent object is none, whatever it holds."""
    transformer = tiny_transformer()
    adapters = spoken(SceneAdapters.of(transformer, context_dim=16))
    scene = a_scene()
    first = scene.objects[0]

    @torch.no_grad()
    def predicted(scene, keep=None):
        adapters.condition = condition(tokenizer, scene, keep=keep)
        return transformer(**noisy()).sample

    with adapters.attached(transformer):
        plain = predicted(scene)
        for changed in (
            replace(first, translation=first.translation + [0.3, 0, 0]),
            replace(first, rotation=np.array([0.0, 1, 0, 0])),
            replace(first, scale=2 * first.scale),
            replace(first, appearance=-first.appearance),
            replace(first, presence=False),
        ):
            assert not torch.allclose(predicted(replace(scene, objects=[changed, scene.objects[1]])), plain, atol=1e-3)
        assert not torch.allclose(predicted(replace(scene, focal=np.array([2.0, 2.0]))), plain, atol=1e-3)
        assert not torch.allclose(predicted(replace(scene, background=-scene.background)), plain, atol=1e-3)
        # q and -q are one rotation, and objects have no order
        turned = replace(first, rotation=-first.rotation)
        assert torch.allclose(predicted(replace(scene, objects=[scene.objects[1], turned])), plain, atol=1e-5)
        # an absent object is not there, to the bit
        gone = replace(first, presence=False, appearance=np.full((K, D), np.nan), translation=np.full(3, np.inf))
        assert torch.equal(
            predicted(replace(scene, objects=[scene.objects[1], gone])),
            predicted(replace(scene, objects=[scene.objects[1]])),
        )
        # nothing is told of either of two scenes: both are the unconditional one
        told_nothing = torch.tensor([False])
        assert torch.equal(predicted(scene, told_nothing), predicted(a_scene(5), told_nothing))


def test_an_empty_slot_says_nothing_in_a_batch_of_training(tokenizer):
    """Batches of training come as arrays, where an empty slot may hold anything."""
    batch = tokenizer.batch([a_scene(0), a_scene(1)])
    batch.presence[0, 1] = False
    tokens, mask = tokenizer(batch)
    batch.appearance[0, 1], batch.scale[0, 1] = torch.nan, -1.0
    again, _ = tokenizer(batch)
    assert torch.isfinite(again).all() and torch.equal(tokens[mask], again[mask])
    assert mask.sum(1).tolist() == [3 + K, 3 + 2 * K]


def test_adapters_are_of_one_transformer_and_attached_once():
    transformer = tiny_transformer()
    with pytest.raises(ValueError, match="64 wide with 2 and 2 blocks; this one is 32 wide"):
        SceneAdapters(width=64, layers=2, single_layers=2, heads=2, context_dim=16).attach(transformer)
    adapters = SceneAdapters.of(transformer, context_dim=16)
    adapters.attach(transformer)
    with pytest.raises(ValueError, match="detach them first"):
        adapters.attach(transformer)


def test_rays_and_objects_are_told_in_the_same_terms():
    """The ray of the cell in which an object's middle is seen is where that middle is told to be seen."""
    rays = image_rays(4, 8, torch.tensor([[0.5, 1.0]])).view(4, 8, 2)  # an image twice as wide as it is high
    assert rays[0, 0].tolist() == [-0.875, 0.375]  # the top left: x to the right, y up
    x, y, depth = 1.5, -0.75, 2.0  # an object at (1.5, -0.75, -2)
    column, row = (0.5 + 0.5 * x / depth) * 8, (0.5 - 1.0 * y / depth) * 4
    assert (rays[int(row), int(column)] - torch.tensor([x / depth, y / depth])).abs().max() < 0.26


# -- what a scene has to be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda scene: replace(scene, objects=a_scene(objects=4).objects), "4 objects, and this decoder 3 slots"),
        (lambda scene: replace(scene, background=None), "no background token; encode"),
        (lambda scene: replace(scene, background=np.zeros(3)), r"background token is of \(3,\)"),
        (lambda scene: replace(scene, focal=np.array([1.0, -1.0])), "focal lengths"),
        (lambda scene: _first(scene, appearance=None), "/Room/Object_0 has no appearance tokens; encode"),
        (lambda scene: _first(scene, appearance=np.zeros((1, D))), r"/Room/Object_0: appearance is of \(1, 6\)"),
        (lambda scene: _first(scene, translation=np.array([0, np.nan, 0])), "translation holds what is no finite"),
        (lambda scene: _first(scene, scale=np.array([1.0, 0, 1])), "longer than 0"),
        (lambda scene: _first(scene, rotation=np.zeros(4)), "no quaternion"),
    ],
)
def test_a_scene_that_cannot_be_drawn_says_why(tokenizer, change, says):
    with pytest.raises(ValueError, match=says):
        tokenizer.batch([change(a_scene())])


def _first(scene, **changes):
    return replace(scene, objects=[replace(scene.objects[0], **changes), *scene.objects[1:]])


def test_tokens_of_another_encoder_are_refused():
    tokenizer = SceneTokenizer(**TOKENIZER, encoder="facebook/sam-3d-objects", revision="1")
    with pytest.raises(ValueError, match="tokens are of mini .*reads facebook/sam-3d-objects 1; encode"):
        tokenizer.batch([a_scene(encoder="mini")])
    tokenizer.batch([a_scene(encoder="facebook/sam-3d-objects", revision="1")])


# -- equations 7 and 8 -----------------------------------------------------------------------------------------------


def test_attention_pools_any_number_of_features_to_k_tokens():
    pool = AttnPool(feature_dim=8, tokens=K, token_dim=D, hidden_dim=16, heads=2, layers=1)
    features, points = torch.randn(2, 30, 8), torch.rand(2, 30, 3) * 2 - 1
    pooled = pool(features, points)
    assert pooled.shape == (2, K, D)
    assert pooled.mean(-1).abs().max() < 1e-5 and (pooled.std(-1, unbiased=False) - 1).abs().max() < 1e-2
    # features are a set, where each is counts, and what the mask leaves out is not there
    order = torch.randperm(30)
    assert torch.allclose(pool(features[:, order], points[:, order]), pooled, atol=1e-5)
    assert not torch.allclose(pool(features, points[:, order]), pooled, atol=1e-3)
    mask = torch.arange(30).expand(2, -1) < 20
    assert torch.allclose(pool(features, points, mask)[0], pool(features[:1, :20], points[:1, :20])[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"this pool takes \(B, L, 8\)"):
        pool(torch.randn(2, 30, 9))
    with pytest.raises(ValueError, match="no features"):
        pool(features, points, torch.zeros(2, 30, dtype=torch.bool))


def test_the_background_token_looks_past_objects():
    token = BackgroundToken(patch_dim=12, token_dim=B, hidden_dim=16, heads=2)
    patches = torch.randn(2, 9, 12)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[:, 4] = False
    found = token(patches, mask)
    assert found.shape == (2, B)
    patches[:, 4] = torch.randn(12)  # an object there looks different
    assert torch.equal(token(patches, mask), found)
    patches[:, 3] = torch.randn(12)
    assert not torch.allclose(token(patches, mask), found, atol=1e-3)
    assert torch.isfinite(token(patches, torch.zeros_like(mask))).all()  # objects everywhere
    with pytest.raises(ValueError, match="patches are 13 wide, not 12; take those of facebook/dinov2-base"):
        token(torch.randn(1, 9, 13))


# -- the pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def klein(tmp_path_factory) -> str:
    torch.manual_seed(0)
    return save_klein(tmp_path_factory.mktemp("published") / "klein")


@pytest.fixture(scope="module")
def prompt(klein) -> EmptyPrompt:
    return load_empty_prompt(klein)


@pytest.fixture
def decoder(klein, prompt, tokenizer) -> SceneDecoderPipeline:
    """As it is before training."""
    adapters = SceneAdapters.of(load_backbone(klein).transformer, context_dim=16)
    pipeline = SceneDecoderPipeline(tokenizer, adapters, prompt, backbone=klein, sample_size=SIZE)
    pipeline.load_backbone()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: SceneDecoderPipeline, scenes, seed: int = 0, **options) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return pipeline(scenes, num_inference_steps=3, output_type="np", generator=generator, **options).images


def test_before_training_it_draws_what_klein_draws_of_no_words(decoder, klein):
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    published = Flux2KleinPipeline.from_pretrained(klein)
    published.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 3, "latents": latents, "output_type": "np", "height": SIZE, "width": SIZE}
    theirs = published(prompt="", guidance_scale=1.0, **options).images
    assert np.array_equal(decoder(a_scene(), guidance_scale=1.0, **options).images, theirs)


def test_it_draws_scenes_and_is_saved_beside_its_backbones_name(decoder, klein, tmp_path):
    spoken(decoder.adapters)
    scenes = [a_scene(0), a_scene(1)]
    done = []
    images = drawn(decoder, scenes, on_step=done.append)
    assert images.shape == (2, SIZE, SIZE, 3) and done[-1] == 1.0 and done == sorted(done)
    assert np.array_equal(drawn(decoder, scenes), images)  # of one seed
    assert abs(drawn(decoder, scenes[::-1]) - images).mean() > 0.01
    assert abs(drawn(decoder, scenes, guidance_scale=1.0) - images).mean() > 0.001
    wide = replace(scenes[0], focal=np.array([0.5, 1.0]))  # twice as wide as high
    height, width = drawn(decoder, wide).shape[1:3]
    assert (height, width) == (24, 44)
    assert drawn(decoder, wide, height=16).shape[1:3] == (16, 32)

    decoder.save_pretrained(tmp_path / "decoder")
    weights = {file.parent.name for file in (tmp_path / "decoder").rglob("*.safetensors")}
    assert weights == {"scene_tokenizer", "adapters", "prompt"}  # and nothing of the backbone
    again = load_scene_decoder(tmp_path / "decoder", device="cpu")
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(drawn(again, scenes), images)
    (tmp_path / "copy").symlink_to(klein)
    assert again.config.backbone == klein
    load_scene_decoder(tmp_path / "decoder", backbone=tmp_path / "copy", device="cpu")


def test_a_drawing_that_is_stopped_leaves_the_backbone_as_it_was(decoder):
    spoken(decoder.adapters)
    inputs = noisy()
    with torch.no_grad():
        plain = decoder.transformer(**inputs).sample

    def stop(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(decoder, a_scene(), on_step=stop)
    with torch.no_grad():
        assert torch.equal(decoder.transformer(**inputs).sample, plain)
    drawn(decoder, a_scene())


@pytest.mark.parametrize(
    "options, says",
    [
        ({"num_inference_steps": 0}, "`num_inference_steps` is 0"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan"),
        ({"height": 30}, "`height` is 30 pixels; give a multiple of 4"),
        ({"width": 2}, "`width` is 2 pixels"),
        ({"latents": torch.zeros(1, 16, 4, 4)}, "those of this image are"),
        ({"output_type": "jpg"}, "'pil', 'np' or 'latent'"),
    ],
)
def test_a_drawing_that_cannot_be_made_says_why(decoder, options, says):
    with pytest.raises(ValueError, match=says):
        decoder(a_scene(), **options)
    with pytest.raises(ValueError, match="differ in aspect"):
        decoder([a_scene(), replace(a_scene(), focal=np.array([1.0, 2.0]))])
    with pytest.raises(ValueError, match="no scene"):
        decoder([])


def test_a_backbone_that_cannot_be_had_says_why(decoder, klein, tmp_path):
    decoder.save_pretrained(tmp_path / "decoder")
    cases = {
        "black-forest-labs/FLUX.2-klein-base-4B": "hub can be reached; or give a local folder",
        str(tmp_path / "nowhere"): "is not a folder here; .*black-forest-labs/FLUX.2-klein-base-4B",
        str(tmp_path): "has no transformer",
    }
    for name, says in cases.items():
        with pytest.raises(BackendError, match=says):
            load_backbone(name)
    wider = save_klein(tmp_path / "wider", Flux2Transformer2DModel(**{**_config(klein), "num_layers": 3}))
    with pytest.raises(BackendError, match="is not the backbone of this decoder: .*32 wide with 2 and 2 blocks"):
        load_scene_decoder(tmp_path / "decoder", backbone=wider, device="cpu")
    distilled = save_klein(tmp_path / "dev", Flux2Transformer2DModel(**{**_config(klein), "guidance_embeds": True}))
    with pytest.raises(BackendError, match="guidance distilled"):
        load_backbone(distilled)
    weights = tmp_path / "wider/transformer/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackendError, match="cannot be loaded as a FLUX.2 Klein"):
        load_backbone(wider)
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(BackendError, match="diffusion_pytorch_model.bin is a pickle"):
        load_backbone(wider)
    with pytest.raises(BackendError, match="no model_index.json"):
        load_scene_decoder(tmp_path)
    with pytest.raises(ValueError, match="no backbone yet; call load_backbone"):
        SceneDecoderPipeline.from_pretrained(tmp_path / "decoder")(a_scene())


def _config(klein: str) -> dict:
    config = dict(Flux2Transformer2DModel.load_config(klein, subfolder="transformer"))
    return {name: value for name, value in config.items() if not name.startswith("_")}
