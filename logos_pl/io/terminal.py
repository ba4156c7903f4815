r"""All that is printed: names and text from others' files without control characters, messages of bounded length.

Files keep the text as it is. A sequence that sets the window's title, rings or recolours, or a mark that turns the
direction of writing, is shown by its code, such as ``\x1b``. Where the stream has no UTF-8, signs such as ``→`` are
spelled in ASCII (``->``), and other characters by their code, before the widths of a table are counted.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions
from rich.segment import Segment

MAX_MESSAGE = 500
"""Characters of an error or a warning that are printed: less than a screen."""

DEFAULT_WIDTH = 80
DEFAULT_HEIGHT = 25
SENSIBLE_SIZES = range(20, 1001)

ASCII_FORMS = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": "-", "×": "x", "‖": "||", "≤": "<=", "≥": ">=", "→": "->",
    "τ": "tau", "Δ": "delta ", "‘": "'", "’": "'",
}  # fmt: skip
"""How the signs of our own tables and sentences are written where the stream has no UTF-8."""

CUT = "~"
"""Replaces the … of a shortened cell there: one column wide."""

_HARMLESS = "\n\t\u200c\u200d"  # line and tab; joiners, which scripts and emoji need
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, keep: str = _HARMLESS) -> str:
    r"""The text with its control characters, direction marks and lone surrogates as escapes, such as ``\x1b``.

    Args:
        text: Any text.
        keep: Characters that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _INVISIBLE else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def legible(text: str, encoding: str) -> str:
    r"""The text with what an encoding lacks in ASCII: our signs spelled, others as escapes, such as ``\u4e2d``.

    Args:
        text: Any text.
        encoding: Encoding of a stream, such as ``utf-8`` or ``ascii``.
    """
    if text.isascii() or encoding.startswith("utf"):
        return text
    return "".join(character if _has(encoding, character) else _in_ascii(character) for character in text)


def _has(encoding: str, character: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _in_ascii(character: str) -> str:
    return ASCII_FORMS.get(character) or _escaped(character)


def stream_encoding() -> str | None:
    """``ascii`` where the locale is C or POSIX, for which Python would write UTF-8; None: as Python has chosen."""
    if os.environ.get("PYTHONIOENCODING") or os.environ.get("PYTHONUTF8"):
        return None
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "")
    return "ascii" if locale in ("C", "POSIX") else None


def shortened(text: str, most: int = MAX_MESSAGE) -> str:
    """The text, or its beginning and end where it is longer, with the number of characters that are left out."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    tail = most - head
    return f"{text[:head]} … ({len(text) - most:,} characters left out) … {text[-tail:]}"


def one_line(message: str) -> str:
    """A message for standard error or a log: one line, of bounded length, without control characters."""
    return printable(shortened(message), keep=_HARMLESS.replace("\n", ""))


class Console(RichConsole):
    """Where tables and progress go: text as it is, without emoji codes, colours of its own or control characters.

    Args:
        options: Those of rich's own class.
    """

    def __init__(self, **options: Any) -> None:
        options = {"emoji": False, "highlight": False} | options
        if os.environ.get("TERM") in ("dumb", "unknown"):  # for which rich always assumes 80 columns
            columns, lines = shutil.get_terminal_size((DEFAULT_WIDTH, DEFAULT_HEIGHT))
            options.setdefault("width", columns if columns in SENSIBLE_SIZES else DEFAULT_WIDTH)
            options.setdefault("height", lines if lines in SENSIBLE_SIZES else DEFAULT_HEIGHT)
        for name, variable, default in (
            ("width", "COLUMNS", DEFAULT_WIDTH),
            ("height", "LINES", DEFAULT_HEIGHT),
        ):
            if not _is_sensible(os.environ.get(variable)):
                options.setdefault(name, default)
        if options.get("force_terminal") is None and not (options.get("file") or sys.stdout).isatty():
            options.setdefault("force_interactive", False)  # FORCE_COLOR, as in a notebook, is about colours only
        super().__init__(**options)

    def render_str(self, text: str, **options: Any) -> Any:
        """Text for a line or a cell, made harmless before its width is counted."""
        return super().render_str(legible(printable(text), self.encoding), **options)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Segments to be written; text that did not come as a plain string is made harmless here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._written(segment.text))

    def _written(self, text: str) -> str:
        if "…" in text and not _has(self.encoding, "…"):
            text = text.replace("…", CUT)
        return legible(printable(text), self.encoding)

    def on_broken_pipe(self) -> None:
        """Raise the error, as for any other stream that fails; rich would exit silently.

        Raises:
            BrokenPipeError: Always.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else flushing the buffer at the end fails once more
        os.close(nowhere)
        raise


def _is_sensible(size: str | None) -> bool:
    """Whether rich may read a size from the environment: with 0 columns there is no room for anything."""
    if size is None:
        return True
    return size.isascii() and size.isdigit() and len(size) < 5 and int(size) in SENSIBLE_SIZES


def say(text: str, style: str | None = None) -> None:
    """Print a line or several, as they are."""
    Console().print(text, style=style, soft_wrap=True, markup=False)


def say_at_once(text: str) -> None:
    """Print a line from a signal handler, which may have interrupted another line; above a bar, if there is one."""
    erase = "\r\x1b[2K" if os.isatty(1) else ""
    with suppress(OSError):  # nobody reads any more; the next print raises
        os.write(1, f"{erase}{text}\n".encode())


def open_closed_streams() -> None:
    """Open the null device for closed standard streams, so that no other file takes their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def complain(message: str) -> None:
    """Print an error, or what is waited for, to standard error, in one line."""
    text = legible(one_line(message), sys.stderr.encoding or "utf-8")
    print(f"logos-pl: {text}", file=sys.stderr, flush=True)
