"""Token strings for plots: every character is visible and in the font."""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import matplotlib
from matplotlib.font_manager import FontProperties, get_font

FONT = FontProperties(fname=str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
"""The font that comes with matplotlib: the same pictures everywhere, and one list of glyphs to check against."""


def drawable(text: str, space: str = " ") -> list[str]:
    """The text character by character, each as a string that can be drawn and recognised.

    Control characters and backslashes become Python's escapes; characters without a glyph in the font become the name
    of their code point, such as U+4E2D.

    Args:
        text: Any string, lone surrogates included.
        space: Replacement for a space, such as ␣ where it must be visible.
    """
    return [space if character == " " else _drawable(character) for character in text]


@cache
def _drawable(character: str) -> str:
    if character == "\\" or not character.isprintable():  # a backslash too, or a line feed would look like \\ and n
        return character.encode("unicode_escape").decode()
    if get_font(str(FONT.get_file())).get_char_index(ord(character)) == 0:
        return f"U+{ord(character):04X}"
    return character


def width_ems(text: str) -> float:
    """Width of a drawable text in multiples of the font's size, kerning left out."""
    return sum(map(_width_ems, text))


@cache
def _width_ems(character: str) -> float:
    font = get_font(str(FONT.get_file()))
    font.set_size(64, 72)  # 64 pixels per em
    return float(font.load_char(ord(character)).linearHoriAdvance) / 65536 / 64  # FreeType counts in 1/65536 pixel


def shortened(parts: Sequence[str], ems: float) -> str:
    """The parts joined, at most ``ems`` wide; if cut, between two parts and with … at the end."""
    if sum(map(width_ems, parts)) <= ems:
        return "".join(parts)
    ends = accumulate(map(width_ems, parts), initial=width_ems("…"))
    return "".join(parts[: sum(end <= ems for end in ends) - 1]) + "…"
