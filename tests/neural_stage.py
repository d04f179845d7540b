"""A stage with nothing wrong, for tests that break it, and the two ways to find what is wrong."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from pxr import Usd, UsdGeom, UsdValidation

from neuralusd.schema import NeuralAssetAPI, NeuralTokensAPI
from neuralusd.validators import ERROR, WARNING, Issue, format_report, validate

NAN, INF = float("nan"), float("inf")


def whole_stage() -> Usd.Stage:
    """A stage with nothing wrong: a cup with geometry and tokens, a bird that is only a box, a background."""
    stage = Usd.Stage.CreateInMemory()
    cup = UsdGeom.Xform.Define(stage, "/World/Cup").GetPrim()
    UsdGeom.Cube.Define(stage, "/World/Cup/Geom")
    NeuralAssetAPI.Apply(cup)
    add_tokens(cup)
    bird = UsdGeom.Xform.Define(stage, "/World/Bird").GetPrim()
    NeuralAssetAPI.Apply(bird).CreateBox2dAttr((0.1, 0.2, 0.3, 0.4))
    room = UsdGeom.Xform.Define(stage, "/World/Room").GetPrim()
    NeuralAssetAPI.Apply(room).CreateRoleAttr("background")
    return stage


def add_tokens(prim: Usd.Prim, modality: str = "appearance") -> NeuralTokensAPI:
    """Six tokens of four numbers, as an encoder would write them."""
    tokens = NeuralTokensAPI.Apply(prim, modality)
    tokens.CreateValuesAttr(np.linspace(-1, 1, 24, dtype=np.float16).reshape(6, 4))
    tokens.CreateShapeAttr((6, 4))
    tokens.CreateGridAttr((2, 3))
    tokens.CreatePointsAttr(np.array([[0, 0, 0]] * 5 + [[NAN] * 3]))
    tokens.CreateEncoderAttr("mini")
    tokens.CreateRevisionAttr("1")
    return tokens


def cup(stage: Usd.Stage) -> Usd.Prim:
    return stage.GetPrimAtPath("/World/Cup")


def cup_tokens(stage: Usd.Stage) -> NeuralTokensAPI:
    return NeuralTokensAPI(cup(stage), "appearance")


def bird(stage: Usd.Stage) -> NeuralAssetAPI:
    return NeuralAssetAPI.Get(stage, "/World/Bird")


def both_ways(stage: Usd.Stage) -> list[Issue]:
    """What is wrong by the plain function; by UsdValidation it is the same, where that takes validators in Python."""
    issues = validate(stage)
    if hasattr(UsdValidation.ValidationRegistry, "RegisterPluginPrimValidator"):
        assert by_usd(stage) == by_path(issues)
    return issues


def by_usd(stage: Usd.Stage) -> list[Issue]:
    """What is wrong by UsdValidation, as any program would use it."""
    usd = UsdValidation
    registry = usd.ValidationRegistry()
    names = [metadata.name for metadata in registry.GetValidatorMetadataForKeyword("neuralusd")]
    assert len(names) == 3
    errors = usd.ValidationContext(registry.GetOrLoadValidatorsByName(names)).Validate(stage)
    severities = {usd.ValidationErrorType.Error: ERROR, usd.ValidationErrorType.Warn: WARNING}
    return by_path(
        Issue(severities[e.GetType()], str(e.GetSites()[0].GetPrim().GetPath()), e.GetName(), e.GetMessage())
        for e in errors
    )


def by_path(issues: Iterable[Issue]) -> list[Issue]:
    """In an order of their own, since USD validates prims in parallel."""
    return sorted(issues, key=dataclasses.astuple)


def only_issue(stage: Usd.Stage) -> Issue:
    """The one thing that is wrong, on which both ways agree."""
    issues = both_ways(stage)
    assert len(issues) == 1, format_report(issues)
    return issues[0]
