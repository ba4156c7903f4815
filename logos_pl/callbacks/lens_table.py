"""The table a run ends with: held-out KL in bits at every row, norm lens beside tuned lens."""

from rich.console import Console
from rich.table import Table

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.modules.tuning import Readings


def kl_table(readings: Readings, title: str) -> Table:
    """One line per row; KL(P_final‖P_L), which the lens is trained on, then KL(P_L‖P_final) and top-1 agreement."""
    num_blocks = len(readings["norm"]["kl_from_final_bits"]) - 1
    marks = {row: f"{percentile}%" for percentile, row in depth_percentile_rows(num_blocks).items()}
    table = Table(title=title, title_justify="left")
    table.add_column("row", justify="right")
    table.add_column("depth", justify="right")
    for heading in ("KL(final‖row) norm", "tuned", "KL(row‖final) norm", "tuned", "top-1 norm", "tuned"):
        table.add_column(heading, justify="right")
    for row in range(num_blocks + 1):
        figures = [
            f"{float(readings[lens][quantity][row]):{form}}"
            for quantity, form in (("kl_from_final_bits", ".3f"), ("kl_to_final_bits", ".3f"), ("top1_agree", ".1%"))
            for lens in ("norm", "tuned")
        ]
        table.add_row(str(row), marks.get(row, ""), *figures)
    return table


def print_kl_table(readings: Readings, title: str) -> None:
    """Print the table to the terminal."""
    Console().print(kl_table(readings, title))
