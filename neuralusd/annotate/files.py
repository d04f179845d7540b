"""Masks and depth that the user has, from files or arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .errors import ImageError
from .photo import open_image

# Fewer pixels than this, in one of a mask's colours, are the soft edge between two others.
SMALLEST_OBJECT = 2e-4
MOST_OBJECTS = 256

File = str | os.PathLike
MaskSource = File | np.ndarray | Mapping[str, File | np.ndarray] | Sequence[File]


def read_masks(masks: MaskSource, size: tuple[int, int], notes: list[str]) -> tuple[list[str], list[np.ndarray]]:
    """Names and masks of objects.

    Args:
        masks: an image of ids (0, black or transparent is background; every other value, or colour, is an object); or
            a folder of images, a list of them, or a dict of name to image or array, an object each (white is the
            object); or an array: (H, W) of ids or (N, H, W) of masks.
        size: (width, height) of the upright photograph.
        notes: what was left out is appended.

    Returns:
        names, empty where nothing says one, and masks (H, W) bool.

    Raises:
        ImageError: names the file, and both sizes where they differ.
    """
    names: list[str] = []
    found: list[np.ndarray] = []
    if isinstance(masks, np.ndarray):
        if masks.ndim == 3:
            found = [_checked(mask > 0, size, "the array of masks") for mask in masks]
        else:
            found = _split(_checked(masks, size, "the array of ids"), "the array of ids", notes)
        names = [""] * len(found)
    elif isinstance(masks, Mapping):
        for name, mask in masks.items():
            names.append(name)
            if isinstance(mask, np.ndarray):
                found.append(_checked(mask > 0, size, f"the mask of {name}"))
            else:
                found.append(_one_mask(Path(mask), size))
    elif isinstance(masks, File) and not Path(masks).is_dir():
        found = _split(_ids(Path(masks), size), str(masks), notes)
        names = [""] * len(found)
    else:
        files = _folder(Path(masks)) if isinstance(masks, File) else [Path(mask) for mask in masks]
        names = [file.stem.replace("_", " ").strip() for file in files]
        found = [_one_mask(file, size) for file in files]
    empty = [
        name or str(index) for index, (name, mask) in enumerate(zip(names, found, strict=True), 1) if not mask.any()
    ]
    if empty:
        raise ImageError(f"these masks show no object, they are empty: {', '.join(empty)}")
    if not found:
        raise ImageError(f"{masks if isinstance(masks, File) else 'the masks'}: there is no object, all is background")
    return names, found


def read_depth(depth: File | np.ndarray, size: tuple[int, int], notes: list[str]) -> np.ndarray:
    """Depth along the viewing axis (H, W) float32 in metres; inf where it is not known (zero, negative, not finite).

    Args:
        depth: an array, .npy, .npz or floating-point TIFF in metres, or a 16-bit PNG or TIFF in millimetres (0 is
            unknown). Of the photograph's shape; its resolution may differ, as a phone's depth does.
        size: (width, height) of the upright photograph.
        notes: what looks odd is appended.

    Raises:
        ImageError: names the file, and both sizes where their shapes differ.
    """
    name = "the depth array" if isinstance(depth, np.ndarray) else os.fspath(depth)
    metres = np.squeeze(depth if isinstance(depth, np.ndarray) else _load_depth(Path(depth)))
    if metres.ndim != 2 or 0 in metres.shape or metres.dtype.kind not in "fui":
        raise ImageError(f"{name} must be numbers of shape (height, width), not {metres.dtype} of shape {metres.shape}")
    width, height = size
    # Half a pixel of rounding on the side of the smaller map.
    if abs(metres.shape[0] * width - metres.shape[1] * height) > max(width, height):
        raise ImageError(
            f"{name} is {metres.shape[1]}x{metres.shape[0]}, which is not the shape of the photograph, "
            f"{width}x{height} (upright)"
        )
    known = np.isfinite(metres) & (metres > 0)
    if not known.any():
        raise ImageError(f"{name} knows no depth: every value is zero, negative or not finite")
    metres = np.where(known, metres, np.inf).astype(np.float32)
    middle = float(np.median(metres[known]))
    if middle > 500:
        notes.append(f"the median of {name} is {middle:.0f} m; divide it by 1000 if it is in millimetres")
    return metres


def resize_nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) values at another (width, height), each the nearest one, so that no two are mixed."""
    width, height = size
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
    return values[rows[:, None], columns[None, :]]


