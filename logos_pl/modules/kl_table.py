"""Terminal table of the KL in bits at every row on held-out text."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

from rich.table import Table
from torch import Tensor

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.io.fitting import print_in_parts
from logos_pl.io.terminal import say
from logos_pl.modules.base import Readings

Figure = tuple[str, str, str]
"""Heading, quantity and format."""

FIGURES: tuple[Figure, ...] = (
    ("KL(final‖row)", "kl_from_final_bits", ".3f"),
    ("KL(row‖final)", "kl_to_final_bits", ".3f"),
    ("top-1 agree", "top1_agree", ".1%"),
)

MIN_COLUMN = len("45.000")
OTHERS_WIDTH = 16
"""Characters left for lenses other than the norm lens, for each of three figures in a table of 80 columns."""


def kl_table(readings: Readings, lenses: Sequence[str] | None = None, figures: Sequence[Figure] = FIGURES) -> Table:
    """Table by row of several lenses: KL(P_final‖P_row), KL(P_row‖P_final) and top-1 agreement.

    Lenses are trained on KL(P_final‖P_row).

    Args:
        readings: Means for rows 0 to n, by lens and quantity.
        lenses: Lenses to show; None: all.
        figures: Which of the three to show.
    """
    lenses = list(readings) if lenses is None else lenses
    num_blocks = len(readings["norm"]["kl_from_final_bits"]) - 1
    marks = {row: f"{percentile}%" for percentile, row in depth_percentile_rows(num_blocks).items()}
    three = len(lenses) > 2  # narrower, so that three lenses fit in 80 columns
    gap = 1 if three or max(map(len, lenses)) > len("tuned") else 2
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column("\n\nrow" if three else "\nrow", justify="right", no_wrap=True)
    table.add_column("\n\ndepth" if three else "\ndepth", justify="right", no_wrap=True)
    for heading, _, _ in figures:
        lines = heading.replace("KL(", "KL\n(").replace(" ", "\n") if three else heading
        for number, lens in enumerate(lenses):
            above = lines if number == 0 else "\n" * lines.count("\n")
            table.add_column(f"{above}\n{lens}", justify="right", no_wrap=True)
    for row in range(num_blocks + 1):
        cells = [_cell(readings[lens], quantity, row, form) for _, quantity, form in figures for lens in lenses]
        table.add_row(str(row), marks.get(row, ""), *cells)
    return table


def _cell(reading: Mapping[str, Tensor], quantity: str, row: int, form: str) -> str:
    """A mean; – at a row that the lens does not read."""
    value = float(reading[quantity][row])
    unread = math.isnan(value) and "nonfinite" in reading and not int(reading["nonfinite"][row])
    return "–" if unread else f"{value:{form}}"


def tables_of(lenses: Sequence[str]) -> list[list[str]]:
    """Lenses by table: the norm lens and as many others as fit into 80 columns."""
    tables: list[list[str]] = []
    width = 0
    for lens in lenses[1:]:
        needed = max(len(lens), MIN_COLUMN) + 1
        if not tables or width + needed > OTHERS_WIDTH:
            tables.append([lenses[0]])
            width = 0
        tables[-1].append(lens)
        width += needed
    return tables or [list(lenses)]


def print_kl_table(readings: Readings, title: str, lenses: Sequence[str] | None = None) -> None:
    """Print the table under a title; columns that do not fit go into further tables below it."""
    say(f"\n{title}")
    for number, shown in enumerate(tables_of(list(readings) if lenses is None else lenses)):
        if number:
            say("")
        print_in_parts(partial(kl_table, readings, shown), FIGURES)
