"""Plot of direct logit attribution by component, from records."""

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from logos_pl.io.glyphs import FONT, drawable, shortened
from logos_pl.sweeps.records import ContributionRecord, PromptRecords

COLOURS = {
    "embedding": "tab:green",
    "attention": "tab:blue",
    "mlp": "tab:orange",
    "rounding": "tab:gray",
    "bias": "tab:purple",
}
"""Colours by kind of component; the total is in the title."""

BAR = 0.4
"""Width of a bar in blocks; attention and MLP of a block are side by side."""

Nats = Callable[[ContributionRecord], float | None]


def contribution_figure(
    records: Sequence[PromptRecords], num_blocks: int, model_name: str, num_prompts: int | None = None
) -> Figure:
    """Plot contributions in nats to the answer's logit and, with control prompts, to answer minus contrast.

    The first prompt (in the lower panel, the first control prompt) is drawn as bars, the others as dots.

    Args:
        records: Records with attribution.
        num_blocks: Number of transformer blocks n.
        model_name: Name for the title.
        num_prompts: Total number of prompts, if more than are drawn.
    """
    controls = [record for record in records if _total(record).margin_contribution_nats is not None]
    panels = 2 if controls else 1
    figure = Figure(figsize=(12.0, 3.4 * panels + 0.5), layout="constrained")
    top, *below = figure.subplots(panels, 1, squeeze=False)[:, 0]
    _draw(top, records, num_blocks, lambda part: part.contribution_nats)
    for axes in below:
        _draw(axes, controls, num_blocks, lambda part: part.margin_contribution_nats)
        axes.set_ylabel("to answer − contrast, nats")
    top.set_ylabel("to the logit, nats")
    name = "".join(drawable(f"{model_name}: contributions to the logit after the prompt"))
    figure.suptitle(name, fontsize=11, parse_math=False, font=FONT)
    kinds = {part.kind for record in records[:1] for part in _parts(record)}
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=kind) for kind, colour in COLOURS.items() if kind in kinds
    ]
    if len(records) > 1:
        of = f" (of {num_prompts})" if num_prompts is not None and num_prompts > len(records) else ""
        label = f"{len(records) - 1} other prompts{of}"
        handles.append(Line2D([], [], color="black", linestyle="", marker=".", markersize=4, alpha=0.5, label=label))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure


def _draw(axes: Axes, records: Sequence[PromptRecords], num_blocks: int, nats: Nats) -> None:
    """Draw the first record as bars and the others as dots; blocks from left to right, biases last."""
    alpha = max(0.15, min(0.6, 3.0 / max(len(records) - 1, 1)))
    for number, record in enumerate(records):
        parts = _parts(record)
        places = [_place(part, num_blocks, parts) for part in parts]
        values = [_finite(nats(part)) for part in parts]
        if number == 0:
            axes.bar(places, values, width=BAR, color=[COLOURS[part.kind] for part in parts], zorder=2)
        else:
            axes.plot(places, values, color="black", linestyle="", marker=".", markersize=2.5, alpha=alpha, zorder=3)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3, axis="y")
    if records:
        _name_places(axes, _parts(records[0]), num_blocks)
        axes.set_title(_title(records[0], nats), fontsize=9, parse_math=False, font=FONT)


def _name_places(axes: Axes, parts: Sequence[ContributionRecord], num_blocks: int) -> None:
    step = math.ceil(num_blocks / 20)
    blocks = [layer for layer in range(1, num_blocks + 1) if layer % step == 0 or layer == 1]
    named = [part for part in parts if part.layer is None]
    ticks = [*map(float, blocks), *(_place(part, num_blocks, parts) for part in named)]
    axes.set_xticks(ticks, [*map(str, blocks), *(part.component.replace("_", "\n") for part in named)], fontsize=8)
    margin = 0.7 * _gap(num_blocks)
    axes.set_xlim(min(ticks) - margin, max(ticks) + margin)
    axes.set_xlabel("block")


def _place(part: ContributionRecord, num_blocks: int, parts: Sequence[ContributionRecord]) -> float:
    """Place on the axis: blocks at their numbers, the embedding before the first, all others after the last."""
    if part.layer is not None:
        return part.layer + (BAR / 2 if part.kind == "mlp" else -BAR / 2)
    if part.kind == "embedding":
        return 1 - _gap(num_blocks)
    behind = [other.component for other in parts if other.layer is None and other.kind != "embedding"]
    return num_blocks + _gap(num_blocks) * (1 + behind.index(part.component))


def _gap(num_blocks: int) -> float:
    """Space for the name of a component, in blocks."""
    return max(1.0, num_blocks / 10)


def _title(record: PromptRecords, nats: Nats) -> str:
    total = _total(record)
    text = shortened(drawable(record.prompt.text), 45.0)
    token = shortened(drawable(total.token, space="␣"), 12.0)
    against = ""
    if nats(total) is not total.contribution_nats and total.contrast is not None:
        against = f" − {shortened(drawable(total.contrast, space='␣'), 12.0)}"
    nats_in_all = f"{nats(total):.2f}".replace("-", "−")
    return f"bars: {text} → {token}{against}, {nats_in_all} in all"


def _parts(record: PromptRecords) -> list[ContributionRecord]:
    """Components to draw: all except the total."""
    assert record.attribution is not None
    return [part for part in record.attribution.contributions if part.kind != "total"]


def _total(record: PromptRecords) -> ContributionRecord:
    assert record.attribution is not None
    return record.attribution.total


def _finite(nats: float | None) -> float:
    return nats if nats is not None and math.isfinite(nats) else math.nan
