"""A tiny `ResamplePipeline` with random weights, rooms of a bed and a lamp, and the models that they show."""

import numpy as np
import torch

from neuralusd.datasets.objects import ObjectViews
from neuralusd.datasets.room_latents import RoomLatents
from neuralusd.latents import ObjectLatents, SceneLatents
from neuralusd.models.prior.appearance import AppearanceCodec
from neuralusd.models.prior.background import SIZE, BackgroundCodec
from neuralusd.models.prior.packing import pose_vector
from neuralusd.models.prior.scene_prior import ScenePrior
from neuralusd.models.volumes.decoder import VolumeDecoder
from neuralusd.models.volumes.embeddings import ObjectEmbeddings
from neuralusd.pipelines.resample import ResamplePipeline

DECODER = {"embedding_dim": 8, "channels": (8, 4), "depth": 1, "attention_resolutions": ()}
UPRIGHT = np.array([0.5**0.5, -(0.5**0.5), 0.0, 0.0])


def tiny_pipeline(slots: int = 5) -> ResamplePipeline:
    torch.manual_seed(0)
    prior = ScenePrior(slots=slots, tokens=2, token_dim=4, background_dim=6, width=32, layers=2, heads=4)
    codec = AppearanceCodec(2, 4, decoder=DECODER, channels=(8, 8), revision="tiny")
    codec.fit(torch.randn(12, 8, 4, 4, 4))
    return ResamplePipeline(prior, codec, BackgroundCodec(6, 8), revision="tiny")


def tiny_scene(pipeline: ResamplePipeline, place: float = 0.0) -> SceneLatents:
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, *pipeline.appearance_codec.shape)).astype(np.float32)
    objects = [
        ObjectLatents(np.array([place, -1.0, -4.0]), UPRIGHT, np.array([1.6, 2.0, 0.8]), tokens[0], True, "/Room/Bed"),
        ObjectLatents(
            np.array([place + 1, -1.0, -4.0]), UPRIGHT, np.array([0.3, 0.3, 0.5]), tokens[1], True, "/Room/Lamp"
        ),
        ObjectLatents(
            np.array([place - 1, -1.0, -5.0]), UPRIGHT, np.array([0.5, 0.5, 0.9]), tokens[2], True, "/Room/Chair"
        ),
    ]
    background = rng.normal(size=pipeline.background_codec.config.dim).astype(np.float32)
    return SceneLatents(objects, np.array([1.2, 1.2]), background, *pipeline.encoder)


def tiny_room_latents(count: int) -> RoomLatents:
    """A bed somewhere, a lamp 1 m to its right; a third slot stays empty."""
    rng = np.random.default_rng(0)
    pose = np.zeros((count, 3, 10), np.float32)
    for room in pose:
        place = rng.uniform(-1.5, 1.5)
        for slot, (x, size) in enumerate(((place, (1.6, 2.0, 0.8)), (place + 1, (0.3, 0.3, 0.5)))):
            scale = np.array(size) * rng.uniform(0.9, 1.1, 3)
            room[slot] = pose_vector(ObjectLatents(np.array([x, -1.0, -4.0]), UPRIGHT, scale))
    model = np.tile(np.array([[0, 1, -1]], np.int32), (count, 1))
    focal = rng.uniform(1.0, 1.4, (count, 1)).repeat(2, 1).astype(np.float32)
    color = rng.integers(0, 256, (count, 1, 1, 3)).repeat(SIZE, 1).repeat(SIZE, 2).astype(np.uint8)
    depth = np.full((count, SIZE, SIZE), 5, np.float32)
    return RoomLatents(pose, model, focal, color, depth, ["bed", "lamp"])


def tiny_views() -> ObjectViews:
    """Two objects, a red and a green square, seen six times."""
    color = np.zeros((2, 6, 24, 24, 3), np.uint8)
    mask = np.zeros((2, 6, 24, 24), bool)
    mask[0, :, 6:18, 4:20] = True
    mask[1, :, 4:20, 8:16] = True
    color[0][mask[0]] = (200, 30, 30)
    color[1][mask[1]] = (30, 200, 30)
    pose = np.tile(np.eye(4, dtype=np.float32), (2, 6, 1, 1))
    intrinsics = np.tile(np.array([1, 1, 0, 0], np.float32), (2, 6, 1))
    return ObjectViews(color, mask, pose, intrinsics, np.ones(2, np.float32), ["bed", "lamp"], ["bed", "lamp"])


def tiny_autodecoder(views: ObjectViews, folder) -> None:
    """An untrained autodecoder of the views' objects, as `train_autodecoder` leaves one."""
    torch.manual_seed(0)
    VolumeDecoder(**DECODER).save_pretrained(folder / "decoder")
    embeddings = ObjectEmbeddings(len(views), embedding_dim=8)
    torch.nn.init.normal_(embeddings.table.weight)
    embeddings.save_pretrained(folder / "embeddings")
