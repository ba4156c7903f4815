"""CSV files of records: one header per record type, atomic writing, and lossless reading."""

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
from logos_pl.io.parsing import bounded_lines, open_regular
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
"""Text columns written as they are; all other text is a JSON string literal."""

SPREAD = {
    "copy_soft": tuple(f"copy_soft_k{window}" for window in SOFT_WINDOWS),
    "copy_at": tuple(f"copy_at_{threshold:.2f}" for threshold in COPY_THRESHOLDS),
}
"""Columns of fields with several booleans."""

UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]")
"""Characters that JSON allows but line readers or UTF-8 may not."""


class Column(NamedTuple):
    """Name of a column and parser of its cells."""

    name: str
    parse: Callable[[str], Any]


def position_header() -> tuple[str, ...]:
    """Columns of position records."""
    return header_of(PositionRecord)


def next_token_header() -> tuple[str, ...]:
    """Columns of next-token records."""
    return header_of(NextTokenRecord)


def contribution_header() -> tuple[str, ...]:
    """Columns of contribution records."""
    return header_of(ContributionRecord)


def flat(record: AnyRecord) -> dict[str, Any]:
    """Values of a record by column, for `pandas.DataFrame(map(flat, records))`.

    If the vocabulary has fewer than `TOP_K` tokens, the missing columns are None.
    """
    return dict(zip(header_of(type(record)), _values(record), strict=True))


class RecordWriter(Generic[Record]):
    """Context manager that writes records of one type to a CSV file.

    The file is written to `<name>.partial` and renamed when the block ends without an exception; after an exception the
    partial file remains.

    Cells: None and NaN are empty; floats are the shortest decimals that round-trip (in older pandas with
    `float_precision="round_trip"`); booleans are `True` and `False`. Token strings and `fact` are JSON string literals,
    which `json.loads` restores even with line breaks, quotes or "NA". The file is UTF-8, with one line per record.

    Args:
        path: Path of the file, in an existing folder.
        kind: Type of the records.

    Raises:
        OSError: The file cannot be written, here or at the end of the block.
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
            InputError: The id or variant of a prompt has unprintable characters.
            OSError: The file cannot be written.
        """
        csv.writer(self._file, lineterminator="\n").writerows(map(_cells, records))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, traceback)


def read_records(path: Path) -> Iterator[PositionRecord] | Iterator[NextTokenRecord] | Iterator[ContributionRecord]:
    """Yield the records of a CSV file written by `RecordWriter`; the header determines their type.

    An empty cell is read as None in an optional field, else as NaN; hence an answer metric that was NaN becomes None.

    Raises:
        InputError: The header is unknown, or (while reading) a line does not match it.
        OSError: The file cannot be read.
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
        "records in this version: give a CSV file of logos-pl predict, or write it again."
    )


def _read(path: Path, kind: type[Record]) -> Iterator[Record]:
    for number, cells in islice(_lines(path), 1, None):
        try:
            record = _record(kind, cells)
        except ValueError as error:
            raise InputError(
                f"Line {number} of {path} is not a record of a sweep ({error}): give a file of logos-pl predict."
            ) from error
        yield record


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of every line.

    Raises:
        InputError: The file is not a regular file, not CSV in UTF-8, or has a line longer than any record.
    """
    with open_regular(path) as data, TextIOWrapper(data, encoding="utf-8", newline="") as file:
        reader = csv.reader(bounded_lines(file, path), strict=True)
        try:
            for cells in reader:
                yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is not a CSV file in UTF-8 ({error}): give a file of logos-pl predict."
            ) from error


def _record(kind: type[Record], cells: Sequence[str]) -> Record:
    """Parse a line.

    Raises:
        ValueError: The number of cells is wrong, or a cell does not have the type of its column.
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
    """Values of a record, one per column."""
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
    """Cells of a record for `csv`, which writes floats by `repr` and None as an empty cell.

    Raises:
        InputError: A plain text cannot be written in a line of CSV.
    """
    cells: list[object] = []
    for name, value in zip(header_of(type(record)), _values(record), strict=True):
        if isinstance(value, str):
            cells.append(_plain(name, value) if name in PLAIN else _literal(value))
        else:
            cells.append(None if value != value else value)  # only NaN is unequal to itself
    return cells


def _plain(name: str, text: str) -> str:
    if text.isprintable():
        return text
    raise InputError(f"The {name} {text!r} has characters that cannot be printed: name the prompt in one line of text.")


@lru_cache(maxsize=2**16)
def _literal(text: str) -> str:
    """JSON string literal in one line of UTF-8; letters of all scripts are not escaped."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _text(cell: str) -> str:
    text = json.loads(cell)
    if not isinstance(text, str):
        raise ValueError(f"{cell} is not a JSON string")
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
    """Columns of a record type in order: its fields, with tuples expanded."""
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
    """Columns and header of a record type, cached."""
    if kind not in _KNOWN:
        columns = tuple(_columns(kind))
        _KNOWN[kind] = columns, tuple(column.name for column in columns)
    return _KNOWN[kind]


def columns_of(kind: type) -> tuple[Column, ...]:
    """Columns of a record type, in order."""
    return _known(kind)[0]


def header_of(kind: type) -> tuple[str, ...]:
    """Column names of a record type."""
    return _known(kind)[1]
