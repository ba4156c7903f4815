"""Plots of divergence, cosine, entropy and rank against depth, from records."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from logos_pl.io.files import replace_file
from logos_pl.io.glyphs import FONT, drawable, shortened
from logos_pl.kinds.registry import kind_of, kinds
from logos_pl.sweeps.milestones import milestones
from logos_pl.sweeps.records import NextTokenRecord, PromptRecords

DPI = 130

DRAWN_PROMPTS = 64
"""Most prompts in one plot; the legend gives the total number."""


class Crossing(NamedTuple):
    """A milestone of the answer's rank and its marker."""

    milestone: str
    rank: int
    marker: Literal["o", "s", "*"]
    size: float


CROSSINGS = (
    Crossing("first_rank_le_10", 10, "o", 14.0),
    Crossing("first_rank_le_5", 5, "s", 10.0),
    Crossing("first_rank_le_1", 1, "*", 10.0),
)
"""Markers of different size, so that milestones at the same row remain visible."""

Reading = Callable[[NextTokenRecord], float | None]


class PromptSample:
    """Prompts to draw: the first `DRAWN_PROMPTS` of all, and as many of those with a resolved answer.

    Attributes:
        records: First of `num_prompts` prompts; only the very first with positions.
        answered: First of `num_answered` prompts with a resolved answer.
    """

    def __init__(self) -> None:
        self.records: list[PromptRecords] = []
        self.answered: list[PromptRecords] = []
        self.num_prompts = self.num_answered = 0

    def add(self, record: PromptRecords) -> None:
        """Add a prompt; its record is stored only if it will be drawn."""
        kept = record if self.num_prompts == 0 else record._replace(positions={})
        self.num_prompts += 1
        if self.num_prompts <= DRAWN_PROMPTS:
            self.records.append(kept)
        if record.answer_tokens.first_id is not None:
            self.num_answered += 1
            if self.num_answered <= DRAWN_PROMPTS:
                self.answered.append(kept)


def kl_figure(
    records: Sequence[PromptRecords], num_blocks: int, model_name: str, num_prompts: int | None = None
) -> Figure:
    """Plot divergence from the final distribution in bits against depth, with milestones of the answer's rank.

    The first prompt is drawn bold and in both directions, the others thin and only as KL(row ‖ final). The axis is
    linear up to one bit and logarithmic above.

    Args:
        records: Records of the prompts; missing lenses are skipped.
        num_blocks: Number of transformer blocks n; rows are 0 … n.
        model_name: Name for the title.
        num_prompts: Total number of prompts, if more than are drawn.
    """
    figure, axes = _depth_axes(records, num_blocks, f"{model_name}: divergence from the final distribution")
    handles = _draw(axes, records, lambda row: row.kl_to_final_bits, num_prompts)
    if records:
        _draw_first(axes, records[0], lambda row: row.kl_from_final_bits, linestyle="--", linewidth=1.2)
        handles += [_style("-", 2.4, "KL(row ‖ final)"), _style("--", 1.2, "KL(final ‖ row)")]
        handles += _draw_crossings(axes, records[0])
    _log_above_one(axes)
    axes.set_ylabel("KL divergence after the prompt, bits (logarithmic above 1)")
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, labelspacing=0.8)
    return figure


def cosine_figure(
    records: Sequence[PromptRecords], num_blocks: int, model_name: str, num_prompts: int | None = None
) -> Figure:
    """Plot the cosine of mean-centred logits with the final ones against depth, with dotted milestone thresholds."""
    figure, axes = _depth_axes(records, num_blocks, f"{model_name}: cosine with the final logits")
    handles = _draw(axes, records, lambda row: row.cos_to_final, num_prompts)
    for cosine in (0.2, 0.4, 0.6):
        axes.axhline(cosine, color="black", linestyle=":", linewidth=0.8)
    axes.set_ylabel("cosine of mean-centred logits after the prompt")
    axes.set_ylim(top=1.03)
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, labelspacing=0.8)
    return figure


def entropy_figure(
    records: Sequence[PromptRecords], num_blocks: int, model_name: str, num_prompts: int | None = None
) -> Figure:
    """Plot entropy in bits against depth, with that of the final distribution after the first prompt."""
    figure, axes = _depth_axes(records, num_blocks, f"{model_name}: entropy")
    handles = _draw(axes, records, lambda row: row.entropy_bits, num_prompts)
    final = [row.teacher_entropy_bits for row in _first_rows(records) if math.isfinite(row.teacher_entropy_bits)]
    if final:
        handles.append(
            axes.axhline(final[0], color="black", linestyle=":", linewidth=1.2, label="model's final entropy")
        )
    axes.set_ylabel("entropy after the prompt, bits")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, labelspacing=0.8)
    return figure


