"""Records as CSV: one header for each kind of record, written whole or as `.partial`, read back bit for bit."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TextIO, TypeVar, cast, get_type_hints

from logos_pl.errors import InputError
from logos_pl.io.files import text_stream
from logos_pl.io.parsing import open_regular
from logos_pl.sweeps.records import (
    COPY_THRESHOLDS,
    SOFT_WINDOWS,
    TOP_K,
    ContributionRecord,
    NextTokenRecord,
    PositionRecord,
    TopToken,
)

Record = TypeVar("Record", PositionRecord, NextTokenRecord, ContributionRecord)
AnyRecord = PositionRecord | NextTokenRecord | ContributionRecord

PLAIN = frozenset({"prompt_id", "prompt_variant", "lens", "component", "kind"})
"""Text columns that stand as they are; every other text is a JSON string literal."""

SPREAD = {
    "copy_soft": tuple(f"copy_soft_k{window}" for window in SOFT_WINDOWS),
    "copy_at": tuple(f"copy_at_{threshold:.2f}" for threshold in COPY_THRESHOLDS),
}
"""The columns of the fields that are several truth values."""

UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
"""What JSON leaves as it is and a reader of lines, or UTF-8, may not."""


class Column(NamedTuple):
    """A column's name and the way from a cell to its value."""

    name: str
    parse: Callable[[str], Any]


def position_header() -> tuple[str, ...]:
    """The columns of the records of every position."""
    return header_of(PositionRecord)


def next_token_header() -> tuple[str, ...]:
    """The columns of the records of the next token."""
    return header_of(NextTokenRecord)


def contribution_header() -> tuple[str, ...]:
    """The columns of the records of a logit's components."""
    return header_of(ContributionRecord)


def flat(record: AnyRecord) -> dict[str, Any]:
    """A record by column, its values as they are, for `pandas.DataFrame(map(flat, records))`.

    Where the vocabulary has fewer than `TOP_K` tokens, the columns of the missing ones are None.
    """
    return dict(zip(header_of(type(record)), _values(record), strict=True))


class RecordWriter(Generic[Record]):
    """Writes records of one kind to a CSV file, as a context manager.

    The file comes to stand under its name when the block ends without an exception. Until then, and for good after an
    exception, `<name>.partial` beside it has what was written, so that nothing that was read is lost.

    Cells: None and NaN are empty, floats are the shortest decimals that read back bit-equal (in older pandas: with
    `float_precision="round_trip"`), truth values `True` and `False`. Token strings and `fact` are JSON string literals:
    `json.loads` gives them back from any reader, whatever line breaks, quotes or "NA" they hold. The text is UTF-8 and
    every record is one line, ended by a line feed.

    Args:
        path: Where the file is to stand; its folder exists.
        kind: The type of the records.

    Raises:
        OSError: the disk refuses, here or at the end of the block.
    """

    def __init__(self, path: Path, kind: type[Record]) -> None:
        self.path = path
        self.kind: type[Record] = kind

    _stream: AbstractContextManager[TextIO]
    _file: TextIO

    def __enter__(self) -> Self:
        self._stream = text_stream(self.path)
        self._file = self._stream.__enter__()
        csv.writer(self._file, lineterminator="\n").writerow(header_of(self.kind))
        return self

    def write(self, records: Iterable[Record]) -> None:
        """Append records.

        Raises:
            InputError: a prompt's id or variant has characters that cannot be printed in one line.
            OSError: the disk refuses.
        """
        csv.writer(self._file, lineterminator="\n").writerows(map(_cells, records))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, traceback)


def read_records(path: Path) -> Iterator[PositionRecord] | Iterator[NextTokenRecord] | Iterator[ContributionRecord]:
    """The records of a CSV file that `RecordWriter` wrote, one at a time; the header says of which kind.

    An empty cell is None in a field that may be None, and NaN in any other number: an answer metric that was NaN reads
    back as None.

    Raises:
        InputError: the header is no kind's, or (while reading) a line does not fit it.
        OSError: the file cannot be read.
    """
    found = tuple(next(_lines(path), (1, []))[1])
    if found == header_of(PositionRecord):
        return _read(path, PositionRecord)
    if found == header_of(NextTokenRecord):
        return _read(path, NextTokenRecord)
    if found == header_of(ContributionRecord):
        return _read(path, ContributionRecord)
    raise InputError(
        f"{path} starts with the columns {', '.join(found[:5]) or '(none)'} …, which are not those of a sweep's "
        "records in this version: give a CSV file that logos-pl predict wrote, or write it anew."
    )


