"""SAM 3D Objects as the full size's encoder of objects (Anchored Generation, equation 6).

Meta's package `sam3d_objects` (github.com/facebookresearch/sam-3d-objects) is not on PyPI, its checkpoints (the hub's
facebook/sam-3d-objects) are not open to everyone, and it wants Linux and an NVIDIA GPU of 32 GB. This module is written
against its source, and was not run with it. docs/scene_decoder.md says what has to be converted first.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError

if TYPE_CHECKING:
    import torch

    from ..models.adapters.attention_pool import AttnPool

IDENTIFIER = "facebook/sam-3d-objects"
# A structured latent has so many cells along a side, and so many numbers in a cell.
CELLS, CHANNELS = 64, 8
# What a configuration may build. Anything else could be any function of any package.
TARGETS = ("sam3d_objects.", "torch.nn.", "torchvision.transforms.")
# Weights of these are looked up by these beginnings of their names, and what is missing is not noticed.
PREFIXES = ("_base_models.generator.", "_base_models.condition_embedder.")
# Metres at which a picture without depth is taken to stand, flat.
CARD_DISTANCE = 3.0
# From PyTorch3D's camera space (x left, y up, z forward) to ours (x right, y up, z back): half a turn about y.
TURN = np.diag([-1.0, 1.0, -1.0])


@dataclass
class Sam3dObject:
    """What SAM 3D says of an object.

    Attributes:
        features: (L, 8) float32, its structured latent, of mean 0 and deviation 1 over SAM 3D's training data.
        points: (L, 3) float32, the middles of their cells in -1..1 of the object's cube, canonical axes.
        translation, rotation, scale: the layout of its box in camera space, as of `ObjectLatents`.
    """

    features: np.ndarray
    points: np.ndarray
    translation: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray


class Sam3dObjects:
    """SAM 3D Objects from a folder with `pipeline.yaml`, its configurations and its weights as safetensors.

    Its decoders to meshes and Gaussians are loaded with it, and not used. Its depth model is neither: where things are
    comes from our depth, in metres.

    Raises:
        ModelError: the package is not installed; weights are missing, pickles or incomplete; or a configuration would
            run code that is downloaded.
    """

    def __init__(self, folder: str | os.PathLike, *, device: str = "cuda") -> None:
        folder = Path(folder)
        check_folder(folder)
        self.pipeline: Any = _load(folder, device)

    def __call__(self, color: np.ndarray, mask: np.ndarray, points: np.ndarray, *, seed: int = 0) -> Sam3dObject:
        """Looks at an object of a picture.

        Args:
            color: (H, W, 3) float32 sRGB in 0..1. mask: (H, W) bool, the object.
            points: (H, W, 3) metres, camera space (as of `latents`), not finite where nothing is known; see
                `points_of_depth`. seed: of its samplers.

        Raises:
            ModelError: the mask is empty, or SAM 3D finds no shape.
        """
        import torch

        mask = np.asarray(mask, bool)
        if not mask.any():
            raise ModelError("SAM 3D is asked for an object of an empty mask")
        pipeline = self.pipeline
        bytes_ = (np.asarray(color, np.float32).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        rgba = np.concatenate([bytes_, np.where(mask, np.uint8(255), np.uint8(0))[..., None]], -1)
        known = np.isfinite(points).all(-1, keepdims=True)
        given = torch.from_numpy((np.where(known, points, np.nan) * TURN.diagonal()).astype(np.float32))
        with torch.no_grad():
            pointmap = pipeline.compute_pointmap(rgba, given)["pointmap"]
            shape_input = pipeline.preprocess_image(rgba, pipeline.ss_preprocessor, pointmap=pointmap)
            look_input = pipeline.preprocess_image(rgba, pipeline.slat_preprocessor)
            torch.manual_seed(seed)
            found = pipeline.sample_sparse_structure(shape_input)
            if not len(found["coords"]):
                raise ModelError("SAM 3D finds no shape in this mask")
            moments = {name: shape_input.get(f"pointmap_{name[6:]}") for name in ("scene_scale", "scene_shift")}
            found.update(pipeline.pose_decoder(found, **moments))
            latent = pipeline.sample_slat(look_input, found["coords"])
            features = (latent.feats.float() - pipeline.slat_mean.to(latent.feats.device)) / pipeline.slat_std.to(
                latent.feats.device
            )
        cells = latent.coords[:, 1:].cpu().numpy().astype(np.float64)
        factor = float(found["downsample_factor"])
        pose = {name: _numbers(found[name]) for name in ("translation", "rotation", "scale")}
        return Sam3dObject(
            features.cpu().numpy(),
            ((cells + 0.5) / CELLS * 2 - 1).astype(np.float32),
            *box_layout(cells, pose["translation"], pose["rotation"], pose["scale"] * factor),
        )


def box_layout(
    cells: np.ndarray, translation: np.ndarray, quaternion: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translation, rotation and scale, as of `ObjectLatents`, of the box about an object's cells.

    SAM 3D places the cube -0.5..0.5 of an object: scaled, turned by row vectors times the quaternion's matrix, moved,
    in PyTorch3D's camera space. Its cube has Z up, as our canonical axes. That its front is -Y is taken from how such
    models are stored, and is not said.

    Args:
        cells: (L, 3) of `CELLS` along a side. quaternion: w, x, y, z. scale: (3,), the same along all.
    """
    from scipy.spatial.transform import Rotation

    w, x, y, z = quaternion
    turned = TURN @ Rotation.from_quat([x, y, z, w]).as_matrix().T
    low, high = cells.min(0) / CELLS - 0.5, (cells.max(0) + 1) / CELLS - 0.5
    middle = TURN @ translation + turned @ (scale * (low + high) / 2)
    x, y, z, w = Rotation.from_matrix(turned).as_quat()
    return middle, np.array([w, x, y, z]), scale * (high - low)


