"""Reads a shard row by row from any row: parquet, JSON lines and plain text, local or remote.

A row is a parquet row, a line of JSON or, in a plain text file, a paragraph (lines between blank lines), so that a
single large text file also has documents to hold out. A conversation is returned as one text of a fixed form. No shard
is read into memory as a whole: parquet skips whole row groups and reads only the text column, and the other formats are
read line by line.
"""

import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub.utils import httpx

from logos_pl.data.conversation_rows import KINDS, NotMessagesError, document_of
from logos_pl.data.streams import DECOMPRESSORS, MAX_ROW_BYTES, byte_lines, opened, text_lines
from logos_pl.errors import InputError, RunError
from logos_pl.io.terminal import shortened
from logos_pl.settings.text import DocumentForm

PARQUET, JSON_LINES, TEXT = "parquet", "jsonl", "txt"
FORMATS = {".parquet": PARQUET, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON_LINES, ".txt": TEXT}
BATCH_ROWS = 64  # rows decoded at once: enough to hide the cost of a call, a few hundred kB of text

# Errors raised by a corrupt file, a disk or a connection. ValueError covers ArrowInvalid, JSON and Unicode errors;
# OSError covers a missing file, ConnectionError and huggingface_hub's HTTP errors.
READ_ERRORS = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, httpx.HTTPError)


class BrokenRowError(ValueError):
    """A row cannot be read."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


class Shard(NamedTuple):
    """One file of a dataset.

    Attributes:
        name: Its path inside the dataset, the same for a local copy as on the Hub.
        url: Its path or URL.
        form: Format of its rows.
    """

    name: str
    url: str
    form: DocumentForm = "text"


class Stride(NamedTuple):
    """Rows with index ≡ `remainder` modulo `modulus`; all rows by default."""

    remainder: int = 0
    modulus: int = 1

    def holds(self, row: int) -> bool:
        """Whether `row` is included."""
        return row % self.modulus == self.remainder


ALL_ROWS = Stride()
Row = tuple[int, str | None]
"""Index of a row, and its text, or its conversation in the form of `document_of`; None if it is empty."""


class Rows(Protocol):
    """Some of the rows."""

    def holds(self, row: int) -> bool:
        """Whether `row` is included."""


def shard_format(name: str) -> str | None:
    """`parquet`, `jsonl` or `txt` by the file's ending, the latter two also before a compression's; else None."""
    compression = next((ending for ending in DECOMPRESSORS if name.endswith(ending)), "")
    name = name.removesuffix(compression)
    kind = next((kind for ending, kind in FORMATS.items() if name.endswith(ending)), None)
    return None if compression and kind == PARQUET else kind  # parquet is read from its end, and has compression inside


def read_rows(shard: Shard, text_column: str, start: int = 0, stride: Rows = ALL_ROWS) -> Iterator[Row]:
    """Yields (row, text) of the stride's rows from `start` on; the text is None where the row has none.

    Raises:
        InputError: If the shard has no column `text_column`, or it does not hold text, or conversations.
        RunError: If the shard cannot be read, because it vanished, is corrupt, or the connection was lost.
    """
    reader = {PARQUET: _parquet_rows, JSON_LINES: _json_rows, TEXT: _text_rows}[shard_format(shard.name) or TEXT]
    row = start
    try:
        for row, text in reader(shard, text_column, start, stride):
            if text is not None and len(text) > MAX_ROW_BYTES:
                raise _too_long(shard, row)
            yield row, None if text is None else _encodable(text)
            row += 1
    except FileNotFoundError as error:
        raise RunError(
            f"Shard {shard.name} vanished before its row {row} was read; put it back, and start again or resume with "
            "--ckpt_path last."
        ) from error
    except READ_ERRORS as error:
        row, reason = (error.row, str(error)) if isinstance(error, BrokenRowError) else (row, _first_line(error))
        raise RunError(
            f"Shard {shard.name} cannot be read from row {row} on ({reason}); "
            "fix or fetch it again, and start again or resume with --ckpt_path last."
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


def _missing_column(shard: Shard, text_column: str, columns: list[str]) -> InputError:
    return InputError(
        f"Shard {shard.name} has no column '{text_column}', only {', '.join(columns) or 'none at all'}; "
        f"name the one that holds the {_WANTED[shard.form]} with --data.text_column."
    )


def _not_text(shard: Shard, text_column: str, kind: str, row: int | None = None) -> InputError:
    where = "" if row is None else f" in row {row}"
    return InputError(
        f"Column '{text_column}' of shard {shard.name} holds {kind}{where}, not {_WANTED[shard.form]}; "
        f"name the one that holds the {_WANTED[shard.form]} with --data.text_column."
    )


_WANTED: dict[DocumentForm, str] = {"text": "text", "chat": "conversations"}


def _document(shard: Shard, text_column: str, row: int, value: Any) -> str | None:
    """The text of a row, or its conversation in its fixed form.

    Raises:
        InputError: It holds something else.
    """
    if shard.form == "text":
        if value is None or isinstance(value, str):
            return value
        raise _not_text(shard, text_column, KINDS[type(value)], row)
    try:
        return document_of(value)
    except NotMessagesError as error:
        raise InputError(
            f"Row {row} of shard {shard.name} has no valid conversation in '{text_column}': {error}; fix the row or "
            "remove it, or name another column with --data.text_column."
        ) from error


def _too_long(shard: Shard, row: int) -> InputError:
    return InputError(
        f"Row {row} of shard {shard.name} is longer than {MAX_ROW_BYTES:,} characters; "
        "split it into documents (in plain text with blank lines between them)."
    )


def _parquet_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    with opened(shard.url, shard.name) as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        schema = parquet.schema_arrow
        if text_column not in schema.names:
            raise _missing_column(shard, text_column, schema.names)
        if schema.names.count(text_column) > 1:
            raise InputError(
                f"Shard {shard.name} has {schema.names.count(text_column)} columns '{text_column}'; "
                "give each column its own name."
            )
        kind = schema.field(text_column).type
        if not _holds(kind, shard.form):
            raise _not_text(shard, text_column, shortened(str(kind), 80))
        row = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if row + rows <= start:  # the whole group lies before the start: skipped without reading a byte of it
                row += rows
                continue
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=[text_column], use_threads=False):
                for value in batch.column(0):
                    if row >= start and stride.holds(row):
                        yield row, _document(shard, text_column, row, value.as_py())
                    row += 1


def _holds(kind: pa.DataType, form: DocumentForm) -> bool:
    """Whether a column of this type can hold documents of this form."""
    types = pa.types
    if form == "text":
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind)
    return bool(is_list and types.is_struct(kind.value_type))


def _json_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    with opened(shard.url, shard.name) as file:  # bytes, so that an invalid character fails in its own row
        lines = (line for line in byte_lines(file) if not line.isspace())
        key = f'"{text_column}"'.encode()
        keys = (text_column,) if shard.form == "text" else (text_column, "role", "content")
        for row, line in enumerate(lines):
            if len(line) > MAX_ROW_BYTES:
                raise _too_long(shard, row)
            wanted = row >= start and stride.holds(row)
            if row > 0 and not wanted:
                continue
            # The hook makes parsing several times slower, so it is used only where the key may be repeated.
            hook = partial(_once, keys, row) if line.count(key) > 1 or shard.form == "chat" else None
            record = _json_object(shard, row, line, hook)
            if row == 0 and text_column not in record:  # later rows may leave out what is null
                raise _missing_column(shard, text_column, list(record))
            if not wanted:
                continue
            yield row, _document(shard, text_column, row, record.get(text_column))


def _once(keys: Sequence[str], row: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose `keys` must not be repeated: Python's parser silently keeps only the last."""
    for key in keys:
        if sum(name == key for name, _ in pairs) > 1:
            raise BrokenRowError(row, f"it has the key '{key}' twice")
    return dict(pairs)


