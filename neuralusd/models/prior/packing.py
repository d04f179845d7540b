"""Scene latents to the prior's tensors and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...latents import Anchors, ObjectLatents, SceneLatents
from .scene_prior import ScenePrior
from .variables import ABSENT, POSE_DIM, PRESENT, Times, Variables

# Of the two quaternions of a rotation that one is taken which is nearer to "its front towards the camera".
FACING = np.array([0.5**0.5, -(0.5**0.5), 0.0, 0.0])
# Sides of sampled boxes in metres.
SMALLEST, LARGEST = 0.01, 100.0


def pose_vector(latents: ObjectLatents) -> np.ndarray:
    """(POSE_DIM,) translation, quaternion, and the logarithm of the scale, not standardised."""
    given = np.asarray(latents.rotation, np.float64)
    rotation = given / np.linalg.norm(given) * (-1 if given @ FACING < 0 else 1)
    return np.concatenate([latents.translation, rotation, np.log(latents.scale)])


def pack(scenes: Sequence[SceneLatents], prior: ScenePrior) -> Variables:
    """Variables of scenes, on the prior's device. What is None, and empty slots, are 0."""
    size, dim = prior.config.slots, prior.config.tokens * prior.config.token_dim
    pose, appearance = np.zeros((len(scenes), size, POSE_DIM)), np.zeros((len(scenes), size, dim))
    presence = np.full((len(scenes), size), ABSENT)
    camera = np.zeros((len(scenes), 2))
    background = np.zeros((len(scenes), prior.config.background_dim))
    mean, deviation = (getattr(prior, f"pose_{name}").double().cpu().numpy() for name in ("mean", "deviation"))
    for index, scene in enumerate(scenes):
        camera[index] = np.log(scene.focal)
        if scene.background is not None:
            background[index] = scene.background
        for slot, one in enumerate(scene.objects):
            if not one.presence:
                continue
            presence[index, slot] = PRESENT
            pose[index, slot] = (pose_vector(one) - mean) / deviation
            if one.appearance is not None:
                appearance[index, slot] = np.asarray(one.appearance).ravel()
    device = prior.pose_mean.device
    packed = Variables(
        *(torch.from_numpy(np.asarray(each)).float() for each in (pose, appearance, presence, camera, background))
    )
    packed.presence = packed.presence.long()
    packed.camera = (packed.camera - prior.camera_mean.cpu()) / prior.camera_deviation.cpu()
    return packed.map(lambda value: value.to(device))


def pack_anchors(scene: SceneLatents, anchors: Anchors, count: int, prior: ScenePrior) -> Times:
    """alpha of every variable, the same for `count` samples, on the prior's device."""
    size = prior.config.slots
    pose, appearance, presence = (np.zeros(size) for _ in range(3))
    presence[:] = anchors.insertion
    for slot, (one, alpha) in enumerate(zip(scene.objects, anchors.objects, strict=True)):
        presence[slot] = alpha.presence
        pose[slot], appearance[slot] = alpha.pose, alpha.appearance
        if one.appearance is None:  # nothing is known that could be kept
            appearance[slot] = 0
    there = np.array([one.presence for one in scene.objects] + [False] * (size - len(scene.objects)))
    # Of a slot that stays empty nothing is open; one that may be filled begins from noise.
    for values in (pose, appearance):
        values[~there] = np.where(presence[~there] == 1, 1, 0)
    background = 0.0 if scene.background is None else anchors.background
    rows = (np.tile(each, (count, 1)) for each in (pose, appearance, presence))
    tensors = [*rows, np.full(count, anchors.camera), np.full(count, background)]
    return Times(*(torch.from_numpy(each).float() for each in tensors)).map(
        lambda value: value.to(prior.pose_mean.device)
    )


def unpack(
    drawn: Variables, scene: SceneLatents, anchors: Anchors, prior: ScenePrior, encoder: str, revision: str
) -> list[SceneLatents]:
    """Samples of `scene`, one a row of `drawn`. A variable that is anchored by 1 is the very array of the scene; what
    was sampled in an empty slot follows the scene's own objects. What keeps its look keeps its size, which is a part of
    the pose: furniture does not grow."""
    shape = (prior.config.tokens, prior.config.token_dim)
    pose = (drawn.pose * prior.pose_deviation + prior.pose_mean).double().cpu().numpy()
    focal = np.exp((drawn.camera * prior.camera_deviation + prior.camera_mean).double().cpu().numpy())
    appearance = drawn.appearance.float().cpu().numpy()
    presence = drawn.presence.cpu().numpy() == PRESENT
    background = drawn.background.float().cpu().numpy()
    out = []
    for index in range(len(pose)):
        objects = []
        for slot in range(pose.shape[1]):
            own = scene.objects[slot] if slot < len(scene.objects) else None
            if own is None and not presence[index, slot]:
                continue
            made = _object(pose[index, slot], appearance[index, slot].reshape(shape), bool(presence[index, slot]))
            if own is not None:
                alpha = anchors.objects[slot]
                made.path, made.text = own.path, own.text
                if alpha.presence == 1:
                    made.presence = own.presence
                if alpha.pose == 1 or not made.presence:
                    made.translation, made.rotation, made.scale = own.translation, own.rotation, own.scale
                if alpha.appearance == 1 or not made.presence:
                    made.appearance, made.scale = own.appearance, own.scale
            objects.append(made)
        out.append(
            SceneLatents(
                objects,
                scene.focal if anchors.camera == 1 else focal[index],
                scene.background if anchors.background == 1 else background[index],
                encoder,
                revision,
            )
        )
    return out


def _object(pose: np.ndarray, appearance: np.ndarray, presence: bool) -> ObjectLatents:
    rotation = pose[3:7] / max(float(np.linalg.norm(pose[3:7])), 1e-9)
    scale = np.exp(pose[7:].clip(np.log(SMALLEST), np.log(LARGEST)))
    return ObjectLatents(pose[:3].copy(), rotation, scale, appearance.copy(), presence)
