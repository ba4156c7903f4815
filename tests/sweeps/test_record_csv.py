import csv
import errno
import json
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast, get_type_hints

import pandas
import pytest

from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_LINE_CHARS
from logos_pl.sweeps.record_csv import (
    RecordWriter,
    contribution_header,
    flat,
    header_of,
    next_token_header,
    position_header,
    read_records,
)
from logos_pl.sweeps.recording import readings_in
from logos_pl.sweeps.records import ContributionRecord, NextTokenRecord, PositionRecord, TopToken
from tests.sweeps.made_records import next_token as made_next_token

GOLDEN = Path(__file__).parents[1] / "golden"

NASTY = [
    "", " ", "\n", "\r", "\r\n", "\t", '"', '""', "'", ",", '",\n"', "\\", "\\n", "\\u0041", "\x00", "a\x00b",
    "\x1b[0m",
    "\x7f", "\x85", "\x0b", "\x0c", "\x1c", "\u2028", "\u2029", "\ufeff", "\ufeffx", "\ud800", "x\udfff", "\ufffd",
    "\uffff", "NA", "N/A", "nan", "NaN", "null", "None", "True", "False", "inf", "-inf", "1", "007", "1e5", "1_000",
    "#", "=1+1", ";", "|", " Berlin", "Berlin ", "ßÄ", "柏林", "برلين", "ברלין", "e\u0301", "\u200d",
    "👩‍👩‍👧", "𝔅", "\U0010ffff",
    "x" * 100_000,
]  # fmt: skip
"""Texts that break naive CSV files."""

FLOATS = [
    0.0, -0.0, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e16, 1e22, 123456789.0, -1e-7,
    0.30000001192092896, math.nextafter(1.0, 0.0), math.inf, -math.inf,
]  # fmt: skip


def position(token: str = " is", value: float = 0.25, **changes: Any) -> PositionRecord:
    top = tuple(TopToken(place, f"{token}{place}" if place else token, value / (place + 1)) for place in range(10))
    return PositionRecord("pos", "orig", "norm", token, 3, 4, 17, token, value, value, value, top, value)._replace(
        **changes
    )


def next_token(**changes: Any) -> NextTokenRecord:
    top = tuple(TopToken(place, f" t{place}", 0.05) for place in range(10))
    return NextTokenRecord(
        prompt_id="pos", prompt_variant="orig", lens="tuned", fact="Germany → Berlin", layer=3, pos=4, token_id=17,
        token=" is", entropy_bits=1.5, teacher_entropy_bits=0.5, top=top, rest_mass=0.5, p_top1=0.05, p_top5=0.25,
        p_answer=0.125, answer_rank=3, is_answer=False, answer_logit_gap=-0.5, answer_nll_bits=3.0,
        kl_to_final_bits=2.0, kl_from_final_bits=2.5, cos_to_final=0.75, control_margin=-0.25, copy_collapse=False,
        copy_soft=(True, False, False), copy_at=(True, True, False, False), identity_row=False, entropy_collapse=True,
    )._replace(**changes)  # fmt: skip


UNANSWERED: dict[str, None] = dict.fromkeys(
    ("p_answer", "answer_rank", "is_answer", "answer_logit_gap", "answer_nll_bits", "control_margin")
)


def positions_in(path: Path) -> list[PositionRecord]:
    records = list(read_records(path))
    assert all(isinstance(record, PositionRecord) for record in records)
    return cast(list[PositionRecord], records)


def written(folder: Path, records: list[Any]) -> Path:
    path = folder / "output-records.csv"
    with RecordWriter(path, type(records[0])) as writer:
        writer.write(records)
    return path


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("records-header.csv", position_header()),
        ("pure-next-token-header.csv", next_token_header()),
        ("decomposition-header.csv", contribution_header()),
    ],
)
def test_headers_are_frozen(name: str, header: tuple[str, ...]) -> None:
    frozen = (GOLDEN / name).read_text(encoding="utf-8")
    assert ",".join(header) + "\n" == frozen, f"the schema changed: whoever reads these files has to know ({name})"


def test_prompt_and_variant_come_first_and_every_token_string_has_its_id_before_it() -> None:
    for header in (position_header(), next_token_header()):
        assert header[:3] == ("prompt_id", "prompt_variant", "lens")
        assert len(set(header)) == len(header)
        for place, name in enumerate(header):
            if name.endswith("token"):
                assert header[place - 1] == f"{name.removesuffix('token')}" + ("token_id" if name == "token" else "id")


