"""A reply in colours, and without them with the rows below the tokens."""

import io

import pytest

from logos_pl.cli.chat_view import COLOURS, ReplyView
from logos_pl.io.terminal import Console

TOKENS = [" Berlin", ".", "\n", " incomprehensibilities", " 中", " is"]
ROWS = [8, 0, 12, None, 3, 10]


def view(width: int = 80, encoding: str = "utf-8", **options: object) -> ReplyView:
    made = ReplyView(num_blocks=12)
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    made.console = Console(file=file, width=width, **options)
    return made


def written(of: ReplyView) -> str:
    of.console.file.seek(0)
    return of.console.file.read()


def test_every_depth_has_a_colour_the_first_rows_the_first() -> None:
    made = ReplyView(num_blocks=12)
    styles = [made.style(row) for row in range(13)]
    assert styles == sorted(styles, key=COLOURS.index)
    assert set(styles) == set(COLOURS)
    assert made.style(None) not in COLOURS


def test_on_a_terminal_with_colours_tokens_are_coloured_and_nothing_is_printed_below() -> None:
    made = view(force_terminal=True, color_system="standard", no_color=False)
    assert made.has_colour
    made.stream(" Berlin", 0)
    made.stream(".\x1b[2J", 12)
    made.end(TOKENS[:2], [0, 12])
    assert written(made) == "\x1b[32m Berlin\x1b[0m\x1b[31m.\\x1b[2J\x1b[0m\n"


def test_the_legend_names_every_row_once() -> None:
    made = view(force_terminal=True, color_system=None, no_color=False)
    made.legend()
    assert "0 to 12" in written(made)
    coloured = view(force_terminal=True, color_system="standard", no_color=False, width=200)
    coloured.legend()
    assert "0–2" in written(coloured)
    assert "10–12" in written(coloured)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "unknown"}])
def test_where_colours_are_not_wanted_there_are_none(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = view(force_terminal=True)
    assert not made.has_colour
    made.stream(" Berlin", 3)
    made.end([" Berlin"], [3])
    assert "\x1b" not in written(made)


@pytest.mark.parametrize("width", [20, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_without_colours_each_row_stands_below_its_token(width: int, encoding: str) -> None:
    made = view(width, encoding)
    made.stream("".join(TOKENS), None)
    made.end(TOKENS * 3, ROWS * 3)
    _, _, *lines = written(made).splitlines()  # the reply itself, which has a line feed
    assert len(lines) % 2 == 0
    assert max(map(len, lines)) <= width
    assert all(line.isascii() for line in lines) == (encoding == "ascii")
    found = []
    for above, below in zip(lines[::2], lines[1::2], strict=True):
        assert (above[:6], below[:6]) == ("token ", "row   ")
        found += below[6:].split()
    none = "-" if encoding == "ascii" else "–"
    assert found == ["8", "0", "12", none, "3", "10"] * 3


def test_the_row_begins_where_its_token_begins() -> None:
    made = view()
    made.pairs(["ab", "c", "defgh"], ["1", "22", "3"], ("x", "y"))
    assert written(made).splitlines() == ["x ab c  defgh", "y 1  22 3"]
