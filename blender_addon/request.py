# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the service for a scene: prepared in the main thread, done in another, taken up in the main thread."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy

from . import connection, cycles, export, held, pixels, store
from .export import Sent
from .problems import Problem
from .tasks import Task, on_main
from .view import View, frame_aspect, frame_pixels, picture_size

# Shapes that differ by no more than this are the same one in other whole numbers of pixels.
SAME_SHAPE = 0.01


@dataclass
class Rendered:
    """An image that came back.

    Attributes:
        file: PNG. tokens: file of what was encoded on the way, if anything was. made: how the image was made.
        sent: the scene as it was sent. first: names of objects that were encoded before, and have their tokens.
        plain: what was encoded on the way shows materials' colours, though a picture by Cycles is wanted.
    """

    file: str
    tokens: str
    made: dict[str, Any]
    sent: Sent
    first: list[str]
    plain: bool

    def keep_tokens(self) -> list[str]:
        """Gives what was encoded on the way to its objects, and returns the names of all that were encoded. In the
        main thread.
        """
        return [*self.first, *export.take_tokens(self.sent, self.tokens)]

    def said_of_encoding(self, names: list[str]) -> str:
        """What to say of objects that were encoded, to be added to a message; empty where none was."""
        if not names:
            return ""
        if self.plain:
            return f"; {len(names)} objects were encoded from materials' colours: press Encode for a Cycles picture"
        return f"; {len(names)} objects were encoded first"

    def passes(self) -> dict[str, Any] | None:
        """ "depth" (H, W) in metres, "ids" (H, W) into "names", of the passes that were asked for."""
        import numpy as np

        said = self.made.get("passes")
        if not said:
            return None
        shape, folder = (said["height"], said["width"]), os.path.dirname(self.file)
        return {
            "depth": np.fromfile(os.path.join(folder, said["depth"]), "<f4").reshape(shape),
            "ids": np.fromfile(os.path.join(folder, said["ids"]), "<i4").reshape(shape),
            "names": said["names"],
        }


class Look:
    """What encoding looks at, as the scene says: made in the main thread, asked in any.

    Args:
        cycles: whether Cycles may take a picture; where it is to and may not, materials' colours are looked at.

    Attributes:
        pending: a picture by Cycles that has to be taken first, where one has.
    """

    def __init__(
        self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, folder: str, *, cycles_may: bool = True
    ):
        said = scene.neuralusd
        self._wanted = said.encode_from
        self._image: str | None = None
        if self._wanted == "IMAGE" and said.encode_image is not None:
            self._image = export.picture_file(said.encode_image, folder)
        self._views = said.encode_views or None
        self._size = picture_size(frame_pixels(scene), frame_aspect(scene), said.encode_size)
        self._taken: tuple[str, str] | None = None
        self.pending: cycles.Shot | None = None
        if self._wanted == "CYCLES" and cycles_may:
            self.pending = cycles.Shot(scene, view_layer, folder, said.encode_size, said.encode_samples)

    @property
    def plain(self) -> bool:
        """Whether materials' colours are looked at in place of a picture by Cycles."""
        return self._wanted == "CYCLES" and self._taken is None

    def take(self, task: Task, at: float) -> dict[str, Any]:
        """The arguments of a request to encode, once the picture is taken that is pending, where one is.

        Raises Problem where an image is wanted and none is chosen.
        """
        if self._wanted == "IMAGE" and self._image is None:
            raise Problem("No image to encode is chosen. Choose one, or Cycles (sidebar > Neural > Encode).")
        if self.pending is not None:
            self._taken, self.pending = self.pending.take(task, at), None
        return self.arguments()

    def arguments(self) -> dict[str, Any]:
        """The arguments of a request to encode, of what there is."""
        image, albedo = self._taken or (self._image, None)
        size = None if image else list(self._size)  # a picture has its own
        return {"image": image, "albedo": albedo, "size": size, "views": self._views}


