"""The plot over revisions."""

from logos_pl.compare.revision_figure import revisions_figure
from tests.compare.test_revisions import revision


def test_curves_are_in_the_order_of_the_steps_on_a_logarithmic_axis_where_they_span_much() -> None:
    revisions = [revision("m@step1000", 1), revision("m@step0", 2), revision("m@step8", 3)]
    figure = revisions_figure(revisions, [1000, 0, 8], "a $title_")
    figure.canvas.draw()
    left, right = figure.axes
    curve = next(line for line in left.get_lines() if str(line.get_label()).startswith("row 1"))
    assert list(curve.get_xdata()) == [0, 8, 1000]
    wanted = [revisions[number].rows[1]["kl_from_final_bits"].estimate for number in (1, 2, 0)]
    assert list(curve.get_ydata()) == wanted
    assert left.get_xscale() == right.get_xscale() == "symlog"
    legend = right.get_legend()
    assert legend is not None
    assert "answers of facts" in [text.get_text() for text in legend.get_texts()]


def test_without_steps_the_order_given_is_that_of_the_plot_and_facts_may_be_left_out() -> None:
    figure = revisions_figure([revision("m@main", 1, False), revision("m@a_b$", 2, False)], None, "m")
    figure.canvas.draw()
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["main", "a_b$"]
    assert left.get_xscale() == "linear"
    legend = right.get_legend()
    assert legend is not None
    assert "answers of facts" not in [text.get_text() for text in legend.get_texts()]
