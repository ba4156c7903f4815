"""Checks of the numbers in a model's configuration, before anything is built from them.

transformers creates a list entry and then a module per layer: a billion layers would take all memory, and hours.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from logos_pl.errors import InputError

MAX_LAYERS = 4096
MAX_COUNT = 2**16
"""Heads, experts, groups and the like; one family has 16,384 experts by default."""
MAX_WIDTH = 2**24
MAX_INTEGER = 2**40
"""Token ids, lengths and seeds: no size of the model depends on them."""
_LAYERS = re.compile(r"(.*_)?(layers?|blocks|depth)")
_LENGTHS = re.compile(r".*(position|length|len|ctx|vocab|window|token|seed|theta|_id|index|bias|floor|scale).*")
_COUNTS = re.compile(r"(n|num)_(?!embd|inner).*|.*(heads|experts|groups|iters|types|quantizers|expand)(_.*)?")


def check_values(config: dict[str, Any], name: str) -> None:
    """Check that no integer of a configuration is larger than in any real model.

    Args:
        config: The raw configuration.
        name: Name of the model in messages.

    Raises:
        InputError: One is larger, the base of the rotary angles is not positive, or the padding token is outside the
            vocabulary.
    """
    for key, value in _values(config, "config.json"):
        if key == "rope_theta" and value is not None and not (_is_number(value) and 0 < value < math.inf):
            raise InputError(
                f"config.json of {name} has the rope_theta {value!r}, which must be a positive number; fetch the model "
                "again."
            )
        if not _is_count(value):
            continue
        most = _most(key)
        if abs(value) > most:
            shown = f"{value:,}" if abs(value) < 10**30 else f"a number of {len(str(abs(value)))} digits"
            raise InputError(
                f"config.json of {name} has {shown} for {key}, but no model has more than {most:,}; fetch the model "
                "again."
            )
    text = config.get("text_config")  # also for a model that reads images
    for part in (config, text if isinstance(text, Mapping) else {}):
        _check_padding(part, name)


def _check_padding(config: Mapping[str, Any], name: str) -> None:
    padding, vocab = config.get("pad_token_id"), config.get("vocab_size")
    if _is_count(padding) and _is_count(vocab) and not -vocab <= padding < vocab:
        raise InputError(
            f"config.json of {name} has the pad_token_id {padding}, but token ids end at {vocab - 1} (vocab_size "
            f"{vocab}); set it to null, as padding is never read here."
        )


def key_of(config: Mapping[str, Any], complaint: str) -> str | None:
    """The key and value of a configuration that an error message quotes; None if there is none."""
    for key, value in _values(config, "config.json"):
        if isinstance(value, str) and len(value) > 1 and key != "model_type" and repr(value) in complaint:
            return f"{key} is {value!r}"
    return None


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _most(key: str) -> int:
    if _LAYERS.fullmatch(key):
        return MAX_LAYERS
    if _LENGTHS.fullmatch(key):
        return MAX_INTEGER
    return MAX_COUNT if _COUNTS.fullmatch(key) else MAX_WIDTH


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Every scalar value with its key; the nesting depth is bounded."""
    if isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _values(part, str(inner))
    elif isinstance(value, list):
        for part in value:
            yield from _values(part, key)
    else:
        yield key, value
