"""Plot of a lens over the revisions of a model: KL divergence and milestones by training step."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from logos_pl.compare.revision_module import SETTLED
from logos_pl.compare.revisions import Reached, Revision
from logos_pl.functional.bootstrap import Interval
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.io.glyphs import drawable

COLOURS = {25: "tab:blue", 50: "tab:orange", 75: "tab:green"}
SHOWN = {
    SETTLED: ("top-1 settled", "black"),
    "first_rank_le_1": ("first at rank 1", "tab:red"),
    "first_rank_le_10": ("first at rank ≤ 10", "tab:orange"),
    "first_kl_below_1.0": ("first KL(row‖final) < 1 bit", "tab:blue"),
}
"""Milestones that are drawn: name in the legend and colour."""

MAX_TICKS = 16
"""Largest number of steps labelled on a logarithmic axis."""

MAX_RATIO = 30
"""Ratio of the last to the second step beyond which the axis of steps is logarithmic."""


def revisions_figure(revisions: Sequence[Revision], steps: Sequence[int] | None, title: str) -> Figure:
    """Plot the revisions by training step, or, without steps, in their order.

    Args:
        revisions: The revisions, in order.
        steps: Training step of each; None if unknown.
        title: Model and lens.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    figure.suptitle("".join(drawable(title)), parse_math=False)
    places = list(range(1, len(revisions) + 1)) if steps is None else list(steps)
    order = sorted(range(len(places)), key=lambda number: places[number])
    shown, at = [revisions[number] for number in order], [places[number] for number in order]
    num_blocks = shown[0].num_blocks
    for percent, row in depth_percentile_rows(num_blocks).items():
        found = [of.rows[row]["kl_from_final_bits"] if row in of.rows else None for of in shown]
        _curve(left, at, found, COLOURS[percent], f"row {row} ({percent}% depth)")
    inner = [None if of.inner is None else of.inner["kl_from_final_bits"] for of in shown]
    _curve(left, at, inner, "black", "mean of the inner rows")
    _curve(left, at, [of.entropy_bits for of in shown], "tab:gray", "entropy of the model's output", ":")
    left.set_ylabel("KL(final‖row), bits")
    left.set_ylim(bottom=0)
    left.legend(fontsize="small")
    for name, (label, colour) in SHOWN.items():
        _curve(right, at, [of.text[name].row for of in shown], colour, label)
        if any(name in of.answers for of in shown):
            _curve(right, at, [_row(of.answers.get(name)) for of in shown], colour, None, "--")
    right.set_ylabel("row (mean where reached)")
    right.set_ylim(0, num_blocks + 0.4)
    handles = right.get_legend_handles_labels()[0]
    handles.append(Line2D([], [], color="gray", label="on text: the model's own top-1"))
    if any(of.answers for of in shown):
        handles.append(Line2D([], [], color="gray", linestyle="--", label="answers of facts"))
    right.legend(handles=handles, fontsize="small")
    for axes in (left, right):
        _label(axes, at, [of.name for of in shown], steps is not None)
    return figure


def _row(at: Reached | None) -> Interval | None:
    return None if at is None else at.row


def _curve(
    axes: Axes, at: Sequence[int], found: Sequence[Interval | None], colour: str, label: str | None, style: str = "-"
) -> None:
    there = [(place, of) for place, of in zip(at, found, strict=True) if of is not None]
    if not there:
        return
    places = [place for place, _ in there]
    axes.plot(places, [of.estimate for _, of in there], style, marker="o", markersize=4, color=colour, label=label)
    low, high = [of.low for _, of in there], [of.high for _, of in there]
    axes.fill_between(places, low, high, color=colour, alpha=0.12, linewidth=0)


def _label(axes: Axes, at: Sequence[int], names: Sequence[str], by_step: bool) -> None:
    axes.grid(alpha=0.3)
    if not by_step:
        labels = ["".join(drawable(name.partition("@")[2] or name)) for name in names]
        axes.set_xticks(list(at), labels, rotation=30, ha="right", parse_math=False)
        axes.set_xlabel("revision, in the order given")
        return
    axes.set_xlabel("training step")
    positive = [step for step in at if step > 0]
    if len(positive) > 1 and positive[-1] / positive[0] > MAX_RATIO:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.4)
        axes.set_xlim(-0.15 * positive[0] if at[0] == 0 else positive[0] / 1.3, positive[-1] * 1.3)
        axes.xaxis.set_minor_locator(NullLocator())
        if len(at) <= MAX_TICKS:
            axes.set_xticks(list(at), [f"{step:,}" for step in at], rotation=30, ha="right")
