"""Samples of a stage as variants of one variant set, in a layer over it: composition does the editing.

Local opinions are stronger than variants, whatever layer they are in, so the layer does not sublayer the stage: it
references each of its root prims, and the variants are authored over that. What a reference leaves behind, the stage's
metadata and relationships from one root prim into another, is authored again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pxr import Sdf, Tf, Usd, UsdGeom, UsdRender

from ..errors import EditError
from ..schema import NeuralAssetAPI, NeuralRenderSettingsAPI
from .edit import editable_prim
from .errors import SaveError, SceneError
from .open import open_stage, quiet
from .publish import staged
from .sidecar import copy_metadata

VARIANT_SET = "neuralResample"
ORIGINAL = "original"
LAYERS = (".usd", ".usda", ".usdc")
# A class that holds what is sampled where that stands in the layer itself.
STORE = Sdf.Path("/NeuralVariations")
# What draws the samples, where the stage names no render settings.
RENDER_SETTINGS = Sdf.Path("/Render/Neural")
# The files of samples beside a layer of text: whose digest changes when they do, so that old and new never mix.
OBJECT_FILE = re.compile(r"sample_\d+\.[0-9a-f]{8}\.usdc")
# Bytes.
LARGEST_COMPARED = 50_000_000
# Whose tokens an asset takes: a sample may have its own, so this is not authored over all of them.
TAKEN = re.compile(r"neural:tokens:.*:from$")


def sample_name(number: int) -> str:
    """Name of the variant of a sample; the first is 1."""
    return f"sample_{number}"


def variant_set(stage: Usd.Stage) -> str | None:
    """Name of the variant set that holds a stage's samples; None where it has none. Samples of a sample have a set of
    their own, `neuralResample_2`, and so on: the last one made is the one that counts."""
    names = [
        name
        for prim in stage.GetPseudoRoot().GetAllChildren()
        for name in prim.GetVariantSets().GetNames()
        if re.fullmatch(rf"{VARIANT_SET}(_\d+)?", name)
    ]
    return max(names, key=lambda name: (len(name), name)) if names else None


def select_variant(stage: Usd.Stage, name: str, variant: str) -> list[str]:
    """Selects a variant on every prim that has a variant set of that name, in the edit target.

    Returns:
        Paths of those prims.

    Raises:
        EditError: there is no such set, or no such variant; lists what there is.
    """
    prims = [prim for prim in stage.TraverseAll() if name in prim.GetVariantSets().GetNames()]
    if not prims:
        known = sorted({each for prim in stage.TraverseAll() for each in prim.GetVariantSets().GetNames()})
        raise EditError(
            f"{stage.GetRootLayer().identifier} has no variant set '{name}'; it has: {', '.join(known) or 'none'}"
        )
    having = [prim for prim in prims if variant in prim.GetVariantSets().GetVariantSet(name).GetVariantNames()]
    if not having:
        known = sorted({each for prim in prims for each in prim.GetVariantSet(name).GetVariantNames()})
        raise EditError(f"the variant set '{name}' has no variant '{variant}'; it has: {', '.join(known) or 'none'}")
    with quiet():
        for prim in having:
            prim.GetVariantSet(name).SetVariantSelection(variant)
    return [str(prim.GetPath()) for prim in having]


class Variations:
    """A layer of variations of a stage while it is made, in memory until `publish`.

    Args:
        base: the stage, with its tokens. output: where the layer will be; None keeps it in memory.
        samples: how many there are.
        roots: names of the root prims whose prims differ from sample to sample.

    Attributes:
        stage: the composed stage; its edit target is the layer. name: of the variant set. home: path of the prim that
            new objects go below.

    Raises:
        SceneError: `output` is no USD layer's name, is part of the base, or the base is in memory and the output not.
    """

    def __init__(self, base: Usd.Stage, output: str | os.PathLike[str] | None, samples: int, roots: Sequence[str]):
        self.base, self.output = base, None if output is None else Path(os.path.abspath(output))
        self._check()
        self.inline = self.output is None or self.output.suffix.lower() != ".usda"
        self.layer = Sdf.Layer.CreateAnonymous("variations.usda" if not self.inline else "variations.usdc")
        self.reference = self._reference()
        copy_metadata(base.GetRootLayer(), self.layer)
        for prim in base.GetPseudoRoot().GetAllChildren():
            spec = Sdf.CreatePrimInLayer(self.layer, prim.GetPath())
            spec.specifier = prim.GetSpecifier()
            spec.referenceList.Prepend(Sdf.Reference(self._found_now(), prim.GetPath()))
        with quiet():
            self.stage = Usd.Stage.Open(self.layer)
        self.stage.SetEditTarget(self.layer)
        self.name = self._free_name()
        self.home = _home(base)
        if not self.stage.GetPrimAtPath(self.home):
            UsdGeom.Xform.Define(self.stage, self.home)
        self.objects: dict[str, Sdf.Layer] = {}
        self.roots = list(dict.fromkeys([self.home.GetPrefixes()[0], *(Sdf.Path(f"/{root}") for root in roots)]))
        crossing = list(_crossing(base))
        with quiet():
            for path, name, targets in crossing:
                if not TAKEN.match(name.name):
                    self._aim(path, name, targets)
            for variant in [ORIGINAL, *(sample_name(number + 1) for number in range(samples))]:
                for root in self.roots:
                    self.stage.GetPrimAtPath(root).GetVariantSets().AddVariantSet(self.name).AddVariant(variant)
                self.select(variant)
                for path, name, targets in crossing:
                    if TAKEN.match(name.name):
                        with self.editing(path):
                            self._aim(path, name, targets)

    # -- authoring ------------------------------------------------------------------------------------------------

    def select(self, variant: str) -> None:
        """Selects a variant, as the layer will say, too."""
        with quiet(), Sdf.ChangeBlock():
            for root in self.roots:
                self.layer.GetPrimAtPath(root).variantSelections[self.name] = variant

    def draw_by(self, backend: str) -> None:
        """Authors the backend that draws the samples, in the render settings that the stage names, or in new ones."""
        with quiet():
            settings = UsdRender.Settings.GetStageRenderSettings(self.stage)
            if not settings:
                settings = UsdRender.Settings.Define(self.stage, RENDER_SETTINGS)
                self.stage.SetMetadata("renderSettingsPrimPath", str(RENDER_SETTINGS))
            NeuralRenderSettingsAPI.Apply(settings.GetPrim()).CreateBackendAttr(backend)

    @contextmanager
    def editing(self, path: str | Sdf.Path) -> Iterator[None]:
        """Within it, what is authored on prims below the root of `path` stands in the variant that is selected."""
        root = self.stage.GetPrimAtPath(Sdf.Path(path).GetPrefixes()[0])
        sets = root.GetVariantSets()
        if root.GetPath() not in self.roots:
            self.roots.append(root.GetPath())
            selected = self.stage.GetPrimAtPath(self.home.GetPrefixes()[0]).GetVariantSet(self.name)
            for each in selected.GetVariantNames():
                sets.AddVariantSet(self.name).AddVariant(each)
            sets.SetSelection(self.name, selected.GetVariantSelection())
        with Usd.EditContext(self.stage, sets.GetVariantSet(self.name).GetVariantEditTarget()):
            yield

    @contextmanager
    def storing(self, path: str | Sdf.Path) -> Iterator[None]:
        """Within it, what is authored on the prim at `path` or below it stands where there is room for arrays: in a
        file of the sample's, or in the layer itself where that is a crate."""
        path = Sdf.Path(path)
        variant = self.stage.GetPrimAtPath(self.roots[0]).GetVariantSet(self.name).GetVariantSelection()
        name = Tf.MakeValidIdentifier(path.MakeRelativePath(Sdf.Path.absoluteRootPath).pathString.replace("/", "_"))
        if self.inline:
            layer, site = self.layer, STORE.AppendChild(self.name).AppendChild(variant).AppendChild(name)
            reference = Sdf.Reference("", site)
        else:
            layer = self.objects.setdefault(variant, Sdf.Layer.CreateAnonymous(f"{variant}.usdc"))
            site = Sdf.Path.absoluteRootPath.AppendChild(name)
            reference = Sdf.Reference(layer.identifier, site)
        with quiet():
            if not layer.GetPrimAtPath(site):
                Sdf.CreatePrimInLayer(layer, site)
                if self.inline:
                    layer.GetPrimAtPath(STORE).specifier = Sdf.SpecifierClass
                with self.editing(path):
                    self.stage.GetPrimAtPath(path).GetReferences().AddReference(reference)
            target = self._edit_target(path, layer, site)
        with Usd.EditContext(self.stage, target):
            yield

    def _edit_target(self, path: Sdf.Path, layer: Sdf.Layer, site: Sdf.Path) -> Usd.EditTarget:
        """Where what is authored on the prim at `path` goes to the prim at `site` of a layer that it references."""
        # A node is alive for as long as the query that it is of.
        query = Usd.PrimCompositionQuery(self.stage.GetPrimAtPath(path))
        arcs = query.GetCompositionArcs()
        for arc in arcs:
            if arc.GetTargetPrimPath() == site and arc.GetTargetLayer() == layer:
                return Usd.EditTarget(layer, arc.GetTargetNode())
        raise SceneError(f"<{path}> does not take the reference to {layer.identifier}. Is it inside an instance?")

    def free_path(self, name: str) -> Sdf.Path:
        """Where a new object of a name can stand, below `home`."""
        name = Tf.MakeValidIdentifier(name)
        path, number = self.home.AppendChild(name), 1
        while self.stage.GetPrimAtPath(path):
            path, number = self.home.AppendChild(f"{name}_{number}"), number + 1
        return path

    def relative(self, file: str | os.PathLike[str]) -> str:
        """A file as an asset path of the layer: relative to it, where it will be on disk."""
        if self.output is None:
            return str(file)
        path = os.path.relpath(os.path.abspath(file), self.output.parent).replace(os.sep, "/")
        return path if path.startswith("../") else f"./{path}"

    # -- files ----------------------------------------------------------------------------------------------------

    def publish(self) -> Usd.Stage:
        """The stage at `output`, with all its files, or nothing there; the stage in memory where there is no output.

        Raises:
            SaveError: a file cannot be written; names it.
        """
        if self.output is None:
            return self.stage
        output, folder = self.output, self.output.with_name(f"{self.output.stem}.objects")
        with staged(output) as staging:
            made, files = self._export(staging, folder.name)
            self._move(made, files, folder)
        return open_stage(output)

    def _export(self, staging: Path, folder: str) -> tuple[Path, list[Path]]:
        """The layer and the files it refers to, in a folder of their own."""
        assert self.output is not None
        copy = Sdf.Layer.CreateAnonymous(f"copy{self.layer.GetFileFormat().primaryFileExtension}")
        copy.TransferContent(self.layer)
        files = []
        with quiet():
            for variant, layer in self.objects.items():
                plain = staging / f"{variant}.usdc"
                _exported(layer, plain)
                digest = hashlib.sha256(plain.read_bytes()).hexdigest()[:8]
                files.append(plain.rename(staging / f"{variant}.{digest}.usdc"))
                copy.UpdateCompositionAssetDependency(layer.identifier, f"./{folder}/{files[-1].name}")
            copy.UpdateCompositionAssetDependency(self._found_now(), self.reference)
            made = staging / f"layer{self.output.suffix.lower()}"
            _exported(copy, made)
        return made, files

    def _move(self, made: Path, files: list[Path], folder: Path) -> None:
        assert self.output is not None
        new: list[Path] = []
        try:
            for file in files:
                folder.mkdir(exist_ok=True)
                if not (folder / file.name).exists():
                    new.append(folder / file.name)
                os.replace(file, folder / file.name)
            with open(made, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(made, self.output)
        except OSError:
            for file in new:
                file.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise
        if folder.is_dir():  # of the layer that was there before
            kept = {file.name for file in files}
            for file in folder.iterdir():
                if OBJECT_FILE.fullmatch(file.name) and file.name not in kept:
                    file.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()

    # -- what it stands over --------------------------------------------------------------------------------------

    def _check(self) -> None:
        base = self.base.GetRootLayer()
        if self.output is None:
            return
        if self.output.suffix.lower() not in LAYERS:
            raise SceneError(f"{self.output} cannot be written: its extension is none of usd, usda, usdc. Name it so.")
        if not base.realPath:
            raise SceneError(f"{base.identifier} is in memory only, so no file can refer to it. Export it first.")
        for layer in self.base.GetUsedLayers():
            if layer.realPath and os.path.realpath(layer.realPath) == os.path.realpath(self.output):
                raise SceneError(f"{self.output} is part of {base.realPath}. Name another file to write to.")
            if layer.realPath and _unsaved(layer):
                raise SceneError(
                    f"{layer.realPath} has changes that are not on disk, so a file over it would lack them. Save it."
                )

    def _found_now(self) -> str:
        """How the base is referred to while the layer is in memory."""
        return self.base.GetRootLayer().realPath or self.base.GetRootLayer().identifier

    def _reference(self) -> str:
        return self.relative(self._found_now()) if self.output is not None else self._found_now()

    def _free_name(self) -> str:
        """The set's name. A set of this name in the base would take its selection from this layer, so that the base
        would not be what it was."""
        taken = {name for prim in self.base.TraverseAll() for name in prim.GetVariantSets().GetNames()}
        name, number = VARIANT_SET, 2
        while name in taken:
            name, number = f"{VARIANT_SET}_{number}", number + 1
        return name

    def _aim(self, path: Sdf.Path, name: Sdf.Path, targets: list[Sdf.Path]) -> None:
        """Points a relationship, or an attribute's connections, to where they point in the base."""
        prop = self.stage.GetObjectAtPath(name)
        if isinstance(prop, Usd.Relationship) and prop.GetTargets() == targets:
            return
        if isinstance(prop, Usd.Attribute) and prop.GetConnections() == targets:
            return
        editable_prim(self.stage, str(path))
        prop = self.stage.GetObjectAtPath(name)
        if isinstance(prop, Usd.Relationship):
            prop.SetTargets(targets)
        elif isinstance(prop, Usd.Attribute):
            prop.SetConnections(targets)


def _unsaved(layer: Sdf.Layer) -> bool:
    """Whether a layer holds what its file does not; not looked at where that is large."""
    if not layer.dirty:
        return False
    if not os.path.isfile(layer.realPath):
        return True
    if os.path.getsize(layer.realPath) > LARGEST_COMPARED:
        return False
    # A layer that was new when it was saved stays `dirty` for USD.
    on_disk = Sdf.Layer.OpenAsAnonymous(layer.realPath)
    return on_disk is None or on_disk.ExportToString() != layer.ExportToString()


def _exported(layer: Sdf.Layer, file: Path) -> None:
    if not layer.Export(str(file)):
        raise SaveError(f"{file.name} cannot be written. Check the folder's permissions and the disk's free space.")


def _crossing(base: Usd.Stage) -> Iterator[tuple[Sdf.Path, Sdf.Path, list[Sdf.Path]]]:
    """Prim, property and targets of what points from below one root prim to below another: a reference loses it."""
    predicate = Usd.TraverseInstanceProxies(Usd.PrimAllPrimsPredicate)
    for prim in Usd.PrimRange(base.GetPseudoRoot(), predicate):
        if prim.IsPseudoRoot():
            continue
        root = prim.GetPath().GetPrefixes()[0]
        for prop in prim.GetAuthoredProperties():
            if isinstance(prop, Usd.Relationship):
                targets = prop.GetTargets()
            elif prop.HasAuthoredConnections():
                targets = prop.GetConnections()
            else:
                continue
            if any(not target.HasPrefix(root) for target in targets):
                yield prim.GetPath(), prop.GetPath(), list(targets)


def _home(base: Usd.Stage) -> Sdf.Path:
    """Where new objects go: the default prim, or else the first root prim that can hold them; or a new one."""
    candidates = [base.GetDefaultPrim(), *base.GetPseudoRoot().GetChildren()]
    for prim in candidates:
        holds = prim and prim.IsDefined() and not prim.IsAbstract() and not prim.IsInstance()
        # Below an asset, moving it would move them.
        if holds and prim.GetTypeName() in ("Xform", "Scope", "") and not NeuralAssetAPI(prim):
            return prim.GetPath()
    path, number = Sdf.Path("/Resampled"), 1
    while base.GetPrimAtPath(path):
        path, number = Sdf.Path(f"/Resampled{number}"), number + 1
    return path


@dataclass
class SampleSummary:
    """What a sample's variant holds: paths of prims that moved, look different, are new, are gone; and whether the
    camera changed."""

    name: str
    moved: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    camera: bool = False


def list_samples(stage: Usd.Stage) -> list[SampleSummary]:
    """The samples of a stage's root layer, in their order; none where it is no layer of variations."""
    layer, name = stage.GetRootLayer(), variant_set(stage)
    found: dict[str, SampleSummary] = {}
    for root in layer.rootPrims:
        own = root.variantSets.get(name) if name else None
        for variant in own.variantList if own is not None else ():
            if variant.name != ORIGINAL:
                _summarise(
                    variant.primSpec, str(root.path), found.setdefault(variant.name, SampleSummary(variant.name))
                )
    return sorted(found.values(), key=lambda each: (len(each.name), each.name))


def _summarise(spec: Sdf.PrimSpec, path: str, out: SampleSummary) -> None:
    if "neural:presence" in spec.properties and spec.properties["neural:presence"].default == 0:
        out.gone.append(path)
    elif spec.specifier == Sdf.SpecifierDef and "NeuralAssetAPI" in str(spec.GetInfo("apiSchemas")):
        out.new.append(path)
    else:
        out.moved += [path] * any(each.name.startswith("xformOp") for each in spec.properties)
        out.changed += [path] * spec.hasReferences
    out.camera |= "focalLength" in spec.properties
    for child in spec.nameChildren:
        _summarise(child, f"{path}/{child.name}", out)
