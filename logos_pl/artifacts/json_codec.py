"""Strict conversion between dataclasses and JSON: unknown or missing fields and wrong types are errors."""

import dataclasses
import json
import math
import re
import types
from collections.abc import Iterator
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from logos_pl.errors import InputError
from logos_pl.io.parsing import parse_json
from logos_pl.io.terminal import shortened

T = TypeVar("T")

LEFT_OUT = "left out"
"""Metadata key of a field that is left out of the JSON if it is None, and may be missing when read."""

# An absolute local path, also inside a sentence, but not "and/or", "org/name" or "https://".
ABSOLUTE_PATH = re.compile(r"(?:^|[\s'\"=(,;:])(?:/[^\s/]+/|[A-Za-z]:[\\/][^\s/]|~/)|^/")


def to_json(record: Any) -> str:
    """A dataclass as indented JSON, ending in a newline.

    Raises:
        InputError: A number that is not finite, or a path that exists only on this machine; both named.
    """
    plain = _plain(record)
    for where, value in _leaves(plain, ""):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where} is {value}, which JSON cannot hold: give a finite number, or null.")
        if isinstance(value, str) and ABSOLUTE_PATH.search(value):
            raise InputError(f"{where} holds a path on this machine, {value!r}: give a name or a relative path.")
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(kind: type[T], text: str, name: str) -> T:
    """A dataclass of ``kind`` from JSON.

    Args:
        kind: The dataclass.
        text: The JSON.
        name: Name of the text in messages, such as its file name.

    Raises:
        InputError: Not JSON, or a field unknown, missing or of another type; named.
    """
    return from_plain(kind, parse_json(text, name), name)


def from_versioned(kind: type[T], text: str, name: str, version: int) -> T:
    """A dataclass of ``kind`` from JSON that records its ``schema_version``.

    Args:
        kind: The dataclass.
        text: The JSON.
        name: Name of the text in messages, such as its file name.
        version: The schema this version of logos-pl reads.

    Raises:
        InputError: Not JSON, another schema, or a field unknown, missing or of another type; named.
    """
    given = parse_json(text, name)
    found = given.get("schema_version") if isinstance(given, dict) else None
    if found != version:
        raise InputError(
            f"{name} has schema_version {found}, but this logos-pl reads {version}: "
            "use the version of logos-pl that wrote it, or fit the lens again."
        )
    return from_plain(kind, given, name)


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """``value`` as ``kind``: a dataclass, scalar, optional, literal, list, tuple or dictionary of these.

    Raises:
        InputError: It is something else; ``where`` is in the message.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return None if value is None and len(options) < len(arguments) else from_plain(options[0], value, where)
    if origin is Literal:
        return value if value in arguments else _refuse(value, f"one of {', '.join(map(str, arguments))}", where)
    if origin is dict:
        items = _of_type(dict, value, where).items()
        key_kind, kind = arguments
        return {
            from_plain(key_kind, key, f"{where}: key"): from_plain(kind, item, f"{where}.{key}") for key, item in items
        }
    if origin in (list, tuple):
        return _sequence(origin, arguments, value, where)
    if kind is float and type(value) is int:
        return float(value)
    return _of_type(kind, value, where)


def _plain(value: Any) -> Any:
    """A record as plain values, like ``dataclasses.asdict``, without omitted fields."""
    if dataclasses.is_dataclass(value):
        found = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: _plain(of) for field, of in found if of is not None or not field.metadata.get(LEFT_OUT)}
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    return [_plain(of) for of in value] if isinstance(value, list | tuple) else value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    given = _of_type(dict, value, where)
    hints = get_type_hints(kind)
    optional = {field.name for field in dataclasses.fields(kind) if field.metadata.get(LEFT_OUT)}
    missing = [key for key in hints if key not in given and key not in optional]
    unknown = [key for key in given if key not in hints]
    if missing or unknown:
        what = f"lacks the field {missing[0]}" if missing else f"has the unknown field {unknown[0]}"
        raise InputError(f"{where} {what}: it was made by another version of logos-pl, or altered.")
    there = {key: hint for key, hint in hints.items() if key in given}
    return kind(**{key: from_plain(hint, given[key], f"{where}: {key}") for key, hint in there.items()})


def _sequence(origin: Any, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    items = _of_type(list, value, where)
    if origin is tuple and len(items) != len(arguments):
        _refuse(value, f"a list of {len(arguments)}", where)
    kinds = arguments if origin is tuple else arguments * len(items)
    return origin(
        from_plain(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _of_type(kind: type, value: Any, where: str) -> Any:
    # By type, not isinstance: True must not count as a number.
    return value if type(value) is kind else _refuse(value, f"of type {kind.__name__}", where)


def _refuse(value: Any, wanted: str, where: str) -> NoReturn:
    shown = shortened(repr(value), 120)
    raise InputError(f"{where} is {shown}, but must be {wanted}: the file was altered, or is from another version.")


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{where}[{i}]")
    else:
        yield where, value
