"""Markdown that shows any text as it is: tables, numbers, and where each number comes from."""

import json
import math
import re
from collections.abc import Sequence
from urllib.parse import quote

from logos_pl.io.terminal import printable

SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
"""As entities, since some Markdown readers ignore a backslash before these."""


_CITED = ("\x02", "\x03")
"""Delimiters of a source until it is a footnote: control characters, which escaped text cannot contain."""


def in_one_line(text: str) -> str:
    """The text with line ends, control characters, joiners and marks of direction as escapes."""
    return printable(text, keep="")


def plain_line(text: str) -> str:
    """One line for a file that is not Markdown; HTML's marks are escaped too, in case it is shown as a page."""
    return "".join(f"\\x{ord(c):02x}" if c in HTML else c for c in in_one_line(text))


def escaped(text: str) -> str:
    """The text in one line, with everything escaped that Markdown would interpret, formulas and HTML included."""
    marked = SPECIAL.sub(r"\\\1", in_one_line(text))
    return "".join(HTML.get(character, character) for character in marked)


def quoted(text: str) -> str:
    """The text as an escaped JSON string literal, so that spaces at the ends and line feeds are visible."""
    return escaped(json.dumps(text, ensure_ascii=False))


def code(text: str) -> str:
    """The text as code, in or outside a table; as escaped text if it has HTML's marks, which code cannot escape."""
    if any(mark in text for mark in HTML):
        return escaped(text)
    text = in_one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", r"\|")


def literal(text: str) -> str:
    """The text as a string literal of Python and JSON that a block of code can hold, whatever is in it."""
    plain = json.dumps(text)
    for mark in (*HTML, "`"):
        plain = plain.replace(mark, f"\\u{ord(mark):04x}")
    return plain


def link(text: str, target: str) -> str:
    """A link to an address, or to a file of the same folder or one below it."""
    return f"[{escaped(text)}]({quote(target, safe='/:')})"


def number(value: float | None) -> str:
    """A value for a table: yes or no, a whole number, three decimals, two digits if those would be 0; – for None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if value == 0.0 or abs(value) >= 0.001 else f"{value:.1e}"


def cite(file: str, *place: str) -> str:
    """Source of a number, `file: column or key, which line`; `with_footnotes` turns it into a footnote."""
    source = code(f"{file}: {', '.join(place)}")
    return f"{_CITED[0]}{source}{_CITED[1]}"


def with_footnotes(text: str) -> str:
    """The text with every source as the mark of a footnote, and the footnotes at the end, each once."""
    sources: dict[str, int] = {}

    def mark(found: re.Match[str]) -> str:
        return f"[^{sources.setdefault(found[1], len(sources) + 1)}]"

    marked = re.sub(rf"(?:(?<=[^|]) )?{_CITED[0]}([^{_CITED[1]}]*){_CITED[1]}", mark, text)
    return marked + "".join(f"\n[^{i}]: {source}" for source, i in sources.items()) + ("\n" if sources else "")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a line per row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
