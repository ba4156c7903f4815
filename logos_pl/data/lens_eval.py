"""Reads the lens-eval files: JSON of prompts with unspoken intermediates, one file per set.

A file is `{"items": [{"name", "prompt", "intermediates", "target"?}, …]}`. Where a lens is read and how a word is
spelled depend on the set, which is the end of the file's name (`lens-eval-poetry.json`). Source: Gurnee et al.,
*Verbalizable Representations*, 2026.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from logos_pl.data.unspoken import MAX_ITEMS, Spellings, UnspokenItem, UnspokenSuite, problem_of
from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_TEXT_BYTES, parse_json, read_bytes

PREFIX = "lens-eval-"

_FIELDS = frozenset({"name", "prompt", "intermediates", "target"})

_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip

_OPERATIONS: dict[str, Spellings] = {
    "addition": ("addition", "add", "adding", "added", "plus", "sum", "+"),
    "subtraction": ("subtraction", "subtract", "subtracting", "minus", "difference", "-", "−"),
    "multiplication": ("multiplication", "multiply", "multiplying", "multiplied", "times", "product", "*", "×"),
    "division": ("division", "divide", "dividing", "divided", "quotient", "/", "÷"),
    "mod": ("mod", "modulo", "modulus", "remainder", "%"),
    "squared": ("squared", "square", "²", "^", "**"),
}


class _Rule(NamedTuple):
    """How a set is scored: where it is read, and whether its words are numbers and operations of single tokens."""

    read_after: str | None = None
    arithmetic: bool = False


_RULES = {"poetry": _Rule(read_after="\n"), "order-ops": _Rule(arithmetic=True)}


def read_lens_eval(path: Path) -> UnspokenSuite:
    """Read a lens-eval file, or all of a folder.

    Raises:
        InputError: A file cannot be read, is not JSON or is invalid, or the folder has none.
    """
    files = sorted(path.glob(f"{PREFIX}*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} has no {PREFIX}*.json: give a folder with the files of lens-eval, or one of them.")
    digest, items = hashlib.sha256(), []
    for file in files:
        try:
            data = read_bytes(file, MAX_TEXT_BYTES, str(file))
            items += _items(parse_json(data.decode(), str(file)), file)
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error.strerror}): give a file of lens-eval.") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8 text: fetch the file again.") from error
        digest.update(data)
    return UnspokenSuite(tuple(items), path.name, digest.hexdigest())


def _items(document: Any, file: Path) -> list[UnspokenItem]:
    given = document.get("items") if isinstance(document, dict) else None
    if not isinstance(given, list) or not given:
        raise InputError(f"{file} has no list `items` of prompts: give a file of lens-eval.")
    if len(given) > MAX_ITEMS:
        raise InputError(f"{file} has {len(given):,} items, but at most {MAX_ITEMS:,} are read: split the file.")
    set_name = file.stem.removeprefix(PREFIX)
    items: list[UnspokenItem] = []
    names: set[str] = set()
    for number, plain in enumerate(given, start=1):
        item = _item(plain, set_name, f"{file}, item {number}")
        if item.item_id in names:
            raise InputError(f"{file}, item {number}: the name {item.item_id!r} is already given; keep one.")
        names.add(item.item_id)
        items.append(item)
    return items


def _item(plain: Any, set_name: str, where: str) -> UnspokenItem:
    if not isinstance(plain, dict) or not {"name", "prompt", "intermediates"} <= set(plain) <= _FIELDS:
        raise InputError(f"{where}: expected only `name`, `prompt`, `intermediates` and, optionally, `target`.")
    texts = [plain["name"], plain["prompt"], plain.get("target", "x")]
    words = plain["intermediates"]
    if not isinstance(words, list) or not words or not all(map(_is_text, [*texts, *words])):
        raise InputError(f"{where}: every field must be text, and `intermediates` a list of texts; none may be empty.")
    rule = _RULES.get(set_name, _Rule())
    spelled = _arithmetic if rule.arithmetic else _as_it_is
    item = UnspokenItem(
        item_id=plain["name"],
        set_name=set_name,
        prompt=plain["prompt"],
        intermediates=tuple(map(spelled, words)),
        target=spelled(plain["target"]) if "target" in plain else (),
        read_after=rule.read_after,
        single_token=rule.arithmetic,
    )
    problem = problem_of(item)
    if problem is not None:
        raise InputError(f"{where}: {problem}.")
    return item


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _as_it_is(word: str) -> Spellings:
    return (word,)


def _arithmetic(word: str) -> Spellings:
    """A number as digits and as a word, an operation as symbol and as words."""
    if re.fullmatch(r"[0-9]{1,9}", word) and int(word) < len(_NUMBERS):
        return (word, _NUMBERS[int(word)])
    if word in _NUMBERS:
        return (str(_NUMBERS.index(word)), word)
    return _OPERATIONS.get(word, (word,))
