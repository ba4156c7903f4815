"""The page of file formats, from the JSON schema of sweeps and the typed records of everything else."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from docstring_parser import parse

from logos_pl.artifacts import provenance_schema
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance
from logos_pl.artifacts.prism_provenance import PrismProvenance
from logos_pl.artifacts.provenance import Provenance
from logos_pl.hub.index import Entry, Index, Licence
from logos_pl.sweeps.records import ContributionRecord, NextTokenRecord, PositionRecord
from logos_pl.sweeps.schema_file import output_schema

RECORDS: Mapping[str, tuple[type, ...]] = {
    "Provenance of a tuned lens: `provenance.json`": (Provenance,),
    "Provenance of a Prism lens: `provenance.json`": (PrismProvenance,),
    "Provenance of a Jacobian lens: `provenance.json`": (JacobianProvenance,),
    "Groups of these": tuple(
        part
        for part in vars(provenance_schema).values()
        if dataclasses.is_dataclass(part) and isinstance(part, type) and part.__module__ == provenance_schema.__name__
    ),
    "Index of a repository of lenses: `INDEX.json`": (Index, Entry, Licence),
    "Records of a sweep in Python": (NextTokenRecord, PositionRecord, ContributionRecord),
}
"""Types whose fields are listed, by heading."""


def file_formats_page() -> str:
    """The page in Markdown."""
    schema = output_schema()
    lines = [
        "# File formats",
        "",
        "From the schema and the types that files are checked with. [Sweep](../sweep.md) says what each file of a "
        "sweep is for and explains the columns of its CSV files, [gates](../gates.md) does so for `gates.json`, "
        "[hub](../hub.md) for a repository.",
        "",
        "## A sweep of one model: `output-<model>.json`",
        "",
        f"{schema['description']} A key ending in `[]` is of each entry of a list, `<key>` stands for any key; "
        "`?` marks what may be left out. The schema itself is in "
        "`logos_pl/sweeps/output.schema.json`.",
        "",
        "| key | value |",
        "|---|---|",
        *(f"| `{key}` | {_cell(value)} |" for key, value in _keys(schema, schema, "")),
    ]
    for heading, kinds in RECORDS.items():
        lines += ["", f"## {heading}"]
        for kind in kinds:
            lines += ["", *_fields(kind)]
    return "\n".join(lines) + "\n"


def _fields(kind: type) -> Iterator[str]:
    """The table of a type's fields, with what its docstring says of each."""
    documented = parse(kind.__doc__ or "")
    said = {parameter.arg_name: parameter.description or "" for parameter in documented.params}
    yield f"### {kind.__name__}"
    yield ""
    yield documented.short_description or ""
    yield ""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    for name, annotation in kind.__annotations__.items():
        shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
        if str(annotation).startswith(("typing.", "tuple", "dict", "list")) or "|" in str(annotation):
            shown = str(annotation).replace("typing.", "")
        shown = shown.replace(f"{provenance_schema.__name__}.", "")
        yield f"| `{name}` | {_cell(shown)} | {_cell(said.get(name, ''))} |"


def _keys(schema: Mapping[str, Any], part: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Every key below a part of a schema, with what its value may be."""
    part = _resolved(schema, part)
    for name, inner in part.get("properties", {}).items():
        key = f"{path}.{name}" if path else name
        yield key + ("" if name in part.get("required", ()) else "?"), _value(schema, inner)
        yield from _inside(schema, inner, key)
    extra = part.get("additionalProperties")
    if isinstance(extra, dict):
        key = f"{path}.<key>" if path else "<key>"
        yield key, _value(schema, extra)
        yield from _inside(schema, extra, key)


def _inside(schema: Mapping[str, Any], part: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    """Keys below a value: of an object, of a list's entries, of any of several."""
    part = _resolved(schema, part)
    for choice in part.get("anyOf", part.get("oneOf", [part])):
        choice = _resolved(schema, choice)
        if "items" in choice:
            yield from _inside(schema, choice["items"], f"{key}[]")
        else:
            yield from _keys(schema, choice, key)


def _value(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """What a value may be, in a few words."""
    part = _resolved(schema, part)
    if "const" in part:
        return repr(part["const"])
    if "enum" in part:
        return ", ".join("null" if word is None else str(word) for word in part["enum"])
    for several in ("anyOf", "oneOf"):
        if several in part:
            return " or ".join(dict.fromkeys(_value(schema, choice) for choice in part[several]))
    kind = part.get("type", "any")
    words = kind if isinstance(kind, str) else " or ".join(kind)
    return f"array of {_value(schema, part['items'])}" if words == "array" and "items" in part else words


def _resolved(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part, or what its `$ref` names."""
    while "$ref" in part:
        target: Any = schema
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
