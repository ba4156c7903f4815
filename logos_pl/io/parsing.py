"""Bounded reading of untrusted files: regular files only, of limited size; JSON of limited depth.

A pipe would hang the command, a device would fill the memory, deep nesting overflows the parser's stack, and the first
value of a duplicate key would be dropped. YAML is read by ``yaml_parsing``.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO

from logos_pl.errors import InputError

MIB = 2**20
MAX_TEXT_BYTES = 16 * MIB
"""Largest text file that is read, unless the caller sets another bound."""

MAX_LINE_CHARS = 2**22
"""Longest line of a text file that is read line by line, whatever the file's size."""

MAX_DEPTH = 64
MAX_INTEGER = 2**64
"""Bound on the absolute value of an integer; no count or seed is larger."""

# A string without its closing quote ends with the text; possessive quantifiers never backtrack.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


@contextmanager
def open_regular(path: Path, name: str | None = None) -> Iterator[BinaryIO]:
    """A regular file, open for reading.

    Args:
        path: The file.
        name: What the file is called in messages; by default its relative path.

    Raises:
        InputError: It is a folder, pipe, device or socket.
        OSError: It is missing or cannot be read.
    """
    # Non-blocking: opening a pipe for reading would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{os.path.relpath(path) if name is None else name} is not a regular file: give a file.")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_bytes(path: Path, max_bytes: int, name: str | None = None) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        max_bytes: Largest size that is read.
        name: What the file is called in messages; by default its relative path.

    Raises:
        InputError: It is a folder, pipe, device or socket, or larger than that.
        OSError: It is missing or cannot be read.
    """
    shown = os.path.relpath(path) if name is None else name
    with open_regular(path, shown) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise InputError(too_large(shown, size, max_bytes))
        pieces: list[bytes] = []
        room = max_bytes + 1  # some virtual files have size 0 and do not end
        # `read` allocates the size it is given: no more than the file's size, or a piece.
        while piece := file.read(min(room, max(size + 1, MIB))):
            pieces.append(piece)
            room -= len(piece)
    if room == 0:
        raise InputError(too_large(shown, max_bytes + 1, max_bytes))
    return b"".join(pieces)


def bounded_lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of an open file, which may be larger than memory and have no line breaks at all.

    Args:
        file: The file, open for reading.
        path: Its path, for the message.

    Raises:
        InputError: A line is longer than ``MAX_LINE_CHARS``.
    """
    for line in iter(partial(file.readline, MAX_LINE_CHARS + 1), ""):
        if len(line) > MAX_LINE_CHARS:
            raise InputError(f"{path} has a line of more than {MAX_LINE_CHARS:,} characters: give a text file.")
        yield line


def too_large(shown: str, size: int, most: int) -> str:
    """Message for a file or text that is larger than what is read."""
    return f"{shown} has {size:,} bytes or more, and at most {most:,} are read: give the right file."


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES, name: str | None = None) -> str:
    """The text of a regular UTF-8 file; arguments as in ``read_bytes``.

    Raises:
        InputError: As ``read_bytes``, or it is not UTF-8.
        OSError: It is missing or cannot be read.
    """
    shown = os.path.relpath(path) if name is None else name
    data = read_bytes(path, max_bytes, shown)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{shown} is not UTF-8 text ({error.reason} in line {line}): save it as UTF-8.") from error


def parse_json(
    text: str, name: str, remedy: str = "fetch or make the file again", *, of_transformers: bool = False
) -> Any:
    """JSON as plain values; what Python's parser accepts but later code cannot represent is refused.

    Args:
        text: The JSON.
        name: What it is called in messages, such as its file name.
        remedy: What to do about it.
        of_transformers: The file is one that transformers writes and reads itself: Infinity (a bound on Mamba's time
            step), integers up to 400 digits (the tokenizers' 10³⁰ for "no bound") and halves of surrogate pairs stay.

    Raises:
        InputError: It is not JSON, is nested deeper than ``MAX_DEPTH``, has a key twice, NaN, Infinity, a float beyond
            float64, an integer of more than 64 bits, or half of a surrogate pair.
    """

    def refuse(what: str) -> NoReturn:
        raise InputError(f"{name} {what}: {remedy}.")

    def constant(value: str) -> float:
        if of_transformers and value != "NaN":
            return float(value)
        refuse(f"holds {value}, which is not valid JSON")

    def integer(digits: str) -> int:
        if of_transformers and len(digits) <= 400:
            return int(digits)
        if len(digits) > 21 or abs(int(digits)) >= MAX_INTEGER:
            refuse(f"holds an integer of {len(digits.lstrip('-'))} digits, which is beyond 64 bits")
        return int(digits)

    def number(digits: str) -> float:
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            refuse("holds a number beyond the range of a float")
        return value

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            refuse(f"has the key {twice!r} twice")
        return found

    if _json_depth(text) > MAX_DEPTH:
        refuse(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text, parse_constant=constant, parse_int=integer, parse_float=number, object_pairs_hook=mapping
        )
    except json.JSONDecodeError as error:
        refuse(f"is not valid JSON ({error.msg} in line {error.lineno})")
    if "\\u" in text and not of_transformers and _has_surrogate(value):
        refuse("holds half of a surrogate pair, which is not a character")
    return value


def _json_depth(text: str) -> int:
    """Deepest nesting, brackets within strings left out; counting stops once it is too deep."""
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif bracket in "]}":
            depth -= 1
    return deepest


def _has_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(_has_surrogate(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(map(_has_surrogate, value))
