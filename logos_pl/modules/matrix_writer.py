"""Transfer matrix of a validation: summary on the terminal, CSV and plot in a new folder."""

import csv
import io
import os
from pathlib import Path

import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from logos_pl.io.glyphs import drawable
from logos_pl.io.result_folder import result_folder, write_results
from logos_pl.io.terminal import say
from logos_pl.kinds.registry import kind_of
from logos_pl.modules.pictures import png
from logos_pl.modules.validation import TransferMatrix, ValidationModule

FILES = ("transfer.csv", "transfer.png")
OPTION = "--validate.out_dir"
MAX_WRITTEN = 14
"""Largest number of rows for which the plot shows the value in each cell."""

LEAST_BITS = 1e-3
"""KL divergence below which all values have the same colour in the plot."""


class MatrixWriter(Callback):
    """Prints and writes the transfer matrix at the end of a validation.

    Args:
        root: Root folder of the logs.
        out_dir: Folder given by the user.
    """

    def __init__(self, root: Path, out_dir: str | None) -> None:
        self.root, self.out_dir = root, out_dir

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print and write.

        Raises:
            InputError: The folder holds results.
            RunError: The folder cannot be written.
        """
        assert isinstance(pl_module, ValidationModule)
        matrix = pl_module.transfer
        if matrix is None or not trainer.is_global_zero:
            return
        name, norm = pl_module.frozen.clean_model_name, pl_module.validation["norm"]["kl_from_final_bits"]
        say(summary(matrix))
        contents = matrix_csv(matrix).encode(), png(matrix_figure(matrix, norm, name))
        folder = result_folder(self.root / "validations", name, self.out_dir)
        write_results(folder, dict(zip(FILES, contents, strict=True)), OPTION)
        say(f"matrix: {os.path.relpath(folder)}/{FILES[0]}, with {FILES[1]}")


def summary(matrix: TransferMatrix) -> str:
    """How well each row's own map does, and what a neighbour's map costs, in one sentence."""
    kl, maps = matrix.quantities["kl_from_final_bits"], list(matrix.maps)
    at = kl[:, maps]  # square
    best = sum(int(at[:, number].argmin()) == number for number in range(len(maps)))
    beside = [float(at[i, j] - at[j, j]) for i in range(len(maps)) for j in (i - 1, i + 1) if 0 <= j < len(maps)]
    cost = "" if not beside else f"; a neighbour's map costs {torch.tensor(beside).median():+.3f} bits (median)"
    return (
        f"\nThe maps of the {kind_of(matrix.lens).label}, each read at every row: at {best} of {len(maps)} rows, the "
        f"row's own map is the closest to the model{cost}."
    )


def matrix_csv(matrix: TransferMatrix) -> str:
    """CSV with a line per map and row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("kl_from_final_bits", "kl_to_final_bits", "top1_agree")
    writer.writerow(["map_layer", "layer", "kl_from_final_bits", "kl_to_final_bits", "top1_agree_frac"])
    for number, of_map in enumerate(matrix.maps):
        for row in range(matrix.quantities[names[0]].shape[1]):
            writer.writerow([of_map, row, *(float(matrix.quantities[name][number, row]) for name in names)])
    return text.getvalue()


def matrix_figure(matrix: TransferMatrix, norm: Float[Tensor, " rows"], model_name: str) -> Figure:
    """Plot KL(final‖row) for each map at each row, with the norm lens below, on a logarithmic scale.

    Args:
        matrix: The matrix.
        norm: KL(final‖row) of the norm lens by row.
        model_name: Name of the model.
    """
    kl = torch.cat([norm[None].to(torch.float64), matrix.quantities["kl_from_final_bits"]]).clamp(min=LEAST_BITS)
    num_lines, num_rows = kl.shape
    figure = Figure(figsize=(max(6.0, 0.3 * num_rows + 2.5), max(4.5, 0.26 * num_lines + 2)), layout="constrained")
    axes = figure.subplots()
    scale = LogNorm(float(kl[1:].min()), float(kl.max()))  # the norm lens is exact at the last row
    image = axes.imshow(kl.numpy(), origin="lower", cmap="viridis", norm=scale, aspect="auto", interpolation="none")
    if num_rows <= MAX_WRITTEN:
        _write_values(axes, kl, scale)
    for number, of_map in enumerate(matrix.maps, start=1):
        axes.add_patch(_frame(of_map, number))
    axes.axhline(0.5, color="white", linewidth=3, zorder=1.5)
    step = max(1, len(matrix.maps) // 16)
    shown = range(0, len(matrix.maps), step)
    axes.set_yticks([0, *(number + 1 for number in shown)], ["norm lens", *(str(matrix.maps[i]) for i in shown)])
    axes.set_xticks(range(0, num_rows, max(1, num_rows // 16)))
    axes.set_xlabel("row that is read (0: input of the first block)")
    axes.set_ylabel("row that the map was fitted for")
    title = f"{model_name}: {kind_of(matrix.lens).label}, maps at other rows (framed: at their own)"
    axes.set_title("".join(drawable(title)), parse_math=False)
    figure.colorbar(image, ax=axes, label="KL(final‖row), bits")
    return figure


def _frame(row: int, line: int) -> Rectangle:
    return Rectangle((row - 0.5, line - 0.5), 1, 1, fill=False, edgecolor="tab:red", linewidth=2, zorder=2)


def _write_values(axes: Axes, kl: Float[Tensor, "lines rows"], scale: LogNorm) -> None:
    for line, values in enumerate(kl.tolist()):
        for row, value in enumerate(values):
            colour = "black" if float(scale(value)) > 0.6 else "white"
            axes.text(row, line, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
