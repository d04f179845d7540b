"""`resample`: keep what you like of a stage, and sample the rest (Anchored Generation, section 2.3)."""

from __future__ import annotations

import functools
import importlib.metadata
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
from pxr import Usd, UsdGeom

from .. import stage as stages
from ..backends import DEFAULT_BACKEND, load_backend
from ..errors import EditError, SceneError, TokensError
from ..images import save_image
from ..latents import Anchors, ObjectAnchors, ObjectLatents, SceneLatents
from ..scene import APPEARANCE, GEOMETRY, Camera, Scene
from ..schema import NeuralTokensAPI
from ..stage.asset import Provenance, write_provenance
from ..stage.errors import CameraError
from ..stage.latents import placed, placed_anew, read_latents
from ..stage.settle import Floor, Walls, flaws, floor_of_points, ground_of_pieces
from ..stage.settle import settle as settled
from ..stage.variation_edits import Backdrop, ObjectChange, SampleChange, grid_of, write_sample
from ..stage.variations import ORIGINAL, Variations, sample_name
from ..stage.views import Views
from .outputs import check_free, sheet_target
from .progress import Progress, report
from .rendering import render
from .resample_backend import open_prior
from .resample_request import Asked, anchors_of, check_numbers
from .resample_sheet import TILE, contact_sheet
from .resample_tries import draw_to_stand
from .shots import BASE_KEY, has_tokens, open_shot

if TYPE_CHECKING:
    from ..pipelines.render import NeuralUSDPipeline
    from ..pipelines.resample import ResamplePipeline

# Of the reported steps: reading, sampling, authoring, drawing.
_STEPS, _READ, _SAMPLED, _AUTHORED, _DRAWN = 100, 8, 50, 75, 98


class ResampleWarning(UserWarning):
    """Something of a stage was assumed, or cannot be resampled and was kept."""


