"""Token map of one prompt: top-1 token and KL(row ‖ final) of a lens at every row and position."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from logos_pl.io.glyphs import FONT, drawable, shortened
from logos_pl.sweeps.records import PositionRecord, PromptRecords

MAX_POSITIONS = 40
FONT_POINTS, TITLE_POINTS = 6.5, 9.0
CELL_WIDTH, CELL_HEIGHT = 0.57, 0.165
"""Inches."""

CELL_EMS, LABEL_EMS = 0.88 * CELL_WIDTH * 72 / FONT_POINTS, 12.0
"""Space for text in a cell and below a column, in ems of `FONT_POINTS`."""

COLOURS = colormaps["viridis_r"].with_extremes(bad="white")

Cell = tuple[float, str]
"""KL(row ‖ final) in bits and the top-1 token."""


def token_map(record: PromptRecords, lens_names: Sequence[str]) -> Figure:
    """Plot depth against position, with the shortened top-1 token in each cell and KL(row ‖ final) in bits as colour.

    One panel per lens with a common colour scale, row n at the top. Of a long prompt, the last `MAX_POSITIONS`
    positions are shown, as the title says. Non-finite values are white.

    Args:
        record: Records of the prompt.
        lens_names: Lenses in the order of the panels; at least one.

    Raises:
        KeyError: The record lacks a lens.
    """
    first = max(0, len(record.ids) - MAX_POSITIONS)
    num_rows = 1 + max(cell.layer for cell in record.positions[lens_names[0]])  # every lens reads the last row
    num_columns = len(record.ids) - first
    grids = [_grid(record.positions[lens], num_rows, first, len(record.ids)) for lens in lens_names]
    top_bits = max([1.0, *(bits for grid in grids for bits, _ in grid.values() if math.isfinite(bits))])
    norm = PowerNorm(0.5, 0.0, top_bits)  # square root: 0.5 and 2 bits remain distinguishable beside 20
    figure, panels = _panels(len(grids), num_rows, num_columns)
    for axes, lens, grid in zip(panels, lens_names, grids, strict=True):
        _draw_cells(axes, grid, norm, (num_rows, num_columns))
        _label(axes, record.tokens[first:], first, num_rows)
        axes.set_title(lens, fontsize=9, loc="left", fontweight="bold")
    bar = figure.colorbar(panels[0].images[0], ax=panels, pad=0.01, aspect=30, fraction=0.03)
    bar.set_ticks([tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= top_bits])
    bar.set_label("KL(row ‖ final), bits", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(_title(record, first, figure.get_figwidth()), parse_math=False, font=FONT, fontsize=TITLE_POINTS)
    return figure


def _grid(cells: Sequence[PositionRecord], num_rows: int, first: int, end: int) -> dict[tuple[int, int], Cell]:
    """Cells by row and column; missing records have no entry."""
    return {
        (cell.layer, cell.pos - first): (cell.kl_to_final_bits, cell.top[0].token if cell.top else "")
        for cell in cells
        if first <= cell.pos < end and cell.layer < num_rows
    }


def _panels(count: int, num_rows: int, num_columns: int) -> tuple[Figure, list[Axes]]:
    """Figure with cells of fixed size; panels are arranged side by side or stacked, whichever is less elongated."""
    width = max(num_columns * CELL_WIDTH, 2.0) + 0.5
    height = max(num_rows * CELL_HEIGHT, 1.2) + 1.1
    beside = max(count * width, height) < max(width, count * height)
    rows, columns = (1, count) if beside else (count, 1)
    figure = Figure(figsize=(max(columns * width + 1.0, 6.0), rows * height + 0.6), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _draw_cells(axes: Axes, grid: dict[tuple[int, int], Cell], norm: PowerNorm, shape: tuple[int, int]) -> None:
    bits = np.full(shape, np.nan)
    for place, (value, _) in grid.items():
        bits[place] = value
    shown = np.ma.masked_invalid(bits)
    axes.imshow(shown, cmap=COLOURS, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    light = _luminance(COLOURS(norm(shown))[..., :3]) > 0.179  # equal contrast of black and white text
    for (row, column), (_, token) in grid.items():
        text = axes.text(
            column, row, shortened(drawable(token, "␣"), CELL_EMS),
            ha="center", va="center_baseline", color="black" if light[row, column] else "white",
            parse_math=False, font=FONT, fontsize=FONT_POINTS,
        )  # fmt: skip
        text.set_in_layout(False)  # laying out thousands of texts is slow


def _luminance(rgb: np.ndarray) -> np.ndarray:
    """Relative luminance of sRGB colours, 0 … 1. Source: WCAG 2.2."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _label(axes: Axes, tokens: Sequence[str], first: int, num_rows: int) -> None:
    labels = [f"{pos} {shortened(drawable(token, '␣'), LABEL_EMS)}" for pos, token in enumerate(tokens, first)]
    axes.set_xticks(range(len(tokens)), labels, rotation=35, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(num_rows))
    for label in axes.get_xticklabels():
        label.set(font=FONT, fontsize=FONT_POINTS)
    axes.tick_params(axis="y", labelsize=FONT_POINTS)
    axes.tick_params(length=2, pad=1)
    axes.set_ylabel("row", fontsize=8)


def _title(record: PromptRecords, first: int, width_inches: float) -> str:
    prompt = record.prompt
    ems = 0.9 * width_inches * 72 / TITLE_POINTS
    part = f"; the last {MAX_POSITIONS} of {len(record.ids)} positions" if first else ""
    name = "".join(drawable(f"{prompt.prompt_id}, {prompt.variant}"))
    return f"{shortened(drawable(prompt.text), ems)}\n{name}: top-1 token at every row and position{part}"
