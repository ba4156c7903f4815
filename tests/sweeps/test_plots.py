import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.kinds.registry import kinds
from logos_pl.sweeps.plots import (
    DRAWN_PROMPTS,
    PromptSample,
    cosine_figure,
    entropy_figure,
    kl_figure,
    rank_figure,
    save_figure,
)
from tests.sweeps.made_records import ANSWER, prompt_records

FIGURES = [kl_figure, cosine_figure, entropy_figure, rank_figure]
Draw = Callable[..., Figure]
CROSSED = {
    "norm": {1: {"answer_rank": 10}, 2: {"answer_rank": 4}, 3: {"answer_rank": 1, "is_answer": True}},
    "tuned": {1: {"answer_rank": 5}, 2: {"answer_rank": 11}, 3: {"answer_rank": 7}},
}


def axes_of(figure: Figure) -> Axes:
    figure.savefig(io.BytesIO(), dpi=50)  # warnings are errors
    (axes,) = figure.axes
    return axes


def lines(axes: Axes, colour: str, style: str = "-", bold: bool = True) -> list[list[float]]:
    return [
        np.asarray(line.get_ydata()).tolist()
        for line in axes.lines
        if line.get_color() == colour and line.get_linestyle() == style and (line.get_linewidth() > 1) == bold
    ]


def marks(axes: Axes) -> set[tuple[str, str, int, float]]:
    return {
        (str(line.get_color()), str(line.get_marker()), int(x), float(y))
        for line in axes.lines
        if line.get_linestyle() == "None"
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    }


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_divergence_is_drawn_in_both_directions_for_the_first_prompt() -> None:
    axes = axes_of(kl_figure([prompt_records({"norm": [8.0, 4.0, 0.0], "tuned": [6.0, 1.0, 0.0]})], 2, "m"))

    assert lines(axes, "tab:gray") == [[8.0, 4.0, 0.0]]
    assert lines(axes, "tab:gray", "--") == [[9.0, 5.0, 1.0]]
    assert lines(axes, "tab:blue") == [[6.0, 1.0, 0.0]]
    assert "bits" in axes.get_ylabel()
    assert list(axes.lines[0].get_xdata()) == [0, 1, 2]


def test_the_other_prompts_are_thin_and_counted_in_the_legend() -> None:
    records = [prompt_records({"norm": [8.0 + i, 4.0, 0.0]}) for i in range(4)]

    figure = kl_figure(records, 2, "m")

    axes = axes_of(figure)
    assert lines(axes, "tab:gray") == [[8.0, 4.0, 0.0]]
    assert lines(axes, "tab:gray", bold=False) == [[9.0, 4.0, 0.0], [10.0, 4.0, 0.0], [11.0, 4.0, 0.0]]
    assert "3 other prompts" in legend(figure)
    assert "bold: Berlin is simply" in axes.get_title()
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    assert all(line.get_alpha() < 0.5 for line in thin)


def sample(answers: Sequence[AnswerTokens]) -> PromptSample:
    kept = PromptSample()
    for i, answer_tokens in enumerate(answers):
        kept.add(prompt_records({"norm": [8.0 + i, 0.0]}, answer_tokens=answer_tokens))
    return kept


@pytest.mark.parametrize("figure", FIGURES)
def test_of_many_prompts_the_first_are_drawn_and_the_legend_says_of_how_many(figure: Draw) -> None:
    kept = sample([ANSWER] * (DRAWN_PROMPTS + 6))

    drawn = figure(kept.records, 1, "m", kept.num_prompts)

    assert len(lines(axes_of(drawn), "tab:gray", bold=False)) == DRAWN_PROMPTS - 1 == 63
    assert "63 other prompts (of 70)" in legend(drawn)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_picture_of_all_prompts_says_no_more_than_how_many_others_there_are(figure: Draw) -> None:
    kept = sample([ANSWER] * DRAWN_PROMPTS)

    assert "63 other prompts" in legend(figure(kept.records, 1, "m", kept.num_prompts))


def test_the_first_prompts_with_an_answer_are_kept_wherever_they_stand() -> None:
    kept = sample([AnswerTokens("none")] * DRAWN_PROMPTS + [ANSWER, AnswerTokens("unresolved"), ANSWER])

    assert (len(kept.records), kept.num_prompts, kept.num_answered) == (DRAWN_PROMPTS, DRAWN_PROMPTS + 3, 2)
    assert [record.next_token["norm"][0].kl_to_final_bits for record in kept.answered] == [
        8.0 + DRAWN_PROMPTS,
        10.0 + DRAWN_PROMPTS,
    ]
    assert legend(rank_figure(kept.answered, 1, "m", kept.num_answered)) == ["norm", "1 other prompts"]


