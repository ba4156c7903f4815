"""Opens local or remote shards, decompressed, and reads lines of bounded length."""

import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa

from logos_pl.errors import InputError
from logos_pl.io.parsing import open_regular

MAX_ROW_BYTES = 2**25
"""Maximum number of bytes in a line, paragraph or parquet value; tokenising one takes several gigabytes of memory."""


MAX_PADDING_BYTES = 2**16
"""Zeros at the end of a compressed file; archivers pad to 10 KiB."""

DECOMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".xz": lzma.LZMAFile,
    ".bz2": bz2.BZ2File,
    ".zst": lambda file: pa.CompressedInputStream(file, "zstd"),
}
"""Decompressors by file suffix; each reads concatenated streams."""


@contextmanager
def opened(url: str, name: str) -> Iterator[BinaryIO]:
    """Open a shard, decompressed according to its suffix.

    Args:
        url: Absolute path, or URL of a remote file.
        name: Name of the shard in messages.

    Raises:
        InputError: A local file is a folder, pipe, device or socket, or compressed and ends in zeros.
        OSError: It is missing or cannot be read.
    """
    with ExitStack() as stack:
        # A local path may contain `::`, `*` or `?`, which a URL parser would interpret.
        file = stack.enter_context(open_regular(Path(url), name) if os.path.isabs(url) else fsspec.open(url, "rb"))
        decompress = next((make for ending, make in DECOMPRESSORS.items() if url.endswith(ending)), None)
        if decompress is not None and os.path.isabs(url):
            _check_end(file, name)
        yield file if decompress is None else stack.enter_context(decompress(file))


def _check_end(file: BinaryIO, name: str) -> None:
    """Refuse a compressed file that was extended by zeros: the formats allow them, and a terabyte would all be read.

    Raises:
        InputError: It ends in more zeros than padding has.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MAX_PADDING_BYTES))
    if size >= MAX_PADDING_BYTES and not file.read().strip(b"\0"):
        raise InputError(f"{name} ends in zeros, which a compressed text never does: it is damaged, fetch it again.")
    file.seek(0)


def byte_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; a line longer than `MAX_ROW_BYTES` is cut to `MAX_ROW_BYTES` + 1 bytes."""
    return iter(partial(_buffered(file).readline, MAX_ROW_BYTES + 1), b"")


def text_lines(file: BinaryIO) -> Iterator[str]:
    """Yield lines as text with normalised line ends; bytes that are not UTF-8 become lone surrogates."""
    with io.TextIOWrapper(_buffered(file), encoding="utf-8", errors="surrogateescape") as text:
        yield from iter(partial(text.readline, MAX_ROW_BYTES + 1), "")


def _buffered(file: BinaryIO) -> io.BufferedReader:
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(file, 2**18)  # type: ignore[arg-type]
