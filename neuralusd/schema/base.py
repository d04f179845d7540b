"""What the accessor classes of the neural schemas share with the classes that USD generates for its own schemas."""

from __future__ import annotations

import ctypes
import reprlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pxr import Gf, Sdf, Usd, UsdGeom

from neuralusd.schema.plugin import require

if TYPE_CHECKING:
    from typing import Self


def to_usd(value: Any, type_name: str) -> Any:
    """`value` as `Usd.Attribute.Set` wants it for an attribute of `type_name`, such as "int2", "matrix4d" or "half[]".

    USD takes numpy arrays for array attributes, but neither numpy scalars nor (4, 4) arrays, nor a tuple for an
    int2. Lists, tuples, numpy scalars and arrays are taken here; an array keeps its element order and loses its shape.

    Raises:
        ValueError: the value does not fit the type; names both.
    """
    value_type = _value_type(type_name)
    kind = type(value_type.defaultValue)
    if isinstance(value, kind):
        return value
    try:
        if value_type.isArray:
            return _to_array(np.ascontiguousarray(value), kind) if isinstance(value, np.ndarray) else kind(value)
        if kind.__module__ == Gf.__name__:
            return kind(*np.asarray(value).reshape(int(np.prod(kind.dimension))).tolist())
        return kind(value)
    except Exception as error:  # Boost.Python's ArgumentError derives from nothing narrower
        raise ValueError(f"{reprlib.repr(value)} is not a USD {type_name}") from error


def _to_array(value: np.ndarray, kind: type) -> Any:
    """`value` as a `kind` of Vt array where that has numbers of the same type; else as it is, for USD to convert."""
    if not value.size or value.dtype.kind not in "fiu":
        return value
    made = kind(value.size // np.asarray(kind(1)).size)
    memory = np.asarray(made)
    if memory.dtype != value.dtype or memory.nbytes != value.nbytes:
        return value
    # USD itself converts numpy's arrays number by number, which takes fifty times as long as a copy of the memory.
    # Vt arrays are read-only to Python because they share it; this one does not yet.
    ctypes.memmove(memory.ctypes.data, value.ctypes.data, value.nbytes)
    return made


def _value_type(type_name: str) -> Sdf.ValueTypeName:
    found = Sdf.ValueTypeNames.Find(type_name)
    if not found:
        raise ValueError(f"{type_name!r} is not the name of a USD value type")
    return found


class _Accessors:
    """Access to a prim's properties by the names that the generated classes know."""

    schemaIdentifier: ClassVar[str]
    schemaAttributeNames: ClassVar[tuple[str, ...]]

    def _attr(self, name: str) -> Usd.Attribute:
        return self.GetPrim().GetAttribute(name)  # type: ignore[attr-defined]

    def _create_attr(self, name: str, type_name: str, uniform: bool, value: Any, sparsely: bool) -> Usd.Attribute:
        prim = self.GetPrim()  # type: ignore[attr-defined]
        if value is not None:
            value = to_usd(value, type_name)
        attribute = prim.GetAttribute(name)
        if sparsely and attribute:
            if value is None or (not attribute.HasAuthoredValue() and _same(attribute.Get(), value)):
                return attribute
        variability = Sdf.VariabilityUniform if uniform else Sdf.VariabilityVarying
        attribute = prim.CreateAttribute(name, _value_type(type_name), False, variability)
        if value is not None:
            attribute.Set(value)
        return attribute

    def _rel(self, name: str) -> Usd.Relationship:
        return self.GetPrim().GetRelationship(name)  # type: ignore[attr-defined]

    def _create_rel(self, name: str) -> Usd.Relationship:
        return self.GetPrim().CreateRelationship(name, False)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.GetPrim()!r})"  # type: ignore[attr-defined]


def _same(fallback: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray) or getattr(value, "_isVtArray", False):
        return fallback is not None and np.array_equal(np.asarray(fallback).ravel(), np.asarray(value).ravel())
    return fallback == value


def _check_applies(prim: Usd.Prim, identifier: str, *instance: str) -> None:
    if not prim:
        raise ValueError(f"{identifier} cannot be applied to {prim!r}: there is no such prim")
    require()
    if instance == ("",):
        raise ValueError(f"{identifier} on <{prim.GetPath()}> needs an instance name, such as 'appearance'")
    answer = prim.CanApplyAPI(identifier, *instance)
    if not answer:
        kind = f"of type {prim.GetTypeName()}" if prim.GetTypeName() else "which has no type"
        raise ValueError(f"{identifier} cannot be applied to <{prim.GetPath()}>, {kind}: {answer.whyNot}")
    if prim.IsInstanceProxy() or prim.IsInPrototype():
        raise ValueError(
            f"{identifier} cannot be applied to <{prim.GetPath()}>, which is inside an instance. Apply it to the "
            "instance, to the prim it references, or make the instance not instanceable."
        )