def _read(path: Path, kind: type[Record]) -> Iterator[Record]:
    for number, cells in islice(_lines(path), 1, None):
        try:
            record = _record(kind, cells)
        except ValueError as error:
            raise InputError(
                f"Line {number} of {path} is no record of a sweep ({error}): give a file that logos-pl predict wrote."
            ) from error
        yield record


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of every line, with its number.

    Raises:
        InputError: the file is no regular file, or no CSV in UTF-8.
    """
    with open_regular(path) as data, TextIOWrapper(data, encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is no CSV file in UTF-8 ({error}): give a file that logos-pl predict wrote."
            ) from error


def _record(kind: type[Record], cells: Sequence[str]) -> Record:
    """The record of a line.

    Raises:
        ValueError: the cells are too few or too many, or one of them is not of its column's type.
    """
    values = iter([column.parse(cell) for column, cell in zip(columns_of(kind), cells, strict=True)])
    fields: dict[str, Any] = {}
    for field in kind._fields:
        if field == "top":
            triples = [tuple(islice(values, 3)) for _ in range(TOP_K)]
            fields[field] = tuple(TopToken(*triple) for triple in triples if triple[0] is not None)
        elif field in SPREAD:
            fields[field] = tuple(islice(values, len(SPREAD[field])))
        else:
            fields[field] = next(values)
    return kind(**fields)


def _values(record: AnyRecord) -> list[Any]:
    """A record's values, one per column."""
    values: list[Any] = []
    for field, value in zip(record._fields, record, strict=True):
        if field == "top":
            tokens = cast(tuple[TopToken, ...], value)
            values += [part for token in tokens for part in token] + [None] * (3 * (TOP_K - len(tokens)))
        elif field in SPREAD:
            values += getattr(record, field)
        else:
            values.append(value)
    return values


def _cells(record: AnyRecord) -> list[object]:
    """A record's cells, for `csv`, which writes floats by `repr` and None as nothing.

    Raises:
        InputError: a plain text would not survive in a line of CSV.
    """
    cells: list[object] = []
    for name, value in zip(header_of(type(record)), _values(record), strict=True):
        if isinstance(value, str):
            cells.append(_plain(name, value) if name in PLAIN else _literal(value))
        else:
            cells.append(None if value != value else value)  # only NaN differs from itself
    return cells


def _plain(name: str, text: str) -> str:
    if text.isprintable():
        return text
    raise InputError(f"The {name} {text!r} has characters that cannot be printed: name the prompt in one line of text.")


@lru_cache(maxsize=2**16)
def _literal(text: str) -> str:
    """A JSON string literal in one line of UTF-8; letters of all scripts stay readable."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _text(cell: str) -> str:
    text = json.loads(cell)
    if not isinstance(text, str):
        raise ValueError(f"{cell} is no JSON string")
    return text


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


def _truth(cell: str) -> bool:
    if cell not in ("True", "False"):
        raise ValueError(f"{cell!r} is neither True nor False")
    return cell == "True"


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda cell: parse(cell) if cell else None


PARSERS: dict[Any, Callable[[str], Any]] = {str: _text, int: int, float: _number, bool: _truth}
PARSERS |= {type_ | None: _optional(parse) for type_, parse in PARSERS.items()}


def _columns(kind: type) -> Iterator[Column]:
    """The columns of a kind of record, in order: its fields, with the tuples among them spread out."""
    for field, type_ in get_type_hints(kind).items():
        if field == "top":
            for place in range(1, TOP_K + 1):
                yield Column(f"top{place}_id", PARSERS[int | None])
                yield Column(f"top{place}_token", PARSERS[str | None])
                yield Column(f"top{place}_p", _number)
        elif field in SPREAD:
            yield from (Column(name, _truth) for name in SPREAD[field])
        else:
            yield Column(field, str if field in PLAIN else PARSERS[type_])


_KNOWN: dict[type, tuple[tuple[Column, ...], tuple[str, ...]]] = {}


def _known(kind: type) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Columns and header of a kind of record, worked out once."""
    if kind not in _KNOWN:
        columns = tuple(_columns(kind))
        _KNOWN[kind] = columns, tuple(column.name for column in columns)
    return _KNOWN[kind]


def columns_of(kind: type) -> tuple[Column, ...]:
    """The columns of a kind of record, in order."""
    return _known(kind)[0]


def header_of(kind: type) -> tuple[str, ...]:
    """The names of the columns of a kind of record."""
    return _known(kind)[1]
