import bz2
import gzip
import io
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from logos_pl.data import streams
from logos_pl.data.streams import DECOMPRESSORS, MAX_ROW_BYTES, byte_lines, opened, text_lines
from logos_pl.errors import InputError

TWO_LINES = "Grüße\nfrom here\n".encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


def test_every_kind_of_compression_is_tested_here() -> None:
    assert COMPRESS.keys() == DECOMPRESSORS.keys()


@pytest.mark.parametrize("ending", ["", *COMPRESS])
def test_a_file_is_decompressed_by_its_ending_also_where_streams_follow_one_another(
    tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"a.txt{ending}"
    compress = COMPRESS.get(ending, bytes)
    path.write_bytes(compress(TWO_LINES[:5]) + compress(TWO_LINES[5:]))
    with opened(str(path), "a.txt") as file:
        assert file.read() == TWO_LINES
    with opened(str(path), "a.txt") as file:
        assert list(byte_lines(file)) == TWO_LINES.splitlines(keepends=True)
    with opened(str(path), "a.txt") as file:
        assert list(text_lines(file)) == ["Grüße\n", "from here\n"]


def test_a_path_that_reads_like_an_address_is_opened_as_a_path(tmp_path: Path) -> None:
    for name in ("zip::a.txt", "memory:a.txt", "a?*.txt"):
        (tmp_path / name).write_bytes(b"x")
        with opened(str(tmp_path / name), name) as file:
            assert file.read() == b"x"


def test_an_address_is_opened_as_one() -> None:
    with opened("data:text/plain,hello", "hello") as file:
        assert file.read() == b"hello"


def test_a_pipe_is_refused_by_the_name_of_the_shard_and_a_missing_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt.gz")
    with (
        pytest.raises(InputError, match=r"^shard 3 is not a regular file"),
        opened(str(tmp_path / "a.txt.gz"), "shard 3"),
    ):
        pass
    with pytest.raises(FileNotFoundError), opened(str(tmp_path / "b.txt"), "shard 4"):
        pass


def test_lines_of_text_end_in_a_line_feed_and_broken_bytes_are_kept_as_surrogates() -> None:
    assert list(text_lines(io.BytesIO(b"a\r\nb\rc\xff"))) == ["a\n", "b\n", "c\udcff"]


@pytest.mark.parametrize(("size", "pieces"), [(9, [10]), (10, [11]), (11, [11, 1])])
def test_a_line_is_cut_one_byte_past_the_bound(size: int, pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_ROW_BYTES", 10)
    data = b"x" * size + b"\n"
    assert [len(line) for line in byte_lines(io.BytesIO(data))] == pieces
    assert [len(line) for line in text_lines(io.BytesIO(data))] == pieces


def test_of_a_line_without_end_no_more_than_the_bound_is_read() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    assert len(next(byte_lines(Endless()))) == MAX_ROW_BYTES + 1


@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_compressed_file_that_ends_in_a_terabyte_of_zeros_is_refused_at_once(
    ending: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(compress(b"text"))
    with opened(str(path), "a") as file:
        assert file.read() == b"text"
    with path.open("r+b") as file:
        file.truncate(2**40)  # of holes
    with pytest.raises(InputError, match="a ends in zeros"), opened(str(path), "a"):
        pass
