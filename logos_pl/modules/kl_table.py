"""Terminal table of the KL in bits at every row on held-out text."""

from collections.abc import Sequence

from rich.table import Table

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
        cells = [f"{float(readings[lens][quantity][row]):{form}}" for _, quantity, form in figures for lens in lenses]
        table.add_row(str(row), marks.get(row, ""), *cells)
    return table


def print_kl_table(readings: Readings, title: str, lenses: Sequence[str] | None = None) -> None:
    """Print the table under a title; what does not fit beside the other figures goes below them."""
    say(f"\n{title}")
    print_in_parts(lambda figures: kl_table(readings, lenses, figures), FIGURES)
