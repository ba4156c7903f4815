"""The page of file formats against a document that the schema accepts, and the types."""

import dataclasses
import re

import jsonschema
import pytest

from logos_pl.artifacts.provenance import Provenance
from logos_pl.sweeps.schema_file import output_schema
from scripts.site_pages.file_formats import _keys, _value, file_formats_page

SCHEMA = {
    "type": "object",
    "required": ["a", "list"],
    "additionalProperties": {"type": "number"},
    "properties": {
        "a": {"anyOf": [{"$ref": "#/$defs/pair"}, {"type": "null"}]},
        "list": {"type": "array", "items": {"$ref": "#/$defs/pair"}},
        "word": {"enum": ["x", None]},
    },
    "$defs": {"pair": {"type": "object", "properties": {"left": {"type": ["integer", "null"]}}}},
}


def test_every_key_of_a_schema_is_listed_through_lists_references_and_choices() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate({"a": None, "list": [{"left": 1}], "more": 0.5}, SCHEMA)
    assert list(_keys(SCHEMA, SCHEMA, "")) == [
        ("a", "object or null"),
        ("a.left?", "integer or null"),
        ("list", "array of object"),
        ("list[].left?", "integer or null"),
        ("word?", "x, null"),
        ("<key>", "number"),
    ]
    assert _value(SCHEMA, {"const": 1}) == "1"


def test_the_page_lists_every_key_at_the_top_of_a_sweep_and_every_field_of_a_provenance() -> None:
    page = file_formats_page()
    keys = set(re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE))
    assert set(output_schema()["required"]) - keys == set()
    provenance = page.partition("### Provenance\n")[2].partition("\n### ")[0]
    assert set(re.findall(r"^\| `([^`]+)` \|", provenance, flags=re.MULTILINE)) == {
        field.name for field in dataclasses.fields(Provenance)
    }
    assert "| `seed` | int | Seed of initialisation and sampling. |" in provenance


@pytest.mark.parametrize(
    "heading", ["Dataset", "Budget", "Fingerprint", "Index", "NextTokenRecord", "JacobianProvenance"]
)
def test_every_kind_of_record_has_a_table(heading: str) -> None:
    assert f"\n### {heading}\n" in file_formats_page()
