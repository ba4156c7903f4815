"""JSON schema of a sweep's document: `output.schema.json`, extended by registered lens kinds that it lacks."""

import json
from pathlib import Path
from typing import Any

from logos_pl.kinds.registry import LensKind, compared, kinds

SCHEMA_FILE = Path(__file__).with_name("output.schema.json")
"""Schema file, with the lens kinds of this project."""

NO_GAINS: dict[str, Any] = {"delta_kl": [], "earliness_shift": []}
"""Gain summaries of no prompts."""


def output_schema() -> dict[str, Any]:
    """Return the schema for all registered kinds of lens."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    run = schema["properties"]["run"]["properties"]
    by_lens = [run["files"]["properties"][table] for table in ("records", "next_token")]
    file_name = by_lens[0]["properties"]["norm"]
    milestones = schema["properties"]["diagnostics"]["items"]["properties"]["milestones"]
    known = set(run["lenses"]["items"]["enum"])
    for kind in kinds():
        if not kind.swept or kind.name in known:
            continue
        run["lenses"]["items"]["enum"].append(kind.name)
        for tables in by_lens:
            tables["properties"][kind.name] = file_name
        milestones["properties"][kind.name] = milestones["properties"]["norm"]
    for kind in compared():
        if kind.name not in known:
            _add_section(schema, kind)
    return schema


def _add_section(schema: dict[str, Any], kind: LensKind) -> None:
    """Add the section of a kind: origin, gains and conclusions; null if the lens was not used."""
    key, origin_key = kind.section.key, kind.section.origin_key
    properties: dict[str, Any] = {origin_key: {"type": ["object", "null"]}, "summaries": {"$ref": "#/$defs/lens_gain"}}
    properties |= {name: {} for name in kind.section.conclude(NO_GAINS)}
    section = {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }
    schema["properties"][key] = {"anyOf": [section, {"type": "null"}]}
    schema["required"].append(key)
    schema["else"]["properties"][key] = {"type": "null"}
    if kind.accepted is not None:
        schema["properties"]["run"]["properties"]["preferred_lens"]["enum"].append(kind.name)
