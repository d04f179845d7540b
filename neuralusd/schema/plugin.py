"""Registers the `usdNeural` schema with the USD of this process, whichever that is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

LIBRARY = "usdNeural"
VALIDATORS = "neuralusd.usdvalidation"


def plugin_path() -> Path:
    """The folder of this installation's `plugInfo.json`, as PXR_PLUGINPATH_NAME wants it.

    It is the package's folder where neuralusd is installed, and the project's root in a checkout.

    Raises:
        FileNotFoundError: this installation lacks the schema's files.
    """
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the schema inside the package; a checkout has it beside the package.
    for folder in (package, package.parent):
        if (folder / "usdschemas" / "generatedSchema.usda").is_file():
            return folder
    raise FileNotFoundError(
        f"neuralusd's USD schema is missing: neither {package / 'usdschemas'} nor {package.parent / 'usdschemas'} "
        "has a generatedSchema.usda. Install neuralusd again."
    )


def register() -> None:
    """Makes the neural schemas and validators known to USD. `import neuralusd` does it; doing it again is harmless.

    USD reads schema definitions once, when it composes the first typed prim. A schema that comes later stays unknown
    for the rest of the process. Where that can be told already it is raised here, and else by `require`.

    Raises:
        RuntimeError: USD has read its schemas without these; says what to do.
        FileNotFoundError: this installation lacks the schema's files.
    """
    from pxr import Plug, Sdf

    if not Plug.Registry().GetPluginWithName(LIBRARY):
        Plug.Registry().RegisterPlugins(str(plugin_path()))
    if not Plug.Registry().GetPluginWithName(VALIDATORS) and _takes_python_validators():
        Plug.Registry().RegisterPlugins(str(Path(__file__).resolve().parents[1] / "usdvalidation"))
    # Asking USD's schema registry creates it, and locks out the schemas of whoever registers after us. So ask only if
    # layers are open, as then it most likely exists.
    if Sdf.Layer.GetLoadedLayers():
        require()


def is_registered() -> bool:
    """Whether the stages of this process know the neural schemas. Makes USD read its schemas, if it has not yet."""
    from pxr import Usd

    return Usd.SchemaRegistry().FindAppliedAPIPrimDefinition("NeuralAssetAPI") is not None


@cache
def require() -> None:
    """Returns if the stages of this process know the neural schemas. Makes USD read its schemas, if it has not yet.

    Raises:
        RuntimeError: they do not, because `register` came too late; says what to do.
    """
    if not is_registered():
        raise RuntimeError(
            "USD read its schemas before neuralusd's were registered, so this process cannot use NeuralAssetAPI and "
            "the other neural schemas. Import neuralusd before the first stage is opened, or set the environment "
            f"variable PXR_PLUGINPATH_NAME={plugin_path()} before the program starts."
        )


def _takes_python_validators() -> bool:
    # Elsewhere the plugin stays unknown to USD, whose validation would load it and fail.
    try:
        from pxr import UsdValidation
    except ImportError:
        return False
    return hasattr(UsdValidation.ValidationRegistry, "RegisterPluginPrimValidator")
