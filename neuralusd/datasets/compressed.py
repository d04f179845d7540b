"""Pictures that stay compressed in memory, or in a file, until they are looked at.

A world of many scenes is larger than memory: 9,700 clips of 24 frames of 256 x 256 pixels are 92 GB of colour, depth
and ids, and about a tenth of that compressed. Several processes that map one file share what is read of it.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

# Depth travels as 16-bit logarithms between these, in metres; 0 stands for nothing seen.
_NEAREST, _FARTHEST = 1e-2, 1e3


@dataclass(frozen=True)
class Kind:
    """How pictures become bytes and back. `dtype` is that of the decoded ones."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[Any], np.ndarray]
    dtype: type


class Pictures:
    """T pictures of one size, decoded as they are indexed: by a number, a slice, or an array of numbers.

    Args:
        streams: the bytes of each. kind: what they are. size: shape of one decoded picture.
    """

    def __init__(self, streams: Sequence[memoryview], kind: Kind, size: tuple[int, ...]) -> None:
        self.streams, self.kind, self.size = list(streams), kind, size

    @classmethod
    def of(cls, pictures: Sequence[np.ndarray], kind: Kind) -> Pictures:
        """Compresses pictures."""
        return cls([memoryview(kind.encode(picture)) for picture in pictures], kind, pictures[0].shape)

    @classmethod
    def join(cls, parts: Sequence[Pictures]) -> Pictures:
        """Pictures of one kind and size, one after the other."""
        return cls([stream for part in parts for stream in part.streams], parts[0].kind, parts[0].size)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.streams), *self.size)

    @property
    def nbytes(self) -> int:
        """Bytes as they are kept."""
        return sum(stream.nbytes for stream in self.streams)

    @property
    def decoded_nbytes(self) -> int:
        """Bytes of all of them decoded."""
        return int(np.prod(self.shape)) * np.dtype(self.kind.dtype).itemsize

    def __len__(self) -> int:
        return len(self.streams)

    def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self._decoded(self.streams[int(index)])
        chosen = self.streams[index] if isinstance(index, slice) else [self.streams[int(i)] for i in index]
        if not chosen:
            return np.zeros((0, *self.size), self.kind.dtype)
        return np.stack(list(_threads().map(self._decoded, chosen)))  # decoders let other threads work

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        every = self[:]
        return every if dtype is None else every.astype(dtype)

    def _decoded(self, stream: memoryview) -> np.ndarray:
        try:
            picture = self.kind.decode(stream)
        except (OSError, SyntaxError) as error:  # what Pillow raises of a damaged picture
            raise ValueError(f"a picture of a packed world is damaged, pack it again: {error}") from error
        if picture.shape != self.size:
            raise ValueError(f"a picture of a packed world is of shape {picture.shape}, the others of {self.size}")
        return picture


def mapped(path: str | Path, name: str) -> np.ndarray:
    """An array of an .npz that `numpy.savez` wrote, mapped from the file, read as it is used. KeyError where it has
    none."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        entry = archive.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED:
            return np.load(io.BytesIO(archive.read(entry)), allow_pickle=False)
        file.seek(entry.header_offset + 26)  # of the local header: lengths of the name and the extra field, then these
        file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        return np.memmap(path, dtype, "r", file.tell(), shape) if np.prod(shape) else np.zeros(shape, dtype)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(16, os.cpu_count() or 1), "decode")


def encode_picture(image: np.ndarray, kind: str, **options: Any) -> bytes:
    """A picture (H, W) or (H, W, 3) in a format of Pillow."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _decode(stream: Any) -> np.ndarray:
    return np.array(PIL.Image.open(io.BytesIO(stream)))


def _encode_depth(depth: np.ndarray) -> bytes:
    """Logarithmic steps of 0.1 %, about as fine as float16."""
    metres = np.clip(depth.astype(np.float32), _NEAREST, _FARTHEST)
    steps = np.round(np.log(metres / _NEAREST) / 1e-3) + 1
    return encode_picture(np.where(np.isfinite(depth), steps, 0).astype(np.uint16), "PNG")


def _decode_depth(stream: Any) -> np.ndarray:
    code = _decode(stream).astype(np.float32)
    return np.where(code > 0, _NEAREST * np.exp((code - 1) * 1e-3), np.inf).astype(np.float16)


COLOR = Kind(lambda image: encode_picture(image, "WEBP", lossless=True, method=0), _decode, np.uint8)
DEPTH = Kind(_encode_depth, _decode_depth, np.float16)
IDS = Kind(lambda image: encode_picture(image, "PNG"), _decode, np.uint8)
KINDS = {"color": COLOR, "depth": DEPTH, "ids": IDS}
