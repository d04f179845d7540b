"""Any USD stage rendered with Blender's Cycles: colour, depth and instance ids of chosen frames.

Needs `bpy` (the extra `blender`). Blender keeps global state, so a process renders one stage at a time, any number of
them one after another. The stage is imported with `bpy.ops.wm.usd_import`; the camera is read with usd-core.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ASSET_API = "NeuralAssetAPI"
# Surfaces more transparent than this are looked through by the depth and id passes.
PASS_ALPHA = 0.1


@dataclass
class FramePasses:
    """What was rendered of one frame.

    Attributes:
        rgb: (H, W, 3) uint8, sRGB.
        depth: (H, W) float32, metres along the viewing axis at the pixel's centre; inf for the sky.
        ids: (H, W) int8, index into `paths` at the pixel's centre; -1 where no asset is seen.
        paths: prim paths of the stage's assets, in traversal order.
    """

    rgb: np.ndarray
    depth: np.ndarray
    ids: np.ndarray
    paths: tuple[str, ...]


def render_frames(
    stage_path: str | os.PathLike,
    frames: Sequence[float],
    resolution: int | tuple[int, int],
    out_dir: str | os.PathLike,
    camera: str | None = None,
    samples: int = 16,
    passes: bool = True,
    threads: int = 0,
    seed: int = 0,
) -> list[Path]:
    """Render frames of a stage to `out_dir`: `rgb.NNNN.png` and, with `passes`, `passes.NNNN.npz`.

    An .npz holds `depth` (H, W) float32, `ids` (H, W) int8 and `paths`; see `FramePasses`.

    Args:
        stage_path: a USD file.
        frames: time codes to render.
        resolution: pixels, (width, height) or one number for both.
        camera: path of the camera prim; the stage's first camera when None.
        samples: Cycles' samples a pixel, denoised with OpenImageDenoise.
        threads: processor threads; 0 takes all.
        seed: of Cycles' sampling.

    Returns:
        the paths of the images.

    Raises:
        FileNotFoundError: no such stage.
        ValueError: no camera, or the stage cannot be imported; the message names it.
    """
    import PIL.Image

    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    rendered = render_passes(stage_path, frames, resolution, camera, samples, threads, seed)
    for frame, result in zip(frames, rendered, strict=True):
        name = frame_name(frame)
        images.append(folder / f"rgb.{name}.png")
        PIL.Image.fromarray(result.rgb).save(images[-1])
        if passes:
            np.savez_compressed(
                folder / f"passes.{name}.npz", depth=result.depth, ids=result.ids, paths=np.array(result.paths)
            )
    return images


def frame_name(frame: float) -> str:
    """`0001` for frame 1, `0001.5000` for frame 1.5."""
    return f"{int(frame):04d}" if float(frame).is_integer() else f"{frame:09.4f}"


def render_passes(
    stage_path: str | os.PathLike,
    frames: Sequence[float],
    resolution: int | tuple[int, int],
    camera: str | None = None,
    samples: int = 16,
    threads: int = 0,
    seed: int = 0,
    prepare: Callable[[Any, Any], None] | None = None,
) -> Iterator[FramePasses]:
    """As `render_frames`, but yields arrays and writes nothing. Blender must not be used between two frames.

    Args:
        prepare: called with Blender's scene and the USD stage when all is set, before the first frame.
    """
    from pxr import Usd

    if not Path(stage_path).is_file():
        raise FileNotFoundError(f"no USD stage at {stage_path}")
    width, height = (resolution, resolution) if isinstance(resolution, int) else resolution
    stage = Usd.Stage.Open(str(stage_path))
    view = _camera_prim(stage, camera)
    paths = asset_paths(stage)
    with tempfile.TemporaryDirectory(prefix="neuralusd-cycles-") as temporary:
        scene = import_stage(stage_path)
        _assign_ids(scene, paths)
        _add_default_light(scene, stage)
        _fill_empty_looks()
        _settings(scene, width, height, samples, threads, seed)
        if prepare is not None:
            prepare(scene, stage)
        image = Path(temporary) / "frame.exr"
        for frame in frames:
            _place_camera(scene, view, frame, width / height)
            scene.frame_set(int(np.floor(frame)), subframe=float(frame) - float(np.floor(frame)))
            yield _render(scene, image, paths)


def asset_paths(stage: Any) -> tuple[str, ...]:
    """Paths of the prims with NeuralAssetAPI, in the stage's traversal order (instance proxies included)."""
    from pxr import Usd

    prims = Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies(Usd.PrimDefaultPredicate))
    return tuple(str(prim.GetPath()) for prim in prims if has_asset_api(prim))


