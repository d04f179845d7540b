"""What may be uploaded: looked at before anything opens it. Nothing here decompresses or decodes."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
import zipfile
from pathlib import Path

from .errors import Refused

STAGES = (".usd", ".usda", ".usdc", ".usdz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
ARRAYS = (".npy",)
MOST_ENTRIES = 20_000
# Of one picture. A camera's largest are 100 to 200 megapixels; a bomb has thousands.
MOST_PIXELS = 150_000_000
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


def safe_name(name: str) -> str:
    """A file's name without folders and what no file system likes; raises Refused for what cannot be uploaded."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"|?*\\/@\[\]]', "_", os.path.basename(name.replace("\\", "/"))).strip(". ")
    stem, extension = os.path.splitext(name)
    known = (*STAGES, *PICTURES, *ARRAYS)
    if extension.lower() not in known:
        raise Refused(
            f"'{extension or name[:50]}' is no kind of file that jobs read: {', '.join(known)}. Weights are never "
            "uploaded.",
            "bad_upload",
            415,
        )
    return stem.encode()[:100].decode(errors="ignore") + extension


def check_upload(path: Path) -> None:
    """Raises Refused where a file is not what its name says, or would take far more memory than disk."""
    kind = path.suffix.lower()
    with open(path, "rb") as file:
        start = file.read(16)
    if kind == ".usdz":
        check_package(path)
    elif kind in PICTURES:
        check_picture(path, path.name)
    elif kind in STAGES:
        if start[:2] == b"PK":
            raise Refused(f"{path.name} is a package; name it .usdz.", "bad_upload", 415)
        if not start.startswith((b"PXR-USDC", b"#usda")):
            raise Refused(f"{path.name} is not USD. Export it again.", "bad_upload", 415)
    else:
        check_array(path)


def check_package(path: Path) -> None:
    """Raises Refused for a .usdz that USD's specification does not allow, or that is built to do harm.

    Its entries are stored as they are, so that nothing can be larger than the file; they have relative names that stay
    within; what the directory at its end says is what stands before each entry; the first is a layer.
    """

    def refuse(reason: str) -> Refused:
        return Refused(f"{path.name} is no proper .usdz: {reason}. Export it again as USDZ.", "bad_upload", 415)

    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as package, open(path, "rb") as raw:
            entries = package.infolist()
            if not entries:
                raise refuse("it is empty")
            if len(entries) > MOST_ENTRIES:
                raise refuse(f"it has {len(entries)} entries, more than {MOST_ENTRIES}")
            if len({entry.filename for entry in entries}) < len(entries):
                raise refuse("two entries have the same name")
            for entry in entries:
                _check_entry(entry, raw, refuse)
            if sum(entry.file_size for entry in entries) > size:  # several stand at the same place
                raise refuse("its entries are larger than itself")
            if not entries[0].filename.lower().endswith((".usd", ".usda", ".usdc")):
                raise refuse(f"its first entry, {entries[0].filename[:80]}, is not a layer")
            for entry in entries:
                if entry.filename.lower().endswith(PICTURES):
                    with package.open(entry) as picture:
                        check_picture(picture, f"{path.name}[{entry.filename}]", strict=False)
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise refuse(str(error) or "it is damaged") from None


def _check_entry(entry: zipfile.ZipInfo, raw, refuse) -> None:
    name = entry.filename
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or ":" in name or ".." in parts or "\0" in name or not name:
        raise refuse(f"the name of an entry leads out of it: {name[:80]}")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise refuse(f"{name[:80]} is compressed")
    if entry.flag_bits & 0x1:
        raise refuse(f"{name[:80]} is encrypted")
    # USD reads what stands before the entry, other programs the directory: they must not tell two stories.
    raw.seek(entry.header_offset)
    header = _LOCAL_HEADER.unpack(raw.read(_LOCAL_HEADER.size))
    signature, _, flags, method, _, _, _, packed, plain, name_length, _ = header
    there = raw.read(name_length)
    streamed = flags & 0x8 and (packed, plain) == (0, 0)
    encoding = "utf-8" if flags & 0x800 else "cp437"
    if signature != b"PK\x03\x04" or method != 0 or there.decode(encoding, "replace") != entry.orig_filename:
        raise refuse(f"its directory contradicts what it holds at {name[:80]}")
    if not streamed and 0xFFFFFFFF not in (packed, plain) and (packed, plain) != (entry.compress_size, entry.file_size):
        raise refuse(f"its directory contradicts what it holds at {name[:80]}")


def check_picture(file, name: str, strict: bool = True) -> None:
    """Raises Refused for a picture that has too many pixels, or (where `strict`) is none; only its header is read."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(file) as picture:
                width, height = picture.size
    except PIL.Image.DecompressionBombError:
        width, height = MOST_PIXELS, MOST_PIXELS
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error) as error:
        if not strict:  # a texture that cannot be read is warned of when the stage is
            return
        raise Refused(
            f"{name} is not a picture that can be read ({type(error).__name__}). Save it as PNG, JPEG or TIFF.",
            "bad_upload",
            415,
        ) from None
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 1_000_000
        raise Refused(f"{name} has more than {most} megapixels. Make it smaller first.", "bad_upload", 413)


def check_array(path: Path) -> None:
    """Raises Refused for a .npy that is not whole, or holds Python objects, which would be unpickled."""
    from numpy.lib import format as npy

    cure = "Save it with numpy.save, as numbers."
    try:
        with open(path, "rb") as file:
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read_header(file)
            here = path.stat().st_size - file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise Refused(f"{path.name} is not a NumPy array ({error}). {cure}", "bad_upload", 415) from None
    if dtype.hasobject:
        raise Refused(f"{path.name} holds pickled objects, which are never read. {cure}", "bad_upload", 415)
    if math.prod(shape) * dtype.itemsize != here:
        raise Refused(f"{path.name} is not a whole NumPy array. {cure}", "bad_upload", 415)
