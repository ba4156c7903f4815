import io
import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from logos_pl.io.glyphs import FONT, drawable, shortened, width_ems

NASTY = ["中", "\U0001f9ff", "\n", "\x00", "\u200b", "\ud800", "\\", "अ", "\u202e", "é", "ש", "$", "\U0010fffd"]


def test_what_the_font_has_no_glyph_for_becomes_the_name_of_its_code_point() -> None:
    assert drawable("a中\U0001f9ff") == ["a", "U+4E2D", "U+1F9FF"]


def test_letters_that_the_font_has_stay() -> None:
    assert drawable("éßЖש→…") == ["é", "ß", "Ж", "ש", "→", "…"]


def test_control_characters_and_backslashes_are_escaped_as_in_python() -> None:
    assert "".join(drawable("\n\t\x1b\\n\u200b\ud800")) == r"\n\t\x1b\\n\u200b\ud800"


def test_a_space_is_shown_where_asked_for() -> None:
    assert "".join(drawable(" a b")) == " a b"
    assert "".join(drawable(" a b", "␣")) == "␣a␣b"


@pytest.mark.parametrize("text", NASTY)
def test_everything_drawable_is_drawn_without_a_warning(text: str) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "".join(drawable(text)), font=FONT, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO())


@pytest.mark.parametrize("text", ["W", "iiii", "␣capital", "U+10FFFF", "…"])
def test_a_text_is_as_wide_as_matplotlib_draws_it(text: str) -> None:
    bars = [TextPath((0, 0), f"|{middle}|", size=100, prop=FONT).get_extents().width for middle in (text, "")]

    assert width_ems(text) == pytest.approx((bars[0] - bars[1]) / 100, abs=0.03)


def test_a_text_that_fits_is_not_shortened() -> None:
    assert shortened(list("abc"), width_ems("abc")) == "abc"
    assert shortened([], 0.0) == ""


@pytest.mark.parametrize("ems", [1.0, 2.0, 3.5, 5.0, 8.0])
def test_a_shortened_text_fits_and_the_next_part_would_not_have(ems: float) -> None:
    parts = [*"intern", "U+4E2D", *"ational", "W"]

    text = shortened(parts, ems)

    kept = next(n for n in range(len(parts)) if "".join(parts[:n]) + "…" == text)
    assert width_ems(text) <= ems < width_ems("".join(parts[: kept + 1]) + "…")


def test_an_escape_is_never_cut_in_the_middle() -> None:
    assert shortened(drawable("a中中中"), width_ems("aU+4E2DU+4E…")) == "aU+4E2D…"
