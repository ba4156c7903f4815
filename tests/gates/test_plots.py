import io
import math

import numpy as np
import pytest
import torch
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from logos_pl.gates.kpis import SUITE, TEXT, Kpis, measure
from logos_pl.gates.plots import gains_figure, rows_figure
from logos_pl.kinds.registry import kind_of
from tests.gates.lens_suite import prompt, text

QUANTITIES = ("kl_from_final_bits", "kl_to_final_bits", "top1_agree")


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), dpi=40)  # warnings are errors
    return figure


def kpis(prompts: int = 8, sequences: int = 8) -> Kpis:
    given = [prompt(f"p{i}", num_blocks=8, worse_bits={"tuned": 0.0, "norm": 1.0 + i, "norm_tau": 0.5, "bias": 0.2})
             for i in range(prompts)]  # fmt: skip
    return measure(given, text(num_blocks=8, sequences=sequences), 8)


def test_four_panels_show_both_lenses_at_every_row() -> None:
    rows = {
        lens: {
            name: torch.rand(9, generator=torch.Generator().manual_seed(10 * a + b))
            for b, name in enumerate(QUANTITIES)
        }
        for a, lens in enumerate(("norm", "tuned"))
    }
    bits = {"norm": torch.arange(9.0), "tuned": torch.arange(9.0) / 2}
    figure = drawn(rows_figure(rows, bits, "org-model"))

    assert figure.get_suptitle() == "org-model: means over held-out text"
    wanted = [*({lens: rows[lens][name] for lens in rows} for name in QUANTITIES), bits]
    for axes, lines in zip(figure.axes, wanted, strict=True):
        assert axes.get_ylabel()
        assert axes.get_ylim()[0] == 0
        found = {str(line.get_label()): line for line in axes.lines}
        assert found.keys() == {"norm", "tuned"}
        for lens, line in found.items():
            assert np.asarray(line.get_ydata()).tolist() == pytest.approx(lines[lens].tolist())
            assert line.get_color() == kind_of(lens).colour
    assert figure.axes[0].get_legend() is not None


def test_rows_that_are_not_finite_are_gaps() -> None:
    broken = torch.tensor([1.0, math.nan, math.inf, 2.0])
    rows = {lens: dict.fromkeys(QUANTITIES, broken) for lens in ("norm", "tuned")}
    drawn(rows_figure(rows, {"norm": broken, "tuned": broken}, "m"))


def bars(figure: Figure, panel: int) -> dict[str, ErrorbarContainer]:
    containers = figure.axes[panel].containers
    return {str(bar.get_label()): bar for bar in containers if isinstance(bar, ErrorbarContainer)}


def test_gains_over_every_baseline_and_set_stand_with_their_intervals() -> None:
    given = kpis()
    figure = drawn(gains_figure(given, "org-model"))
    left = bars(figure, 0)

    assert len(left) == 6
    words = {"norm": "over norm lens, ", "norm_tau": "temperature per row", "bias": "bias and temperature"}
    for baseline, sets in given.median_delta_kl_bits.items():
        for where, deltas in sets.items():
            (label,) = (
                name for name in left if words[baseline] in name and (("held-out" in name) == (where == TEXT))
                and (baseline != "norm" or "temperature" not in name)
            )  # fmt: skip
            points, _, (ends,) = left[label].lines
            found = [delta.to_final for delta in deltas.values() if delta is not None]
            assert np.asarray(points.get_ydata()).tolist() == pytest.approx([of.estimate for of in found])
            for segment, of in zip(ends.get_segments(), found, strict=True):
                assert segment[:, 1].tolist() == pytest.approx([of.low, of.high])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["25%", "50%", "75%"]
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == list(left)


def test_earliness_stands_beside_it_for_every_rank() -> None:
    given = kpis()
    figure = drawn(gains_figure(given, "m"))
    (bar,) = bars(figure, 1).values()
    wanted = [shift.estimate for shift in given.earliness_shift.values() if shift is not None]
    assert np.asarray(bar.lines[0].get_ydata()).tolist() == wanted
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["rank ≤ 10", "rank ≤ 5", "rank ≤ 1"]


def test_what_was_not_measured_is_left_out_and_the_rest_is_drawn() -> None:
    figure = drawn(gains_figure(kpis(prompts=0), "m"))
    assert all("held-out text" in label for label in bars(figure, 0))
    assert bars(figure, 1) == {}
    figure = drawn(gains_figure(kpis(sequences=0), "m"))
    assert all("prompts" in label for label in bars(figure, 0))
    assert kpis(sequences=0).median_delta_kl_bits["norm"][SUITE][25] is not None
