"""Tables that fit the terminal: columns of text are shortened, figures never.

A column of text is one that is cut with an ellipsis (``overflow="ellipsis"``). Other columns keep their width, but for
those of prose, which rich wraps.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

from logos_pl.io.terminal import Console

LEAST_TEXT = 10
"""Columns that a shortened column of text keeps."""

_UNBOUNDED = 100_000

Part = TypeVar("Part")


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table, its columns of text shortened as far as the width demands, the widest first.

    Args:
        table: The table; its columns of text are changed.
        console: Where to print; default: standard output.
    """
    console = Console() if console is None else console
    widths = _text_widths(table, console)
    excess = _width(table, console) - console.width
    while excess > 0 and widths and max(widths.values()) > LEAST_TEXT:
        widest = max(widths, key=lambda number: widths[number])
        widths[widest] -= 1
        excess -= 1
        table.columns[widest].max_width = widths[widest]
    console.print(table)


def fits(table: Table, console: Console | None = None) -> bool:
    """Whether a table fits the width once its columns of text are as short as they may be.

    Args:
        table: The table.
        console: Where it is to be printed; default: standard output.
    """
    console = Console() if console is None else console
    slack = sum(max(width - LEAST_TEXT, 0) for width in _text_widths(table, console).values())
    return _width(table, console) - slack <= console.width


def print_in_parts(
    table_of: Callable[[Sequence[Part]], Table], parts: Sequence[Part], console: Console | None = None
) -> None:
    """Print a table of as many parts side by side as fit at full width, and the others in tables below it.

    Args:
        table_of: Makes the table of some of the parts.
        parts: What the columns are of, such as lenses.
        console: Where to print; default: standard output.
    """
    console = Console() if console is None else console
    start = 0
    while start < len(parts):
        count = len(parts) - start
        while count > 1 and _width(table_of(parts[start : start + count]), console) > console.width:
            count -= 1
        print_table(table_of(parts[start : start + count]), console)
        start += count


def _width(table: Table, console: Console) -> int:
    """Width of a table at which no column of it is shortened or wrapped."""
    return _measured(table, console)


def _text_widths(table: Table, console: Console) -> dict[int, int]:
    """Widths of the columns of text, by their numbers."""
    return {
        number: _column_width(column, console)
        for number, column in enumerate(table.columns)
        if column.overflow == "ellipsis" and column.no_wrap
    }


def _column_width(column: Column, console: Console) -> int:
    widest = max(_measured(part, console) for part in (column.header, *column.cells))
    return widest if column.max_width is None else min(widest, column.max_width)


def _measured(part: RenderableType, console: Console) -> int:
    options = console.options.update(max_width=_UNBOUNDED)
    return Measurement.get(console, options, part).maximum
