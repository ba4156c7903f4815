"""Plots of a test: measures by row on held-out text, and gains over the baselines. Source: docs/method.md §7."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from logos_pl.functional.bootstrap import Interval
from logos_pl.gates.kpis import SUITE, TEXT, Kpis
from logos_pl.gates.measurements import DECIDES
from logos_pl.gates.tables import RowFigures
from logos_pl.io.glyphs import drawable
from logos_pl.kinds.registry import baselines, kind_of

SET_STYLES = {SUITE: ("o", "prompts"), TEXT: ("s", "held-out text")}


def rows_figure(rows: RowFigures, bits_per_byte: Mapping[str, Float[Tensor, " rows"]], model_name: str) -> Figure:
    """Plot KL in both directions, top-1 agreement and bits per byte of the next token against depth, for each lens."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2)
    figure.suptitle("".join(drawable(f"{model_name}: means over held-out text")), parse_math=False)
    wanted = (
        ("kl_from_final_bits", "KL(final ‖ row), bits"),
        ("kl_to_final_bits", "KL(row ‖ final), bits"),
        ("top1_agree", "share with the model's top-1 token"),
    )
    for axes, (quantity, label) in zip(panels.flat, wanted, strict=False):
        _draw(axes, {lens: of[quantity] for lens, of in rows.items()}, label)
    _draw(panels.flat[3], bits_per_byte, "true next token, bits per byte")
    panels.flat[0].legend()
    return figure


def _draw(axes: Axes, lines: Mapping[str, Tensor], label: str) -> None:
    for lens, line in lines.items():
        axes.plot(line.tolist(), "-o", color=kind_of(lens).colour, markersize=4, label=lens)
    axes.set_xlabel("row (0: input of the first block)")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


def gains_figure(kpis: Kpis, model_name: str) -> Figure:
    """Plot median ΔKL over each baseline at the depth percentiles, and earliness, with 95% intervals."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    title = "".join(drawable(f"{model_name}: gains of the {kind_of(DECIDES).label} (95% bootstrap intervals)"))
    figure.suptitle(title, parse_math=False)
    for number, (baseline, words) in enumerate(baselines().items()):
        for where, (marker, set_words) in SET_STYLES.items():
            deltas = kpis.median_delta_kl_bits[baseline][where]
            found = {slot: delta.to_final for slot, delta in enumerate(deltas.values()) if delta is not None}
            offset = 0.12 * (number - 1) + (0.03 if where == TEXT else -0.03)
            _intervals(
                left,
                {slot + offset: of for slot, of in found.items()},
                marker,
                kind_of(baseline).colour,
                f"over {words.legend}, {set_words}",
            )
    left.set_xticks(range(3), [f"{depth}%" for depth in kpis.median_delta_kl_bits["norm"][SUITE]])
    left.set_xlabel("depth")
    left.set_ylabel("median ΔKL(row ‖ final), bits")
    left.axhline(0, color="black", linewidth=0.8)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    shifts = {float(slot): shift for slot, shift in enumerate(kpis.earliness_shift.values()) if shift is not None}
    _intervals(right, shifts, "o", kind_of(DECIDES).colour, "")
    right.set_xticks(range(len(kpis.earliness_shift)), [f"rank ≤ {rank}" for rank in kpis.earliness_shift])
    right.set_ylabel("rows earlier than the norm lens, median")
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xlim(-0.5, len(kpis.earliness_shift) - 0.5)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return figure


def _intervals(axes: Axes, found: Mapping[float, Interval], marker: str, colour: str, label: str) -> None:
    if not found:
        return
    middle = np.array([of.estimate for of in found.values()])
    # Because of rounding, an interval may exclude its estimate.
    below = np.maximum(middle - [of.low for of in found.values()], 0)
    above = np.maximum([of.high for of in found.values()] - middle, 0)
    axes.errorbar(
        list(found), middle, yerr=[below, above], fmt=marker, color=colour, label=label, capsize=3, markersize=5
    )
