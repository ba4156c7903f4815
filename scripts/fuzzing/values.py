"""Unexpected values, and edits that put them anywhere in a tree of JSON or YAML."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple


class Raw(NamedTuple):
    """Text that is written verbatim in place of a value."""

    text: str


class Pairs(NamedTuple):
    """A mapping as a list of its entries, so that a key may be repeated."""

    items: list[tuple[str, Any]]


ESCAPES = "\x1b]0;pwned\x07\x1b[31m\r\x9b2J"
"""Control sequences that retitle and colour a terminal, overwrite a line and clear the screen."""

TEXTS = (
    "", " ", "\n", "x" * 5000, "word " * 2000, ESCAPES, "\x00", "a\x00b", "../../../etc/passwd", "/dev/zero",
    "/dev/null/x", "~", ".", "..", "-", "--help", "null", "true", "no", "auto", "full", "nan", "1e5", "1_000", "0x10",
    "1,5", "٣", "²", "１", "<img src=x onerror=alert(1)>", "| `a` |\n# b", "${HOME}", "%s%n{0}{x}", "\u202eevil\u2066",
    "\ufeff", "\U0001f9ff" * 3, "*a", "&a b", "!!python/object/apply:os.getcwd []", "{class_path: os.getcwd}", "[1, 2",
    "}", "a: b", "# c", "'", '"', "\\", "org/name", "a/b/c", "org/" + "n" * 300, "tiny", "demo", "float16", "cuda",
    "last", "best",
)  # fmt: skip
"""Strings: empty, long, with control characters, with a meaning in YAML, invalid numbers, names and paths."""

NUMBERS = (
    0, 1, 2, 3, 7, -1, -2, 100, 10**6, 2**31, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400, -(10**400),
    0.5, -0.5, 1.0, 1.5, -0.0, 1e-320, 1e-30, 1e30, 1e308, -1e308, math.nan, math.inf, -math.inf,
)  # fmt: skip

DEEP = (
    Raw("[" * 70 + "]" * 70),
    Raw("[" * 3000 + "]" * 3000),
    Raw("[" * 100_000),
    Raw('{"a":' * 3000 + "1" + "}" * 3000),
)

WHOLES: tuple[Any, ...] = (
    None, True, False, [], {}, [None], [[]], [{}], {"a": 1}, {"": None}, {"a": {"b": [1]}}, [1, 2, 3], ["a"],
    [[1.0], [2.0]], {"class_path": "os.getcwd"}, {"class_path": "logos_pl.nothing.Here", "init_args": {"x": 1}},
    list(range(5000)), {f"k{i}": i for i in range(2000)}, Raw("1e999"), Raw("1" * 5000), Raw("-"), Raw("NaN"),
    Raw("01"), Raw("1.e5"), *DEEP,
)  # fmt: skip


def odd_text(rng: Random) -> str:
    """A random unexpected string."""
    return rng.choice(TEXTS)


def odd_value(rng: Random) -> Any:
    """A random unexpected value."""
    return copy.deepcopy(rng.choice(rng.choice((TEXTS, NUMBERS, WHOLES))))


def shown(value: Any) -> str:
    """A value in a few characters."""
    text = value.text if isinstance(value, Raw) else repr(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"


def to_json(value: Any) -> str:
    """JSON, with `Raw` and `Pairs` verbatim, and NaN and Infinity as Python writes them."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        value = Pairs(list(value.items()))
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {to_json(item)}" for key, item in value.items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_json, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return hex_free(value)
    return json.dumps(value)


def hex_free(number: int) -> str:
    """Decimal digits of any length."""
    return str(number)


def to_yaml(value: Any) -> str:
    """YAML in flow style, which is JSON except for NaN and infinity."""
    return to_json(value).replace("-Infinity", "-.inf").replace("Infinity", ".inf").replace("NaN", ".nan")


Path_ = tuple[Any, ...]


