import bz2
import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from logos_pl.data import shards, streams
from logos_pl.data.shards import Shard, Stride, read_rows, shard_format
from logos_pl.errors import InputError, RunError
from tests.data.texts import make_texts, write_jsonl, write_parquet

ROWS = 23  # with row groups of 5: four whole ones and a rest


def zstd(data: bytes) -> bytes:
    """Two frames, one after the other."""
    return b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:100], data[100:]))


def shard_at(path: Path) -> Shard:
    return Shard(path.name, str(path))


def write_txt(path: Path, texts: list[str]) -> None:
    path.write_text("\n\n".join(texts))


COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress, ".zst": zstd}


@pytest.fixture(
    params=[
        "a.parquet",
        "a.jsonl",
        "a.txt",
        *(f"a{kind}{ending}" for kind in (".jsonl", ".txt") for ending in COMPRESS),
    ]
)
def shard(request: pytest.FixtureRequest, tmp_path: Path) -> Shard:
    path = tmp_path / request.param
    plain = path.with_suffix("") if path.suffix in COMPRESS else path
    write = {".parquet": write_parquet, ".txt": write_txt}.get(plain.suffix, write_jsonl)
    write(plain, make_texts(0, ROWS))
    if path.suffix in COMPRESS:
        path.write_bytes(COMPRESS[path.suffix](plain.read_bytes()))
    return shard_at(path)


def test_every_row_comes_with_its_number_from_any_start(shard: Shard) -> None:
    rows = list(enumerate(make_texts(0, ROWS)))
    for start in range(ROWS + 3):
        assert list(read_rows(shard, "text", start)) == rows[start:]


def test_strides_share_all_rows_between_them_from_any_start(shard: Shard) -> None:
    rows = list(enumerate(make_texts(0, ROWS)))
    for start in (0, 4, 11):
        for k in range(3):
            found = list(read_rows(shard, "text", start, Stride(k, 3)))
            assert found == [(row, text) for row, text in rows if row >= start and row % 3 == k]


def test_null_text_is_none_and_keeps_its_row(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["x", None, "y"])
    write_jsonl(tmp_path / "a.jsonl", ["x", None, "y"])
    for name in ("a.parquet", "a.jsonl"):
        assert list(read_rows(shard_at(tmp_path / name), "text")) == [(0, "x"), (1, None), (2, "y")]


def test_a_later_json_row_may_leave_out_what_is_null(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n{"id": 1}\n\n{"text": "y"}\n')
    assert list(read_rows(shard_at(path), "text")) == [(0, "x"), (1, None), (2, "y")]


def test_half_a_surrogate_pair_in_json_becomes_a_question_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(r'{"text": "a\ud83d b\ud83d\ude00"}' + "\n")
    assert list(read_rows(shard_at(path), "text")) == [(0, "a? b😀")]


def test_a_text_file_has_one_document_per_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\n\nOne,\nin two lines.\n \t\n\n\nTwo é.\r\n\r\nThree\n".encode())
    assert list(read_rows(shard_at(path), "text")) == [(0, "One,\nin two lines."), (1, "Two é."), (2, "Three")]


@pytest.mark.parametrize("start", [0, 17])
def test_a_missing_column_is_refused_with_the_columns_there_are(tmp_path: Path, start: int) -> None:
    write_parquet(tmp_path / "a.parquet", make_texts(0, ROWS), column="content")
    write_jsonl(tmp_path / "a.jsonl", make_texts(0, ROWS), column="content")
    for name in ("a.parquet", "a.jsonl"):
        with pytest.raises(InputError, match=rf"{name} has no column 'text', only id, content; .*--data\.text_column"):
            list(read_rows(shard_at(tmp_path / name), "text", start))


def test_a_column_of_numbers_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["x"])
    write_jsonl(tmp_path / "a.jsonl", ["x"])
    for name, kind in (("a.parquet", "int64"), ("a.jsonl", "a number in row 0")):
        with pytest.raises(InputError, match=rf"'id' of shard {name} holds {kind}, not text; .*--data\.text_column"):
            list(read_rows(shard_at(tmp_path / name), "id"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [("4", "a number"), ("4.5", "a number"), ("[]", "an array"), ("{}", "an object"), ("true", "true or false")],
)
def test_a_json_value_that_is_no_text_is_refused_by_its_row(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "x"}}\n{{"text": {text}}}\n')
    with pytest.raises(InputError, match=rf"^Column 'text' of shard a\.jsonl holds {kind} in row 1, not text; "):
        list(read_rows(shard_at(path), "text"))


def test_a_text_column_in_any_of_parquets_ways_to_store_it_is_read(tmp_path: Path) -> None:
    kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for kind in kinds:
        pq.write_table(pa.table({"text": pa.array(["x", "y", "x"]).cast(kind)}), tmp_path / "a.parquet")
        assert list(read_rows(shard_at(tmp_path / "a.parquet"), "text")) == [(0, "x"), (1, "y"), (2, "x")]