def test_positions_are_kept_of_the_first_prompt_alone() -> None:
    kept = sample([ANSWER] * 3)

    assert [bool(record.positions) for record in kept.records] == [True, False, False]
    assert [bool(record.positions) for record in kept.answered] == [True, False, False]


def test_the_rows_where_the_answer_comes_near_the_top_are_marked() -> None:
    kl = {"norm": [8.0, 4.0, 3.0, 2.0, 0.0], "tuned": [7.0, 2.5, 2.0, 1.5, 0.0]}
    figure = kl_figure([prompt_records(kl, rows=CROSSED)], 4, "m")

    assert marks(axes_of(figure)) == {
        ("tab:gray", "o", 1, 4.0),
        ("tab:gray", "s", 2, 3.0),
        ("tab:gray", "*", 3, 2.0),
        ("tab:blue", "o", 1, 2.5),
        ("tab:blue", "s", 1, 2.5),
    }
    assert [entry for entry in legend(figure) if "answer" in entry] == [
        f"answer first at rank ≤ {rank}" for rank in (10, 5, 1)
    ]


def test_only_crossings_that_are_drawn_are_explained() -> None:
    figure = kl_figure([prompt_records({"norm": [8.0, 0.0]})], 1, "m")

    assert marks(axes_of(figure)) == set()
    assert not any("answer" in entry for entry in legend(figure))


def test_a_crossing_without_a_finite_divergence_is_not_marked() -> None:
    record = prompt_records({"norm": [8.0, math.nan]}, rows={"norm": {1: {"answer_rank": 1}}})

    assert marks(axes_of(kl_figure([record], 1, "m"))) == set()


@pytest.mark.parametrize("top", [0.4, 3.0, 24.0, 80.0])
def test_the_divergence_axis_holds_all_values_and_starts_at_zero(top: float) -> None:
    axes = axes_of(kl_figure([prompt_records({"norm": [top, 0.0]})], 1, "m"))

    low, high = axes.get_ylim()
    assert low <= 0.0
    assert high >= top
    assert list(axes.get_yticks())[:3] == [0.0, 0.5, 1.0]


def test_cosine_and_entropy_are_the_records_own() -> None:
    rows = {"norm": {0: {"cos_to_final": -0.3, "entropy_bits": 9.0}, 1: {"cos_to_final": 1.0, "entropy_bits": 2.0}}}
    record = prompt_records({"norm": [8.0, 0.0]}, rows=rows)

    assert lines(axes_of(cosine_figure([record], 1, "m")), "tab:gray") == [[-0.3, 1.0]]
    assert lines(axes_of(entropy_figure([record], 1, "m")), "tab:gray") == [[9.0, 2.0]]


def test_the_cosine_axis_has_its_milestones() -> None:
    axes = axes_of(cosine_figure([prompt_records({"norm": [8.0, 0.0]})], 1, "m"))

    assert lines(axes, "black", ":", bold=False) == [[0.2, 0.2], [0.4, 0.4], [0.6, 0.6]]


def test_the_models_own_entropy_is_a_level_line() -> None:
    figure = entropy_figure([prompt_records({"norm": [8.0, 0.0]})], 1, "m")

    assert lines(axes_of(figure), "black", ":") == [[2.0, 2.0]]
    assert "model's final entropy" in legend(figure)


def test_an_entropy_of_the_model_that_is_not_finite_is_not_drawn() -> None:
    rows = {"norm": {row: {"teacher_entropy_bits": math.nan} for row in range(2)}}
    figure = entropy_figure([prompt_records({"norm": [8.0, 0.0]}, rows=rows)], 1, "m")

    assert lines(axes_of(figure), "black", ":") == []


def test_ranks_stand_on_a_logarithmic_axis_with_the_first_on_top() -> None:
    record = prompt_records({"norm": [8.0, 0.0]}, rows={"norm": {0: {"answer_rank": 5000}, 1: {"answer_rank": 1}}})

    axes = axes_of(rank_figure([record], 1, "m"))

    assert lines(axes, "tab:gray") == [[5000, 1]]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] >= 5000
    assert 0 < axes.get_ylim()[1] < 1