def places(tree: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Paths to all values of a tree, the root first."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def at(tree: Any, path: Path_) -> Any:
    """The value at a path."""
    for key in path:
        tree = tree[key]
    return tree


def _with(tree: Any, path: Path_, value: Any) -> Any:
    if not path:
        return value
    at(tree, path[:-1])[path[-1]] = value
    return tree


def _replace(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    value = odd_value(rng)
    return _with(tree, path, value), shown(value)


def _neighbour(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    """A value of the same type, as plausible values get further than absurd ones."""
    old = at(tree, path)
    value: Any
    if isinstance(old, bool):
        value = not old
    elif isinstance(old, int):
        value = rng.choice((old + 1, old - 1, -old, old * 1000, 0))
    elif isinstance(old, float):
        value = rng.choice((-old, old * 1e9, old + 1, 0.0, math.nan))
    elif isinstance(old, str):
        value = rng.choice((old[:-1], old + "x", old.upper(), old + "\n", old * 50, old + ESCAPES, odd_text(rng)))
    elif isinstance(old, list):
        value = rng.choice((old[:-1], old * 2, old[::-1], [*old, None], [old]))
    else:
        value = odd_value(rng)
    return _with(tree, path, value), f"→ {shown(value)}"


def _remove(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    if not path:
        return Raw(""), "removed"
    del at(tree, path[:-1])[path[-1]]
    return tree, "removed"


def _another_type(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    old = at(tree, path)
    value = rng.choice(([old], {"a": old}, str(old), to_json(old)[:200], None))
    return _with(tree, path, value), f"as {shown(value)}"


def _add(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    old, value = at(tree, path), odd_value(rng)
    if isinstance(old, dict):
        key = odd_text(rng)
        old[key] = value
        return tree, f"with {shown(key)}: {shown(value)}"
    if isinstance(old, list):
        old.insert(rng.randint(0, len(old)), value)
        return tree, f"with {shown(value)}"
    return _replace(rng, tree, path)


def _rename(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    parent = at(tree, path[:-1]) if path else None
    if not isinstance(parent, dict):
        return _replace(rng, tree, path)
    key = rng.choice((odd_text(rng), str(path[-1]) + "x", str(path[-1])[:-1]))
    parent[key] = parent.pop(path[-1])
    return tree, f"called {shown(key)}"


def _twice(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    old = at(tree, path)
    if not isinstance(old, dict) or not old:
        return _another_type(rng, tree, path)
    key = rng.choice(list(old))
    return _with(tree, path, Pairs([*old.items(), (key, odd_value(rng))])), f"with {shown(key)} twice"


def _swap(rng: Random, tree: Any, path: Path_) -> tuple[Any, str]:
    other = rng.choice(list(places(tree)))
    if not path or not other or other[: len(path)] == path or path[: len(other)] == other:
        return _replace(rng, tree, path)
    mine, theirs = at(tree, path), at(tree, other)
    _with(_with(tree, path, theirs), other, mine)
    return tree, f"swapped with {_name(other)}"


EDITS: tuple[Callable[[Random, Any, Path_], tuple[Any, str]], ...] = (
    _replace, _replace, _replace, _neighbour, _neighbour, _remove, _another_type, _add, _rename, _twice, _swap,
)  # fmt: skip


def edited(rng: Random, tree: Any, most_edits: int = 1) -> tuple[Any, str]:
    """A copy of a tree with a few edits, and their description; the copy may contain `Raw` and `Pairs`."""
    tree, done = copy.deepcopy(tree), []
    for _ in range(rng.randint(1, most_edits)):
        # Chosen by depth first, so that a vocabulary of thousands does not hide the ten keys above it.
        by_depth: dict[int, list[Path_]] = {}
        for path in places(tree):
            by_depth.setdefault(len(path), []).append(path)
        depth = rng.choice([d for d in by_depth for _ in range(1 if d == 0 else 6)])
        path = rng.choice(by_depth[depth])
        tree, what = rng.choice(EDITS)(rng, tree, path)
        done.append(f"{_name(path)} {what}")
        if not isinstance(tree, dict | list):
            break
    return tree, "; ".join(done)


def _name(path: Path_) -> str:
    return shown(".".join(map(str, path)))[1:-1] if path else "all of it"
