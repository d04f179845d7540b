"""Furniture catalogues (Sweet Home 3D's `.sh3f`) to USD component assets.

Debian's `sweethome3d-furniture` holds 820 textured OBJ models made by people, with names, categories, metric sizes,
creators and licences. Each becomes a folder with one `.usdc`: metres, Z up, standing on z = 0 and centred in
x and y, meshes with normals and `st`, UsdPreviewSurface materials, extents, a UsdSemantics label.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

DEBIAN_FURNITURE = Path("/usr/share/sweethome3d/furniture")
DEBIAN_PACKAGE = "sweethome3d-furniture"
HELD_OUT_SHARE = 0.12
USD_SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")
# Things that make no sense as a free-standing object in a room.
SKIPPED_CATEGORIES = ("Doors and windows", "Staircases")


class SkippedModel(Exception):
    """A model that the furniture world leaves out; the message is the reason."""


@dataclass(frozen=True)
class CatalogModel:
    """One entry of a `.sh3f` catalogue. `size` is (width, depth, height) in metres."""

    id: str
    name: str
    category: str
    creator: str
    licence: str
    tags: tuple[str, ...]
    size: tuple[float, float, float]
    rotation: tuple[float, ...]
    door_or_window: bool
    model: str
    archive: str


@dataclass(frozen=True)
class FurnitureAsset:
    """One USD asset of a library.

    Attributes:
        id: unique in its library; the split follows from it alone.
        path: the asset's root layer, relative to the library's folder.
        name, category, creator, licence: of the model, for people and for text prompts.
        size: (x, y, z) extent in metres.
        minimum: the smallest corner of its box in metres, in the default prim's space.
        triangles: of all its meshes.
    """

    id: str
    path: str
    name: str
    category: str = ""
    creator: str = ""
    licence: str = ""
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    minimum: tuple[float, float, float] = (-0.5, -0.5, 0.0)
    triangles: int = 0

    @property
    def held_out(self) -> bool:
        """Whether no training frame may show this model. A hash of the id, so it never depends on the library."""
        return is_held_out(self.id)


def is_held_out(asset_id: str) -> bool:
    """Whether a model belongs to the held-out split (about 12 % of all)."""
    digest = hashlib.sha256(asset_id.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT_SHARE


def read_catalog(archive: str | os.PathLike) -> list[CatalogModel]:
    """The models a `.sh3f` file lists. Raises ValueError when it holds no catalogue."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            text = zipped.read("PluginFurnitureCatalog.properties").decode("latin-1")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{archive} is not a Sweet Home 3D furniture catalogue (.sh3f): {error}") from error
    library: dict[str, str] = {}
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z]+)(?:#(\d+))?\s*[=:]\s*(.*)", line)
        if match is None or line.lstrip().startswith(("#", "!")):
            continue
        key, number, value = match.groups()
        value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), value).strip()
        (library if number is None else entries.setdefault(int(number), {}))[key] = value
    licence = re.sub(r"\s+", " ", library.get("license", ""))
    models = []
    for number, entry in sorted(entries.items()):
        if not {"id", "name", "model", "width", "depth", "height"} <= entry.keys():
            log.warning("%s: entry %d is incomplete, skipped", archive, number)
            continue
        rotation = tuple(float(v) for v in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split())
        models.append(
            CatalogModel(
                id=entry["id"],
                name=entry["name"],
                category=entry.get("category", ""),
                creator=entry.get("creator", ""),
                licence=licence,
                tags=tuple(t.strip() for t in entry.get("tags", "").split(",") if t.strip()),
                size=(float(entry["width"]) / 100, float(entry["depth"]) / 100, float(entry["height"]) / 100),
                rotation=rotation,
                door_or_window=entry.get("doorOrWindow", "false").lower() == "true",
                model=entry["model"].lstrip("/"),
                archive=str(archive),
            )
        )
    return models


def convert_catalogs(
    furniture: str | os.PathLike = DEBIAN_FURNITURE,
    out_dir: str | os.PathLike = "assets",
    max_triangles: int = 60_000,
    max_size: float = 5.0,
    texture_size: int = 512,
    progress: bool = True,
) -> list[FurnitureAsset]:
    """Convert every `.sh3f` under `furniture` to `out_dir/<asset>/<asset>.usdc`; what is there already is kept.

    Args:
        furniture: folder of `.sh3f` files.
        out_dir: the asset library to write; `assets.json` in it lists the assets and the models left out, with reasons.
        max_triangles, max_size: models with more triangles, or larger in metres, are left out.
        texture_size: textures are made no larger than this, in pixels.

    Raises:
        FileNotFoundError: there is no catalogue at `furniture`.
    """
    from tqdm import tqdm

    archives = sorted(Path(furniture).glob("*.sh3f"))
    if not archives:
        raise FileNotFoundError(
            f"no .sh3f furniture catalogue in {furniture}. Install the Debian package {DEBIAN_PACKAGE} "
            f"(apt-get install {DEBIAN_PACKAGE}), or pass the folder that has the catalogues, or a folder of USD assets"
        )
    library = Path(out_dir)
    library.mkdir(parents=True, exist_ok=True)
    models = [model for archive in archives for model in read_catalog(archive)]
    limits = {"max_triangles": max_triangles, "max_size": max_size}
    known = _left_out_before(library, limits)
    assets, skipped = [], {}
    for model in tqdm(models, desc="assets", unit="model", disable=not progress):
        folder = library / asset_folder_name(model.id)
        record = folder / "asset.json"
        if not record.exists():
            try:
                if model.id in known:
                    raise SkippedModel(known[model.id])
                _convert_into(model, folder, max_triangles, max_size, texture_size)
            except SkippedModel as reason:
                skipped[model.id] = str(reason)
                log.info("%s left out: %s", model.id, reason)
                continue
        assets.append(_asset_from_json(json.loads(record.read_text())))
    _write_index(library, assets, skipped, limits)
    return assets