def test_a_line_of_next_token_records_reads_as_expected(tmp_path: Path) -> None:
    lines = written(tmp_path, [next_token(), next_token(**UNANSWERED)]).read_bytes().decode().split("\n")
    tops = ",".join(f'{place},""" t{place}""",0.05' for place in range(10))
    start = f'pos,orig,tuned,"""Germany → Berlin""",3,4,17,""" is""",1.5,0.5,{tops},0.5,0.05,0.25,'
    end = "False,True,False,False,True,True,False,False,False,True"
    assert lines[1] == f"{start}0.125,3,False,-0.5,3.0,2.0,2.5,0.75,-0.25,{end}"
    assert lines[2] == f"{start},,,,,2.0,2.5,0.75,,{end}"
    assert lines[3:] == [""]


def test_contributions_read_back_bit_for_bit_and_empty_cells_are_what_does_not_apply(tmp_path: Path) -> None:
    control = ContributionRecord("ctl", "orig", "attn_3", "attention", 3, 17, ' "Paris"\n', 1 / 3, 9, " Berlin", -0.0)
    total = control._replace(
        component="total", kind="total", layer=None, contrast_id=None, contrast=None, margin_contribution_nats=None
    )
    path = written(tmp_path, [control, total])
    assert path.read_text(encoding="utf-8").splitlines()[1:] == [
        r'ctl,orig,attn_3,attention,3,17,""" \""Paris\""\n""",0.3333333333333333,9,""" Berlin""",-0.0',
        r'ctl,orig,total,total,,17,""" \""Paris\""\n""",0.3333333333333333,,,',
    ]
    assert list(read_records(path)) == [control, total]


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text)[:20])
def test_nasty_texts_survive_pandas_and_json(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, [position(text), position("next")])
    table = pandas.read_csv(path)
    assert len(table) == 2
    for column in ("token", "fact", "top1_token"):
        assert json.loads(table[column][0]) == text
        assert json.loads(table[column][1]) == "next"


def test_nasty_texts_all_in_one_file_stay_one_line_each_and_read_back_typed(tmp_path: Path) -> None:
    records = [position(text) for text in NASTY if len(text) < 1000]
    path = written(tmp_path, records)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1 + len(records)
    assert list(read_records(path)) == records


def test_random_texts_of_all_code_points_survive(tmp_path: Path) -> None:
    draw = random.Random(3)
    # A high surrogate right before a low one is left out: in JSON the two are one character.
    points = [point for point in range(0x11000) if not 0xDC00 <= point < 0xE000]
    records = [position("".join(map(chr, draw.choices(points, k=40)))) for _ in range(2000)]
    path = written(tmp_path, records)
    assert [json.loads(cell) for cell in pandas.read_csv(path)["token"]] == [record.token for record in records]
    assert list(read_records(path)) == records


@pytest.mark.parametrize("text", [" Zürich", "柏林", "برلين", "👩‍👩‍👧"])
def test_letters_of_all_scripts_stay_readable_in_the_file(text: str, tmp_path: Path) -> None:
    assert text in written(tmp_path, [position(text)]).read_text(encoding="utf-8")


@pytest.mark.parametrize("value", FLOATS)
def test_floats_read_back_bit_equal(value: float, tmp_path: Path) -> None:
    path = written(tmp_path, [position(value=value)])
    (back,) = positions_in(path)
    assert (back.entropy_bits.hex(), back.top[0].p.hex()) == (value.hex(), value.hex())
    assert float(pandas.read_csv(path)["entropy_bits"][0]).hex() == value.hex()


def test_random_floats_read_back_bit_equal(tmp_path: Path) -> None:
    draw = random.Random(4)
    values = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-300, 300) for _ in range(500)]
    path = written(tmp_path, [position(value=value) for value in values])
    assert [record.rest_mass for record in positions_in(path)] == values
    assert pandas.read_csv(path)["rest_mass"].tolist() == values


def test_nan_is_an_empty_cell_and_reads_back_as_nan(tmp_path: Path) -> None:
    path = written(tmp_path, [position(value=math.nan)])
    assert "nan" not in path.read_text(encoding="utf-8").lower()
    (back,) = positions_in(path)
    assert math.isnan(back.entropy_bits)
    assert len(back.top) == 10
    assert all(math.isnan(token.p) for token in back.top)
    assert pandas.read_csv(path)["entropy_bits"].isna().all()


