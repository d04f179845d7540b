"""The plugin through which USD's own validation finds neuralusd's validators. USD imports it when it needs them.

`import neuralusd` makes it known to USD. For a program that does not import neuralusd, add this folder to
PXR_PLUGINPATH_NAME and neuralusd to PYTHONPATH. Needs a UsdValidation that takes validators written in Python (those
of 2026 do); `neuralusd.validators.validate` gives the same result on any.
"""

from __future__ import annotations

from collections.abc import Iterable

from pxr import Usd, UsdValidation

from neuralusd import validators

_TYPES = {
    validators.ERROR: UsdValidation.ValidationErrorType.Error,
    validators.WARNING: UsdValidation.ValidationErrorType.Warn,
}


def _errors(stage: Usd.Stage, issues: Iterable[validators.Issue]) -> list:
    return [
        UsdValidation.ValidationError(
            issue.rule, _TYPES[issue.severity], [UsdValidation.ValidationErrorSite(stage, issue.path)], issue.message
        )
        for issue in issues
    ]


def _check_stage(stage: Usd.Stage, time_range: UsdValidation.ValidationTimeRange) -> list:
    return _errors(stage, validators.check_stage(stage))


def _check_asset(prim: Usd.Prim, time_range: UsdValidation.ValidationTimeRange) -> list:
    return _errors(prim.GetStage(), validators.check_asset(prim))


def _check_tokens(prim: Usd.Prim, time_range: UsdValidation.ValidationTimeRange) -> list:
    return _errors(prim.GetStage(), validators.check_tokens(prim))


_registry = UsdValidation.ValidationRegistry()
_registry.RegisterPluginStageValidator(f"{__name__}:StageValidator", _check_stage)
_registry.RegisterPluginPrimValidator(f"{__name__}:AssetValidator", _check_asset)
# Not tied to UsdNeuralTokensAPI in plugInfo.json: UsdValidation runs no validator of a multiple-apply schema.
_registry.RegisterPluginPrimValidator(f"{__name__}:TokensValidator", _check_tokens)