def points_of_depth(depth: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """(H, W, 3) camera-space points of depth (H, W) in metres along the viewing axis; focal: see `SceneLatents`."""
    height, width = depth.shape
    x = ((np.arange(width) + 0.5) / width - 0.5) / focal[0]
    y = (0.5 - (np.arange(height) + 0.5) / height) / focal[1]
    rays = np.stack([*np.meshgrid(x, y), np.full(depth.shape, -1.0)], -1)
    with np.errstate(invalid="ignore"):
        return rays * depth[..., None]


class Sam3dAppearance:
    """Appearance tokens by SAM 3D and AttnPool (equations 6 and 7), behind the door of `mini`'s `AppearanceCodec`.

    Args:
        objects: SAM 3D. pool: as a decoder was trained with it.
    """

    def __init__(self, objects: Sam3dObjects, pool: AttnPool) -> None:
        self.objects, self.pool = objects, pool

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.pool.config.tokens, self.pool.config.token_dim

    def encode(self, pictures: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
        """Cutouts (N, 4, R, R), RGB times coverage and then coverage in 0..1, to tokens (N, K, D).

        A cutout has no depth, and SAM 3D wants some: it is told that the object is a card, which it is to correct.
        Where there is depth, `tokens` of what SAM 3D says of the whole picture is better.
        """
        import torch

        found = []
        for picture in pictures.float().cpu().numpy():
            coverage = picture[3]
            color = (picture[:3] / np.maximum(coverage, 1e-3)).transpose(1, 2, 0)
            card = points_of_depth(np.full(coverage.shape, CARD_DISTANCE), np.ones(2))
            found.append(self.tokens(self.objects(color, coverage > 0.5, card, seed=seed)))
        return torch.from_numpy(np.stack(found))

    def tokens(self, found: Sam3dObject) -> np.ndarray:
        """(K, D) float32."""
        import torch

        weight = self.pool.queries
        arrays = (
            torch.from_numpy(array)[None].to(weight.device, weight.dtype) for array in (found.features, found.points)
        )
        with torch.no_grad():
            return self.pool(*arrays)[0].float().cpu().numpy()


def check_folder(folder: Path) -> None:
    """Raises ModelError where a folder is not what `Sam3dObjects` takes; nothing in it is loaded or run.

    Every YAML file in it is looked at, since the package builds whatever these name.
    """
    import yaml

    if not (folder / "pipeline.yaml").is_file():
        raise ModelError(
            f"{folder} has no pipeline.yaml; give the folder `checkpoints` of a copy of {IDENTIFIER} (gated: ask for "
            "access on the hub)"
        )
    for file in sorted(folder.glob("*.yaml")):
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ModelError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        if file.name == "pipeline.yaml":
            if not isinstance(values, dict):
                raise ModelError(f"{file} describes no pipeline")
            _check_weights(folder, values)
            values = {name: value for name, value in values.items() if name != "depth_model"}  # is not loaded
        for target, node in _targets(values):
            if not target.startswith(TARGETS):
                raise ModelError(f"{file} would call {target}, which is no part of SAM 3D; take the published file")
            pretrained = (node.get("backbone_kwargs") or {}).get("pretrained", True)
            if target.endswith(".dino.Dino") and (node.get("source") != "local" or pretrained):
                raise ModelError(
                    f"{file}: its DINOv2 would be downloaded as code and run. In each {target.rpartition('.')[2]} set "
                    "`source: local`, `repo_or_dir` to a copy of github.com/facebookresearch/dinov2 that you trust, "
                    "and `backbone_kwargs: {pretrained: false}` (its weights are in the checkpoint)"
                )


def _check_weights(folder: Path, values: dict[str, Any]) -> None:
    from safetensors import SafetensorError, safe_open

    for name, value in values.items():
        if not name.endswith("_ckpt_path") or not value:
            continue
        file = folder / str(value)
        if file.suffix != ".safetensors":
            raise ModelError(
                f"{folder / 'pipeline.yaml'}: {name} is {value}, a pickle, which can run any code; neuralusd reads "
                "safetensors. Convert it where you trust it (docs/scene_decoder.md), and name the new file there"
            )
        if not file.is_file():
            raise ModelError(f"{file} is missing, which pipeline.yaml names as {name}")
        try:
            with safe_open(str(file), framework="numpy") as opened:
                keys = list(opened.keys())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file} is damaged: {error}") from error
        # The package loads what it finds by these names, and says nothing of what it does not find.
        for prefix in PREFIXES if "_generator_" in name else ():
            if not any(key.startswith(prefix) for key in keys):
                raise ModelError(f"{file} has no weight whose name begins with {prefix}; convert the whole checkpoint")
        if not keys:
            raise ModelError(f"{file} has no weights in it")


def _targets(values: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(values, dict):
        if "_target_" in values:
            yield str(values["_target_"]), values
        for value in values.values():
            yield from _targets(value)
    elif isinstance(values, list):
        for value in values:
            yield from _targets(value)


def _load(folder: Path, device: str) -> Any:
    if importlib.util.find_spec("sam3d_objects") is None:
        raise ModelError(
            "SAM 3D Objects is not installed: there is no package sam3d_objects. Install it as doc/setup.md of "
            "github.com/facebookresearch/sam-3d-objects says (Linux, an NVIDIA GPU of 32 GB)"
        )
    os.environ.setdefault(
        "LIDRA_SKIP_INIT", "true"
    )  # as its own inference does; the module it would import is not public
    try:
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        config = OmegaConf.load(folder / "pipeline.yaml")
        config.update(
            workspace_dir=str(folder),
            rendering_engine="pytorch3d",
            compile_model=False,
            depth_model=None,
            device=device,
        )
        return instantiate(config)
    except ImportError as error:
        raise ModelError(f"SAM 3D Objects lacks a package that it needs: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"SAM 3D Objects of {folder} does not load: {said}") from error
    except Exception as error:  # hydra's and omegaconf's own, which are of no common kind
        raise ModelError(f"SAM 3D Objects of {folder} does not load: {type(error).__name__}: {error}") from error


def _numbers(value: Any) -> np.ndarray:
    return np.asarray(value.detach().float().cpu().numpy(), np.float64).reshape(-1)
