"""What strangers' names and text may do to a terminal: nothing."""

import io
import logging
import subprocess
import sys
import unicodedata
import warnings

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from logos_pl.cli.error_messages import PlainRecord, speak_plainly
from logos_pl.io.terminal import (
    MAX_MESSAGE,
    Console,
    complain,
    legible,
    one_line,
    open_closed_streams,
    printable,
    say,
    shortened,
    stream_encoding,
)

HOSTILE = "\x1b]0;pwned\x07\x1b[31m\r\x08\x9b2J\u202etxt\u2066\u2028\ud800\x7f\x00"


def assert_harmless(printed: str) -> None:
    harmful = [c for c in printed if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"]
    assert harmful == []


def test_every_control_character_and_direction_mark_is_shown_by_its_code() -> None:
    assert printable("a\x1b[31m\x07\r\x9b\u202e\u2066") == r"a\x1b[31m\x07\r\x9b\u202e\u2066"
    assert_harmless(printable("".join(map(chr, range(0x110000))), keep="\n\t"))


@pytest.mark.parametrize(
    "text", ["plain", "é 中 ß", "two\nlines\tand a tab", "👩\u200d💻", "\u200cمی", "── × →", r"\x1b"]
)
def test_text_without_them_stands_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_a_line_a_table_and_rich_text_are_printed_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None)
    table.add_column(HOSTILE)
    table.add_row(escape(f"{HOSTILE}[red]"))
    say(HOSTILE)
    Console().print(table)
    Console().print(Text(HOSTILE))
    printed = capsys.readouterr().out
    assert_harmless(printed)
    assert printed.count("pwned") == 4
    assert r"\x1b]0;pwned\x07\x1b[31m\r\x08\x9b2J\u202etxt\u2066\u2028\ud800\x7f\x00" in printed.splitlines()[0]


def test_a_cell_is_as_wide_as_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("a", no_wrap=True)
    table.add_column("b")
    table.add_row("\x1b\x1b", "Z")
    table.add_row("", "y")
    Console(width=40).print(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].index("Z") == lines[2].index("y")


def test_text_is_no_markup_and_no_emoji_code(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]:dog: [/nothing]")
    assert capsys.readouterr().out == "[bold]:dog: [/nothing]\n"


def test_on_a_terminal_the_consoles_own_codes_stay() -> None:
    file = io.StringIO()
    Console(file=file, force_terminal=True, color_system="standard").print("[bold]\x1b[31m[/bold]")
    assert file.getvalue() == "\x1b[1m\\x1b[31m\x1b[0m\n"


@pytest.mark.parametrize("size", ["0", "1", "", "²", "-3", "1" * 5000, "99999999"])
def test_a_width_without_room_is_the_usual_one(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    assert (Console().width, Console().height) == (80, 25)


def test_a_width_with_room_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    assert Console().width == 132
    assert Console(width=30).width == 30


def test_a_long_message_is_cut_in_its_middle_and_says_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    complain("x" * 100_000 + ": give less.")
    printed = capsys.readouterr().err
    assert len(printed) < MAX_MESSAGE + 100
    assert "(99,512 characters left out)" in printed
    assert printed.endswith(": give less.\n")
    assert shortened("x" * MAX_MESSAGE) == "x" * MAX_MESSAGE


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("name\nlogos-pl: all is well\x1b[2J")
    assert capsys.readouterr().err == "logos-pl: name\\nlogos-pl: all is well\\x1b[2J\n"
    assert one_line("a\tb") == "a\tb"


def test_warnings_and_other_libraries_logs_are_made_harmless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    factory = logging.getLogRecordFactory()
    try:
        speak_plainly()
        assert warnings.formatwarning(f"{HOSTILE}\n", UserWarning, "f", 1).count("\n") == 1
        assert_harmless(warnings.formatwarning(HOSTILE, UserWarning, "f", 1))
        assert logging.getLogRecordFactory() is PlainRecord
        record = logging.getLogger("other").makeRecord("other", logging.WARNING, "f", 1, "%s!", (HOSTILE,), None)
        assert_harmless(record.getMessage())
        assert record.getMessage().endswith("!")
    finally:
        logging.setLogRecordFactory(factory)


def test_streams_that_are_closed_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    open_closed_streams()
    assert sys.stdin.read() == ""
    say("nobody reads this")
    complain("nor this")
    assert not sys.stdout.isatty()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.close()


def test_a_reader_that_has_gone_is_said_and_not_passed_over() -> None:
    program = "from logos_pl.io.terminal import say\nfor _ in range(10_000):\n    say('x' * 1000)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        said = process.stderr.read().decode()
    assert "BrokenPipeError" in said  # which the entry says in a sentence
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("KL(final‖row) ≤ 1 → τ …", "utf-8", "KL(final‖row) ≤ 1 → τ …"),
        ("KL(final‖row) ≤ 1 → τ …", "ascii", "KL(final||row) <= 1 -> tau ..."),
        ("é 中 – ×", "latin-1", "é \\u4e2d - ×"),
        ("é 中", "ascii", "\\xe9 \\u4e2d"),
        ("plain", "ascii", "plain"),
    ],
)
def test_what_an_encoding_lacks_is_written_in_ascii(text: str, encoding: str, written: str) -> None:
    assert legible(text, encoding) == written


def test_in_ascii_cells_are_as_wide_as_what_is_written() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("a", no_wrap=True, overflow="ellipsis", max_width=8)
    table.add_column("b")
    for cell in ("中", "é", "longer than that", "≤"):
        table.add_row(cell, "Z")
    Console(file=file, width=40).print(table)
    file.seek(0)
    lines = file.read().splitlines()
    assert lines[1:] == ["\\u4e2d   Z", "\\xe9     Z", "longer ~ Z", "<=       Z"]


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({}, None),
        ({"LC_ALL": "C"}, "ascii"),
        ({"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"}, "ascii"),
        ({"LC_ALL": "", "LC_CTYPE": "C.UTF-8", "LANG": "C"}, None),
        ({"LANG": "C"}, "ascii"),
        ({"LC_ALL": "C", "PYTHONUTF8": "1"}, None),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}, None),
    ],
)
def test_the_locale_c_asks_for_ascii(
    variables: dict[str, str], encoding: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONUTF8", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert stream_encoding() == encoding


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("120", 120), ("1", 80)])
def test_a_dumb_terminal_has_the_width_it_says(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", columns)
    assert Console(force_terminal=True).width == width
