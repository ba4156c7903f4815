"""A comparison of two lenses as a table, JSON, CSV and a plot."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from logos_pl.compare.figures import PairFigures, RowDifference
from logos_pl.compare.module import PairOrigin
from logos_pl.functional.bootstrap import CONFIDENCE_FRAC, RESAMPLES, SEED, Interval
from logos_pl.io.glyphs import drawable

SCHEMA_VERSION = 1

QUANTITIES = (
    ("kl_ab_bits", "KL(A‖B), bits", "tab:blue"),
    ("kl_ba_bits", "KL(B‖A), bits", "tab:orange"),
    ("top1_overlap_frac", "top-1 overlap", "tab:green"),
    ("kl_final_a_bits", "KL(final‖A), bits", "tab:gray"),
    ("kl_final_b_bits", "KL(final‖B), bits", "tab:brown"),
)
"""Fields of a row's difference, each with heading and colour."""


def pair_table(figures: PairFigures, quantities: Sequence[tuple[str, str, str]] = QUANTITIES) -> Table:
    """Table by row of some quantities, with 95% intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("row", justify="right", no_wrap=True)
    for _, heading, _ in quantities:
        table.add_column(heading, justify="right", no_wrap=True)
    lines: dict[str, RowDifference] = {str(row): of for row, of in figures.rows.items()}
    if figures.inner is not None:
        lines["inner"] = figures.inner
    for name, of in lines.items():
        cells = [_cell(getattr(of, key), 3 if key.endswith("_bits") else 1) for key, _, _ in quantities]
        table.add_row(name, *map(escape, cells))
    return table


def _cell(found: Interval, digits: int) -> str:
    percent = digits == 1
    values = [100 * value if percent else value for value in (found.estimate, found.low, found.high)]
    estimate, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{estimate}{'%' * percent} [{low}, {high}]"


def texts(origins: dict[str, PairOrigin]) -> str | None:
    """Whether both were fitted on the same text, in one sentence; None if that is not recorded."""
    a, b = origins["a"], origins["b"]
    if a.text_sha256 is None or b.text_sha256 is None:
        return None
    if a.text_sha256 == b.text_sha256:
        return "both were fitted on the same text: this does not show how far fits on different text differ"
    parts = [re.search(r"part ([0-9]+) of ([0-9]+) by the same hash", of.text or "") for of in (a, b)]
    found = [part.groups() for part in parts if part is not None]
    if len(found) == 2 and found[0][1] == found[1][1] and found[0][0] != found[1][0]:
        return f"fitted on disjoint parts of the text, {'/'.join(found[0])} and {'/'.join(found[1])}"
    return "fitted on different texts, which may overlap: see compare.json"


def to_plain(figures: PairFigures, origins: dict[str, PairOrigin], about: dict[str, Any]) -> dict[str, Any]:
    """Contents of `compare.json` as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        **about,
        "lenses": {side: origin._asdict() for side, origin in origins.items()},
        "bootstrap": {"confidence_frac": CONFIDENCE_FRAC, "resamples": RESAMPLES, "seed": SEED, "over": "sequences"},
        "sequences": figures.num_sequences,
        "positions": figures.num_positions,
        "rows": {str(row): of.to_plain() for row, of in figures.rows.items()},
        "inner_rows": None if figures.inner is None else figures.inner.to_plain(),
    }


def pair_csv(figures: PairFigures) -> str:
    """CSV by row: every quantity with the ends of its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name, _, _ in QUANTITIES]
    writer.writerow(["layer", *(f"{name}{end}" for name in names for end in ("", "_low", "_high"))])
    for row, of in figures.rows.items():
        intervals = [getattr(of, name) for name in names]
        writer.writerow([row, *(value for found in intervals for value in (found.estimate, found.low, found.high))])
    return text.getvalue()


def pair_figure(figures: PairFigures, origins: dict[str, PairOrigin], model_name: str) -> Figure:
    """Plot all divergences and the overlap by row, with 95% intervals; the distance from the model is dotted."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    title = f"{model_name}: A = {origins['a'].label}, B = {origins['b'].label}"
    figure.suptitle("".join(drawable(title)), parse_math=False)
    rows = list(figures.rows)
    for name, label, colour in QUANTITIES:
        axes = right if name == "top1_overlap_frac" else left
        found = [getattr(of, name) for of in figures.rows.values()]
        style = ":" if name.startswith("kl_final") else "-o"
        axes.plot(rows, [of.estimate for of in found], style, color=colour, markersize=4, label=label)
        axes.fill_between(rows, [of.low for of in found], [of.high for of in found], color=colour, alpha=0.2)
    left.set_ylabel("bits")
    left.set_ylim(bottom=0)
    left.legend()
    right.set_ylabel("share of positions with the same top-1 token")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        axes.set_xlabel("row (0: input of the first block)")
        axes.grid(alpha=0.3)
    return figure