class RenderScene:
    """A request for an image: made in the main thread, which exports the scene here and now, and called in any thread.

    What has no tokens yet, or those of other weights, is encoded on the way from the scene as it is.

    Args:
        view: to look from there, in place of the camera. size: width and height of the image in pixels; of the
            camera's None is those of its frame, with square pixels. preview: as the viewport shows things.
        encode: whether what has no tokens is encoded on the way, or else left as it is. cycles_may: whether Cycles may
            take a picture for that, which it cannot while Blender renders.

    Attributes:
        sent: the scene as it is sent; None until images that objects take their look from have been encoded.
        before: file of the state that the image keeps to where no edit touched it; None where it keeps to nothing.
    """

    def __init__(
        self,
        scene: bpy.types.Scene,
        view_layer: bpy.types.ViewLayer,
        folder: str,
        *,
        view: View | None = None,
        size: tuple[int, int] | None = None,
        preview: bool = False,
        passes: bool = False,
        encode: bool = True,
        cycles_may: bool = True,
    ):
        self.folder, self.passes, self.encode = folder, passes, encode
        self._scene, self._layer = scene.name, view_layer.name
        self._options: dict[str, Any] = {"view": view, "viewport": preview}
        self._where = export.where()
        self.numbers = export.numbers(scene, preview)
        if size is None and view is None:
            size = picture_size(frame_pixels(scene), frame_aspect(scene))
        self.size = size
        # Pictures are of the camera, and no viewport's own view is.
        self._look = Look(scene, view_layer, folder, cycles_may=cycles_may) if view is None else None
        # What is held is what the camera sees, so a viewport's own view keeps to nothing.
        image = scene.neuralusd.hold_image if scene.neuralusd.held and view is None else None
        self._before_image = _held_picture(image, folder, frame_aspect(scene)) if image is not None else None
        self.before: str | None = None
        self._encoded: list[str] = []
        self._donors = _donors(scene, view_layer, folder)
        self.sent: Sent | None = None if self._donors else self._send(scene, view_layer)

    @property
    def ready(self) -> bool:
        """Whether nothing has to be encoded first."""
        return self.sent is not None and not self.sent.waiting

    def __call__(self, task: Task) -> Rendered:
        begin, seen, missing = self._ready(task), {}, []
        if self.encode and self._look is not None:
            if self._look.pending is not None:
                missing = _without_tokens(self.sent)
                if missing and _places(self.sent, missing) not in _in_vain:
                    self._look.take(task, begin)
                    begin += 0.2 * (1.0 - begin)
            seen = {f"encode_{name}": value for name, value in self._look.arguments().items() if name != "size"}
        file, tokens = os.path.join(self.folder, "image.png"), os.path.join(self.folder, "tokens.usdc")
        wanted = {"image.png": file, "tokens.usdc": tokens}
        if self.passes:
            wanted |= {name: os.path.join(self.folder, name) for name in ("depth.raw", "ids.raw")}
        result = connection.ask(
            self._where,
            task,
            "render",
            wanted,
            share=(begin, 1.0),
            stage=self.sent.file,
            camera=self.sent.camera,
            size=list(self.size) if self.size else None,
            encode=self.encode or None,
            before=self.before,
            before_image=self._before_image if self.before else None,
            passes=self.passes or None,
            **seen,
            **self.numbers,
        )
        left = [path for path in missing if path not in result.get("encoded", ())]
        if left:
            _in_vain.add(_places(self.sent, left))
        tokens = tokens if os.path.isfile(tokens) else ""
        plain = bool(tokens) and self._look is not None and self._look.plain
        return Rendered(file, tokens, result["images"][0], self.sent, self._encoded, plain)

    def _ready(self, task: Task) -> float:
        """Encodes what objects take their look from, if need be; returns the fraction of the task that is done then."""
        begin = 0.0
        if self._donors:
            begin, count = 0.3, len(self._donors)
            for number, donor in enumerate(self._donors):
                share = (begin * number / count, begin * (number + 1) / count)
                donor.ask(self._where, task, share, self.numbers["backend"])
            self.sent = on_main(self._take_donors, task.cancelled)
        if self.sent.waiting:
            begin = self._encode_first(task, begin)
        return begin

    def _encode_first(self, task: Task, begin: float) -> float:
        """Encodes what others take their look from; returns the fraction of the task that is done then."""
        self._encode(task, (begin, 0.5))
        for name, modality, donor in self.sent.waiting:
            raise Problem(
                f"{name} takes the {modality} of {donor}, which the camera does not see, so it is not encoded. Press "
                f"Encode with {donor} in view; its role must not be Scenery then."
            )
        return 0.5

    def _encode_missing(self, task: Task, begin: float) -> float:
        """Encodes what has no tokens yet; returns the fraction of the task that is done then."""
        missing = _without_tokens(self.sent)
        if not missing or _places(self.sent, missing) in _in_vain:
            return begin
        end = begin + 0.4 * (1.0 - begin)
        self._encode(task, (begin, end), missing)
        left = _without_tokens(self.sent)
        if left:
            _in_vain.add(_places(self.sent, left))
        return end

    def _encode(self, task: Task, share: tuple[float, float], assets: list[str] | None = None) -> None:
        tokens = os.path.join(self.folder, "first.usdc")
        seen = self._look.take(task, share[0]) if self._look else {}
        connection.ask(
            self._where,
            task,
            "encode",
            {"tokens.usdc": tokens},
            share=share,
            stage=self.sent.file,
            camera=self.sent.camera,
            assets=assets,
            backend=self.numbers["backend"],
            **seen,
        )
        self.sent = on_main(lambda: self._take_first(tokens), task.cancelled)

    def _take_first(self, tokens: str) -> Sent:
        self._encoded += export.take_tokens(self.sent, tokens)
        return self._send_again()

    def _take_donors(self) -> Sent:
        for donor in self._donors:
            donor.take()
        return self._send_again()

    def _send_again(self) -> Sent:
        scene = bpy.data.scenes.get(self._scene)
        if scene is None or self._layer not in scene.view_layers:
            raise Problem("The scene was removed while it was being worked on.")
        return self._send(scene, scene.view_layers[self._layer])

    def _send(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Sent:
        sent = export.send(scene, view_layer, self.folder, **self._options)
        self.before = held.before(scene, sent) if self._options["view"] is None else None
        return sent


@dataclass
class Resampled:
    """Samples that came back.

    Attributes:
        samples: what each changes. file: USD of what is new in them, "" where nothing is. pictures: PNGs, of the source
            first. sent: the scene as it was sent. notes: what the service assumed or kept, a sentence each.
        encoded: names of the objects that were encoded on the way.
    """

    samples: list[Any]
    file: str
    pictures: list[str]
    sent: Sent
    notes: list[str]
    encoded: int


class ResampleScene(RenderScene):
    """A request for samples of a scene, made and called as one for an image. Which factors are kept, the exported stage
    says itself, by its anchors."""

    def __init__(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, folder: str, wanted: dict[str, Any]):
        super().__init__(scene, view_layer, folder)
        self.wanted = wanted

    def __call__(self, task: Task) -> Resampled:
        begin, log = self._ready(task), len(task.log)
        missing = _without_tokens(self.sent)
        begin = self._encode_missing(task, begin)
        encoded = len(missing) - len(_without_tokens(self.sent)) if missing else 0
        file = os.path.join(self.folder, "variations.usdc")
        names = ["source", *(f"sample_{number + 1}" for number in range(self.wanted["samples"]))]
        pictures = {f"{name}.png": os.path.join(self.folder, f"{name}.png") for name in names}
        result = connection.ask(
            self._where,
            task,
            "resample",
            {"variations.usdc": file, **pictures},
            share=(begin, 0.97),
            stage=self.sent.file,
            camera=self.sent.camera,
            pictures=True,
            # What draws the scene once a sample is taken: the service's own for samples is another.
            render_backend=self.numbers["backend"] or "mini",
            **self.wanted,
        )
        task.tell(0.97, "reading the samples")
        from .usd import variations

        new = os.path.join(self.folder, "samples.usdc")
        found = variations.extract(
            file, result["variantSet"], self.sent.assets, self.sent.background, self.sent.camera, new
        )
        there = [path for path in pictures.values() if os.path.isfile(path)]
        new = new if os.path.isfile(new) else ""
        return Resampled(found, new, there, self.sent, task.log[log:], encoded)


def encode_scene(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    folder: str,
    *,
    only: list[bpy.types.Object] | None = None,
    force: bool = False,
    missing: bool = False,
) -> Callable[[Task], tuple[dict[str, Any], str, Sent]]:
    """A request for tokens of what the camera sees. Exports the scene here and now; the rest may run in any thread.

    Args:
        only: objects whose assets alone are encoded. force: also what has not changed since it was last encoded.
        missing: what has no tokens alone; where all have some, nobody is asked.
    """
    where, numbers = export.where(), export.numbers(scene)
    look = Look(scene, view_layer, folder)
    sent = export.send(scene, view_layer, folder)
    assets = None
    if missing:
        assets = _without_tokens(sent)
        if not assets:
            return lambda task: ({}, "", sent)
    elif only is not None:
        owners = {sent.object(path): path for path in sent.assets}
        assets = []
        for each in only:
            while each is not None and each not in owners:
                each = each.parent
            if each is not None and owners[each] not in assets:
                assets.append(owners[each])
        if not assets:
            raise Problem(
                "None of the selected objects is an asset. Select others, or set the role of one to Asset (sidebar > "
                "Neural > Object)."
            )

    def work(task: Task) -> tuple[dict[str, Any], str, Sent]:
        tokens = os.path.join(folder, "tokens.usdc")
        seen = look.take(task, 0.0)
        result = connection.ask(
            where,
            task,
            "encode",
            {"tokens.usdc": tokens},
            stage=sent.file,
            camera=sent.camera,
            assets=assets,
            backend=numbers["backend"],
            force=force or None,
            **seen,
        )
        return result, tokens, sent

    return work


def _without_tokens(sent: Sent) -> list[str]:
    """The paths of the assets, the background among them, that have no tokens of their own."""
    from pxr import Usd

    from .usd import neural

    stage = Usd.Stage.Open(sent.file, Usd.Stage.LoadNone)
    background = stage.GetPrimAtPath(sent.background) if sent.background else None
    bare = background is not None and background and not neural.tokens_of(background)
    return [*sent.missing, *([sent.background] if bare else [])]


_in_vain: set[str] = set()
"""Where things were that the camera did not see when they were to be encoded: not worth another picture."""


def _places(sent: Sent, paths: list[str]) -> str:
    """What changes when prims or the camera are elsewhere."""
    from pxr import Usd, UsdGeom

    stage, time = Usd.Stage.Open(sent.file), Usd.TimeCode.EarliestTime()
    cache = UsdGeom.BBoxCache(time, ["default", "render"])
    boxes = [(path, cache.ComputeWorldBound(stage.GetPrimAtPath(path)).ComputeAlignedRange()) for path in paths]
    frustum = UsdGeom.Camera(stage.GetPrimAtPath(sent.camera)).GetCamera(time).frustum
    return f"{sent.scene} {boxes} {frustum.ComputeViewMatrix()} {frustum.ComputeProjectionMatrix()}"


def _held_picture(image: bpy.types.Image, folder: str, aspect: float) -> str:
    width, height = image.size
    if width * height and abs(width / height / aspect - 1) > max(SAME_SHAPE, 1 / width, 1 / height):
        raise Problem(
            f"{image.name}, the picture of what is held, has {width} x {height} pixels, another shape than what is "
            "rendered. Choose one that this camera made, or none (sidebar > Neural > Hold)."
        )
    inside = os.path.join(folder, "held")
    os.makedirs(inside, exist_ok=True)
    return export.picture_file(image, inside)


class Donor:
    """Tokens of what an image shows, for an object that takes its look or shape from there."""

    def __init__(self, each: bpy.types.Object, modality: str, folder: str, key: str):
        image = getattr(each.neuralusd, f"{modality}_image")
        self.name, self.library = each.name, each.library.filepath if each.library else None
        self.modality, self.key = modality, key
        self.folder = os.path.join(folder, f"{modality}-{hashlib.sha1(each.name.encode()).hexdigest()[:8]}")
        os.makedirs(self.folder, exist_ok=True)
        self.picture = export.picture_file(image, self.folder)
        self.mask = self._mask(image)
        self.result = os.path.join(self.folder, "scene.usdc")

    def _mask(self, image: bpy.types.Image) -> str:
        import numpy as np

        width, height = image.size
        mask = np.ones((height, width, 1), np.uint8)
        if image.channels == 4:
            flat = np.empty(width * height * 4, np.float32)
            image.pixels.foreach_get(flat)
            mask = (flat.reshape(height, width, 4)[::-1, :, 3:] > 0.5).astype(np.uint8)
        if not mask.any():
            raise Problem(f"The image {image.name} is transparent everywhere. Use one that shows an object.")
        file = os.path.join(self.folder, "mask.png")
        pixels.whole_write(file, pixels.encode_png(mask * 255))
        return file

    def ask(self, where: connection.Where, task: Task, share: tuple[float, float], backend: str | None) -> None:
        """Has the service encode it."""
        connection.ask(
            where,
            task,
            "encode_photo",
            {"scene.usdc": self.result},
            share=share,
            image=self.picture,
            masks=self.mask,
            backend=backend,
        )

    def take(self) -> None:
        """Keeps the tokens, in the main thread."""
        each = bpy.data.objects.get((self.name, self.library))
        if each is not None:
            export.take_donor(each, self.modality, self.result, self.key)


def _donors(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, folder: str) -> list[Donor]:
    """The images whose tokens objects want and that are not encoded yet, or have changed since."""
    found = []
    backend = export.numbers(scene)["backend"] or ""
    for each in view_layer.objects:
        for modality in ("appearance", "geometry"):
            said = each.neuralusd
            image = getattr(said, f"{modality}_image")
            if getattr(said, f"{modality}_from") != "IMAGE" or image is None:
                continue
            key = _key(image, backend)
            record = getattr(said, f"{modality}_record")
            if getattr(said, f"{modality}_key") != key or store.find(record, each) is None:
                found.append(Donor(each, modality, folder, key))
    return found


def _key(image: bpy.types.Image, backend: str) -> str:
    """What changes when an image's pixels or the weights do."""
    import numpy as np

    width, height = image.size
    if not width * height:
        raise Problem(f"{image.name} has no pixels: its file is not there. Open the image again.")
    flat = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(flat)
    return hashlib.sha1(backend.encode() + repr((width, height)).encode() + flat.tobytes()).hexdigest()
