"""Opening a photograph: upright, in sRGB, and with the field of view that its camera noted."""

from __future__ import annotations

import io
import math
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from .errors import ImageError

# Of a 36 x 24 mm frame, which "35 mm equivalent" focal lengths refer to.
FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)


@dataclass
class Photo:
    """A photograph, upright.

    Attributes:
        image: 8-bit RGB, display-referred sRGB.
        size: (width, height) in the file, after turning it upright and before any reduction.
        field_of_view: horizontal, in degrees, from the file's EXIF; None where it does not say.
        source: the file, for people.
        notes: what was assumed or left out.
    """

    image: Image.Image
    size: tuple[int, int]
    field_of_view: float | None = None
    source: str = ""
    notes: list[str] = field(default_factory=list)

    def color(self) -> np.ndarray:
        """(H, W, 3) float32 display-referred sRGB in 0..1."""
        return np.asarray(self.image, dtype=np.float32) / 255.0


def open_image(path: str | os.PathLike) -> Image.Image:
    """The image in a file, its pixels read. Raises ImageError that names the file."""
    path = Path(path)
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name an image in it")
    try:
        data = path.read_bytes()
        if not data:
            raise ImageError(f"{path} is empty (0 bytes): save or download it again")
        with warnings.catch_warnings():
            # Pillow warns at 90 megapixels, which cameras reach, and refuses at 180.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.load()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist") from None
    except Image.UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that Pillow can read; save it as PNG, JPEG or TIFF") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} is too large to be opened safely ({error}); make it smaller first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path} is damaged or cannot be read ({error}); save or download it again") from error
    return image


def open_photo(image: str | os.PathLike | Image.Image | np.ndarray, max_size: int) -> Photo:
    """A photograph from a file, a PIL image, or an array (H, W, 3) of uint8, or of floats in 0..1, sRGB.

    Args:
        max_size: the longer side is reduced to this many pixels.

    Raises:
        ImageError: the file or the array is not a photograph; by name what is wrong.
    """
    source = ""
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    elif not isinstance(image, Image.Image):
        source = os.fspath(image)
        image = open_image(image)
    notes: list[str] = []
    field_of_view = _field_of_view(image)
    image = ImageOps.exif_transpose(image)
    rgb = _to_srgb(image, source or "the image", notes)
    size = rgb.size
    if max(size) > max_size:
        rgb.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    return Photo(rgb, size, field_of_view, source, notes)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(f"an image array must be (height, width, 3), not {array.shape}")
    if array.dtype == np.uint8:
        return Image.fromarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"an image array must be uint8, or floats in 0..1, not {array.dtype}")
    if not np.isfinite(array).all() or array.min() < -1e-3 or array.max() > 1 + 1e-3:
        raise ImageError("an image array of floats must be finite and in 0..1 (display-referred sRGB)")
    return Image.fromarray((array.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def _field_of_view(image: Image.Image) -> float | None:
    """Horizontal field of view in degrees of the upright image, from the 35 mm equivalent focal length."""
    try:
        exif = image.getexif()
        focal_length = float(exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # EXIF is often damaged, and says nothing then
        return None
    if not (math.isfinite(focal_length) and focal_length > 0):
        return None
    width, height = image.size[::-1] if turned else image.size
    # The equivalence is of diagonals: phones' sensors are 4:3, the film frame is 3:2.
    return math.degrees(2 * math.atan(width / math.hypot(width, height) * FULL_FRAME_DIAGONAL / 2 / focal_length))


def _to_srgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """An 8-bit RGB copy: alpha over white, 16-bit greys scaled, the embedded colour profile applied."""
    if image.mode.startswith("I"):
        grey = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((grey.clip(0, 65535) / 257.0 + 0.5).astype(np.uint8))
    elif image.mode == "F":
        raise ImageError(f"{name} holds floating-point values of unknown range; save it as an 8-bit PNG or JPEG")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            notes.append("the photograph is transparent in places; these are shown over white")
        profile = image.info.get("icc_profile")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        image.info["icc_profile"] = profile
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L", "LAB"):
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError) as error:
            notes.append(f"the photograph's colour profile does not fit it ({error}), so it was read as sRGB")
    return image.convert("RGB")
