"""Shap-E behind the lift door: its diffusers pipelines, for a picture or for words, by hub id or folder.

"Shap-E: Generating Conditional 3D Implicit Functions" (Jun and Nichol, 2023). A latent becomes the weights of a small
network, which gives each point of the cube from -1 to 1 a signed distance and a colour: what a `Lifted` is made of.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from ..annotate.errors import ImageError
from ..errors import BackendError
from .shape import IMAGE, TEXT, Candidate, Cutout, Lifted, Request, Step
from .viewpoint import find_view, portrait, three_quarter_view

# diffusers' classes: what they take, and the guidance that their model cards advise.
KINDS = {"ShapEPipeline": (TEXT, 15.0), "ShapEImg2ImgPipeline": (IMAGE, 3.0)}
# The model cards' number of steps. A candidate costs as much again, so one is drawn unless more are asked for.
STEPS, CANDIDATES = 64, 1
# Samples of the cube along each side, as Shap-E's own meshes have; points that the network is asked for at once.
RESOLUTION, AT_ONCE = 128, 1 << 16
# Rows: the x, y, z of a lifter's space (Y up, front +Z) in Shap-E's (Z up, front +Y); units are the same.
TO_SHAP_E = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
# A picture is shown to it on white, with so much room about the object.
ROOM = 1.3


class ShapELifter:
    """Lifts a picture, or words, by Shap-E.

    Args:
        location: a hub id, as openai/shap-e (words) or openai/shap-e-img2img (a picture), or a local folder.
        resolution: samples of the cube along each side. device: torch's; None takes a GPU if there is one.

    Raises:
        BackendError: there is no such pipeline, it cannot be had, or its weights are not safetensors.
    """

    seeded = True
    most = 1

    def __init__(self, location: str | os.PathLike, resolution: int = RESOLUTION, device: str | None = None) -> None:
        import torch

        index, self.revision = read_index(os.fspath(location))
        kind = pipeline_class(index)
        if kind not in KINDS:
            raise BackendError(f"{os.fspath(location)} holds a {kind or 'pipeline without a name'}, not a Shap-E")
        self.name = os.fspath(location)
        self.kind, self.guidance = KINDS[kind]
        self.takes = frozenset({self.kind})
        self.resolution = resolution
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.pipeline = _load(self.name, kind, self.device)

    def __call__(self, request: Request, step: Step = lambda done: None) -> Lifted:
        """The object, in Shap-E's cube of -1 to 1.

        Raises:
            ImageError: all samples are empty.
        """
        latents = self._sample(request, lambda done: step(0.7 * done))
        picture = request.pictures[0] if request.pictures else None
        found = []
        for number, latent in enumerate(latents):
            made = self._decode(latent, picture)
            if made is not None:
                found.append(made)
            step(0.7 + 0.3 * (number + 1) / len(latents))
        if not found:
            raise ImageError("what Shap-E drew is empty. Ask for another seed, or for more candidates")
        found.sort(key=lambda lifted: -lifted.candidates[0].score)
        best = found[0]
        best.candidates = [lifted.candidates[0] for lifted in found]
        if picture is not None:
            best.notes.append(
                "Shap-E does not say how the picture was taken; the direction whose outline is most like it was taken, "
                f"with an overlap of {best.candidates[0].score:.0%}"
            )
        return best

    def _sample(self, request: Request, step: Step) -> Any:
        """Latents (N, K, D)."""
        import torch

        given = request.text if self.kind == TEXT else _shown(request.pictures[0])
        steps = request.steps or STEPS
        # The pipelines say how far they are by their progress bar alone.
        self.pipeline.progress_bar = _followed(step)
        try:
            made = self.pipeline(
                given,
                num_images_per_prompt=request.candidates or CANDIDATES,
                num_inference_steps=steps,
                guidance_scale=self.guidance,
                generator=torch.Generator().manual_seed(request.seed),
                output_type="latent",
            )
        finally:
            del self.pipeline.progress_bar
        return made.images

    def _decode(self, latent: Any, picture: Cutout | None) -> Lifted | None:
        """The solid of one latent, with itself as its candidate; None where it is empty."""
        ask = _network(self.pipeline.shap_e_renderer, latent)
        side = self.resolution
        spacing = 2.0 / (side - 1)
        axis = np.linspace(-1, 1, side)
        grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        inside = ask(grid @ TO_SHAP_E)[0].reshape(side, side, side)
        if not (inside > 0).any():
            return None
        # It grows inward and is bounded, and no distance; near the surface its slope makes it one, in cells.
        slope = np.linalg.norm(np.gradient(inside), axis=0)
        distance = (-inside / np.maximum(slope, 1e-3)).clip(-3, 3)
        # What reaches the cube's sides is closed there.
        distance = np.pad(distance, 1, constant_values=3.0).astype(np.float32)
        origin = np.full(3, -1 - spacing)
        solid = grid[inside.ravel() > 0]

        def color(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
            return ask(np.asarray(points, np.float64) @ TO_SHAP_E)[1]

        view, score = (three_quarter_view(solid), 0.0) if picture is None else find_view(solid, picture.coverage)
        looks = Candidate(score, portrait(distance, origin, spacing, color, view))
        return Lifted(distance, origin, spacing, color, view, candidates=[looks])


def _network(renderer: Any, latent: Any) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Points (N, 3) of Shap-E's cube to signed distance (N,), positive inside, and colour (N, 3), sRGB in 0..1.

    These are the heads of its "signed distance and texture" rendering, as its own meshes are made by.
    """
    import torch

    with torch.no_grad():
        projected = renderer.params_proj(latent[None])
    weights = {name.removeprefix("nerstf."): value[0] for name, value in projected.items()}
    asked = {"direction": None, "ts": None, "nerf_level": "fine", "rendering_mode": "stf"}

    def ask(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances, colors = [], []
        for first in range(0, len(points), AT_ONCE):
            some = torch.from_numpy(np.ascontiguousarray(points[first : first + AT_ONCE], np.float32))
            with torch.no_grad():
                position = some[None].to(latent.device, latent.dtype)
                out = torch.func.functional_call(renderer.mlp, weights, kwargs={"position": position, **asked})
            distances.append(out.signed_distance[0, :, 0].float().cpu().numpy())
            colors.append(out.channels[0].float().cpu().numpy())
        return np.concatenate(distances), np.concatenate(colors)

    return ask


def _followed(step: Step) -> Callable[..., Iterator[Any]]:
    def bar(iterable: Iterable[Any] | None = None, total: int | None = None) -> Iterator[Any]:
        values = [] if iterable is None else list(iterable)
        for number, value in enumerate(values):
            step(number / len(values))
            yield value

    return bar


def _shown(picture: Cutout) -> PIL.Image.Image:
    """The object on white, in the middle of a square."""
    rows, columns = (np.flatnonzero((picture.coverage > 0.5).any(axis)) for axis in (1, 0))
    if not len(rows):
        raise ImageError(f"{picture.source or 'the picture'} shows no object: all of it is background")
    alpha = picture.coverage[..., None]
    color = ((picture.color * alpha + 1 - alpha).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    cut = PIL.Image.fromarray(color[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    side = round(ROOM * max(cut.size))
    square = PIL.Image.new("RGB", (side, side), "white")
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square


# -- where it comes from ----------------------------------------------------------------------------------------------


def pipeline_class(index: dict[str, Any]) -> str:
    """The class that a model_index.json names; "" for none."""
    name = index.get("_class_name", "")
    return name if isinstance(name, str) else ""


def read_index(location: str) -> tuple[dict[str, Any], str]:
    """The model_index.json of a folder or of a hub id, and a revision: a hash of the weights, or the hub's commit.

    Raises:
        BackendError: there is none, or it cannot be had.
    """
    folder = Path(location)
    if folder.is_dir():
        path, revision = folder / "model_index.json", ""
        if not path.is_file():
            raise BackendError(f"{location} has no model_index.json, so it is not a folder of a diffusers pipeline")
        _check_safetensors(folder)
    else:
        path = _from_hub(location)
        revision = path.parent.name
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        raise BackendError(f"{path} cannot be read: {error}") from error
    return index, revision or _hash(folder)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(name, "model_index.json"))
    except HFValidationError as error:
        raise BackendError(f"'{name}' is no folder here, and no id of the hub (owner/name)") from error
    except RepositoryNotFoundError as error:
        raise BackendError(f"the hub has no '{name}', or it is not open to you; check its name (owner/name)") from error
    except LocalEntryNotFoundError as error:
        raise BackendError(
            f"'{name}' cannot be had from the hub, and is not in its cache on this machine. Connect once, or give a "
            "local folder of it"
        ) from error
    except EntryNotFoundError as error:
        raise BackendError(f"'{name}' has no model_index.json, so it is not a diffusers pipeline") from error
    except (OSError, HfHubHTTPError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackendError(
            f"'{name}' cannot be had from the hub ({said.rstrip('.')}). Check the network, or give a local folder"
        ) from error


def _check_safetensors(folder: Path) -> None:
    """Raises BackendError for a folder of which a part has its weights only as pickle."""
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        pickles = [file for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in part.glob(pattern)]
        if pickles and not any(part.glob("*.safetensors")):
            raise BackendError(
                f"{pickles[0]} is a pickle, which can run any code; neuralusd reads safetensors. Convert it where you "
                "trust it: from_pretrained(...).save_pretrained(...)"
            )


def _hash(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        with open(file, "rb") as read:
            whole.update(hashlib.file_digest(read, "sha256").digest())
    return whole.hexdigest()[:16]


@lru_cache(maxsize=2)
def _load(location: str, kind: str, device: str) -> Any:
    """The pipeline, which stays loaded."""
    import diffusers
    import torch
    from diffusers.utils import logging
    from safetensors import SafetensorError

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        pipeline = getattr(diffusers, kind).from_pretrained(location, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BackendError(
            f"the weights of '{location}' cannot be loaded: {said.rstrip('.')}. neuralusd reads safetensors in "
            "diffusers' folder format only"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
    return pipeline.to(device)
