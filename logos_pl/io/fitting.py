"""Tables that fit the terminal: columns of text are shortened, figures never.

A column of text is one with a ``max_width`` that is not wrapped, but cut with an ellipsis; one of prose is wrapped (no
``no_wrap``). All others hold figures and keep their width.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

from logos_pl.io.terminal import Console

LEAST_TEXT = 10
"""Smallest width of a shortened column of text."""

LEAST_PROSE = 14
"""Smallest width of a wrapped column of prose."""

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
    excess = _measured(table, console) - _prose_slack(table, console) - console.width
    while excess > 0 and widths and max(widths.values()) > LEAST_TEXT:
        widest = max(widths, key=lambda number: widths[number])
        widths[widest] -= 1
        excess -= 1
        table.columns[widest].max_width = widths[widest]
    console.print(table)


def fits(table: Table, console: Console | None = None) -> bool:
    """Whether a table fits the width once its columns of text and prose are as narrow as they may be.

    Args:
        table: The table.
        console: Where it is to be printed; default: standard output.
    """
    console = Console() if console is None else console
    slack = sum(max(width - LEAST_TEXT, 0) for width in _text_widths(table, console).values())
    return _measured(table, console) - slack - _prose_slack(table, console) <= console.width


def print_in_parts(
    table_of: Callable[[Sequence[Part]], Table], parts: Sequence[Part], console: Console | None = None
) -> None:
    """Print a table of as many parts side by side as fit, and the others in tables below it.

    Args:
        table_of: Makes the table of some of the parts.
        parts: What the columns show, such as lenses.
        console: Where to print; default: standard output.
    """
    console = Console() if console is None else console
    start = 0
    while start < len(parts):
        count = len(parts) - start
        while count > 1 and not fits(table_of(parts[start : start + count]), console):
            count -= 1
        print_table(table_of(parts[start : start + count]), console)
        start += count


def _text_widths(table: Table, console: Console) -> dict[int, int]:
    """Widths of the columns of text, by their numbers."""
    return {
        number: _column_width(column, console)
        for number, column in enumerate(table.columns)
        if column.max_width is not None and column.no_wrap
    }


def _prose_slack(table: Table, console: Console) -> int:
    """How much the prose of a table may be narrowed, in terminal columns."""
    widths = [_column_width(column, console) for column in table.columns if not column.no_wrap]
    return sum(max(width - LEAST_PROSE, 0) for width in widths)


def _column_width(column: Column, console: Console) -> int:
    widest = max(_measured(part, console) for part in (column.header, *column.cells))
    return widest if column.max_width is None else min(widest, column.max_width)


def _measured(part: RenderableType, console: Console) -> int:
    options = console.options.update(max_width=_UNBOUNDED)
    return Measurement.get(console, options, part).maximum
