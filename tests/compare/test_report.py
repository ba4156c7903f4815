"""Table, document, CSV and plot of a comparison."""

import csv
import io
import json

from logos_pl.compare.figures import measure_pair
from logos_pl.compare.module import PairOrigin
from logos_pl.compare.report import QUANTITIES, pair_csv, pair_figure, pair_table, texts, to_plain
from tests.compare.test_figures import samples
from tests.printed import printed

A = PairOrigin("tuned one", "tuned", "one", "aa", "part 1 of 2", "1" * 64)
B = PairOrigin("tuned two", "tuned", "two", "bb", "part 2 of 2", "2" * 64)


def test_the_table_has_every_row_and_the_mean_of_the_inner_ones() -> None:
    figures = measure_pair(samples())
    lines = printed(pair_table(figures, QUANTITIES[:3]))
    assert len(printed(pair_table(figures, QUANTITIES[3:]))) == len(lines)
    assert [line[0] for line in lines] == ["row", "0", "1", "3", "4", "inner"]
    assert lines[1][1] == f"{figures.rows[0].kl_ab_bits.estimate:.3f}"
    assert lines[1][7] == f"{100 * figures.rows[0].top1_overlap_frac.estimate:.1f}%"


def test_the_document_and_the_csv_have_every_figure_with_its_interval() -> None:
    figures = measure_pair(samples())
    plain = to_plain(figures, {"a": A, "b": B}, {"model": {"model_id": "m"}})
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["schema_version"] == 1
    assert plain["lenses"]["a"]["text"] == "part 1 of 2"
    assert plain["rows"]["3"]["kl_ab_bits"] == figures.rows[3].kl_ab_bits._asdict()
    (first, *_) = csv.DictReader(io.StringIO(pair_csv(figures)))
    assert float(first["kl_ba_bits_low"]) == figures.rows[0].kl_ba_bits.low
    assert list(first)[:4] == ["layer", "kl_ab_bits", "kl_ab_bits_low", "kl_ab_bits_high"]


def test_the_plot_shows_all_three() -> None:
    figures = measure_pair(samples())
    figure = pair_figure(figures, {"a": A, "b": B}, "a $model_")
    figure.canvas.draw()
    left, right = figure.axes
    assert [line.get_label() for line in left.get_lines()] == [
        "KL(A‖B), bits",
        "KL(B‖A), bits",
        "KL(final‖A), bits",
        "KL(final‖B), bits",
    ]
    assert list(right.get_lines()[0].get_ydata()) == [of.top1_overlap_frac.estimate for of in figures.rows.values()]


def test_it_is_said_whether_both_were_fitted_on_the_same_text() -> None:
    parts = [of._replace(text=f"part {number} of 2 by the same hash") for number, of in ((1, A), (2, B))]
    assert texts({"a": parts[0], "b": parts[1]}) == "fitted on disjoint parts of the text, 1/2 and 2/2"
    assert texts({"a": A, "b": B}) == "fitted on different texts, which may overlap: see compare.json"
    assert "on the same text" in str(texts({"a": A, "b": A}))
    assert texts({"a": A, "b": B._replace(text_sha256=None)}) is None
