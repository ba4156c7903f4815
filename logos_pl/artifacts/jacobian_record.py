"""The record in the files of an imported Jacobian lens; each of four programs that write them uses its own names."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from logos_pl.errors import InputError
from logos_pl.io.parsing import parse_json

MAX_CHARACTERS = 200
"""Maximum length of a recorded text."""


class JacobianRecord(NamedTuple):
    """The values that are recorded; None for others.

    Attributes:
        model: Hub id or path of the model.
        revision: Branch, tag or commit of the model.
        d_model: Width.
        target: 0-based block that the maps lead to; from the end if negative.
        estimator: How the maps were estimated.
        num_prompts: Number of prompts.
        place: What the maps read, if it is not the output of a block.
    """

    model: str | None
    revision: str | None
    d_model: int | None
    target: int | None
    estimator: str | None
    num_prompts: int | None
    place: str | None


def recorded_in(content: Any, config_yaml: Mapping[str, Any], name: str) -> JacobianRecord:
    """The record in a file and in the configuration next to it; the file takes precedence.

    Args:
        content: The file; an outline is enough.
        config_yaml: Neuronpedia's configuration; empty if there is none.
        name: What the file is called in messages.

    Raises:
        InputError: A value has the wrong type.
    """
    whole = _mapping(content)
    notes = [_mapping(whole.get(key)) for key in ("provenance", "metadata", "config")]
    fit = _mapping(config_yaml.get("fit"))
    places = [*notes, whole]
    return JacobianRecord(
        model=_text(name, _first(("model_id", "model_name", "hf_model_name"), [*places, config_yaml])),
        revision=_text(name, _first(("model_revision",), places)),
        d_model=_integer(name, _first(("d_model",), [whole, *notes])),
        target=_integer(name, _first(("target_layer", "relative_end_transport_layer"), [*places, fit])),
        estimator=_text(name, _estimator(name, notes, fit)),
        num_prompts=_integer(name, _first(("n_prompts", "num_prompts_trained_on"), [whole, *notes])),
        place=_place(name, notes),
    )


def _mapping(value: Any) -> dict[Any, Any]:
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def _first(keys: tuple[str, ...], places: list[dict[Any, Any]] | list[Any]) -> Any:
    """The first value that is present and not null."""
    return next((place[key] for place in places for key in keys if place.get(key) is not None), None)


def _estimator(name: str, notes: list[dict[Any, Any]], fit: dict[Any, Any]) -> Any:
    """Name of the estimator: in a JSON text for an R-lens, the rules of the backward pass for a J++ lens."""
    if (named := _first(("estimator", "method"), [*notes, fit])) is not None:
        return named
    text = _first(("config_json",), notes)
    if isinstance(text, str):
        found = parse_json(text, f"config_json of {name}")
        return found.get("estimator") if isinstance(found, dict) else None
    rules = _first(("lrp_mode",), [*notes, fit])
    return None if rules is None else f"lrp_mode {rules}"


def _place(name: str, notes: list[dict[Any, Any]]) -> str | None:
    """What the maps read, if not the output of a block in a single residual stream."""
    point = _text(name, _first(("capture_point",), notes))
    streams = _text(name, _first(("stream_reduce",), notes))
    if point not in (None, "block_output"):
        return point
    return None if streams in (None, "none") else f"the {streams} of several residual streams"


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_CHARACTERS:
        raise InputError(
            f"{name} records {str(value)[:40]!r} where a text of one line is expected: fetch the lens again."
        )
    return value


def _integer(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or abs(value) > 10**12:
        raise InputError(f"{name} records {str(value)[:40]!r} where a whole number is expected: fetch the lens again.")
    return value