def has_asset_api(prim: Any) -> bool:
    """Whether NeuralAssetAPI is applied; also where the schema is not registered, as in Blender's USD."""
    if ASSET_API in prim.GetAppliedSchemas():
        return True
    listed = prim.GetMetadata("apiSchemas")
    return bool(listed) and ASSET_API in listed.GetAddedOrExplicitItems()


@contextlib.contextmanager
def silent_blender() -> Iterator[None]:
    """Blender writes to the C library's standard output; send that to nowhere meanwhile."""
    sys.stdout.flush()
    saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def import_stage(stage_path: str | os.PathLike) -> Any:
    """Clear Blender, import the stage in metres with Z up, and return Blender's scene."""
    import bpy

    with silent_blender():
        bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    # the importer fills the scene's world from a DomeLight, but does not make one
    scene.world = bpy.data.worlds.new("neuralusd_world")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0
    with silent_blender():
        outcome = bpy.ops.wm.usd_import(
            filepath=str(Path(stage_path).resolve()),
            import_cameras=False,
            import_all_materials=False,
            import_textures_mode="IMPORT_NONE",
            set_frame_range=False,
            # every instance as objects of its own, so that each can carry its asset's id
            support_scene_instancing=False,
            merge_parent_xform=False,
            create_collection=False,
            validate_meshes=True,
            create_world_material=True,
            property_import_mode="NONE",
            apply_unit_conversion_scale=True,
        )
    if "FINISHED" not in outcome or not scene.objects:
        raise ValueError(f"Blender cannot import {stage_path}, or it is empty")
    return scene


def prim_path(blender_object: Any) -> str:
    """The prim an imported object was made from. Blender keeps names and parents, and adds `.001` to doubles."""
    names = []
    while blender_object is not None:
        names.append(re.sub(r"\.\d{3,}$", "", blender_object.name))
        blender_object = blender_object.parent
    return "/" + "/".join(reversed(names))


def _assign_ids(scene: Any, paths: tuple[str, ...]) -> None:
    import bpy

    index = {path: i + 1 for i, path in enumerate(paths)}
    for blender_object in scene.objects:
        path = prim_path(blender_object)
        while path and path not in index:
            path = path.rpartition("/")[0]
        blender_object.pass_index = index.get(path, 0)
    # a point instancer's prototypes have no place in the hierarchy; they carry the instancer's id
    instances = [
        (instance.object.original, instance.parent.original)
        for instance in bpy.context.evaluated_depsgraph_get().object_instances
        if instance.is_instance and instance.parent is not None
    ]
    for prototype, instancer in instances:
        prototype.pass_index = instancer.pass_index


def _camera_prim(stage: Any, camera: str | None) -> Any:
    from pxr import UsdGeom

    if camera is not None:
        view = UsdGeom.Camera(stage.GetPrimAtPath(camera))
        if not view:
            raise ValueError(f"<{camera}> is not a camera of {stage.GetRootLayer().identifier}")
        return view
    view = next((UsdGeom.Camera(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Camera)), None)
    if view is None:
        raise ValueError(f"{stage.GetRootLayer().identifier} has no camera to render from")
    return view


def _place_camera(scene: Any, view: Any, frame: float, aspect: float) -> None:
    """Blender's camera as the USD camera at `frame`: pose, lens, clipping; the aperture by `expandAperture`."""
    import bpy
    from mathutils import Matrix
    from pxr import UsdGeom

    stage = view.GetPrim().GetStage()
    unit = UsdGeom.GetStageMetersPerUnit(stage)
    matrix = np.array(view.ComputeLocalToWorldTransform(frame))
    if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y:
        matrix = matrix @ np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    matrix[3, :3] *= unit
    # a scaled parent scales the eye's position, not what the lens sees
    matrix[:3, :3] /= np.linalg.norm(matrix[:3, :3], axis=1, keepdims=True)
    if scene.camera is None:
        scene.camera = bpy.data.objects.new("neuralusd_view", bpy.data.cameras.new("neuralusd_view"))
        scene.collection.objects.link(scene.camera)
    scene.camera.matrix_world = Matrix(matrix.T.tolist())
    lens = scene.camera.data
    usd = view.GetCamera(frame)
    horizontal, vertical = usd.horizontalAperture, usd.verticalAperture
    wide = horizontal > vertical * aspect
    # Camera apertures and focal length are in tenths of a stage unit; only their ratio matters in perspective.
    lens.sensor_fit = "HORIZONTAL" if wide else "VERTICAL"
    lens.sensor_width, lens.sensor_height = horizontal, vertical
    lens.lens = max(usd.focalLength, 1.0)
    if lens.lens != usd.focalLength:
        lens.sensor_width, lens.sensor_height = horizontal / usd.focalLength, vertical / usd.focalLength
    fitted = horizontal if wide else vertical
    lens.shift_x, lens.shift_y = usd.horizontalApertureOffset / fitted, usd.verticalApertureOffset / fitted
    if usd.projection == usd.Orthographic:
        lens.type = "ORTHO"
        lens.ortho_scale = fitted * usd.APERTURE_UNIT * unit
    clip = usd.clippingRange
    lens.clip_start, lens.clip_end = max(clip.GetMin() * unit, 1e-4), clip.GetMax() * unit


