"""`NeuralVolume` prims: an object as the latent of a volumetric autodecoder, written and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pxr import Gf, Usd, UsdGeom, Vt

from ..errors import SceneError
from ..schema import NeuralVolume

if TYPE_CHECKING:
    from ..lifting import VolumeCode

# The cube that a decoder's volumes fill.
CUBE = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def write_volume(stage: Usd.Stage, path: str, code: VolumeCode, transform: np.ndarray) -> NeuralVolume:
    """Defines a NeuralVolume. Its own space is the decoder's cube from -1 to 1, which its `extent` says.

    Its purpose is guide: nothing draws it, and it counts in no bound.

    Args:
        transform: (4, 4) for row vectors, from the cube to the space of the prim's parent.
    """
    volume = NeuralVolume.Define(stage, path)
    volume.CreatePurposeAttr(UsdGeom.Tokens.guide)
    volume.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(CUBE.astype(np.float32)))
    volume.AddTransformOp().Set(Gf.Matrix4d(*np.asarray(transform, np.float64).ravel().tolist()))
    if code.embedding.size:
        volume.CreateEmbeddingAttr(Vt.FloatArray.FromNumpy(np.ascontiguousarray(code.embedding, np.float32).ravel()))
    if code.latent.size:
        volume.CreateLatentAttr(Vt.HalfArray.FromNumpy(np.ascontiguousarray(code.latent, np.float16).ravel()))
        volume.CreateLatentShapeAttr(Gf.Vec4i(*code.latent.shape))
    volume.CreateDecoderAttr(code.decoder)
    volume.CreateRevisionAttr(code.revision)
    return volume


def read_volume(prim: Usd.Prim) -> VolumeCode:
    """What a NeuralVolume holds, for who decodes it: `VolumeCode.decoder` says with which weights.

    Returns:
        The code. Its `to_lifter` goes from the decoder's cube, -1 to 1, to the space of the prim's parent, through the
        prim's `extent` and xformOps. What is not authored, the latent or the embedding, is an array without elements.

    Raises:
        SceneError: the prim is none, or what it holds contradicts itself; names the prim, and says what to do.
    """
    from ..lifting import VolumeCode

    if not prim:
        raise SceneError("there is no prim to read a volume from; check its path on the stage.")
    where = f"<{prim.GetPath()}>"
    volume = NeuralVolume(prim)
    if not volume:
        kind = f"is a {prim.GetTypeName()}" if prim.GetTypeName() else "has no type"
        found = [child for child in Usd.PrimRange(prim, Usd.TraverseInstanceProxies()) if NeuralVolume(child)]
        hint = f" Below it is <{found[0].GetPath()}>." if found else " `lift` with a learned lifter makes one."
        raise SceneError(f"{where} {kind}, not a NeuralVolume.{hint}")
    decoder = volume.GetDecoderAttr().Get()
    if not decoder:
        raise SceneError(
            f"{where} does not say which decoder its latent is of. Author `neural:decoder`, or lift again."
        )
    embedding = np.asarray(volume.GetEmbeddingAttr().Get() or [], np.float32)
    latent = _latent(volume, where)
    if not embedding.size and not latent.size:
        raise SceneError(f"{where} has neither a latent nor an embedding, so there is nothing to decode. Lift again.")
    if not np.isfinite(embedding).all() or not np.isfinite(latent).all():
        raise SceneError(f"{where} holds NaN or infinity. Lift again.")
    return VolumeCode(latent, embedding, decoder, volume.GetRevisionAttr().Get() or "", _placed(volume, where))


def _latent(volume: NeuralVolume, where: str) -> np.ndarray:
    """(X, Y, Z, C) float16."""
    values = volume.GetLatentAttr().Get()
    shape = volume.GetLatentShapeAttr().Get()
    if values is None or not len(values):
        return np.empty((0, 0, 0, 0), np.float16)
    if shape is None or min(shape) <= 0 or int(np.prod(shape, dtype=np.int64)) != len(values):
        said = "none" if shape is None else tuple(shape)
        raise SceneError(
            f"{where} has a latent of {len(values)} values, and its latentShape is {said}. Author the shape (X, Y, Z, "
            "C) that they have, or lift again."
        )
    return np.asarray(values, np.float16).reshape(tuple(shape))


def _placed(volume: NeuralVolume, where: str) -> np.ndarray:
    """(4, 4) for row vectors, from the decoder's cube to the space of the prim's parent."""
    extent = volume.GetExtentAttr().Get()
    box = CUBE if extent is None else np.array(extent, np.float64)
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[1] > box[0]).all():
        raise SceneError(f"{where} has the extent {box.tolist()}, which is no box. Correct it: the volume fills it.")
    to_box = np.eye(4)
    to_box[:3, :3] = np.diag((box[1] - box[0]) / 2)
    to_box[3, :3] = (box[0] + box[1]) / 2
    matrix = to_box @ np.array(volume.GetLocalTransformation(Usd.TimeCode.EarliestTime()))
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
        raise SceneError(f"{where} has a transform that is singular or not finite. Correct its xformOps.")
    return matrix
