"""Shap-E's own classes, small, saved to a folder as its weights are published; what they make is known.

The real network's weights come from a latent. Here the projections ignore it and give a network that is positive within
a box, and whose colour runs along Shap-E's y; `random_shap_e` leaves them as they are drawn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEImg2ImgPipeline, ShapEPipeline
from diffusers.pipelines.shap_e import ShapERenderer
from tiny_published import _tokenizer
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
)

WIDTH, HIDDEN = 32, 8
# The box in Shap-E's space (Z up, front +Y): a tall thing, whose front reaches further than its back.
LOW, HIGH = np.array([-0.2, -0.3, -0.7]), np.array([0.3, 0.5, 0.6])
BAND = 0.15  # within which its signed distance is one


def save_shap_e(folder: Path, kind: str, known: bool = True) -> str:
    """A ShapEPipeline (`kind` "text") or ShapEImg2ImgPipeline ("image") in a folder."""
    torch.manual_seed(0)
    parts = {"prior": _prior(kind), "scheduler": _scheduler(), "shap_e_renderer": _renderer(known)}
    if kind == "text":
        config = CLIPTextConfig(
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            vocab_size=64,
            projection_dim=WIDTH,
            max_position_embeddings=16,
        )
        parts |= {"text_encoder": CLIPTextModelWithProjection(config), "tokenizer": _tokenizer()}
        pipeline = ShapEPipeline(**parts)
    else:
        config = CLIPVisionConfig(
            hidden_size=WIDTH,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            image_size=32,
            patch_size=16,
            projection_dim=WIDTH,
        )
        processor = CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_convert_rgb=True
        )
        parts |= {"image_encoder": CLIPVisionModel(config), "image_processor": processor}
        pipeline = ShapEImg2ImgPipeline(**parts)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return str(folder)


def _scheduler() -> HeunDiscreteScheduler:
    return HeunDiscreteScheduler(
        beta_schedule="exp",
        num_train_timesteps=1024,
        prediction_type="sample",
        use_karras_sigmas=True,
        clip_sample=True,
        clip_sample_range=1.0,
    )


def _prior(kind: str) -> PriorTransformer:
    return PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        embedding_dim=WIDTH,
        num_embeddings=4 * HIDDEN,
        embedding_proj_dim=WIDTH,
        time_embed_dim=4 * WIDTH,
        num_layers=1,
        clip_embed_dim=2 * WIDTH,
        additional_embeddings=0,
        time_embed_act_fn="gelu",
        norm_in_type="layer",
        embedding_proj_norm_type="layer" if kind == "image" else None,
        encoder_hid_proj_type=None,
        added_emb_type=None,
    )


def _renderer(known: bool) -> ShapERenderer:
    renderer = ShapERenderer(
        param_shapes=((HIDDEN, 93), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, HIDDEN)),
        d_latent=WIDTH,
        d_hidden=HIDDEN,
        n_output=12,
    )
    if known:
        with torch.no_grad():
            _teach(renderer)
    return renderer


def _teach(renderer: ShapERenderer) -> None:
    """Makes the network of every latent the same: how far a point lies beyond each side of the box, summed."""
    steep, shift = 20.0, 20.0
    first = torch.zeros(HIDDEN, 93)
    for axis in range(3):
        first[2 * axis, axis], first[2 * axis + 1, axis] = steep, -steep
    first[6, 1] = 1.0
    same = torch.eye(HIDDEN)
    for number, projection in enumerate(renderer.params_proj.projections.values()):
        projection.proj.weight.zero_()
        wanted = first if number == 0 else same
        projection.proj.bias.copy_(wanted.reshape(-1))
    layers = renderer.mlp.mlp
    for layer in layers:
        layer.bias.zero_()
    # Units 2a and 2a + 1 are how far x_a is beyond the box's two sides: silu(20 t) / 20 is t where t > 0, else about 0.
    low, high = LOW + BAND, HIGH - BAND
    for axis in range(3):
        layers[0].bias[2 * axis], layers[0].bias[2 * axis + 1] = -steep * high[axis], steep * low[axis]
    # silu is the identity far above 0, where the other layers hold them.
    layers[0].bias[6] = shift
    layers[1].bias[:6] = shift
    for layer in layers[4:]:
        layer.weight.zero_()
    layers[4].weight[:, :HIDDEN] = layers[5].weight[:] = same
    # The signed distance falls with what is beyond; the colour's red runs along y.
    layers[6].weight[0, :6] = -1 / steep
    layers[6].bias[0] = BAND + 6 * shift / steep
    layers[6].weight[3, 6], layers[6].bias[3] = 8.0, -8.0 * shift
    layers[6].bias[4:6] = -6.0