def _json_object(shard: Shard, row: int, line: bytes, hook: Callable[[Any], Any] | None) -> dict[str, Any]:
    """The object of a line.

    Raises:
        BrokenRowError: It is not JSON in UTF-8, is nested too deeply, or has a key twice.
        InputError: It is JSON but not an object.
    """
    try:
        record = json.loads(line, object_pairs_hook=hook)
    except UnicodeDecodeError as error:
        raise BrokenRowError(row, "it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise BrokenRowError(row, f"it is not JSON: {error.msg} in character {error.pos + 1}") from error
    except RecursionError as error:
        raise BrokenRowError(row, "it is JSON that is nested too deeply") from error
    if not isinstance(record, dict):
        raise InputError(
            f"Row {row} of shard {shard.name} is not a JSON object; give a file with one JSON object per line."
        )
    return record


def _text_rows(shard: Shard, text_column: str, start: int, stride: Rows) -> Iterator[Row]:
    if shard.form == "chat":
        raise InputError(
            f"{shard.name} holds plain text; give conversations as .jsonl or .parquet, or leave out --data.format."
        )
    with opened(shard.url, shard.name) as file:
        for row, paragraph in enumerate(_paragraphs(text_lines(file))):
            if row >= start and stride.holds(row):
                if not _is_text(paragraph):
                    raise BrokenRowError(row, "it is not UTF-8 text")
                yield row, paragraph


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _paragraphs(lines: Iterator[str]) -> Iterator[str]:
    """Runs of lines between blank lines, without the last line feed; split where they are too long."""
    paragraph: list[str] = []
    size = 0
    for line in lines:
        blank = line.isspace()
        if not blank:
            paragraph.append(line)
            size += len(line)
        if paragraph and (blank or size > MAX_ROW_BYTES):
            yield "".join(paragraph).removesuffix("\n")
            paragraph, size = [], 0
    if paragraph:
        yield "".join(paragraph).removesuffix("\n")