def test_next_token_records_read_back_typed_with_and_without_answer(tmp_path: Path) -> None:
    records = [next_token(), next_token(**UNANSWERED), next_token(is_answer=True, answer_rank=1, fact="")]
    back = list(read_records(written(tmp_path, records)))
    assert back == records
    assert [type(value) for value in back[0]] == [type(value) for value in records[0]]
    assert all(type(record) is NextTokenRecord for record in back)


def test_an_answer_metric_that_is_nan_reads_back_as_none(tmp_path: Path) -> None:
    (back,) = read_records(written(tmp_path, [next_token(p_answer=math.nan)]))
    assert isinstance(back, NextTokenRecord)
    assert back.p_answer is None


def test_a_vocabulary_below_ten_tokens_leaves_the_last_columns_empty(tmp_path: Path) -> None:
    record = position(top=(TopToken(0, "a", 0.75), TopToken(2, "", math.nan)))
    assert flat(record)["top2_token"] == ""
    assert [flat(record)[f"top10_{part}"] for part in ("id", "token", "p")] == [None] * 3
    path = written(tmp_path, [record])
    assert pandas.read_csv(path)[["top3_id", "top10_p"]].isna().all(axis=None)
    (back,) = positions_in(path)
    assert back.top[0] == record.top[0]
    assert len(back.top) == 2


def test_flat_gives_the_values_by_column_for_a_data_frame() -> None:
    table = pandas.DataFrame([flat(next_token()), flat(next_token(**UNANSWERED))])
    assert tuple(table.columns) == next_token_header()
    assert table["token"].tolist() == [" is", " is"]
    assert table["copy_soft_k1"].tolist() == [True, True]
    assert table["copy_at_0.80"].tolist() == [True, True]
    assert table["copy_at_0.90"].tolist() == [False, False]
    assert table["top10_id"].tolist() == [9, 9]


def test_records_are_appended_in_order_and_may_come_from_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with RecordWriter(path, PositionRecord) as writer:
        writer.write(position(layer=layer) for layer in range(3))
        writer.write([])
        writer.write([position(layer=3)])
    assert [record.layer for record in read_records(path)] == [0, 1, 2, 3]
    assert os.listdir(tmp_path) == ["r.csv"]


def test_a_file_without_records_has_a_header_and_reads_back_as_none(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with RecordWriter(path, NextTokenRecord):
        assert not path.exists()
    assert path.read_bytes() == (GOLDEN / "pure-next-token-header.csv").read_bytes()
    assert list(read_records(path)) == []


def test_after_an_exception_the_old_file_stands_and_what_was_read_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old", encoding="utf-8")
    rows = (position(layer=5 // (1 - at)) for at in range(2))
    with pytest.raises(ZeroDivisionError), RecordWriter(path, PositionRecord) as writer:
        writer.write(rows)
    assert path.read_text(encoding="utf-8") == "old"
    assert [record.layer for record in read_records(tmp_path / "r.csv.partial")] == [5]


def test_what_an_earlier_failure_left_beside_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "r.csv.partial").write_text("x" * 10_000, encoding="utf-8")
    with RecordWriter(tmp_path / "r.csv", PositionRecord) as writer:
        writer.write([position()])
    assert list(read_records(tmp_path / "r.csv")) == [position()]


def test_the_file_is_flushed_to_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    flush, replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        flush(descriptor)

    def rename(source: Path, target: Path) -> None:
        assert sizes == [source.stat().st_size]
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    written(tmp_path, [position()])
    assert len(sizes) == 2, "the folder has to be flushed, too"


def test_a_full_disk_is_reported_and_no_half_file_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, [position()])
    assert os.listdir(tmp_path) == ["output-records.csv.partial"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_while_writing_raises_the_disks_own_error(tmp_path: Path) -> None:
    (tmp_path / "r.csv.partial").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught, RecordWriter(tmp_path / "r.csv", PositionRecord) as writer:
        writer.write(position() for _ in range(1000))
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "r.csv").exists()


def test_a_folder_that_is_not_there_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), RecordWriter(tmp_path / "none" / "r.csv", PositionRecord):
        pass


@pytest.mark.parametrize("name", ["two\nlines", "a\rb", "\ud800", "a\x00"])
@pytest.mark.parametrize("field", ["prompt_id", "prompt_variant"])
def test_a_prompt_named_by_what_cannot_be_printed_is_refused(field: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"The {field} .* one line of text"):
        written(tmp_path, [position(**{field: name})])


