"""A photograph to a `Scene`: where its objects are, and how far, by models of transformers' (Neural USD, section 3.1).

`photo_scene` does it in one call; `annotate` gives what was found, and `to_scene` places it in the world.
"""

from .annotation import Annotation, annotate, photo_scene
from .errors import ImageError, ModelError
from .place import to_scene

__all__ = ["Annotation", "ImageError", "ModelError", "annotate", "photo_scene", "to_scene"]
