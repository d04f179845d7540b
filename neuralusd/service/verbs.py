"""The verbs as a service offers them: their arguments, checked, and which of these name files."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..sizes import LARGEST_SIDE
from .errors import Refused

MOST_PIXELS = 75_000_000
"""Of an image that a service makes; pictures of twice as many are not opened."""


def _small_enough(size: list[int]) -> list[int]:
    if len(size) == 2 and size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"{size[0]}x{size[1]} are more than {MOST_PIXELS / 1e6:g} megapixels")
    return size


Text = Annotated[str, Field(min_length=1, max_length=4096)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Guidance = Annotated[float, Field(ge=-100, le=100)]
Vector = Annotated[list[float], Field(min_length=3, max_length=3)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]
Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]
Size = Annotated[list[Side], Field(min_length=2, max_length=2), AfterValidator(_small_enough)]
Around = Annotated[int, Field(ge=0, le=64)]


class Verb(BaseModel):
    """Arguments of a verb.

    Attributes:
        verb: its name over the wire. files: arguments that are files. donors: those that are "/Prim" or "file:/Prim".
        weights: those that name weights. names: what `backend` may be without naming weights, free to all.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    verb: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = ()
    donors: ClassVar[tuple[str, ...]] = ()
    weights: ClassVar[tuple[str, ...]] = ("backend",)
    names: ClassVar[tuple[str, ...]] = ()


class Encode(Verb):
    """See `neuralusd.api.encode`. Result: "encoded", "unchanged", "unseen", "camera". File: "tokens.usdc"."""

    verb = "encode"
    files = ("stage", "image", "albedo")

    stage: Text
    camera: Text | None = None
    time: float | None = None
    image: Text | None = None
    albedo: Text | None = None
    views: Around | None = None
    size: Size | None = None
    assets: Texts | None = None
    backend: Text | None = None
    force: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Encode:
        if self.albedo is not None and self.image is None:
            raise ValueError("albedo goes with image, the same view with its light")
        return self


class EncodePhoto(Verb):
    """See `neuralusd.api.encode_photo` and `neuralusd.annotate.annotate`. Result: "assets", "camera". File:
    "scene.usdc".
    """

    verb = "encode_photo"
    files = ("image", "masks", "depth_map")
    weights = ("backend", "detector", "segmenter", "depth")

    image: Text
    masks: Text | Texts | None = None
    depth_map: Text | None = None
    detector: Text | None = None
    segmenter: Text | None = None
    depth: Text | None = None
    prompts: Text | Texts | None = None
    field_of_view: Annotated[float, Field(ge=1, le=170)] | None = None
    depth_kind: Literal["metric", "relative"] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    backend: Text | None = None
    max_size: Annotated[int, Field(ge=16, le=4096)] | None = None


class Render(Verb):
    """See `neuralusd.api.render`. Result: "images", how each was made. Files: "image.png", or "image.0001.png" ..."""

    verb = "render"
    files = ("stage", "before", "before_image", "encode_image", "encode_albedo")

    stage: Text
    camera: Text | None = None
    time: float | None = None
    times: Annotated[list[float], Field(min_length=1, max_length=10_000)] | None = None
    size: Size | None = None
    backend: Text | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    modality_guidance: dict[Literal["appearance", "geometry", "pose"], Guidance] | None = None
    hold: bool = True
    before: Text | None = None
    before_image: Text | None = None
    encode: bool = False
    encode_image: Text | None = None
    encode_albedo: Text | None = None
    encode_views: Around | None = None
    passes: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Render:
        if self.time is not None and self.times is not None:
            raise ValueError("give time (one frame) or times (several), not both")
        for name in ("encode_image", "encode_albedo", "encode_views"):
            if getattr(self, name) is not None and not self.encode:
                raise ValueError(f"{name} is for encode=true")
        if self.encode_albedo is not None and self.encode_image is None:
            raise ValueError("encode_albedo goes with encode_image, the same view with its light")
        return self


class Edit(Verb):
    """See `neuralusd.api.edit`. File: "edit.usda"."""

    verb = "edit"
    files = ("stage",)
    donors = ("appearance", "geometry", "replace", "background")
    weights = ()

    stage: Text
    move: dict[Text, Vector] | None = None
    rotate: dict[Text, float] | None = None
    scale: dict[Text, Annotated[float, Field(gt=0)]] | None = None
    appearance: dict[Text, Text] | None = None
    geometry: dict[Text, Text] | None = None
    replace: dict[Text, Text] | None = None
    presence: dict[Text, Annotated[float, Field(ge=0, le=1)]] | None = None
    box: dict[Text, Box] | None = None
    background: Text | None = None
    time: float | None = None

    @model_validator(mode="after")
    def _something(self) -> Edit:
        if not self.model_fields_set - {"stage", "time"}:
            raise ValueError("name an edit, such as move")
        return self


