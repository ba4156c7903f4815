"""Files that somebody else wrote, read with bounds: regular files only, of limited size, depth and expansion.

The one home of reading JSON and YAML. A FIFO would hang the command, a device would fill the memory, deep nesting
overflows the parsers' stack (in C, a signal), aliases make a few bytes into gigabytes, and a key given twice drops the
first.
"""

import json
import os
import re
import stat
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import yaml

from logos_pl.errors import InputError

MIB = 2**20
MAX_TEXT_BYTES = 16 * MIB
"""Largest text file that is read, unless a caller knows better."""

MAX_DEPTH = 64
MAX_YAML_BYTES = 8 * MIB
MAX_YAML_NODES = 200_000
"""Nodes of a YAML document, each alias counted as all that it stands for."""

MAX_INTEGER = 2**64
"""Integers below this, either sign, have an exact or a rounded float; no count or seed of ours is larger."""

# A string without its closing quote ends with the text; nothing is ever read twice, whatever the text.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of C, ten times as fast, where it was built
_RESOLVED_OTHERWISE = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}


class BoundsError(InputError):
    """A text that is too large, too deep or expands to too much: no parser should see it."""


class _CoreLoader(_YamlLoader):  # type: ignore[misc, valid-type]
    """Reads plain scalars as YAML 1.2 does: `off` is a word, 010 is ten, 1:30 no number, 1e-3 a float, a date a word.

    Underscores may part digits.
    """

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """A number in decimal, whatever it begins with.

        Raises:
            ValueError: It is none, or beyond 64 bits.
        """
        digits = str(self.construct_scalar(node))
        if len(digits) > 64 or abs(int(digits)) >= MAX_INTEGER:
            raise ValueError(f"an integer of {len(digits):,} digits, beyond 64 bits")
        return int(digits)


_CoreLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _RESOLVED_OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9][0-9_]*\Z"), list("-+0123456789"))
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"""[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
            |[0-9][0-9_]*[eE][-+]?[0-9]+
            |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
            |\.(?:inf|Inf|INF))\Z
            |\.(?:nan|NaN|NAN)\Z""",
        re.VERBOSE,
    ),
    list("-+.0123456789"),
)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _CoreLoader.whole_number)


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
    # Not blocking: to open a pipe for reading would wait for a writer.
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
            raise InputError(_too_large(shown, size, max_bytes))
        pieces: list[bytes] = []
        room = max_bytes + 1  # some virtual files have size 0 and do not end
        # What is asked for is allocated at once: no more than the file has, or than a piece.
        while piece := file.read(min(room, max(size + 1, MIB))):
            pieces.append(piece)
            room -= len(piece)
    if room == 0:
        raise InputError(_too_large(shown, max_bytes + 1, max_bytes))
    return b"".join(pieces)


def _too_large(shown: str, size: int, most: int) -> str:
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
    """JSON as plain values, without what Python's parser would let through and later code could not hold.

    Args:
        text: The JSON.
        name: What it is called in messages, such as its file name.
        remedy: What to do about it.
        of_transformers: It is a file that transformers has written and reads itself: Infinity (a bound on Mamba's time
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
        refuse("holds half of a surrogate pair, which is no character")
    return value


def _json_depth(text: str) -> int:
    """Deepest nesting, brackets within strings left out; counting ends where it is too deep."""
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


def compose_yaml(text: str, name: str, max_bytes: int = MAX_YAML_BYTES) -> yaml.Node | None:
    """The tree of a YAML document, with the line of every node; None where the document is empty.

    Args:
        text: The YAML, one document.
        name: What it is called in messages, such as its file name.
        max_bytes: Largest text.

    Raises:
        BoundsError: It is too large, nested deeper than ``MAX_DEPTH``, expands by its aliases to more than
            ``MAX_YAML_NODES``.
        InputError: It is no YAML or several documents, or has a key twice in one mapping; with the line.
    """
    if len(text) > max_bytes:
        raise BoundsError(_too_large(name, len(text), max_bytes))
    try:
        _check_yaml_events(text, name)
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character[:1])
        line = text.count("\n", 0, text.find(chr(code))) + 1  # its position is in bytes or in characters
        raise InputError(
            f"{name} holds the character U+{code:04X} in line {line}, which YAML does not allow: remove it."
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(f"{name} holds half of a surrogate pair, which is no character: remove it.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise InputError(f"{name} is not valid YAML ({error.problem or error.context}{where}): mend it.") from error
    if root is not None:
        _refuse_second_keys(root, name, set())
    return root


def parse_yaml(text: str, name: str, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """A YAML document as plain values, scalars as in YAML 1.2; None where it is empty.

    Raises:
        InputError: As ``compose_yaml``, or a value is not of its tag's kind, such as ``!!int many``, or a key is none.
    """
    root = compose_yaml(text, name, max_bytes)
    if root is None:
        return None
    loader = _CoreLoader("")
    try:
        return loader.construct_document(root)
    except (yaml.MarkedYAMLError, ValueError, OverflowError, KeyError, AttributeError) as error:
        # The constructors of `!!bool x` and `!!timestamp x` raise the last two.
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{name} holds a value that cannot be read ({problem}): mend it.") from error
    finally:
        loader.dispose()


def _check_yaml_events(text: str, name: str) -> None:
    """Depth and expanded size, from the parser's events, which need no recursion."""
    sizes: dict[str, int] = {}  # nodes that each anchor stands for
    opened: list[tuple[str | None, int]] = []  # anchor of each open collection, nodes counted when it began
    nodes = 0
    for event in yaml.parse(text, Loader=_YamlLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, nodes))
            nodes += 1
            if len(opened) > MAX_DEPTH:
                where = "" if event.start_mark is None else f" in line {event.start_mark.line + 1}"
                raise BoundsError(f"{name} is nested deeper than {MAX_DEPTH} levels{where}: make it flatter.")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise BoundsError(f"{name} has an alias *{event.anchor} that holds itself: write it out.")
            nodes += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if nodes > MAX_YAML_NODES:
            raise BoundsError(f"{name} has more than {MAX_YAML_NODES:,} values with its aliases: make it smaller.")


def _refuse_second_keys(node: yaml.Node, name: str, seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_second_keys(item, name, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[Hashable, int] = {}
    for key, item in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            line = key.start_mark.line + 1
            if key.value in lines:
                raise InputError(
                    f"{name} has the key {key.value!r} twice, in lines {lines[key.value]} and {line}: "
                    "the first would be dropped; leave one of them."
                )
            lines[key.value] = line
        _refuse_second_keys(item, name, seen)
