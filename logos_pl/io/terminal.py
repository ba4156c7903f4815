r"""All that is printed: names and text from others' files without control characters, messages of bounded length.

Files keep the text as it is. A sequence that sets the window's title, rings or recolours, or a mark that turns the
direction of writing, is shown by its code, such as ``\x1b``.
"""

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions
from rich.segment import Segment

MAX_MESSAGE = 500
"""Characters of an error or a warning that are printed: less than a screen."""

DEFAULT_WIDTH = 80
DEFAULT_HEIGHT = 25
SENSIBLE_SIZES = range(20, 1001)

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
        for name, variable, default in (
            ("width", "COLUMNS", DEFAULT_WIDTH),
            ("height", "LINES", DEFAULT_HEIGHT),
        ):
            if not _is_sensible(os.environ.get(variable)):
                options.setdefault(name, default)
        super().__init__(**options)

    def render_str(self, text: str, **options: Any) -> Any:
        """Text for a line or a cell, made harmless before its width is counted."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is about to be written; text that did not come as a plain string is made harmless here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def on_broken_pipe(self) -> None:
        """Say so, as for any other stream that fails: rich would end the process without a word.

        Raises:
            BrokenPipeError: The one that has been met.
        """
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else what is still buffered fails once more at the end
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


def open_closed_streams() -> None:
    """Let standard streams that the command was started without lead nowhere; no file takes their place then."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def complain(message: str) -> None:
    """Print an error, or what is waited for, to standard error, in one line."""
    print(f"logos-pl: {one_line(message)}", file=sys.stderr, flush=True)
