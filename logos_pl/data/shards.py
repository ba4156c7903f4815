"""Reading one shard row by row, from any row on: parquet, JSON lines and plain text, local or remote.

A row is what a cursor counts: a parquet row, a line of JSON, or, in a plain text file, a paragraph (a run of lines
between blank lines), so that one big text file still has many documents of which some can be held out. Nothing reads a
whole shard into memory: parquet skips whole row groups to reach a row and reads only the text column; the other two are
read line by line.
"""

import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, Protocol

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.utils import httpx

from logos_pl.errors import InputError, RunError

PARQUET, JSON_LINES, TEXT = "parquet", "jsonl", "txt"
FORMATS = {".parquet": PARQUET, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES, ".txt": TEXT}
COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".bz2": "bz2", ".zst": "zstd"}
BATCH_ROWS = 64  # rows decoded at once: enough to hide the cost of a call, a few hundred kB of text

# What a broken file, disk or connection raises while a shard is read. ValueError covers ArrowInvalid, JSON and Unicode
# errors; OSError covers a missing file, ConnectionError and huggingface_hub's HTTP errors.
READ_ERRORS = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, httpx.HTTPError)


class Shard(NamedTuple):
    """One file of a dataset: `name` is its path inside the dataset, the same for a local copy as on the Hub."""

    name: str
    url: str


class Stride(NamedTuple):
    """The rows whose index leaves `remainder` when divided by `modulus`; every row by default."""

    remainder: int = 0
    modulus: int = 1

    def holds(self, row: int) -> bool:
        """Whether `row` is one of them."""
        return row % self.modulus == self.remainder


ALL_ROWS = Stride()
Row = tuple[int, str | None]
"""The index of a row, and its text; None where it has none."""


class Rows(Protocol):
    """Some of the rows."""

    def holds(self, row: int) -> bool:
        """Whether `row` is one of them."""


def shard_format(name: str) -> str | None:
    """`parquet`, `jsonl` or `txt` by the file's ending, before a compression's ending if any; else None."""
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return next((kind for ending, kind in FORMATS.items() if name.endswith(ending)), None)


def read_rows(shard: Shard, text_column: str, start: int = 0, stride: Rows = ALL_ROWS) -> Iterator[Row]:
    """Yields (row, text) of the stride's rows from `start` on; the text is None where the row has none.

    Raises:
        InputError: If the shard has no column `text_column`, or it does not hold text.
        RunError: If the shard cannot be read on, because it vanished, is corrupt, or the connection was lost.
    """
    reader = {PARQUET: _parquet_rows, JSON_LINES: _json_rows, TEXT: _text_rows}[shard_format(shard.name) or TEXT]
    row = start
    try:
        for row, text in reader(shard, text_column, start, stride):
            yield row, None if text is None else _encodable(text)
            row += 1
    except FileNotFoundError as error:
        raise RunError(
            f"Shard {shard.name} vanished before its row {row} was read; put it back and resume with --ckpt_path last."
        ) from error
    except READ_ERRORS as error:
        raise RunError(
            f"Shard {shard.name} cannot be read from row {row} on ({_first_line(error)}); "
            "mend or fetch it again and resume with --ckpt_path last."
        ) from error


def _first_line(error: BaseException) -> str:
    """The kind and the first line of an error's message, short enough for one sentence."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".rstrip(": .")


def _encodable(text: str) -> str:
    """The text with lone surrogates (which JSON can spell and UTF-8 cannot) replaced by question marks."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


@contextmanager
def _opened(shard: Shard, mode: str) -> Iterator[IO[Any]]:
    """The shard's file, decompressed; text mode is UTF-8."""
    encoding = {} if "b" in mode else {"encoding": "utf-8"}
    with fsspec.open(shard.url, mode, compression="infer", **encoding) as file:
        yield file


def _missing_column(shard: Shard, text_column: str, columns: list[str]) -> InputError:
    return InputError(
        f"Shard {shard.name} has no column '{text_column}', only {', '.join(columns) or 'none at all'}; "
        "name the one that holds the text with --data.text_column."
    )


def _not_text(shard: Shard, text_column: str, kind: str) -> InputError:
    return InputError(
        f"Column '{text_column}' of shard {shard.name} holds {kind}, not text; "
        "name the one that holds the text with --data.text_column."
    )


def _parquet_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    with _opened(shard, "rb") as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        schema = parquet.schema_arrow
        if text_column not in schema.names:
            raise _missing_column(shard, text_column, schema.names)
        kind = schema.field(text_column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise _not_text(shard, text_column, str(kind))
        row = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if row + rows <= start:  # the whole group lies before the start: skipped without reading a byte of it
                row += rows
                continue
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[text_column], use_threads=False):
                for value in batch.column(0):
                    if row >= start and stride.holds(row):
                        yield row, value.as_py()
                    row += 1


def _json_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    with _opened(shard, "rb") as file:  # bytes: a broken character is then met in its own row
        lines = (line for line in file if not line.isspace())
        for row, line in enumerate(lines):
            wanted = row >= start and stride.holds(row)
            if row > 0 and not wanted:
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                raise InputError(
                    f"Row {row} of shard {shard.name} is not a JSON object; give a file with one JSON object per line."
                )
            if row == 0 and text_column not in record:  # later rows may leave out what is null
                raise _missing_column(shard, text_column, list(record))
            if not wanted:
                continue
            text = record.get(text_column)
            if text is not None and not isinstance(text, str):
                raise _not_text(shard, text_column, type(text).__name__)
            yield row, text


def _text_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    with _opened(shard, "rt") as file:
        for row, paragraph in enumerate(_paragraphs(file)):
            if row >= start and stride.holds(row):
                yield row, paragraph


def _paragraphs(lines: IO[str]) -> Iterator[str]:
    """Runs of lines without a blank one, each without its last line end."""
    paragraph: list[str] = []
    for line in lines:
        if not line.isspace():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph).removesuffix("\n")
            paragraph = []
    if paragraph:
        yield "".join(paragraph).removesuffix("\n")