class Lift(Verb):
    """See `neuralusd.api.lift`. Result: "prim", "extent" (metres), "volume" (its prim, or null). File: "asset.usdz",
    and with `sheet` "candidates.png".
    """

    verb = "lift"
    files = ("image", "images", "mask")
    weights = ("backend", "tokens", "segmenter", "detector")
    names = ("silhouette", "mini")

    image: Text | None = None
    images: Texts | None = None
    text: Text | None = None
    random: bool = False
    mask: Text | Texts | None = None
    name: Text | None = None
    height: Annotated[float, Field(gt=0, le=1e5)] | None = None
    thickness: Annotated[float, Field(gt=0, le=1)] | None = None
    texture_size: Annotated[int, Field(ge=64, le=8192)] | None = None
    gaussians: bool = False
    seed: Seed | None = None
    candidates: Annotated[int, Field(ge=1, le=256)] | None = None
    steps: Steps | None = None
    sheet: bool = False
    segmenter: Text | None = None
    detector: Text | None = None
    prompt: Text | Texts | None = None
    tokens: Text | None = None
    backend: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> Lift:
        if self.image is not None and self.images is not None:
            raise ValueError("give image or images, one of them")
        pictures = self.image is not None or self.images is not None
        if self.random and (pictures or self.text is not None):
            raise ValueError("random is for what is made of nothing: leave out image, images and text")
        if not (pictures or self.text is not None or self.random):
            raise ValueError("give image or images, text, or random=true")
        return self


class Resample(Verb):
    """See `neuralusd.api.resample`. Result: "variantSet", "samples" (each: what moved, changed, is new, is gone),
    "base", "encoded". Files: "variations.usdc"; with `encode` "tokens.usdc", the layer over the stage that it refers
    to; with `sheet` "sheet.png", with `pictures` "source.png", "sample_1.png" ...
    """

    verb = "resample"
    files = ("stage",)
    weights = ("backend", "render_backend")
    names = ("mini",)

    stage: Text
    keep: Annotated[list[Text], Field(max_length=1000)] | None = None
    vary: dict[Text, Annotated[float, Field(ge=0, le=1)]] | None = None
    remove: Texts | None = None
    insert: bool | None = None
    samples: Annotated[int, Field(ge=1, le=100)] | None = None
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    camera: Text | None = None
    time: float | None = None
    settle: bool | None = None
    tries: Annotated[int, Field(ge=1, le=100)] | None = None
    encode: bool = False
    sheet: bool = False
    pictures: bool = False
    backend: Text | None = None
    render_backend: Text | None = None


VERBS: dict[str, type[Verb]] = {verb.verb: verb for verb in (Encode, EncodePhoto, Render, Edit, Resample, Lift)}
# Of the six verbs of the design, those that nobody can ask for yet.
NOT_BUILT = ("compose", "depict")


def describe() -> dict[str, Any]:
    """The verbs for `info`."""
    return {
        name: {
            "arguments": list(verb.model_fields),
            "required": [key for key, field in verb.model_fields.items() if field.is_required()],
            "files": list(verb.files),
            "donors": list(verb.donors),
        }
        for name, verb in VERBS.items()
    }


def check(verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that were given, checked. Raises Refused: no such verb, or what is wrong with which argument."""
    if verb not in VERBS:
        known = ", ".join(VERBS)
        if verb in NOT_BUILT:
            raise Refused(f"{verb} is not built yet. This service has: {known}.", "not_offered")
        raise Refused(f"There is no verb '{verb[:50]}'. This service has: {known}.", "not_offered")
    try:
        given = VERBS[verb].model_validate(arguments)
    except ValidationError as error:
        raise Refused(f"{verb}: {_explain(error, VERBS[verb])}", "bad_argument") from None
    return given.model_dump(exclude_unset=True, exclude_none=True)


def _explain(error: ValidationError, verb: type[Verb]) -> str:
    """The first thing that is wrong, in a sentence."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(("list[", "constrained")))
    if problem["type"] == "missing":
        return f"{where} is missing. Give it."
    if problem["type"] == "extra_forbidden":
        names = ", ".join(verb.model_fields)
        return f"there is no argument {where[:50]}. It takes: {names}."
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {reason}." if where else f"{reason}."
