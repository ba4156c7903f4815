from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from logos_pl.sweeps.records import NonFinite
from tests.sweeps.documents import CONTROL, FALLING, IMPORTED, LAST_RANK_1, NO_FILLER, ORIGIN, SCHEMA, document
from tests.sweeps.made_records import made_attribution, prompt_records


def full_document() -> dict[str, Any]:
    control = prompt_records({"norm": FALLING, "tuned": FALLING}, prompt=CONTROL, nonfinite=[NonFinite("norm", 1, 1)])
    control = control._replace(attribution=made_attribution({"embedding": 1.0, "rounding": 0.0}))
    rows = {"norm": LAST_RANK_1}
    orig = prompt_records({"norm": FALLING, "tuned": FALLING}, rows=rows)
    bare = prompt_records({"norm": FALLING, "tuned": FALLING, "imported": FALLING}, prompt=NO_FILLER)
    return document(orig, bare, control, tuned=ORIGIN, imported=IMPORTED)


def objects(value: Any) -> list[dict[str, Any]]:
    """All objects in a document, however deep."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [each for item in inner for each in objects(item)] + ([value] if isinstance(value, dict) else [])


BY_LENS = {"norm", "tuned", "prism", "jacobian", "imported"}


def test_the_schema_refuses_every_unknown_and_every_missing_key() -> None:
    validator = Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    plain = full_document()
    assert all(plain[section] for section in plain if section not in ("reason", "prism_summary", "jacobian_lens"))
    kinds = {frozenset(each): each for each in objects(plain)}
    for each in kinds.values():
        each["unknown"] = 1
        with pytest.raises(ValidationError):
            validator.validate(plain)
        del each["unknown"]
        for key in set(each) - BY_LENS:
            value = each.pop(key)
            with pytest.raises(ValidationError):
                validator.validate(plain)
            each[key] = value
    validator.validate(plain)


@pytest.mark.parametrize(
    ("section", "value"),
    [("status", "failed"), ("reason", "why"), ("model_stats", None), ("schema_version", 2), ("status", "done")],
)
def test_the_schema_refuses_a_status_that_does_not_fit(section: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(full_document() | {section: value})