@pytest.mark.parametrize("name", ["a,b", 'say "x"', "日本", "", " x "])
def test_a_prompt_may_have_any_printable_name(name: str, tmp_path: Path) -> None:
    (back,) = read_records(written(tmp_path, [position(prompt_id=name)]))
    assert back.prompt_id == name


def broken() -> Iterator[tuple[str, bytes, str]]:
    header = ",".join(position_header()).encode()
    yield "empty", b"", "starts with the columns .none."
    yield "other columns", b"layer,token\n1,a\n", "starts with the columns layer, token …"
    yield "a column fewer", header.rpartition(b",")[0] + b"\n", "starts with the columns prompt_id"
    yield "columns swapped", header.replace(b"layer,pos", b"pos,layer") + b"\n", "starts with the columns"
    yield "a short line", header + b"\npos,orig\n", "Line 2 of .* is not a record"
    yield "a blank line", header + b"\n\n", "Line 2 of .* is not a record"
    yield "a word for a number", line().replace(b",3,4,17,", b",three,4,17,"), "Line 2 .*three"
    yield "a bare token", line().replace(b'""" is"""', b"is"), "Line 2 "
    yield "a number for a token", line().replace(b'""" is"""', b"12"), "Line 2 .*12 is not a JSON string"
    yield "a missing number", line().replace(b",3,4,17,", b",3,,17,"), "Line 2 "
    yield "an open quote", line() + b'"', "not a CSV file"
    yield "no line break", b"\0" * (MAX_LINE_CHARS + 1), "has a line of more than 4,194,304 characters"
    yield "no line break after a record", line() + b"x" * (MAX_LINE_CHARS + 1), "has a line of more than"
    yield "not UTF-8", line().replace(b"pos,orig,norm", b"\xff,orig,norm"), "UTF-8"
    yield "not UTF-8 in the header", b"\xff\xfe", "UTF-8"


def line() -> bytes:
    tops = ",".join(f'{place},"""t{place}""",0.05' for place in range(10))
    return (",".join(position_header()) + f'\npos,orig,norm,"""f""",3,4,17,""" is""",1.0,1.0,1.0,{tops},0.5\n').encode()


@pytest.mark.parametrize(("data", "message"), [case[1:] for case in broken()], ids=[case[0] for case in broken()])
def test_what_is_no_file_of_records_is_refused_by_name(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "strange.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        list(read_records(path))
    assert str(path) in str(caught.value)


def test_a_truth_value_has_to_be_true_or_false(tmp_path: Path) -> None:
    path = written(tmp_path, [next_token()])
    path.write_text(path.read_text(encoding="utf-8").replace("True,False,False,False,True\n", "1,1,1,1,1\n"), "utf-8")
    with pytest.raises(InputError, match="'1' is neither True nor False"):
        list(read_records(path))


def test_the_sample_line_that_the_refusals_vary_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(line())
    (back,) = positions_in(path)
    assert (back.prompt_id, back.token, back.layer, back.top[9]) == ("pos", " is", 3, TopToken(9, "t9", 0.05))


def test_a_missing_file_is_an_error_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_records(tmp_path / "none.csv")


def test_a_new_column_is_a_field_of_the_readings_and_one_of_the_record(tmp_path: Path) -> None:
    """Recording and CSV follow the two types, so that a metric column touches no other file; see docs/extending.md."""
    fields = [*get_type_hints(NextTokenRecord).items(), ("varentropy_bits2", float)]
    wider = cast(Any, NamedTuple)("wider", fields)
    readings = {"entropy_bits": [[2.0], [1.0]], "varentropy_bits2": [[0.5], [0.1]], "target_p": [[0.0], [0.0]]}

    taken = readings_in(wider, readings)
    assert taken == {name: readings[name] for name in ("entropy_bits", "varentropy_bits2")}
    records = [wider(*made_next_token(row, 1.0), varentropy_bits2=taken["varentropy_bits2"][row][0]) for row in (0, 1)]
    with RecordWriter(tmp_path / "wider.csv", wider) as writer:
        writer.write(records)
    assert header_of(wider) == (*next_token_header(), "varentropy_bits2")
    with (tmp_path / "wider.csv").open() as file:
        assert [float(line["varentropy_bits2"]) for line in csv.DictReader(file)] == [0.5, 0.1]


def test_a_pipe_in_the_place_of_records_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "records.csv")
    with pytest.raises(InputError, match="is not a regular file"):
        read_records(tmp_path / "records.csv")
