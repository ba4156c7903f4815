import io
import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from logos_pl.sweeps.attribution_plot import COLOURS, contribution_figure
from logos_pl.sweeps.records import PromptRecords
from tests.sweeps.made_records import made_attribution, prompt_records

PARTS = {
    "embedding": 0.5,
    "attn_1": 2.0,
    "mlp_1": -1.0,
    "attn_2": 0.25,
    "mlp_2": 4.0,
    "rounding": 0.0,
    "norm_bias": 1.5,
}


def made(factor: float = 1.0, margin: float | None = None, **parts: float) -> PromptRecords:
    values = {name: factor * nats for name, nats in (PARTS | parts).items()}
    return prompt_records({"norm": [8.0, 4.0, 0.0]})._replace(attribution=made_attribution(values, margin))


def drawn(figure: Figure) -> list[Axes]:
    figure.savefig(io.BytesIO(), dpi=50)  # warnings are errors
    return figure.axes


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def heights(axes: Axes) -> list[float]:
    return [bar.get_height() for bar in bars(axes)]


def test_the_first_prompt_is_drawn_as_bars_in_the_colours_of_their_kinds_and_the_others_as_dots() -> None:
    figure = contribution_figure([made(), made(2.0), made(3.0)], 2, "m", num_prompts=7)
    (axes,) = drawn(figure)
    assert heights(axes) == list(PARTS.values())
    kinds = ["embedding", "attention", "mlp", "attention", "mlp", "rounding", "bias"]
    colours = [bar.get_facecolor() for bar in bars(axes)]
    assert len({colour for colour, kind in zip(colours, kinds, strict=True) if kind == "attention"}) == 1
    assert len(set(colours)) == len(COLOURS)
    dots = [np.asarray(line.get_ydata()).tolist() for line in axes.lines if line.get_marker() == "."]
    assert dots == [[factor * nats for nats in PARTS.values()] for factor in (2.0, 3.0)]
    assert "→ ␣Berlin, 7.25 in all" in axes.get_title()
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "2 other prompts (of 7)"


def test_bars_stand_at_their_blocks_side_by_side_between_embedding_and_biases() -> None:
    (axes,) = drawn(contribution_figure([made()], 2, "m"))
    centres = [bar.get_x() + bar.get_width() / 2 for bar in bars(axes)]
    assert centres == sorted(centres)
    assert [round(x) for x in centres[1:5]] == [1, 1, 2, 2]
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars(axes)]
    assert all(end <= start + 1e-9 for (_, end), (start, _) in itertools.pairwise(edges))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "embedding", "rounding", "norm\nbias"]


def test_control_prompts_get_a_part_of_their_own_with_answer_minus_contrast() -> None:
    top, below = drawn(contribution_figure([made(), made(2.0, margin=-0.5), made(3.0, margin=0.5)], 2, "m"))
    assert heights(top) == list(PARTS.values())
    assert heights(below) == [-1.0 * nats for nats in PARTS.values()]
    assert "→ ␣Berlin − ␣Paris, −7.25 in all" in below.get_title()
    assert below.get_ylabel() == "to answer − contrast, nats"


@pytest.mark.parametrize("num_blocks", [1, 32, 80])
def test_names_under_the_axis_do_not_overlap_at_any_depth(num_blocks: int) -> None:
    blocks = {f"{kind}_{k}": 0.1 * k for k in range(1, num_blocks + 1) for kind in ("attn", "mlp")}
    parts = {"embedding": 1.0, **blocks, "rounding": 0.0, "norm_bias": 1.0, "projection_bias": 1.0, "head_bias": -1.0}
    record = prompt_records({"norm": [0.0]})._replace(attribution=made_attribution(parts))
    figure = contribution_figure([record], num_blocks, "m")
    (axes,) = drawn(figure)
    boxes = sorted((label.get_window_extent() for label in axes.get_xticklabels()), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_what_is_not_finite_leaves_a_gap_and_no_record_leaves_an_empty_picture() -> None:
    (axes,) = drawn(contribution_figure([made(mlp_1=float("nan")), made(attn_1=float("inf"))], 2, "m"))
    assert np.isnan(heights(axes)).tolist() == [name == "mlp_1" for name in PARTS]
    (axes,) = drawn(contribution_figure([], 2, "m"))
    assert heights(axes) == []