def resample(
    stage: Usd.Stage | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    keep: Sequence[str] = (),
    vary: Mapping[str, float] | Sequence[str] = (),
    remove: Sequence[str] = (),
    samples: int = 8,
    seed: int = 0,
    backend: str | Path | ResamplePipeline | None = None,
    render_backend: str | Path | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    camera: str | None = None,
    time: float | None = None,
    insert: bool | None = None,
    settle: bool = True,
    tries: int = 4,
    sheet: str | os.PathLike[str] | None = None,
    photographs: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    on_picture: Callable[[str, PIL.Image.Image], object] | None = None,
) -> Usd.Stage:
    """Samples of a stage that agree with what is kept, as variants of the variant set `neuralResample`.

    The output references the stage, or its sidecar where the tokens are, and holds a variant `sample_1`, ... for each
    sample, the first of them selected, and `original`, which changes nothing. What is kept has no opinion in any of
    them. What is resampled is ordinary USD: xformOps, presence and visibility, a focal length, and meshes with colours
    and tokens where something looks different or is new, so that `render` draws it and every other program does, too.

    What can be named in `keep` and `vary`: an asset ("/Room/Bed") or a prim that holds some, one factor of it
    ("/Room/Bed:pose", ":appearance", ":presence"), "camera" (its focal length), "background", "layout" (all poses),
    "looks" (all appearances), "objects" (nothing is new, nothing goes) and "everything". Where any of `keep`, `vary`
    and `remove` is given, what they do not name is resampled, and the closer name counts. Where none is, the stage's
    NeuralAnchorAPI decides; what that does not say is kept.

    An asset within an asset is an object of its own. Who keeps or removes an asset means what it holds, too; who varies
    it means it alone: what it holds and is kept has no opinion, so it moves along, as on any stage.

    Args:
        stage: with tokens (`encode` makes them), or its path. output: .usda, with the arrays in crates in a folder
            beside it (`variations.objects`); or .usdc or .usd, which holds all. None keeps the result in memory.
        keep: names of what stays as it is. vary: names to alpha, 0 (resample) to 1 (keep): between, something stays
            more or less as it is; without alphas, 0. remove: paths of objects that are to go.
        samples: how many. seed: the same seed gives the same samples, and the same files.
        backend: of the prior: "mini", a folder or a hub id (see `open_prior`), or one that is open. render_backend: of
            the new tokens and the sheet; None takes the one of the stage's render settings, else `mini`, and the
            samples' render settings say so.
        steps: of the sampler. guidance: how far samples go towards what is kept, 1 is none. None: the backend's own.
        camera: path of the camera that poses are relative to; None takes the stage's own. time: time code that is
            read; None reads the earliest. A prim whose pose is resampled stands still.
        insert: whether new objects may come; None lets them where something is named that is not "objects" or
            "everything", and not where the stage's anchors decide.
        settle: set upright what nearly is, onto what is below it what nearly stands on it, and out of each other what
            reaches into each other (see `neuralusd.stage.settle`). tries: how often at most a sample is drawn in which
            things do not stand even so, or are in each other; the best is taken. 1 takes what comes.
        sheet: a .png of the source and all samples.
        photographs: whether the pictures that tokens name as their source are opened, where there is no geometry.
        overwrite: take the place of files at `output` and `sheet`.
        progress: called as the work goes on; may cancel. on_picture: called with "source", then each sample's name, and
            its picture; without it and without a sheet none is drawn.

    Returns:
        The stage at `output`, saved; or in memory.

    Raises:
        EditError: what was named that there is not, or contradicts itself; says what there is. SceneError and its kin:
            what is wrong with which prim, or `output` cannot be written. BackendError: what is wrong with the weights.
            Cancelled: `progress` asked for it. Nothing is written then.

    Warns:
        ResampleWarning: what was assumed, or kept because it cannot be resampled.
    """
    alphas = dict(vary) if isinstance(vary, Mapping) else dict.fromkeys(vary, 0.0)
    check_numbers(samples, seed, steps, guidance, tries)
    if output is not None:
        check_free(Path(output), overwrite)
    sheet_file = sheet_target(sheet, overwrite)
    base = stage if isinstance(stage, Usd.Stage) else open_shot(os.fspath(stage))
    _check_tokens(base)
    report(progress, 0, _STEPS)
    pipeline = open_prior(backend) if backend is None or isinstance(backend, (str, os.PathLike)) else backend
    if isinstance(stage, Usd.Stage) and not stage.GetSessionLayer().empty:
        _warn("what the stage's session layer says, as the choice of a variant, is not in the samples; save it first")
    scene = stages.read(base, camera, time)
    if not scene.camera.path:
        raise CameraError(
            f"{scene.source} has no camera, and poses are sampled as a camera sees them. Add one to the stage."
        )
    asked = anchors_of(base, scene, list(keep), alphas, list(remove), insert)
    named = str(render_backend or stages.render_settings(base).get("backend") or DEFAULT_BACKEND)
    drawing = load_backend(named) if asked.looks or sheet_file is not None or on_picture is not None else None
    if drawing is not None:
        _check_encoders(scene, drawing, named)
    views = Views(base, scene, photographs)
    plan = _plan(base, scene, views, asked, pipeline)
    report(progress, _READ, _STEPS)

    attempts = int(tries) if settle else 1

    def draw(numbers: Sequence[int], attempt: int) -> list[SceneLatents]:
        def step(done: float) -> None:
            report(progress, _READ + int((attempt + done) / attempts * (_SAMPLED - _READ)), _STEPS)

        return pipeline(
            plan.latents,
            plan.anchors,
            samples=numbers,
            seed=int(seed),
            num_inference_steps=steps,
            guidance_scale=guidance,
            on_step=step,
        )

    try:
        drawn = draw_to_stand(draw, _Judge(plan, views, pipeline, settle), int(samples), attempts)
    except ValueError as error:
        raise EditError(f"{scene.source} cannot be resampled: {error}") from error
    made = Variations(base, output, int(samples), sorted({path.split("/")[1] for path in plan.may_change}))
    if "backend" not in stages.render_settings(base):
        made.draw_by(named)
    made.layer.customLayerData = {**made.layer.customLayerData, BASE_KEY: made.reference}
    by = _provenance(made, pipeline, backend, int(seed))
    for number, sample in enumerate(drawn):
        made.select(sample_name(number + 1))
        _author(made, sample, plan, pipeline, drawing, by)
        report(progress, _SAMPLED + (number + 1) * (_AUTHORED - _SAMPLED) // len(drawn), _STEPS)
    made.select(ORIGINAL)
    pictures: list[tuple[str, PIL.Image.Image]] = []
    if drawing is not None and (sheet_file is not None or on_picture is not None):
        pictures = _draw(made, plan, len(drawn), drawing, named, int(seed), progress, on_picture)
    made.select(sample_name(1))
    report(progress, _DRAWN, _STEPS)
    new_sheet = sheet_file is not None and not sheet_file.exists()
    try:
        if sheet_file is not None:
            _save_sheet(sheet_file, contact_sheet(pictures, plan.kept(), scene.camera, plan.legend()))
        published = made.publish()
    except BaseException:
        if sheet_file is not None and new_sheet:
            sheet_file.unlink(missing_ok=True)
        raise
    if progress is not None:  # too late to cancel: it is written
        progress(_STEPS, _STEPS)
    return published


@dataclass
class _Plan:
    """What is sampled of a scene.

    Attributes:
        latents, anchors: for the prior, in one order. removed: paths of objects that go from every sample.
    """

    scene: Scene
    latents: SceneLatents
    anchors: Anchors
    removed: list[str]
    asked: Asked

    @property
    def may_change(self) -> list[str]:
        """Paths of the prims that a sample may have opinions about."""
        background = [self.scene.background.path] if self.scene.background else []
        return [*(asset.path for asset in self.scene.foreground), *background, self.scene.camera.path]

    def kept(self) -> list:
        """The assets that stay as they are in every sample."""
        free = {
            one.path
            for one, alpha in zip(self.latents.objects, self.anchors.objects, strict=True)
            if min(alpha.pose, alpha.appearance, alpha.presence) < 1
        }
        gone = free | set(self.removed)
        return [asset for asset in self.scene.foreground if asset.path not in gone and asset.presence > 0]

    def legend(self) -> str:
        """What is kept, in a line."""
        kept = [asset.path for asset in self.kept()]
        names = [path.rsplit("/", 1)[-1] for path in kept]
        names += [name for name in ("camera", "background") if getattr(self.anchors, name) == 1]
        others = [
            (one, alpha)
            for one, alpha in zip(self.latents.objects, self.anchors.objects, strict=True)
            if one.path not in kept
        ]
        for name, of_all in (("pose", "the layout"), ("appearance", "all looks")):
            held = [one.path.rsplit("/", 1)[-1] for one, alpha in others if getattr(alpha, name) == 1]
            every = held and len(held) == len(others)
            names += [of_all] if every else [f"{one}'s {name}" for one in held]
        return f"kept: {', '.join(names) or 'nothing'}"


# -- reading --------------------------------------------------------------------------------------------------------


def _plan(stage: Usd.Stage, scene: Scene, views: Views, asked: Asked, pipeline: ResamplePipeline) -> _Plan:
    """What the prior is shown of a stage, and how much of it is free."""
    absent = [path for path, alpha in asked.objects.items() if alpha.presence < 1]
    found = read_latents(scene, groups=views.groups(), absent=absent)
    for note in found.notes:
        _warn(note)
    for path, reason in found.left_alone.items():
        if path in asked.named and path not in asked.removed:
            raise EditError(f"{asked.named[path]} cannot be resampled: {reason}. Keep it, or leave it away.")
        if reason != "its presence is 0" and path not in asked.removed:
            _warn(f"<{path}> is kept as it is: {reason}")
    for path, name in asked.named.items():
        if not scene.asset(path).tokens:
            raise TokensError(
                f"{name} has no tokens, so nothing is known of it. Run `neuralusd encode {scene.source}`."
            )
    objects, anchors = [], []
    for one in found.latents.objects:
        if one.path in asked.removed:
            continue
        alpha = asked.objects[one.path]
        if not stage.GetPrimAtPath(one.path).IsA(UsdGeom.Xformable) and alpha.pose < 1:
            _warn(f"<{one.path}> stays where it is: a {stage.GetPrimAtPath(one.path).GetTypeName()} has no transform")
            alpha = replace(alpha, pose=1.0)
        objects.append(one)
        anchors.append(alpha)
    objects, anchors = _fitting(objects, anchors, pipeline.slots)
    latents = replace(found.latents, objects=objects, encoder=pipeline.encoder[0], revision=pipeline.encoder[1])
    _encode(latents, scene, views, pipeline)
    background = asked.background
    if background < 1 and scene.background is None:
        _warn("the stage has no background asset, so its background is kept; `neuralusd encode` makes one")
        background = 1.0
    removed = [path for path in asked.removed if scene.asset(path).presence > 0]
    plan = _Plan(scene, latents, Anchors(anchors, asked.camera, background, asked.insertion), removed, asked)
    free = [asked.camera, background, asked.insertion]
    if min([*free, *(min(each.pose, each.appearance, each.presence) for each in anchors)]) == 1:
        only = " To remove something and change nothing else, use `neuralusd edit --remove`." if removed else ""
        raise EditError(
            f"nothing of {scene.source} is to be resampled: all that can be is kept. Name what may change (--vary), as "
            f"in layout or /Room/Chair:pose, or name only what stays (--keep).{only}"
        )
    return plan


def _fitting(
    objects: list[ObjectLatents], anchors: list[ObjectAnchors], slots: int
) -> tuple[list[ObjectLatents], list[ObjectAnchors]]:
    """As many objects as the prior has slots: all that may change, and those of the others that are next to them."""
    if len(objects) <= slots:
        return objects, anchors
    free = [min(each.pose, each.appearance, each.presence) < 1 for each in anchors]
    if sum(free) > slots:
        raise EditError(
            f"{sum(free)} objects are to be resampled, and this prior knows scenes of at most {slots}. Keep some of "
            "them (--keep /Room/Bed)."
        )
    places = np.array([one.translation for one in objects])
    near = places[free] if any(free) else np.zeros((1, 3))
    distance = np.linalg.norm(places[:, None] - near[None], axis=-1).min(1)
    chosen = sorted(sorted(range(len(objects)), key=lambda index: (not free[index], distance[index]))[:slots])
    _warn(
        f"the prior knows scenes of at most {slots} objects: {len(objects) - slots} that are kept, the farthest from "
        "what is resampled, are not taken into account"
    )
    return [objects[index] for index in chosen], [anchors[index] for index in chosen]


def _encode(latents: SceneLatents, scene: Scene, views: Views, pipeline: ResamplePipeline) -> None:
    """Gives latents the appearance and background that the stage shows."""
    pictures = [
        views.cutout(scene.asset(one.path), pipeline.appearance_codec.config.picture_size) for one in latents.objects
    ]
    seen = {number: picture for number, picture in enumerate(pictures) if picture is not None}
    if seen:
        tokens = pipeline.encode_objects(np.stack(list(seen.values())))
        for number, values in zip(seen, tokens, strict=True):
            latents.objects[number] = replace(latents.objects[number], appearance=values)
    for one, picture in zip(latents.objects, pictures, strict=True):
        if picture is None and one.presence:
            _warn(
                f"<{one.path}> has neither geometry nor a picture at hand: what it looks like is not known to the prior"
            )
    background = views.background()
    if background is not None:
        latents.background = pipeline.encode_background(*background)


def _check_tokens(stage: Usd.Stage) -> None:
    if not has_tokens(stage):
        name = stage.GetRootLayer().identifier
        raise TokensError(f"{name} has no tokens on any prim; make them with: neuralusd encode {name}")


def _check_encoders(scene: Scene, drawing: NeuralUSDPipeline, backend: str) -> None:
    """Raises TokensError where new tokens would not be of the encoder of those that are there."""
    for asset in scene.assets:
        for modality in (APPEARANCE, GEOMETRY):
            tokens = asset.tokens.get(modality)
            mine = drawing.encoder(modality).config
            if tokens is not None and (tokens.encoder, tokens.revision) != (mine.identifier, mine.revision):
                raise TokensError(
                    f"<{asset.path}>: its {modality} tokens were made by '{tokens.encoder}' ({tokens.revision}), and "
                    f"'{backend}' makes and reads those of '{mine.identifier}' ({mine.revision}). Name the backend "
                    "that made them (--render-backend), or encode the stage again."
                )


# -- authoring ------------------------------------------------------------------------------------------------------


@dataclass
class _Sample:
    """A sample as it will stand.

    Attributes:
        objects, anchors: those of the plan, and what is new. camera: as the sample has it.
        change: what else is different. flaws: metres by which it does not stand, see `neuralusd.stage.settle.flaws`.
    """

    objects: list[ObjectLatents]
    anchors: list[ObjectAnchors]
    camera: Camera
    change: SampleChange
    flaws: float = 0.0


class _Judge:
    """Settles samples, and says how well they stand."""

    def __init__(self, plan: _Plan, views: Views, pipeline: ResamplePipeline, settle: bool) -> None:
        self.plan, self.views, self.pipeline, self.settle = plan, views, pipeline, settle

    @functools.cached_property
    def kept_ground(self) -> tuple[Floor, Walls | None]:
        return _ground(self.plan, self.views)

    def __call__(self, sample: SceneLatents) -> _Sample:
        plan, scene, change = self.plan, self.plan.scene, SampleChange()
        new = len(sample.objects) - len(plan.anchors.objects)
        made = _Sample(sample.objects, [*plan.anchors.objects, *[ObjectAnchors(0, 0, 0)] * new], scene.camera, change)
        if plan.anchors.camera < 1:
            longer = math.sqrt(float(np.prod(np.asarray(sample.focal) / np.asarray(plan.latents.focal))))
            change.focal_length = scene.camera.focal_length * longer
            made.camera = replace(scene.camera, focal_length=change.focal_length)
        if plan.anchors.background < 1 and sample.background is not None:
            change.background = Backdrop(*self.pipeline.decode_background(sample.background))
        if self.settle:
            moved = [alpha.pose < 1 for alpha in made.anchors]
            ground = self.kept_ground if change.background is None else _sampled_ground(scene, change, made.camera)
            made.objects = settled(scene, made.objects, moved, *ground)
            made.flaws = flaws(scene, made.objects, moved, *ground)
        return made


def _author(
    made: Variations,
    sample: _Sample,
    plan: _Plan,
    pipeline: ResamplePipeline,
    drawing: NeuralUSDPipeline | None,
    by: Provenance,
) -> None:
    """Authors a sample in the variant that is selected."""
    scene, change = plan.scene, sample.change
    for root in made.roots:
        with made.editing(root):
            write_provenance(made.stage.GetPrimAtPath(root), by)
    for number, (one, alpha) in enumerate(zip(sample.objects, sample.anchors, strict=True)):
        source = plan.latents.objects[number] if number < len(plan.latents.objects) else None
        change.objects += _changes(scene, source, one, alpha, pipeline)
    change.objects += [ObjectChange(path, presence=False) for path in plan.removed]
    order = {asset.path: number for number, asset in enumerate(scene.assets)}
    change.objects.sort(key=lambda each: order.get(each.path, len(order)))  # parents before what they hold
    background = scene.background.path if scene.background else None
    assets = [asset.path for asset in scene.assets]
    looks = write_sample(made, change, sample.camera, background, assets, scene.time)
    if looks and drawing is not None:
        _write_tokens(made, looks, scene, drawing)


def _changes(
    scene: Scene, source: ObjectLatents | None, one: ObjectLatents, alpha: ObjectAnchors, pipeline: ResamplePipeline
) -> list[ObjectChange]:
    """What a sample changes of an object; an anchored variable has no opinion."""
    if source is None and not one.presence:
        return []
    change = ObjectChange(one.path, text=one.text)
    if source is not None and alpha.presence < 1 and one.presence != source.presence:
        change.presence = one.presence
    if not one.presence:
        return [change] if change.presence is not None else []
    if source is None:
        change.local_to_world, change.extent = placed_anew(scene, one)
    else:
        asset = scene.asset(one.path)
        change.extent = np.asarray(asset.extent, np.float64)
        if alpha.pose < 1:
            change.local_to_world = placed(asset, scene, one)
    if alpha.appearance < 1 and one.appearance is not None:
        from ..lifting.volume_mesh import mesh_of_volume

        try:
            change.mesh = mesh_of_volume(*pipeline.decode_object(one.appearance))
        except ValueError as error:
            if source is None:
                _warn(f"an object that was sampled is left out: {error}")
                return []
            _warn(f"<{one.path}> keeps its look in a sample: {error}")
    nothing = change.presence is None and change.local_to_world is None and change.mesh is None
    return [] if nothing else [change]


def _sampled_ground(scene: Scene, change: SampleChange, camera: Camera) -> tuple[Floor, Walls | None]:
    """What objects stand on before a background that was sampled; of its walls nothing is known."""
    assert change.background is not None
    return floor_of_points(grid_of(change.background, camera)[0], scene.up_axis), None


def _ground(plan: _Plan, views: Views) -> tuple[Floor, Walls | None]:
    """What objects stand on, and the walls they stand before; of points nothing is known of walls."""
    scene = plan.scene
    index = -1 if scene.background is None else scene.assets.index(scene.background)
    pieces = [piece for piece, owner in zip(views.pieces, views.owners, strict=True) if owner in (-1, index)]
    if pieces:
        return ground_of_pieces(pieces, scene.up_axis)
    tokens = scene.background.tokens.get(APPEARANCE) if scene.background else None
    if tokens is None or tokens.points is None or scene.background is None:
        return lambda point: None, None
    matrix = scene.background.local_to_world
    known = tokens.points[np.isfinite(tokens.points).all(1)]
    return floor_of_points(known @ matrix[:3, :3] + matrix[3, :3], scene.up_axis), None


def _write_tokens(made: Variations, paths: list[str], scene: Scene, drawing: NeuralUSDPipeline) -> None:
    """Gives what looks different the tokens of what the camera sees of it; what it does not see has none any more."""
    now = stages.read(made.stage, scene.camera.path, scene.time)
    wanted = [asset.path for asset in now.assets if asset.path in paths]
    size = 2 * drawing.config.sample_size
    # What it sees are plain base colours: the samples have no light of their own.
    passes = replace(stages.render_passes(made.stage, now, size, size, everywhere=False), lit=False)
    found = drawing.encode(now, passes, assets=wanted)
    for path in paths:
        if path in found.tokens:
            with made.storing(path):
                stages.write_tokens(made.stage, {path: found.tokens[path]})
            continue
        with made.editing(path):
            prim = made.stage.GetPrimAtPath(path)
            for tokens in NeuralTokensAPI.GetAll(prim):
                prim.RemoveAppliedSchema(f"{NeuralTokensAPI.schemaIdentifier}:{tokens.GetName()}")


def _provenance(made: Variations, pipeline: ResamplePipeline, backend: object, seed: int) -> Provenance:
    versions = []
    for name in ("neuralusd", "usd-core", "torch", "diffusers"):
        try:
            versions.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    named = str(backend) if isinstance(backend, (str, os.PathLike)) else DEFAULT_BACKEND if backend is None else ""
    return Provenance(
        verb="resample",
        backend=named,
        revision=str(pipeline.config.revision),
        seed=seed,
        sources=[made.reference] if made.base.GetRootLayer().realPath else [],
        versions=versions,
    )


# -- pictures -------------------------------------------------------------------------------------------------------


def _draw(
    made: Variations,
    plan: _Plan,
    count: int,
    drawing: NeuralUSDPipeline,
    backend: str,
    seed: int,
    progress: Progress | None,
    on_picture: Callable[[str, PIL.Image.Image], object] | None,
) -> list[tuple[str, PIL.Image.Image]]:
    """The source and all samples, as `render` shows them; what a sample leaves alone looks as in the source."""
    camera, time = plan.scene.camera.path, plan.scene.time
    steps = drawing.config.num_inference_steps

    def rendered(number: int, stage: Usd.Stage, **held) -> PIL.Image.Image:
        def step(done: int, of: int) -> None:
            part = (number + done / max(of, steps)) / (count + 1)
            report(progress, _AUTHORED + int(part * (_DRAWN - _AUTHORED)), _STEPS)

        return render(stage, camera, time, size=(TILE, TILE), backend=backend, seed=seed, progress=step, **held)

    source = rendered(0, made.base, hold=False)
    pictures = [("source", source)]
    if on_picture is not None:
        on_picture(*pictures[0])
    for number in range(1, count + 1):
        made.select(sample_name(number))
        picture = rendered(number, made.stage, before=made.base, before_image=source)
        pictures.append((sample_name(number), picture))
        if on_picture is not None:
            on_picture(*pictures[-1])
    return pictures


def _save_sheet(file: Path, image: PIL.Image.Image) -> None:
    try:
        save_image(image, file)
    except OSError as error:
        raise SceneError(f"{file} cannot be written: {error.strerror}. Check its folder's permissions.") from error


def _warn(text: str) -> None:
    warnings.warn(text, ResampleWarning, stacklevel=3)
