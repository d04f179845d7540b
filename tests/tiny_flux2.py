"""A FLUX.2 Klein of the real classes, small: as modules, and as the folder that it is published in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from neuralusd.latents import ObjectLatents, SceneLatents

SIZE, K, D, B = 32, 2, 6, 10
TOKENIZER = {"slots": 3, "tokens": K, "token_dim": D, "background_dim": B, "context_dim": 16, "hidden_dim": 24}


def tiny_transformer() -> Flux2Transformer2DModel:
    """Blocks of both kinds. Its weights say something to each other, as trained ones do."""
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return transformer.eval()


def tiny_vae() -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()


def knowing_vae(pictures: np.ndarray) -> AutoencoderKLFlux2:
    """One that has seen pictures (N, H, W, 3): their normalised latents differ, as those of a trained one do."""
    vae = tiny_vae()
    with torch.no_grad():
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
        latents = Flux2KleinPipeline._patchify_latents(vae.encode(images).latent_dist.mode())
        vae.bn.running_mean.copy_(latents.mean((0, 2, 3)))
        vae.bn.running_var.copy_(latents.var((0, 2, 3)))
    return vae


def save_klein(
    folder: Path, transformer: Flux2Transformer2DModel | None = None, vae: AutoencoderKLFlux2 | None = None
) -> str:
    """A FLUX.2 Klein as it is published, text encoder included."""
    Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae or tiny_vae(),
        text_encoder=_text_encoder(),
        tokenizer=_tokenizer(),
        transformer=transformer or tiny_transformer(),
    ).save_pretrained(folder)
    return str(folder)


def a_scene(seed: int = 0, objects: int = 2, **changes) -> SceneLatents:
    """Objects 3 m before the camera, side by side."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(objects):
        quaternion = rng.normal(size=4)
        found.append(
            ObjectLatents(
                translation=np.array([index - 0.5, 0.0, -3.0]),
                rotation=quaternion / np.linalg.norm(quaternion),
                scale=rng.uniform(0.3, 1.0, 3),
                appearance=rng.normal(size=(K, D)).astype(np.float32),
                path=f"/Room/Object_{index}",
            )
        )
    return SceneLatents(found, np.ones(2), rng.normal(size=B).astype(np.float32), **changes)


def _text_encoder() -> Qwen3ForCausalLM:
    """Klein takes its hidden states 9, 18 and 27, so it has as many layers; each 8 wide."""
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=27,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    return Qwen3ForCausalLM(config).eval()


def _tokenizer() -> PreTrainedTokenizerFast:
    from transformers import Qwen2TokenizerFast

    vocabulary = {"<|endoftext|>": 0, "u": 1, "s": 2, "e": 3, "r": 4}
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[], pad_token="<|endoftext|>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['role'] }}{{ message['content'] }}{% endfor %}"
    return tokenizer


def noisy(scenes: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """What the transformer is called with, of images of 8 x 8 latents."""
    generator = torch.Generator().manual_seed(seed)
    grid = Flux2KleinPipeline._prepare_latent_ids(torch.zeros(scenes, 16, 8, 8))
    return {
        "hidden_states": torch.randn(scenes, 64, 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, 5, 24, generator=generator).expand(scenes, -1, -1),
        "timestep": torch.full((scenes,), 0.5),
        "img_ids": grid,
        "txt_ids": torch.zeros(scenes, 5, 4),
    }


def index_of(folder: str | Path) -> dict:
    return json.loads((Path(folder) / "model_index.json").read_text())