def _load_depth(path: Path) -> np.ndarray:
    if path.suffix.lower() in (".npy", ".npz"):
        return _load_numpy(path)
    if path.suffix.lower() == ".exr":
        raise ImageError(f"{path}: EXR is not read; save the depth as .npy in metres or as a 16-bit PNG in millimetres")
    image = open_image(path)
    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.float64) / 1000.0
    raise ImageError(
        f"{path} has 8 bits a channel ({image.mode}), too few for metric depth; save it as a 16-bit PNG in "
        "millimetres or as .npy in metres"
    )


def _load_numpy(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1 and "depth" not in loaded.files:
                raise ImageError(f"{path} holds {', '.join(loaded.files) or 'nothing'}; name the depth map `depth`")
            return loaded["depth" if "depth" in loaded.files else loaded.files[0]]
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is not a whole NumPy file of numbers ({error})") from error


def _folder(path: Path) -> list[Path]:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".png", ".tif", ".tiff", ".bmp"))
    if not files:
        raise ImageError(f"{path} has no masks: PNG, TIFF or BMP images, an object each")
    return files


def _one_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of one object: what is opaque, in an image with transparency, else what is lighter than mid-grey."""
    image = open_image(path)
    if image.has_transparency_data:
        values = np.asarray(image.convert("RGBA"))[..., 3]
    elif image.mode == "1" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        values = values * 255 // max(int(values.max()), 1)
    else:
        values = np.asarray(image.convert("L"))
    return _checked(values > 127, size, str(path))


def _ids(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int of an image of ids, by value or by colour; 0 is background."""
    image = open_image(path)
    if image.format == "JPEG":
        raise ImageError(f"{path} is a JPEG, which blurs ids; save the mask as PNG")
    if image.mode in ("1", "L", "P") or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
    elif image.mode in ("RGB", "RGBA", "LA", "PA"):
        rgba = np.asarray(image.convert("RGBA")).astype(np.int64)
        values = np.where(rgba[..., 3] > 127, rgba[..., 0] << 16 | rgba[..., 1] << 8 | rgba[..., 2], 0)
    else:
        raise ImageError(f"{path} has mode {image.mode}; save the mask as an 8-bit PNG of ids or of colours")
    return _checked(values, size, str(path))


def _split(ids: np.ndarray, name: str, notes: list[str]) -> list[np.ndarray]:
    """A mask for each id but 0, in the order of the ids."""
    if ids.dtype.kind not in "iub":
        raise ImageError(f"{name} must hold whole numbers, 0 for the background, not {ids.dtype}")
    values, counts = np.unique(ids[ids != 0], return_counts=True)
    large = counts >= min(max(SMALLEST_OBJECT * ids.size, 2), counts.max(initial=0))
    if large.sum() > MOST_OBJECTS:
        raise ImageError(f"{name} has {large.sum()} ids; is it a mask? Every object has one value or one colour")
    if not large.all():
        notes.append(f"{name}: {(~large).sum()} ids of a few pixels each were taken as soft edges, and as background")
    return [ids == value for value in values[large]]


def _checked(values: np.ndarray, size: tuple[int, int], name: str) -> np.ndarray:
    width, height = size
    if values.shape != (height, width):
        found = "x".join(str(side) for side in values.shape[::-1])
        raise ImageError(f"{name} is {found}, but the photograph is {width}x{height} (width x height, upright)")
    return values
