"""Objectron's messages: the fields that are read of them, for the protobuf runtime.

The field numbers are those of `objectron/schema/{annotation_data,object,a_r_capture_metadata}.proto` in
https://github.com/google-research-datasets/Objectron. What is not listed here is skipped when it is read.
"""

from __future__ import annotations

from functools import cache
from typing import Any

# Message to its fields: name, number, type, and how often. Repeated numbers are packed, as proto3 writes them.
FIELDS: dict[str, list[tuple[str, int, str, str]]] = {
    "ARCamera": [
        ("transform", 3, "float", "repeated"),  # 4x4 row-major, camera to world
        ("image_resolution_width", 5, "int32", "optional"),
        ("image_resolution_height", 6, "int32", "optional"),
        ("intrinsics", 7, "float", "repeated"),  # 3x3 row-major, in pixels of the image as the sensor lies
        ("projection_matrix", 8, "float", "repeated"),  # 4x4 row-major
        ("view_matrix", 9, "float", "repeated"),  # 4x4 row-major, world to camera, of the landscape picture
    ],
    "KeyPoint": [("x", 1, "float", "optional"), ("y", 2, "float", "optional"), ("z", 3, "float", "optional")],
    "Object": [
        ("id", 1, "int32", "optional"),
        ("category", 2, "string", "optional"),
        ("type", 3, "int32", "optional"),  # an enumeration: 1 is a bounding box, 2 a skeleton, 3 a mesh
        ("rotation", 4, "float", "repeated"),  # 3x3 row-major, object to world
        ("translation", 5, "float", "repeated"),  # metres
        ("scale", 6, "float", "repeated"),  # the box's sides in metres
        ("keypoints", 7, "KeyPoint", "repeated"),  # of the unit box: its middle, then its corners, z fastest
    ],
    "NormalizedPoint2D": [
        ("x", 1, "float", "optional"),  # 0..1, right
        ("y", 2, "float", "optional"),  # 0..1, down
        ("depth", 3, "float", "optional"),  # metres
    ],
    "Point3D": [("x", 1, "float", "optional"), ("y", 2, "float", "optional"), ("z", 3, "float", "optional")],
    "AnnotatedKeyPoint": [
        ("id", 1, "int32", "optional"),
        ("point_3d", 2, "Point3D", "optional"),  # metres, in the camera's space
        ("point_2d", 3, "NormalizedPoint2D", "optional"),
    ],
    "ObjectAnnotation": [
        ("object_id", 1, "int32", "optional"),
        ("keypoints", 2, "AnnotatedKeyPoint", "repeated"),
        ("visibility", 3, "float", "optional"),
    ],
    "FrameAnnotation": [
        ("frame_id", 1, "int32", "optional"),
        ("annotations", 2, "ObjectAnnotation", "repeated"),
        ("camera", 3, "ARCamera", "optional"),
        ("timestamp", 4, "double", "optional"),
    ],
    "Sequence": [
        ("objects", 1, "Object", "repeated"),
        ("frame_annotations", 2, "FrameAnnotation", "repeated"),
    ],
}
PACKAGE = "neuralusd.objectron"


@cache
def message_classes() -> dict[str, Any]:
    """Message name to its class in the protobuf runtime."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="neuralusd/objectron.proto", package=PACKAGE, syntax="proto2")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, label in fields:
            field = described.field.add(name=name, number=number, label=getattr(kinds, f"LABEL_{label.upper()}"))
            if kind in FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
                continue
            field.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if label == "repeated":
                field.options.packed = True
    # A pool of its own: nothing else of the process can name these messages, or clash with them.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}
