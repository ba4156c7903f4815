"""The table a run ends with: held-out KL in bits at every row, norm lens beside tuned lens."""

from rich.console import Console
from rich.table import Table

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.modules.tuning import Readings

FIGURES = (
    ("KL(final‖row)", "kl_from_final_bits", ".3f"),
    ("KL(row‖final)", "kl_to_final_bits", ".3f"),
    ("top-1 agree", "top1_agree", ".1%"),
)
LENSES = ("norm", "tuned")


def kl_table(readings: Readings) -> Table:
    """One line per row; KL(P_final‖P_row), which the lens is trained on, then KL(P_row‖P_final) and top-1 agreement."""
    num_blocks = len(readings["norm"]["kl_from_final_bits"]) - 1
    marks = {row: f"{percentile}%" for percentile, row in depth_percentile_rows(num_blocks).items()}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("\nrow", justify="right")
    table.add_column("\ndepth", justify="right")
    for heading, _, _ in FIGURES:
        table.add_column(f"{heading}\nnorm", justify="right", no_wrap=True)
        table.add_column("\ntuned", justify="right", no_wrap=True)
    for row in range(num_blocks + 1):
        figures = [f"{float(readings[lens][quantity][row]):{form}}" for _, quantity, form in FIGURES for lens in LENSES]
        table.add_row(str(row), marks.get(row, ""), *figures)
    return table


def print_kl_table(readings: Readings, title: str) -> None:
    """Print the table to the terminal under a title."""
    console = Console()
    console.print(f"\n{title}", soft_wrap=True)
    console.print(kl_table(readings))
