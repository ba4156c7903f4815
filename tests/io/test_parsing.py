"""What a stranger's JSON or special file can bring, and is refused in one sentence."""

import json
import math
import os
import time
from pathlib import Path

import pytest

from logos_pl.errors import InputError
from logos_pl.io.parsing import MAX_DEPTH, MAX_LINE_CHARS, bounded_lines, parse_json, read_bytes, read_text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"a": ' * 100_000, "nested deeper"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "range of a float"),
        ("1" + "0" * 400, "beyond 64 bits"),
        ("1" + "0" * 5000, "beyond 64 bits"),
        (str(2**64), "beyond 64 bits"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_json_that_later_code_could_not_hold_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_json(text, "a.json")
    assert str(caught.value).startswith("a.json ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "[[[" * 100, {"a": ["\\", '"', "{"], "b": [[[]]]}, 2**64 - 1, [[]] * 1000, "\U0001f600"],
)
def test_json_is_read_as_python_reads_it(value: object) -> None:
    assert parse_json(json.dumps(value), "a.json") == value


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    with pytest.raises(InputError, match="not a regular file"):
        read_bytes(tmp_path / "p", 100)


def test_a_folder_a_device_and_a_link_to_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "zero"):
        with pytest.raises(InputError, match="not a regular file"):
            read_bytes(path, 100)


def test_a_file_beyond_the_bound_is_refused_and_one_at_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 101)
    with pytest.raises(InputError, match="101 bytes"):
        read_bytes(path, 100)
    assert read_bytes(path, 101) == b"x" * 101


def test_lines_are_yielded_as_they_are_until_one_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    longest = "x" * (MAX_LINE_CHARS - 1) + "\n"
    path.write_text(f"a\n\n{longest}b")
    with path.open() as file:
        assert list(bounded_lines(file, path)) == ["a\n", "\n", longest, "b"]

    os.truncate(path, 2**40)
    with path.open() as file, pytest.raises(InputError, match=r"lines\.txt has a line of more than 4,194,304"):
        list(bounded_lines(file, path))


def test_text_that_is_not_utf8_is_refused_by_the_name_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes("é\n\n".encode() + b"\xff")
    with pytest.raises(InputError, match=r"^the card is not UTF-8 text \(invalid start byte in line 3\)"):
        read_text(tmp_path / "f", name="the card")


def test_a_missing_file_is_the_callers_to_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "f", 100)


def test_what_transformers_writes_is_read_where_it_is_of_transformers() -> None:
    text = '{"limit": [0.0, Infinity, -Infinity], "no_bound": 1000000000000000019884624838656, "half": "\\ud800"}'
    read = parse_json(text, "a.json", of_transformers=True)
    assert read == {"limit": [0.0, math.inf, -math.inf], "no_bound": 10**30 + 19884624838656, "half": "\ud800"}
    with pytest.raises(InputError, match=r"a\.json holds"):
        parse_json(text, "a.json")


@pytest.mark.parametrize(
    ("text", "says"), [("NaN", "NaN"), ("1" * 401, "beyond"), ("[" * 65, "nested"), ("1e999", "range")]
)
def test_the_rest_is_refused_there_too(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_json(text, "a.json", of_transformers=True)


def test_the_depth_of_a_text_of_quotes_is_measured_in_one_pass() -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="not valid JSON"):
        parse_json('"' + '\\"' * 1_000_000, "a.json")
    assert time.monotonic() - began < 5