def test_only_the_text_column_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the other column are overwritten: whoever reads them meets an error."""
    path = tmp_path / "a.parquet"
    table = pa.table({"other": ["z" * 50] * 20, "text": make_texts(0, 20)})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = b"\xff" * (
        column.total_compressed_size
    )
    path.write_bytes(data)
    with pytest.raises(OSError):
        pq.read_table(path)
    assert [text for _, text in read_rows(shard_at(path), "text")] == make_texts(0, 20)


def test_a_shard_that_is_no_parquet_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not a parquet file, but long enough to be looked at")
    with pytest.raises(RunError, match=r"^Shard a\.parquet cannot be read from row 0 on .*--ckpt_path last\.$"):
        list(read_rows(shard_at(path), "text"))


def test_a_parquet_shard_that_is_corrupt_half_way_gives_its_good_rows_and_names_the_first_bad_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, make_texts(0, ROWS))
    column = pq.ParquetFile(path).metadata.row_group(2).column(1)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    good = []
    with pytest.raises(RunError, match=r"^Shard a\.parquet cannot be read from row 10 on"):  # noqa: PT012
        for _, text in read_rows(shard_at(path), "text"):
            good.append(text)
    assert good == make_texts(0, ROWS)[:10]


@pytest.mark.parametrize("broken", [b'{"text": "broken', b'{"text": "\xff\xfe"}'])
def test_a_corrupt_line_of_json_is_named_by_shard_and_row(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": text}).encode() for text in make_texts(0, ROWS)]
    path.write_bytes(b"\n".join([*lines[:7], broken, *lines[8:]]))
    with pytest.raises(RunError, match=r"^Shard a\.jsonl cannot be read from row 7 on .*fix"):
        list(read_rows(shard_at(path), "text"))


def test_a_json_file_that_is_one_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"text": "x"}]')
    with pytest.raises(InputError, match="one JSON object per line"):
        list(read_rows(shard_at(path), "text"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is JSON that is nested too deeply"),
        (b'{"text": "\xe9"}', "it is not UTF-8 text"),
        (b'{"text": "x', "it is not JSON: Invalid control character at in character 12"),
        (b'{"text": "x", "text": "y"}', "it has the key 'text' twice"),
        (b'{"id": ' + b"9" * 5000 + b"}", "ValueError: Exceeds the limit"),
        (b"\xff\xfe{\0}\0", "it is not UTF-8 text"),
    ],
    ids=["deep", "latin-1", "open string", "text twice", "long number", "utf-16"],
)
def test_a_line_that_cannot_be_read_is_named_by_its_row_and_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "x"}\n\n{"text": "y"}\n' + line + b"\n")
    with pytest.raises(RunError, match=rf"^Shard a\.jsonl cannot be read from row 2 on \({reason}.*\); fix"):
        list(read_rows(shard_at(path), "text"))


def test_a_text_within_another_value_is_not_the_rows_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"other": {"text": 1}, "text": "x \\"text\\""}\n')
    assert list(read_rows(shard_at(path), "text")) == [(0, 'x "text"')]


def test_a_paragraph_that_is_not_utf8_is_named_by_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\n\ntwo\n\nthr\xe9e\n\nfour")
    rows = read_rows(shard_at(path), "text")
    assert [next(rows), next(rows)] == [(0, "one"), (1, "two")]
    with pytest.raises(RunError, match=r"^Shard a\.txt cannot be read from row 2 on \(it is not UTF-8 text\)"):
        next(rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.parquet", "a.jsonl.gz"])
def test_a_row_longer_than_any_document_is_refused_before_it_fills_the_memory(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(shards, "MAX_ROW_BYTES", 1000)
    texts = ["short", "long " * 10_000]
    path = tmp_path / name
    write = write_txt if name == "a.txt" else write_parquet if name == "a.parquet" else write_jsonl
    write(path, texts)
    with pytest.raises(InputError, match=rf"^Row 1 of shard {name} is longer than 1,000 characters; split it"):
        list(read_rows(shard_at(path), "text"))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    with pytest.raises(InputError, match=r"^Shard a\.parquet has 2 columns 'text'; give each column its own name"):
        list(read_rows(shard_at(path), "text"))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt.gz"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_shard_that_is_no_regular_file_is_refused_at_once(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=rf"^{name} is not a regular file"):
        list(read_rows(shard_at(path), "text"))


@pytest.mark.parametrize("name", ["a::b.jsonl", "[a]*?.jsonl", "file:a.jsonl", "zip::a.jsonl"])
def test_a_name_with_signs_of_an_address_or_a_pattern_is_a_name(tmp_path: Path, name: str) -> None:
    write_jsonl(tmp_path / name, ["x"])
    assert list(read_rows(shard_at(tmp_path / name), "text")) == [(0, "x")]


def test_a_shard_of_another_kind_than_its_name_says_is_corrupt(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "lines", make_texts(0, ROWS))
    write_parquet(tmp_path / "table", make_texts(0, ROWS))
    for kind, name in (
        ("lines", "a.parquet"),
        ("table", "a.jsonl"),
        ("table", "a.txt"),
        *(("lines", f"a.txt{ending}") for ending in COMPRESS),
    ):
        (tmp_path / name).write_bytes((tmp_path / kind).read_bytes())
        with pytest.raises(RunError, match=rf"^Shard {name} cannot be read from row 0 on \("):
            list(read_rows(shard_at(tmp_path / name), "text"))


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_truncated_compressed_shard_of_any_kind_is_corrupt(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.txt{ending}"
    write_txt(tmp_path / "a.txt", make_texts(0, 300))
    path.write_bytes(COMPRESS[ending]((tmp_path / "a.txt").read_bytes())[:-9])
    with pytest.raises(RunError, match=rf"^Shard a\.txt{ending} cannot be read from row \d+ on"):
        list(read_rows(shard_at(path), "text"))


def test_a_truncated_gzip_shard_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    write_jsonl(path, make_texts(0, 2000))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RunError, match=r"^Shard a\.jsonl\.gz cannot be read from row \d+ on"):
        list(read_rows(shard_at(path), "text"))
    path.write_bytes(gzip.compress(b"x")[:-8] + b"\0" * 8)
    with pytest.raises(RunError, match=r"cannot be read from row 0 on"):
        list(read_rows(shard_at(path), "text"))


def test_a_shard_that_vanished_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^Shard gone\.parquet vanished before its row 40 .*--ckpt_path last\.$"):
        list(read_rows(shard_at(tmp_path / "gone.parquet"), "text", 40))


def test_kinds_of_files_are_known_by_their_endings() -> None:
    names = ["x.parquet", "x.jsonl", "x.ndjson.gz", "x.json.zst", "x.txt.xz", "x.txt.bz2"]
    assert [shard_format(name) for name in names] == ["parquet", "jsonl", "jsonl", "jsonl", "txt", "txt"]
    others = ["x.csv", "x.gz", "parquet", "x.parquet.zst", "x.jsonl.gz.zst", "x.jsonl.zip"]
    assert [shard_format(name) for name in others] == [None] * len(others)


SAID = [[{"role": "user", "content": text}, {"role": "assistant", "content": "y"}] for text in make_texts(0, ROWS)]


def chat_at(path: Path) -> Shard:
    return Shard(path.name, str(path), "chat")


def test_conversations_are_the_same_documents_in_both_formats(tmp_path: Path) -> None:
    rows: list[Any] = [*SAID, None, []]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"messages": row, "id": 1}) + "\n" for row in rows))
    pq.write_table(pa.table({"id": [1] * len(rows), "messages": rows}), tmp_path / "a.parquet", row_group_size=5)
    found = [
        list(read_rows(chat_at(tmp_path / name), "messages", 3, Stride(1, 2))) for name in ("a.jsonl", "a.parquet")
    ]
    assert found[0] == found[1]
    wanted = [row for row in range(3, ROWS) if row % 2 == 1]
    assert found[0] == [
        *((row, json.dumps(SAID[row], ensure_ascii=False, separators=(",", ":"))) for row in wanted),
        *((row, None) for row in range(ROWS, ROWS + 2) if row % 2 == 1),
    ]


@pytest.mark.parametrize(
    ("line", "error", "wanted"),
    [
        (
            '{"messages": "Hi"}',
            InputError,
            r"^Row 1 of .* has no valid conversation in 'messages': it is text, not an array",
        ),
        ('{"messages": [{"role": "user"}]}', InputError, "message 1 has no `content`; fix the row or remove it"),
        ('{"messages": [{"role": "user", "role": "system", "content": "a"}]}', RunError, "it has the key 'role' twice"),
        ('{"messages": [], "messages": []}', RunError, "it has the key 'messages' twice"),
        ('{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}", RunError, "nested too deeply"),
        ('{"messages": [{"role": "user", "content": "' + "x" * 2**25 + '"}]}', InputError, "longer than 33,554,432"),
    ],
    ids=["text", "no content", "role twice", "messages twice", "deep", "long"],
)
def test_a_row_that_is_no_conversation_is_refused(
    line: str, error: type[Exception], wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": SAID[0]}) + f"\n{line}\n")
    with pytest.raises(error, match=wanted):
        list(read_rows(chat_at(tmp_path / "a.jsonl"), "messages"))


def test_a_file_without_conversations_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", make_texts(0, ROWS))
    with pytest.raises(
        InputError, match=r"no column 'messages', only id, text; name the one that holds the conversations"
    ):
        list(read_rows(chat_at(tmp_path / "a.parquet"), "messages"))
    with pytest.raises(InputError, match="holds string, not conversations"):
        list(read_rows(chat_at(tmp_path / "a.parquet"), "text"))
    (tmp_path / "a.txt").write_text("Hello")
    with pytest.raises(InputError, match=r"^a\.txt holds plain text; give conversations as \.jsonl or \.parquet"):
        list(read_rows(chat_at(tmp_path / "a.txt"), "messages"))


def test_half_of_a_surrogate_pair_in_a_conversation_becomes_a_question_mark(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "a\\ud800"}]}\n')
    ((_, document),) = read_rows(chat_at(tmp_path / "a.jsonl"), "messages")
    assert document == '[{"role":"user","content":"a?"}]'