def test_prompts_without_a_resolved_answer_have_no_rank() -> None:
    without = prompt_records({"norm": [8.0, 0.0]}, answer_tokens=AnswerTokens("unresolved"))
    with_one = prompt_records({"norm": [8.0, 0.0]}, prompt=Prompt("b", "orig", "What it is", "x"))

    figure = rank_figure([without, with_one, without], 1, "m")
    assert "What it is" in axes_of(figure).get_title()
    assert legend(figure) == ["norm"]
    assert "no prompts" in axes_of(rank_figure([without], 1, "m")).get_title()


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("lenses", [("norm",), ("norm", "tuned"), ("norm", "tuned", "prism", "imported")])
def test_every_figure_works_with_the_lenses_there_are(figure: Draw, lenses: tuple[str, ...]) -> None:
    drawn = figure([prompt_records({lens: [8.0, 4.0, 0.0] for lens in lenses})] * 3, 2, "m")

    axes = axes_of(drawn)
    assert legend(drawn)[: len(lenses)] == list(lenses)
    assert {kind.name for kind in kinds() if kind.swept and lines(axes, kind.colour)} == set(lenses)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_lens_that_only_some_prompts_have_is_drawn_for_those(figure: Draw) -> None:
    some = [prompt_records({"norm": [8.0, 0.0]}), prompt_records({"norm": [8.0, 0.0], "tuned": [4.0, 0.0]})]

    axes = axes_of(figure(some, 1, "m"))

    assert len(lines(axes, "tab:blue", bold=False)) == 1
    assert lines(axes, "tab:blue") == []


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_leaves_a_gap(figure: Draw, value: float) -> None:
    names = ("kl_to_final_bits", "kl_from_final_bits", "cos_to_final", "entropy_bits")
    broken = {"norm": {1: dict.fromkeys(names, value) | {"answer_rank": None}}}
    record = prompt_records({"norm": [8.0, 4.0, 0.0]}, rows=broken)

    axes = axes_of(figure([record, record], 2, "m"))

    for bold in (True, False):
        (drawn,) = lines(axes, "tab:gray", bold=bold)
        assert math.isnan(drawn[1])
        assert math.isfinite(drawn[0])
        assert math.isfinite(drawn[2])


@pytest.mark.parametrize("figure", FIGURES)
def test_no_prompts_make_an_empty_picture(figure: Draw) -> None:
    assert "no prompts" in axes_of(figure([], 8, "m")).get_title()


@pytest.mark.parametrize("figure", FIGURES)
def test_prompts_of_any_script_and_of_formulas_make_titles(figure: Draw) -> None:
    record = prompt_records({"norm": [8.0, 0.0]}, prompt=Prompt("p", "orig", "$x^{ 中文 \n" * 40, "x"))

    drawn = figure([record], 1, "org/$model_中")

    axes = axes_of(drawn)
    assert "U+4E2D" in axes.get_title()
    assert "…" in axes.get_title()
    assert axes.get_title().startswith("org/$model_")
    box = axes.title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.bbox.width


@pytest.mark.parametrize("figure", FIGURES)
def test_the_legend_does_not_cover_the_axes(figure: Draw) -> None:
    kl = {lens: [8.0, 4.0, 3.0, 2.0, 0.0] for lens in ("norm", "tuned", "prism")}
    drawn = figure([prompt_records(kl, rows=CROSSED)] * 50, 4, "m")

    axes = axes_of(drawn)
    box = drawn.legends[0].get_window_extent()
    assert box.x0 >= axes.get_window_extent().x1
    assert box.x1 <= drawn.bbox.width
    assert box.y0 >= 0


@pytest.mark.parametrize("num_blocks", [2, 8, 32, 80])
def test_rows_are_whole_numbers_from_the_first_to_the_last(num_blocks: int) -> None:
    record = prompt_records({"norm": [8.0] * (num_blocks + 1)})

    axes = axes_of(cosine_figure([record], num_blocks, "m"))

    ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= num_blocks]
    assert ticks == [round(tick) for tick in ticks]
    assert axes.get_xlim()[0] < 0 < num_blocks < axes.get_xlim()[1]


def test_the_same_figure_gives_the_same_bytes_without_a_date_or_a_version(tmp_path: Path) -> None:
    record = prompt_records({"norm": [8.0, 4.0, 0.0]})
    for name in ("a.png", "b.png"):
        save_figure(kl_figure([record], 2, "m"), tmp_path / name)

    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert not any(word in data for word in (b"Software", b"tEXt", b"tIME", b"atplotlib"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="No space"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"old"


def test_a_line_has_a_gap_where_a_lens_does_not_read_a_row() -> None:
    whole = prompt_records({"norm": [4.0, 3.0, 2.0, 1.0, 0.0], "imported": [4.5, 3.5, 2.5, 1.5, 0.0]})
    rows = whole.next_token["imported"]
    part = whole._replace(next_token=whole.next_token | {"imported": [rows[1], rows[3], rows[4]]})
    (axes,) = kl_figure([part, part], 4, "demo").axes
    lines = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == 4]
    assert len(lines) == 3, "the first prompt in both directions, and the other one"
    for line in lines:
        y = np.asarray(line.get_ydata(), dtype=float).tolist()
        assert [math.isnan(value) for value in y] == [False, True, False, False]
        assert line.get_marker() == "."
