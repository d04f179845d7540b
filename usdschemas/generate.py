"""Makes from schema.usda what USD and Python read: generatedSchema.usda, plugInfo.json and the accessor classes.

    python usdschemas/generate.py            # writes into this project
    python usdschemas/generate.py --to DIR   # writes the same tree below DIR

Needs usd-core and jinja2.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from pxr import Sdf

HERE = Path(__file__).resolve().parent
WIDTH = 120
# usdGenSchema leaves these for a build system to fill in; a codeless library is only a folder.
PLACEHOLDERS = {"@PLUG_INFO_LIBRARY_PATH@": "", "@PLUG_INFO_RESOURCE_PATH@": ".", "@PLUG_INFO_ROOT@": "."}
PYTHON_TYPES = {
    "float": "float | None",
    "int": "int | None",
    "int64": "int | None",
    "string": "str | None",
    "token": "str | None",
}
BASES = {"singleApply": "SingleApplySchema", "multipleApply": "MultipleApplySchema", "": "GprimSchema"}


def generate(source: Path, root: Path) -> list[Path]:
    """Writes everything that is made from `source` below `root`, laid out as the project is; returns the files."""
    written = _library(source, root / "usdschemas")
    layer = Sdf.Layer.FindOrOpen(str(source))
    folder = root / "neuralusd" / "schema"
    folder.mkdir(parents=True, exist_ok=True)
    for spec in layer.rootPrims:
        if spec.specifier == Sdf.SpecifierClass:
            path = folder / f"{_module(spec.name)}.py"
            path.write_text(_accessors(spec))
            written.append(path)
    return written


def _library(source: Path, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # An empty folder, since usdGenSchema merges into a plugInfo.json that it finds.
        command = [sys.executable, "-m", "pxr.Usd.usdGenSchema", "--quiet", str(source), scratch]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"usdGenSchema failed on {source}:\n{done.stdout}{done.stderr}")
        written = []
        for name in ("generatedSchema.usda", "plugInfo.json"):
            text = (Path(scratch) / name).read_text()
            for placeholder, value in PLACEHOLDERS.items():
                text = text.replace(placeholder, value)
            path = folder / name
            # usdGenSchema leaves blanks at the ends of lines.
            path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
            written.append(path)
        return written


def _module(name: str) -> str:
    """NeuralRenderSettingsAPI -> render_settings_api."""
    words = re.findall(r"API|[A-Z][a-z]+", name.removeprefix("Neural"))
    return "_".join(words).lower()


def _accessors(spec: Sdf.PrimSpec) -> str:
    kind = spec.customData.get("apiSchemaType", "")
    base = BASES[kind]
    prefix = spec.customData.get("propertyNamespacePrefix")
    attributes = [p.name for p in spec.properties if isinstance(p, Sdf.AttributeSpec)]
    lines = [
        f'"""Accessors of {spec.name}. Made from usdschemas/schema.usda by usdschemas/generate.py; edit that."""',
        "",
        "from __future__ import annotations",
        "",
        *(["from typing import Any", ""] if any(_python_type(p) == "Any" for p in spec.properties) else []),
        "from pxr import Usd",
        "",
        f"from neuralusd.schema.base import {base}",
        "",
        "",
        f"class {spec.name}({base}):",
        *_docstring(spec.documentation, 4),
        "",
        f'    schemaIdentifier = "{spec.name}"',
        *([f'    propertyNamespacePrefix = "{prefix}"'] if prefix else []),
        "    schemaAttributeNames = (",
        *[f'        "{name}",' for name in attributes],
        "    )",
    ]
    for prop in spec.properties:
        lines += _property(prop, prefix)
    return "\n".join(lines) + "\n"


def _property(prop: Sdf.PropertySpec, prefix: str | None) -> list[str]:
    api_name = prop.customData.get("apiName", prop.name)
    api_name = api_name[0].upper() + api_name[1:]
    full_name = f"{prefix}:<name>:{prop.name}" if prefix else prop.name
    argument = f'self._property("{prop.name}")' if prefix else f'"{prop.name}"'
    if isinstance(prop, Sdf.RelationshipSpec):
        return [
            "",
            f"    def Get{api_name}Rel(self) -> Usd.Relationship:",
            *_docstring(f"`rel {full_name}`. {prop.documentation}", 8),
            f"        return self._rel({argument})",
            "",
            f"    def Create{api_name}Rel(self) -> Usd.Relationship:",
            *_docstring(f"Authors `{full_name}` where it is not yet there; see Get{api_name}Rel.", 8),
            f"        return self._create_rel({argument})",
        ]
    uniform = prop.variability == Sdf.VariabilityUniform
    declaration = f"{'uniform ' if uniform else ''}{prop.typeName} {full_name}"
    fallback = "" if prop.default is None else f", fallback {_fallback(prop)}"
    parameters = f"self, defaultValue: {_python_type(prop)} = None, writeSparsely: bool = False"
    return [
        "",
        f"    def Get{api_name}Attr(self) -> Usd.Attribute:",
        *_docstring(f"`{declaration}`{fallback}. {prop.documentation}", 8),
        f"        return self._attr({argument})",
        "",
        f"    def Create{api_name}Attr({parameters}) -> Usd.Attribute:",
        *_docstring(f"Authors `{full_name}`, with `defaultValue` where given; see Get{api_name}Attr.", 8),
        f'        return self._create_attr({argument}, "{prop.typeName}", {uniform}, defaultValue, writeSparsely)',
    ]


def _python_type(prop: Sdf.PropertySpec) -> str:
    if isinstance(prop, Sdf.RelationshipSpec):
        return ""
    return PYTHON_TYPES.get(str(prop.typeName), "Any")


def _fallback(prop: Sdf.AttributeSpec) -> str:
    if prop.typeName.isArray:
        return "[]"
    if isinstance(prop.default, Sdf.AssetPath):
        return f"@{prop.default.path}@"
    if isinstance(prop.default, str):
        return f'"{prop.default}"'
    return f"{prop.default:g}" if isinstance(prop.default, int | float) else str(prop.default)


def _docstring(text: str, indent: int) -> list[str]:
    blank = " " * indent
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    if len(paragraphs) == 1 and len(paragraphs[0]) + indent + 6 <= WIDTH:
        return [f'{blank}"""{paragraphs[0]}"""']
    lines: list[str] = []
    for paragraph in paragraphs:
        first = '"""' if not lines else ""
        wrapped = textwrap.wrap(first + paragraph, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
        lines += [*([""] if lines else []), *(blank + line for line in wrapped)]
    return [*lines, f'{blank}"""']


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=HERE.parent, metavar="DIR", help="default: this project")
    for path in generate(HERE / "schema.usda", parser.parse_args().to):
        print(path)