def asset_folder_name(asset_id: str) -> str:
    """A file name for an asset id: `Scopia#bed1` is `Scopia_bed1`."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", asset_id).strip("_")


def open_library(folder: str | os.PathLike) -> list[FurnitureAsset]:
    """The assets of a library: one made by `convert_catalogs`, or any folder of USD assets.

    In a plain folder every USD file directly in it, and every `<name>/<name>.usd*`, is an asset. Its size is
    its default prim's bounding box.

    Raises:
        FileNotFoundError: the folder has no USD asset.
    """
    library = Path(folder)
    index = library / "assets.json"
    if index.exists():
        return [_asset_from_json(entry) for entry in json.loads(index.read_text())["assets"]]
    files = [p for p in sorted(library.glob("*")) if p.suffix in USD_SUFFIXES]
    files += [p for p in sorted(library.glob("*/*")) if p.suffix in USD_SUFFIXES and p.stem == p.parent.name]
    assets = []
    for file in files:
        try:
            assets.append(_describe(file, library))
        except SkippedModel as reason:
            log.warning("%s left out: %s", file, reason)
    if not assets:
        raise FileNotFoundError(f"no usable USD asset in {library}: expected <name>.usd* or <name>/<name>.usd* in it")
    return assets


def _asset_from_json(entry: dict) -> FurnitureAsset:
    return FurnitureAsset(**{**entry, "size": tuple(entry["size"]), "minimum": tuple(entry["minimum"])})


def _left_out_before(library: Path, limits: dict[str, float]) -> dict[str, str]:
    """Model id to reason, of the models that an earlier conversion with the same limits left out."""
    index = library / "assets.json"
    content = json.loads(index.read_text()) if index.exists() else {}
    return content.get("left_out", {}) if content.get("limits") == limits else {}


def _write_index(
    library: Path, assets: Iterable[FurnitureAsset], skipped: dict[str, str], limits: dict[str, float]
) -> None:
    content = {"assets": [asdict(a) for a in assets], "left_out": skipped, "limits": limits}
    handle, name = tempfile.mkstemp(dir=library, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=1)
    os.replace(name, library / "assets.json")


def _describe(file: Path, library: Path) -> FurnitureAsset:
    """What a USD file nobody described holds. Raises SkippedModel when it cannot be an asset."""
    from pxr import Gf, Tf, Usd, UsdGeom

    try:
        stage = Usd.Stage.Open(str(file))
    except Tf.ErrorException as error:
        raise SkippedModel(f"cannot be opened: {error}") from error
    prim = stage.GetDefaultPrim()
    if not prim:
        raise SkippedModel("it has no defaultPrim to reference")
    if UsdGeom.GetStageUpAxis(stage) != UsdGeom.Tokens.z:
        raise SkippedModel("its upAxis is not Z")
    cache = UsdGeom.BBoxCache(Usd.TimeCode.Default(), [UsdGeom.Tokens.default_, UsdGeom.Tokens.render])
    box: Gf.Range3d = cache.ComputeUntransformedBound(prim).ComputeAlignedRange()
    if box.IsEmpty():
        raise SkippedModel("it has no geometry")
    unit = UsdGeom.GetStageMetersPerUnit(stage)
    if abs(unit - 1) > 1e-6:
        raise SkippedModel(f"its metersPerUnit is {unit}, expected 1")
    low, high = np.array(box.GetMin()), np.array(box.GetMax())
    return FurnitureAsset(
        id=file.stem,
        path=file.relative_to(library).as_posix(),
        name=file.stem.replace("_", " "),
        size=tuple((high - low).tolist()),
        minimum=tuple(low.tolist()),
    )


def _convert_into(model: CatalogModel, folder: Path, max_triangles: int, max_size: float, texture_size: int) -> None:
    """Convert one model; its folder appears only when it is whole."""
    from neuralusd.datasets.obj_to_usd import obj_to_usd

    if model.door_or_window or model.category in SKIPPED_CATEGORIES:
        raise SkippedModel(f"category {model.category!r}")
    if max(model.size) > max_size:
        raise SkippedModel(f"{max(model.size):.2f} m is larger than {max_size} m")
    if min(model.size) < 0.03 * max(model.size):
        raise SkippedModel("it is flat")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made"
        with zipfile.ZipFile(model.archive) as zipped:
            prefix = model.model.rsplit("/", 1)[0] + "/"
            zipped.extractall(source, [n for n in zipped.namelist() if n.startswith(prefix)])
        made.mkdir()
        file = made / f"{folder.name}.usdc"
        size, triangles = obj_to_usd(source / model.model, file, model, max_triangles, texture_size)
        asset = FurnitureAsset(
            id=model.id,
            path=f"{folder.name}/{folder.name}.usdc",
            name=model.name,
            category=model.category,
            creator=model.creator,
            licence=model.licence,
            size=size,
            minimum=(-size[0] / 2, -size[1] / 2, 0.0),
            triangles=triangles,
        )
        (made / "asset.json").write_text(json.dumps(asdict(asset), indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
