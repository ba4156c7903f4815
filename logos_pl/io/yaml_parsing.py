"""Bounded reading of untrusted YAML, with scalars as in YAML 1.2.

Deep nesting overflows the parser's stack (in C, a signal), aliases expand a few bytes into gigabytes, and the first
value of a duplicate key would be dropped.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_DEPTH, MAX_INTEGER, MIB, too_large

MAX_YAML_BYTES = 8 * MIB
MAX_YAML_NODES = 200_000
"""Nodes of a YAML document, each alias counted as all that it stands for."""


_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser, where available, is ten times as fast
_RESOLVED_OTHERWISE = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}


class BoundsError(InputError):
    """A text that is too large, too deep or expands to too much: no parser should see it."""


class _CoreLoader(_YamlLoader):  # type: ignore[misc, valid-type]
    """Reads plain scalars as YAML 1.2 does: `off`, 1:30 and dates are strings, 010 is ten, 1e-3 a float.

    Underscores may separate digits.
    """

    def whole_number(self, node: yaml.ScalarNode) -> int:
        """A decimal integer, possibly with leading zeros.

        Raises:
            ValueError: It is not a number, or is beyond 64 bits.
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


def compose_yaml(text: str, name: str, max_bytes: int = MAX_YAML_BYTES) -> yaml.Node | None:
    """The tree of a YAML document, with the line of every node; None where the document is empty.

    Args:
        text: The YAML, one document.
        name: What it is called in messages, such as its file name.
        max_bytes: Largest text.

    Raises:
        BoundsError: It is too large, nested deeper than ``MAX_DEPTH``, expands by its aliases to more than
            ``MAX_YAML_NODES``.
        InputError: It is not YAML, is several documents, or has a key twice in one mapping; with the line.
    """
    if len(text) > max_bytes:
        raise BoundsError(too_large(name, len(text), max_bytes))
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
        raise InputError(f"{name} holds half of a surrogate pair, which is not a character: remove it.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise InputError(f"{name} is not valid YAML ({error.problem or error.context}{where}): fix it.") from error
    if root is not None:
        _refuse_second_keys(root, name, set())
    return root


def parse_yaml(text: str, name: str, max_bytes: int = MAX_YAML_BYTES) -> Any:
    """A YAML document as plain values, scalars as in YAML 1.2; None where it is empty.

    Raises:
        InputError: As ``compose_yaml``, or a value does not fit its tag, such as ``!!int many``, or cannot be a key.
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
        raise InputError(f"{name} holds a value that cannot be read ({problem}): fix it.") from error
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
