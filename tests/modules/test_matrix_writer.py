"""Summary, CSV and plot of a transfer matrix."""

import csv
import io

import torch

from logos_pl.modules.matrix_writer import LEAST_BITS, matrix_csv, matrix_figure, summary
from logos_pl.modules.validation import TransferMatrix

MAPS = (1, 2, 3)


def matrix() -> TransferMatrix:
    """Maps of three rows at five; the own map is the closest at two of them, and a neighbour's is worse or better."""
    kl = torch.tensor([[3, 1, 0.9, 1.5, 0], [4, 1.5, 1, 1, 2], [4, 2, 1.5, 0.5, 1]], dtype=torch.float64)
    return TransferMatrix("tuned", MAPS, {"kl_from_final_bits": kl, "kl_to_final_bits": kl + 1, "top1_agree": kl / 10})


def test_the_summary_says_where_the_own_map_is_the_closest() -> None:
    said = summary(matrix())
    assert "The maps of the tuned lens, each read at every row" in said
    assert "at 2 of 3 rows" in said
    assert "a neighbour's map costs +0.500 bits (median)" in said


def test_the_csv_has_a_line_per_map_and_row() -> None:
    lines = list(csv.DictReader(io.StringIO(matrix_csv(matrix()))))
    assert len(lines) == 15
    assert lines[7] == {
        "map_layer": "2",
        "layer": "2",
        "kl_from_final_bits": "1.0",
        "kl_to_final_bits": "2.0",
        "top1_agree_frac": "0.1",
    }


def test_the_plot_has_the_norm_lens_below_and_frames_the_own_maps() -> None:
    figure = matrix_figure(matrix(), torch.tensor([5.0, 4, 3, 2, 0]), "a $model_")
    figure.canvas.draw()
    axes = figure.axes[0]
    (image,) = axes.images
    shown = image.get_array()
    assert shown is not None
    assert shown.shape == (4, 5)
    assert float(shown[0][0]) == 5
    assert float(shown[1][4]) == LEAST_BITS, "zero has no place on a logarithmic scale"
    assert len(axes.patches) == len(MAPS)
    assert axes.get_yticklabels()[0].get_text() == "norm lens"
