"""TFRecord files and `tf.train.Example`, without TensorFlow.

A TFRecord file is records one after another: the length (8 bytes, little-endian), its checksum (4 bytes), the data, its
checksum. A checksum is CRC-32C, rotated right by 15 bits, plus 0xA282EAD8.
Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details; messages:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/example/feature.proto and example.proto beside it.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .scene import DatasetError

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class Record:
    """Where a record is: the file, its number in the file, and of its data the offset and the length in bytes."""

    path: Path
    number: int
    offset: int
    length: int

    def read(self) -> bytes:
        """The record's data. Raises DatasetError where it is cut short, or its checksum is not that of its data."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data, end = file.read(self.length), file.read(_CHECKSUM.size)
        if len(data) < self.length or len(end) < _CHECKSUM.size:
            raise DatasetError(f"{self.path}: record {self.number} is cut short; get the file again")
        if masked_crc(data) != _CHECKSUM.unpack(end)[0]:
            raise DatasetError(f"{self.path}: record {self.number} is damaged (wrong checksum); get the file again")
        return data


def index(path: str | os.PathLike) -> list[Record]:
    """The records of a file, found by their lengths; their data is not read.

    What comes after a damaged length cannot be found: the last record then says so when it is read.

    Raises:
        DatasetError: the file holds nothing at all.
    """
    path, size = Path(path), os.path.getsize(path)
    if size == 0:
        raise DatasetError(f"{path} is empty; get the file again")
    found: list[Record] = []
    position = 0
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_HEADER.size)
            length, checksum = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
            if len(header) < _HEADER.size or masked_crc(header[:8]) != checksum:
                # a record that reaches past the end, so that reading it says that it is cut short
                length = size
            found.append(Record(path, len(found), position + _HEADER.size, length))
            position += _HEADER.size + length + _CHECKSUM.size
    return found


def records(path: str | os.PathLike) -> Iterator[bytes]:
    """The data of every record of a file. Raises DatasetError; see `index` and `Record.read`."""
    for record in index(path):
        yield record.read()


def masked_crc(data: bytes) -> int:
    """The checksum of a TFRecord."""
    crc = _crc32c().value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def parse_example(data: bytes, what: str = "the record") -> dict[str, np.ndarray | list[bytes]]:
    """The features of a serialised `tf.train.Example`: float32 or int64 arrays (n,), or lists of bytes.

    Raises:
        DatasetError: it is no Example; the message begins with `what`.
    """
    _, example = _messages()
    from google.protobuf.message import DecodeError

    try:
        message = example.FromString(data)
    except DecodeError as error:
        raise DatasetError(f"{what} is no tf.train.Example: {error}") from error
    out: dict[str, np.ndarray | list[bytes]] = {}
    for name, feature in message.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            out[name] = list(feature.bytes_list.value)
        elif kind == "float_list":
            out[name] = np.array(feature.float_list.value, np.float32)
        else:  # an empty feature has no kind
            out[name] = np.array(feature.int64_list.value, np.int64)
    return out


class Features(Mapping[str, Any]):
    """Features of an Example by name, as the shapes that are asked for. `what` begins the errors."""

    def __init__(self, data: bytes, what: str) -> None:
        self._features, self._what = parse_example(data, what), what

    def __getitem__(self, name: str) -> np.ndarray | list[bytes]:
        if name not in self._features:
            raise DatasetError(f"{self._what} has no feature {name!r}; is it of another dataset or version?")
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def numbers(self, name: str, *shape: int) -> np.ndarray:
        """A numeric feature in a shape, of which one side may be -1. Raises DatasetError where it does not fit."""
        values = self[name]
        if isinstance(values, list):
            raise DatasetError(f"{self._what}: the feature {name!r} holds bytes, not numbers")
        try:
            values = values.reshape(shape)
        except ValueError:
            raise DatasetError(
                f"{self._what}: the feature {name!r} has {values.size} numbers, which are not {shape}"
            ) from None
        if not np.isfinite(values).all():
            raise DatasetError(f"{self._what}: the feature {name!r} has numbers that are not finite")
        return values

    def strings(self, name: str, count: int | None = None) -> list[bytes]:
        """A feature of bytes. Raises DatasetError where they are numbers, or not `count`."""
        values = self[name]
        if not isinstance(values, list):
            raise DatasetError(f"{self._what}: the feature {name!r} holds numbers, not bytes")
        if count is not None and len(values) != count:
            raise DatasetError(f"{self._what}: the feature {name!r} has {len(values)} entries, not {count}")
        return values


@functools.cache
def _crc32c() -> Any:
    try:
        import google_crc32c
    except ImportError as error:
        raise ImportError("reading TFRecords needs google-crc32c: pip install 'neuralusd[datasets]'") from error
    return google_crc32c


@functools.cache
def _messages() -> tuple[Any, Any]:
    """The classes of `tf.train.Feature` and `tf.train.Example`, from their published definition."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise ImportError("reading TFRecords needs protobuf: pip install 'neuralusd[datasets]'") from error

    Field = descriptor_pb2.FieldDescriptorProto
    # a pool of its own, so that a TensorFlow in the same process keeps its definitions
    package, pool = ".neuralusd.tfrecord", descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="neuralusd/tfrecord.proto", package=package[1:], syntax="proto3")
    for name, kind in (
        ("BytesList", Field.TYPE_BYTES),
        ("FloatList", Field.TYPE_FLOAT),
        ("Int64List", Field.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, label=Field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1
    ):
        feature.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL, type=Field.TYPE_MESSAGE, oneof_index=0,
                          type_name=f"{package}.{kind}")  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
    entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL, type=Field.TYPE_MESSAGE,
                    type_name=f"{package}.Feature")  # fmt: skip
    features.field.add(name="feature", number=1, label=Field.LABEL_REPEATED, type=Field.TYPE_MESSAGE,
                       type_name=f"{package}.Features.FeatureEntry")  # fmt: skip
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_MESSAGE,
                      type_name=f"{package}.Features")  # fmt: skip
    pool.Add(file)
    classes = [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package[1:]}.{name}"))
               for name in ("Feature", "Example")]  # fmt: skip
    return classes[0], classes[1]