def rank_figure(
    records: Sequence[PromptRecords], num_blocks: int, model_name: str, num_prompts: int | None = None
) -> Figure:
    """Plot the rank of the answer's first token against depth, rank 1 on top, for prompts with a resolved answer.

    `num_prompts` counts only these prompts.
    """
    answered = [record for record in records if record.answer_tokens.first_id is not None]
    figure, axes = _depth_axes(answered, num_blocks, f"{model_name}: rank of the answer")
    handles = _draw(axes, answered, lambda row: row.answer_rank, num_prompts)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0.8, top=max(12.0, axes.get_ylim()[1]))
    axes.invert_yaxis()
    for crossing in CROSSINGS:
        axes.axhline(crossing.rank, color="black", linestyle=":", linewidth=0.8)
    axes.set_ylabel("rank of the answer after the prompt")
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, labelspacing=0.8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG atomically and reproducibly.

    Raises:
        OSError: The file cannot be written.
    """
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})  # by default matplotlib's version
    replace_file(path, data.getbuffer())


def _depth_axes(records: Sequence[PromptRecords], num_blocks: int, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(-0.02 * num_blocks, 1.02 * num_blocks)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=17, integer=True))
    axes.set_xlabel(f"row (0: input of the first block, {num_blocks}: output of the last)")
    axes.grid(alpha=0.3)
    text = shortened(drawable(records[0].prompt.text), 45.0) if records else "no prompts"
    shown = f"bold: {text}" if len(records) > 1 else text
    axes.set_title(f"{''.join(drawable(title))}\n{shown}", fontsize=10, parse_math=False, font=FONT)
    return figure, axes


def _lenses(records: Sequence[PromptRecords]) -> Iterator[tuple[str, str]]:
    """Lenses of the sweep with their colours, in the order of display."""
    for kind in kinds():
        if kind.swept and any(kind.name in record.next_token for record in records):
            yield kind.name, kind.colour


def _first_rows(records: Sequence[PromptRecords]) -> list[NextTokenRecord]:
    return [row for rows in (records[0].next_token.values() if records else ()) for row in rows]


def _points(rows: Sequence[NextTokenRecord], reading: Reading) -> tuple[list[int], list[float]]:
    """Rows and readings; NaN where a row is not read or its reading is not finite, so that the line has a gap."""
    values = {row.layer: reading(row) for row in rows}
    layers = list(range(min(values), max(values) + 1)) if values else []
    found = (values.get(layer) for layer in layers)
    return layers, [v if v is not None and math.isfinite(v) else math.nan for v in found]


def _is_dotted(rows: Sequence[NextTokenRecord]) -> bool:
    """Whether rows between the first and the last are not read, so that a line would have gaps."""
    return bool(rows) and rows[-1].layer - rows[0].layer >= len(rows)


def _draw(axes: Axes, records: Sequence[PromptRecords], reading: Reading, num_prompts: int | None) -> list[Line2D]:
    """Draw the first prompt bold and the others thin behind it; one legend entry per lens and one for the others."""
    others = records[1:]
    alpha = max(0.08, min(0.35, 3.0 / max(len(others), 1)))
    for lens, colour in _lenses(others):
        for record in others:
            rows = record.next_token.get(lens, ())
            marker = "." if _is_dotted(rows) else ""
            axes.plot(*_points(rows, reading), color=colour, linewidth=0.7, marker=marker, markersize=3, alpha=alpha)
    if records:
        _draw_first(axes, records[0], reading, linestyle="-", linewidth=2.4)
    handles = [Line2D([], [], color=colour, linewidth=2.4, label=lens) for lens, colour in _lenses(records)]
    if others:
        of = f" (of {num_prompts})" if num_prompts is not None and num_prompts > len(records) else ""
        label = f"{len(others)} other prompts{of}"
        handles.append(Line2D([], [], color="black", linewidth=0.7, alpha=0.5, label=label))
    return handles


def _draw_first(axes: Axes, record: PromptRecords, reading: Reading, linestyle: str, linewidth: float) -> None:
    for lens, colour in _lenses([record]):
        axes.plot(
            *_points(record.next_token[lens], reading),
            color=colour, linestyle=linestyle, linewidth=linewidth, marker=".", markersize=2.5 * linewidth, label=lens,
        )  # fmt: skip


def _draw_crossings(axes: Axes, record: PromptRecords) -> list[Line2D]:
    """Mark the first rows with the answer at rank ≤ 10, 5 and 1; returns legend entries."""
    found = {lens: milestones(record.next_token[lens]) for lens, _ in _lenses([record])}
    handles = []
    for crossing in CROSSINGS:
        marks = [
            axes.add_line(_mark(crossing, row, kind_of(lens).colour))
            for lens, reached in found.items()
            for row in record.next_token[lens]
            if row.layer == getattr(reached, crossing.milestone) and math.isfinite(row.kl_to_final_bits)
        ]
        if marks:
            handles.append(_mark(crossing, None, "black"))
    return handles


def _mark(crossing: Crossing, row: NextTokenRecord | None, colour: str) -> Line2D:
    return Line2D(
        [] if row is None else [row.layer],
        [] if row is None else [row.kl_to_final_bits],
        linestyle="", marker=crossing.marker, markersize=crossing.size,
        color=colour, markerfacecolor="white", markeredgewidth=1.5, zorder=4,
        label=f"answer first at rank ≤ {crossing.rank}",
    )  # fmt: skip


def _style(linestyle: Literal["-", "--"], linewidth: float, label: str) -> Line2D:
    return Line2D([], [], color="black", linestyle=linestyle, linewidth=linewidth, label=label)


def _log_above_one(axes: Axes) -> None:
    axes.set_yscale("symlog", linthresh=1.0, linscale=0.7)
    axes.set_ylim(-0.03, max(1.5, axes.get_ylim()[1]))
    axes.set_yticks([tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= axes.get_ylim()[1]])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda bits, _: f"{bits:g}"))