class SingleApplySchema(_Accessors, Usd.SchemaBase):
    """A single-apply API schema on a prim. True when the prim has the schema applied."""

    def __init__(self, prim: Usd.Prim | Usd.SchemaBase | None = None) -> None:
        super().__init__(Usd.Prim() if prim is None else prim)

    @classmethod
    def Get(cls, stage: Usd.Stage, path: Sdf.Path | str) -> Self:
        """The schema on the prim at `path`; false if there is no such prim, or the schema is not applied to it."""
        return cls(stage.GetPrimAtPath(path))

    @classmethod
    def CanApply(cls, prim: Usd.Prim) -> Any:
        """Whether the schema can be applied to `prim`; the answer's `whyNot` tells the reason."""
        return prim.CanApplyAPI(cls.schemaIdentifier)

    @classmethod
    def Apply(cls, prim: Usd.Prim) -> Self:
        """Applies the schema in the stage's edit target. Applying it again is harmless.

        Raises:
            ValueError: it cannot be applied to `prim`; says why.
            RuntimeError: the schema was registered too late; see `neuralusd.schema.require`.
        """
        _check_applies(prim, cls.schemaIdentifier)
        prim.ApplyAPI(cls.schemaIdentifier)
        return cls(prim)

    @classmethod
    def GetSchemaAttributeNames(cls, includeInherited: bool = True) -> list[str]:
        """Names of the schema's attributes."""
        return list(cls.schemaAttributeNames)

    def __bool__(self) -> bool:
        prim = self.GetPrim()
        require()
        return bool(prim) and prim.HasAPI(self.schemaIdentifier)


class MultipleApplySchema(_Accessors, Usd.SchemaBase):
    """One instance of a multiple-apply API schema on a prim. True when the prim has that instance applied."""

    propertyNamespacePrefix: ClassVar[str]

    def __init__(self, prim: Usd.Prim | Usd.SchemaBase | None = None, name: str = "") -> None:
        super().__init__(Usd.Prim() if prim is None else prim)
        self._name = name

    def GetName(self) -> str:
        """The instance's name."""
        return self._name

    @classmethod
    def Get(cls, prim: Usd.Prim, name: str) -> Self:
        """Instance `name` on `prim`; false if it is not applied."""
        return cls(prim, name)

    @classmethod
    def GetAll(cls, prim: Usd.Prim) -> list[Self]:
        """All instances that are applied to `prim`, the strongest first."""
        applied = [schema.partition(":") for schema in prim.GetAppliedSchemas()]
        return [cls(prim, name) for identifier, _, name in applied if identifier == cls.schemaIdentifier and name]

    @classmethod
    def CanApply(cls, prim: Usd.Prim, name: str) -> Any:
        """Whether instance `name` can be applied to `prim`; the answer's `whyNot` tells the reason."""
        return prim.CanApplyAPI(cls.schemaIdentifier, name)

    @classmethod
    def Apply(cls, prim: Usd.Prim, name: str) -> Self:
        """Applies instance `name` in the stage's edit target. Applying it again is harmless.

        Raises:
            ValueError: it cannot be applied to `prim` under that name; says why.
            RuntimeError: the schema was registered too late; see `neuralusd.schema.require`.
        """
        _check_applies(prim, cls.schemaIdentifier, name)
        prim.ApplyAPI(cls.schemaIdentifier, name)
        return cls(prim, name)

    @classmethod
    def GetSchemaAttributeNames(cls, includeInherited: bool = True, instanceName: str = "") -> list[str]:
        """Names of the schema's attributes: of instance `instanceName`, or without one the template's."""
        name = instanceName or "__INSTANCE_NAME__"
        return [f"{cls.propertyNamespacePrefix}:{name}:{base}" for base in cls.schemaAttributeNames]

    def _property(self, base: str) -> str:
        return f"{self.propertyNamespacePrefix}:{self._name}:{base}"

    def __bool__(self) -> bool:
        prim = self.GetPrim()
        require()
        return bool(prim) and bool(self._name) and prim.HasAPI(self.schemaIdentifier, self._name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.GetPrim()!r}, {self._name!r})"


class GprimSchema(_Accessors, UsdGeom.Gprim):
    """A typed schema for geometry. True when the prim is of that type, or of one derived from it."""

    def __init__(self, prim: Usd.Prim | Usd.SchemaBase | None = None) -> None:
        super().__init__(Usd.Prim() if prim is None else prim)

    @classmethod
    def Get(cls, stage: Usd.Stage, path: Sdf.Path | str) -> Self:
        """The schema on the prim at `path`; false if there is no such prim, or it is of another type."""
        return cls(stage.GetPrimAtPath(path))

    @classmethod
    def Define(cls, stage: Usd.Stage, path: Sdf.Path | str) -> Self:
        """Defines a prim of this type at `path`, in the stage's edit target.

        Raises:
            RuntimeError: the schema was registered too late; see `neuralusd.schema.require`.
        """
        require()
        return cls(stage.DefinePrim(path, cls.schemaIdentifier))

    @classmethod
    def GetSchemaAttributeNames(cls, includeInherited: bool = True) -> list[str]:
        """Names of the schema's attributes, with those of Gprim and its bases unless `includeInherited` is false."""
        inherited = UsdGeom.Gprim.GetSchemaAttributeNames(True) if includeInherited else []
        return [*inherited, *cls.schemaAttributeNames]

    def __bool__(self) -> bool:
        prim = self.GetPrim()
        require()
        return bool(prim) and prim.IsA(self.schemaIdentifier)
