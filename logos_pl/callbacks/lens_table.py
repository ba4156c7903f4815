"""The tables a run ends with: KL in bits at every row on held-out text, and a prompt read at every row."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from logos_pl.data.prompts import PromptBatch
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.modules.tuning import PromptReading, Readings

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
    console.print(f"\n{title}", soft_wrap=True, markup=False, highlight=False)
    console.print(kl_table(readings))


def prompt_table(readings: Mapping[str, PromptReading], decode: Callable[[list[int]], str]) -> Table:
    """One line per row: each lens's top token with its probability, rank of the answer, KL(P_row‖P_final), entropy."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # two lenses fit into 80 columns
    table.add_column("\nrow", justify="right", no_wrap=True, min_width=3)
    for lens, reading in readings.items():
        table.add_column(f"{lens}\ntop-1", no_wrap=True, max_width=13, overflow="ellipsis")
        for heading in ("p", *(("rank",) if reading.answer_rank is not None else ()), "KL", "H"):
            table.add_column(f"\n{heading}", justify="right", no_wrap=True)
    for row in range(len(next(iter(readings.values())).p_top1)):
        cells = [cell for reading in readings.values() for cell in _prompt_cells(reading, row, decode)]
        table.add_row(str(row), *cells)
    return table


def _prompt_cells(reading: PromptReading, row: int, decode: Callable[[list[int]], str]) -> list[str]:
    top1 = escape(repr(decode([int(reading.top1_ids[row])])))
    rank = [] if reading.answer_rank is None else [str(int(reading.answer_rank[row]))]
    figures = (float(reading.kl_to_final_bits[row]), float(reading.entropy_bits[row]))
    return [top1, f"{float(reading.p_top1[row]):.2f}", *rank, *(f"{figure:.2f}" for figure in figures)]


def print_prompt_table(readings: Mapping[str, PromptReading], prompt: PromptBatch, tokenizer: Any) -> None:
    """Print a prompt's table to the terminal, under what it asks for."""
    console = Console()
    wanted = f" → {tokenizer.decode(list(prompt.answer_ids))!r}" if prompt.answer_ids else ""
    units = "KL is KL(row‖final) and H the entropy, in bits"
    console.print(f"\n{prompt.text!r}{wanted} ({units}):", soft_wrap=True, markup=False, highlight=False)
    console.print(prompt_table(readings, tokenizer.decode))