def _add_default_light(scene: Any, stage: Any) -> None:
    """An even grey sky and a soft sun for a stage without any light."""
    import bpy
    from pxr import UsdLux

    lights = (UsdLux.BoundableLightBase, UsdLux.NonboundableLightBase)
    if any(prim.IsA(kind) for prim in stage.Traverse() for kind in lights):
        return
    scene.world = bpy.data.worlds.new("neuralusd_world")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.6, 0.6, 0.6, 1.0)
    sun = bpy.data.lights.new("neuralusd_sun", "SUN")
    sun.energy, sun.angle = 2.0, 0.2
    lamp = bpy.data.objects.new("neuralusd_sun", sun)
    lamp.rotation_euler = (0.6, 0.2, 0.4)
    scene.collection.objects.link(lamp)


def _fill_empty_looks() -> None:
    """A grey surface for materials that Blender's importer knows nothing of (MaterialX) and leaves without nodes."""
    import bpy

    for material in bpy.data.materials:
        tree = material.node_tree
        if tree is not None and not tree.nodes:
            surface = tree.nodes.new("ShaderNodeBsdfPrincipled")
            surface.inputs["Base Color"].default_value = (0.5, 0.5, 0.5, 1.0)
            output = tree.nodes.new("ShaderNodeOutputMaterial")
            tree.links.new(surface.outputs["BSDF"], output.inputs["Surface"])


def _settings(scene: Any, width: int, height: int, samples: int, threads: int, seed: int) -> None:
    render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
    render.use_persistent_data = True
    render.use_compositing = render.use_sequencer = False
    render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        render.threads = threads
    render.image_settings.media_type = "MULTI_LAYER_IMAGE"
    render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    render.image_settings.color_depth = "32"
    render.image_settings.exr_codec = "NONE"
    cycles.device = "CPU"
    cycles.samples, cycles.seed = samples, seed
    cycles.use_adaptive_sampling = False
    cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
    cycles.denoising_prefilter, cycles.denoising_quality = "FAST", "HIGH"
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 2, 1
    cycles.transmission_bounces, cycles.volume_bounces, cycles.transparent_max_bounces = 2, 0, 8
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.sample_clamp_indirect = 4.0
    cycles.use_auto_tile = False
    layer.use_pass_z = layer.use_pass_object_index = True
    layer.pass_alpha_threshold = PASS_ALPHA


def _render(scene: Any, image: Path, paths: tuple[str, ...]) -> FramePasses:
    import bpy

    scene.render.filepath = str(image)
    with silent_blender():
        bpy.ops.render.render(write_still=True)
    channels = _read_exr(image)
    linear = np.stack([channels["Combined." + c] for c in "RGB"], -1)
    depth = channels["Depth.Z" if "Depth.Z" in channels else "Depth.V"].astype(np.float32)
    # Cycles writes 1e10 where a ray leaves the scene
    depth[depth > 1e9] = np.inf
    index = channels["Object Index.X" if "Object Index.X" in channels else "IndexOB.X"]
    return FramePasses(to_srgb8(linear), depth, np.rint(index).astype(np.int16).astype(np.int8) - np.int8(1), paths)


def to_srgb8(linear: np.ndarray) -> np.ndarray:
    """Scene-linear Rec. 709 to 8-bit sRGB, clipped: Blender's view transform "Standard"."""
    linear = np.clip(np.nan_to_num(linear), 0.0, 1.0)
    display = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(display * 255).astype(np.uint8)


def _read_exr(image: Path) -> dict[str, np.ndarray]:
    """Channels of an EXR by name without the view layer, read with the OpenImageIO that Blender brings along."""
    import bpy

    bundled = Path(bpy.utils.resource_path("LOCAL"), "python", "lib", f"python3.{sys.version_info.minor}")
    bundled /= "site-packages"
    # last, so that Blender's own pxr never comes before usd-core
    if str(bundled) not in sys.path:
        sys.path.append(str(bundled))
    # by name, since type checkers cannot see it
    image_io = importlib.import_module("OpenImageIO")
    channels = {}
    source = image_io.ImageInput.open(str(image))
    part = 0
    while source.seek_subimage(part, 0):
        names = source.spec().channelnames
        pixels = source.read_image(part, 0, 0, len(names), "float")
        for k, name in enumerate(names):
            channels[name.partition(".")[2]] = pixels[..., k]
        part += 1
    source.close()
    return channels
