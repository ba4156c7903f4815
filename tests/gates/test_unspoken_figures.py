"""Figures of unspoken intermediates against a count by hand, item by item in plain Python."""

import math
import statistics

import pytest

from logos_pl.functional.pass_at_k import PASS_KS, recall_rows
from logos_pl.gates.unspoken_evaluator import UnspokenReadings
from logos_pl.gates.unspoken_figures import ALL, LensFigures, measure_unspoken
from tests.gates.unspoken_case import example

NUM_ROWS = 9


def by_item(readings: UnspokenReadings, lens: str) -> list[list[list[float]]]:
    """Ranks of the intermediates of each item."""
    found: list[list[list[float]]] = [[] for _ in readings.items]
    for number, ranks in zip(readings.of_item.tolist(), readings.lenses[lens].intermediates.tolist(), strict=True):
        found[number].append(ranks)
    return found


def share(lines: list[list[float]], k: int, rows: tuple[int, ...] = tuple(range(NUM_ROWS))) -> float:
    return statistics.mean(float(min(line[row] for row in rows) <= k) for line in lines)


def first(line: list[float]) -> int:
    return next((row for row, rank in enumerate(line) if rank <= 10), NUM_ROWS)


@pytest.fixture(scope="module")
def readings() -> UnspokenReadings:
    return example()


@pytest.fixture(scope="module", params=["norm", "tuned"])
def lens(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def of(readings: UnspokenReadings, lens: str) -> LensFigures:
    return measure_unspoken(readings).lenses[lens]


def estimate(found: object) -> float:
    assert found is not None
    return float(found.estimate)  # type: ignore[attr-defined]


def test_pass_at_k_and_its_area_are_means_over_items(readings: UnspokenReadings, lens: str) -> None:
    items = by_item(readings, lens)
    found = of(readings, lens).sets[ALL]
    for k in PASS_KS:
        assert estimate(found.pass_at[k]) == pytest.approx(statistics.mean(share(lines, k) for lines in items))
    steps = [(math.log(k + 1) - math.log(k)) / math.log(100) for k in range(1, 100)]
    area = statistics.mean(sum(step * share(lines, k) for k, step in enumerate(steps, start=1)) for lines in items)
    assert estimate(found.area) == pytest.approx(area, abs=1e-9)
    assert found.num_items == 4


def test_every_set_has_its_own_figures(readings: UnspokenReadings, lens: str) -> None:
    items, sets = by_item(readings, lens), of(readings, lens).sets
    assert list(sets) == [ALL, "one", "two"]
    for name, members in (("one", items[:2]), ("two", items[2:])):
        assert estimate(sets[name].pass_at[10]) == pytest.approx(statistics.mean(share(m, 10) for m in members))


def test_recall_is_over_seven_rows_and_what_the_model_answers_and_the_mean_of_the_sets(
    readings: UnspokenReadings, lens: str
) -> None:
    """Only the first item has its answer at rank 1; the last has none and counts."""
    figures, items, rows = measure_unspoken(readings), by_item(readings, lens), recall_rows(8)
    assert (figures.num_answered, figures.num_without_answer, figures.recall_rows) == (1, 1, rows)
    found = figures.lenses[lens].sets
    wanted = [share(items[0], 10, rows), share(items[3], 10, rows)]
    assert [estimate(found[name].recall_at_10) for name in ("one", "two")] == pytest.approx(wanted)
    assert estimate(found[ALL].recall_at_10) == pytest.approx(statistics.mean(wanted))


def test_what_comes_first_is_asked_where_the_model_itself_ranks_the_answer_ten_or_better(
    readings: UnspokenReadings, lens: str
) -> None:
    items, answers = by_item(readings, lens)[:2], readings.lenses[lens].answers.tolist()[:2]
    order = of(readings, lens).sets[ALL].order
    assert order.num_items == 2
    assert estimate(order.answer_row) == statistics.median(map(first, answers))
    assert estimate(order.intermediate_row) == statistics.median(statistics.mean(map(first, lines)) for lines in items)
    pairs = [[(first(line), first(answer)) for line in lines] for lines, answer in zip(items, answers, strict=True)]
    assert estimate(order.intermediate_first_frac) == statistics.mean(
        statistics.mean(float(one < two) for one, two in of_item) for of_item in pairs
    )
    assert estimate(order.answer_first_frac) == statistics.mean(
        statistics.mean(float(two < one) for one, two in of_item) for of_item in pairs
    )


def test_the_two_orders_are_told_apart(readings: UnspokenReadings) -> None:
    """The norm lens has one intermediate of the first item a row before the answer, the other never."""
    order = of(readings, "norm").sets[ALL].order
    assert estimate(order.intermediate_first_frac) == 0.25
    assert estimate(order.answer_first_frac) == 0.25
    assert estimate(of(readings, "tuned").sets[ALL].order.answer_first_frac) == 1


def test_the_gain_in_area_is_paired_and_absent_for_the_control(readings: UnspokenReadings) -> None:
    figures = measure_unspoken(readings)
    assert figures.lenses["norm"].area_gain == {"norm": None}
    gain = figures.lenses["tuned"].area_gain["norm"]
    areas = [estimate(figures.lenses[name].sets[ALL].area) for name in ("tuned", "norm")]
    assert estimate(gain) == pytest.approx(areas[0] - areas[1])


def test_intervals_contain_their_estimate_and_count_the_items(readings: UnspokenReadings, lens: str) -> None:
    found = of(readings, lens).sets[ALL]
    for interval in (*found.pass_at.values(), found.area):
        assert interval is not None
        assert interval.low <= interval.estimate <= interval.high
        assert interval.num == 4


def test_a_set_of_which_the_model_answers_nothing_has_no_recall(readings: UnspokenReadings) -> None:
    mute = readings._replace(final_rank=readings.final_rank + 100)
    found = measure_unspoken(mute)
    sets = found.lenses["norm"].sets
    assert found.num_answered == 0
    assert sets["one"].recall_at_10 is None
    assert sets["one"].order.answer_row is None
    assert sets[ALL].recall_at_10 == sets["two"].recall_at_10
