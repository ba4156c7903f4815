"""The plot of unspoken intermediates."""

import pytest

from logos_pl.gates.unspoken_figures import measure_unspoken
from logos_pl.gates.unspoken_plot import unspoken_figure
from logos_pl.kinds.registry import kind_of
from tests.gates.unspoken_case import example


def test_both_panels_show_every_lens_with_its_colour_and_shares() -> None:
    readings = example()
    figure = unspoken_figure(readings, measure_unspoken(readings), "a $model_\u0007")
    figure.canvas.draw()
    left, right = figure.axes
    curves = {line.get_label(): line for line in left.get_lines() if not str(line.get_label()).startswith("_")}
    assert list(curves) == ["norm", "tuned"]
    assert [line.get_color() for line in curves.values()] == [kind_of(name).colour for name in curves]
    assert list(curves["norm"].get_ydata())[9] == pytest.approx((0.5 + 1 + 0 + 1) / 4)
    shares = {line.get_label(): list(line.get_ydata()) for line in right.get_lines() if line.get_linestyle() == "-"}
    assert shares["norm"] == pytest.approx([1 / 4, 0, 0, 0, 0, 1 / 4, 1.5 / 4, 1.5 / 4, 1 / 4])
    answers = [list(line.get_ydata()) for line in right.get_lines() if line.get_linestyle() == ":"]
    assert answers[0] == pytest.approx([0, 0, 0, 0, 0, 0.5, 0.5, 1, 1])


def test_without_an_answer_that_the_model_ranks_there_is_no_dotted_line() -> None:
    readings = example()
    mute = readings._replace(final_rank=readings.final_rank + 100)
    right = unspoken_figure(mute, measure_unspoken(mute), "a").axes[1]
    assert [line for line in right.get_lines() if line.get_linestyle() == ":"] == []
