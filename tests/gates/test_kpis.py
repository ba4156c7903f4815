import math
from collections.abc import Sequence
from statistics import median

import pytest
import torch

from logos_pl.functional.bootstrap import Interval
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.kpis import SUITE, TEXT, Earliness, earliness, first_row_within, measure
from logos_pl.gates.measurements import LensMeasurements, PromptMeasurements, TextMeasurements
from tests.gates.lens_suite import BASELINES, LENSES, altered, prompt, ranks, text


def varied(num: int, num_blocks: int = 8) -> list[PromptMeasurements]:
    """Prompts whose divergences are random at every row, in both directions and under every lens."""
    generator = torch.Generator().manual_seed(1)
    prompts = []
    for index in range(num):
        plain = prompt(f"p{index}", num_blocks=num_blocks)
        lenses = {
            name: figures._replace(
                kl_to_final_bits=torch.rand(num_blocks + 1, generator=generator).tolist(),
                kl_from_final_bits=torch.rand(num_blocks + 1, generator=generator).tolist(),
            )
            for name, figures in plain.lenses.items()
        }
        prompts.append(plain._replace(lenses=lenses))
    return prompts


@pytest.mark.parametrize("baseline", BASELINES)
def test_medians_over_prompts_are_those_of_the_differences_at_the_rows_of_the_percentiles(baseline: str) -> None:
    prompts = varied(11)
    found = measure(prompts, text(num_blocks=8), 8).median_delta_kl_bits[baseline][SUITE]
    assert list(found) == [25, 50, 75]
    for depth, row in {25: 2, 50: 4, 75: 6}.items():
        delta = found[depth]
        assert delta is not None
        for interval, quantity in ((delta.to_final, "kl_to_final_bits"), (delta.from_final, "kl_from_final_bits")):
            wanted = [
                getattr(p.lenses[baseline], quantity)[row] - getattr(p.lenses["tuned"], quantity)[row] for p in prompts
            ]
            assert interval.estimate == pytest.approx(median(wanted))
            assert min(wanted) <= interval.low < interval.estimate < interval.high <= max(wanted)
            assert interval.num == 11


@pytest.mark.parametrize("baseline", BASELINES)
def test_medians_over_text_are_those_of_the_differences_and_their_intervals_go_by_sequence(baseline: str) -> None:
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(12, generator=generator).repeat_interleave(50)
    sequences = torch.arange(12).repeat_interleave(50)
    to_final, from_final = (
        {name: torch.randn(3, 600, generator=generator) * 0.01 + (name == "tuned") * centres for name in LENSES}
        for _ in range(2)
    )
    figures = TextMeasurements(sequences, to_final, from_final)
    kpis = measure([], figures, 8)
    assert kpis.num_sequences == 12
    for slot, delta in enumerate(kpis.median_delta_kl_bits[baseline][TEXT].values()):
        assert delta is not None
        for interval, values in ((delta.to_final, to_final), (delta.from_final, from_final)):
            wanted = (values[baseline][slot].double() - values["tuned"][slot].double()).tolist()
            assert interval.estimate == pytest.approx(median(wanted))
            assert interval.num == 600
            # Twelve sequences say little about the median, however many positions each has.
            assert interval.high - interval.low > 0.4


def test_the_gain_is_the_median_of_the_mean_over_depths() -> None:
    figures = text(num_blocks=8)
    found = measure([], figures, 8).gain_bits["bias"]
    difference = (figures.kl_to_final_bits["bias"].double() - figures.kl_to_final_bits["tuned"].double()).numpy()
    assert found is not None
    assert found.estimate == pytest.approx(median(difference.mean(0).tolist()))


def test_an_answer_is_found_at_the_first_row_within_the_rank_though_it_may_be_lost_again() -> None:
    found = [40, 9, 60, 5, 1, 7, 1]
    assert [first_row_within(found, rank) for rank in (10, 5, 1)] == [1, 3, 4]


def test_an_answer_never_found_counts_as_found_one_row_after_the_last() -> None:
    assert first_row_within([40, 30, 20], 10) == 3
    never = prompt(num_blocks=8, norm=[50] * 9, tuned=ranks(8, {10: 3}, 10), final_rank=10)
    assert earliness(never, 10) == Earliness(9 - 3, 8)
    lost = prompt(num_blocks=8, norm=ranks(8, {10: 3}, 10), tuned=[50] * 9, final_rank=10)
    assert earliness(lost, 10).shift == 3 - 9


@pytest.mark.parametrize(("row", "largest"), [(0, 0), (1, 0), (2, 1), (8, 7)])
def test_row_1_is_the_earliest_a_translator_can_help(row: int, largest: int) -> None:
    at = ranks(8, {1: row}, 1)
    assert earliness(prompt(num_blocks=8, norm=at, tuned=at), 10) == Earliness(0, largest)


def test_an_imported_lens_may_help_from_row_0_on() -> None:
    plain = prompt(num_blocks=8, norm=ranks(8, {1: 3}, 1))
    given = plain._replace(lenses={**plain.lenses, "imported": plain.lenses["norm"]._replace(answer_rank=[1] * 9)})
    assert earliness(given, 10, "imported") == Earliness(3, 3)


def test_an_imported_lens_is_measured_as_the_tuned_lens_is_and_neither_sees_the_other() -> None:
    prompts, figures = varied(11), text(num_blocks=8)
    wanted = measure(prompts, figures, 8)
    broken = [
        altered(
            p._replace(lenses={**p.lenses, "imported": p.lenses["norm"]}), "imported", "kl_to_final_bits", 4, math.nan
        )
        for p in prompts
    ]
    assert measure(broken, figures, 8) == wanted
    # The two change places: what was the tuned lens is the imported one, and the tuned one is broken.
    swapped = [
        p._replace(lenses={**p.lenses, "imported": whole.lenses["tuned"], "tuned": p.lenses["imported"]})
        for p, whole in zip(broken, prompts, strict=True)
    ]
    both = [{**values, "imported": values["tuned"], "tuned": values["norm"] * math.nan} for values in figures[1:]]
    found = measure(swapped, TextMeasurements(figures.sequences, *both), 8, "imported")
    assert found._replace(early=[]) == wanted._replace(early=[])
    assert [ten.shift for ten, _ in found.early] == [ten.shift for ten, _ in wanted.early]
    with pytest.raises(ValueError, match="the imported lens"):
        measure(prompts, figures, 8, "imported")


def test_earliness_is_positive_where_the_tuned_lens_is_earlier_and_taken_at_each_rank() -> None:
    first = [
        ({10: 12, 5: 14, 1: 20}, {10: 6, 5: 11, 1: 22}),
        ({10: 12, 5: 14, 1: 20}, {10: 8, 5: 13, 1: 20}),
        ({10: 12, 5: 14, 1: 20}, {10: 11, 5: 11, 1: 11}),
    ]
    prompts = [prompt(f"p{i}", norm=ranks(32, a, 1), tuned=ranks(32, b, 1)) for i, (a, b) in enumerate(first)]
    found = measure(prompts, text(), 32).earliness_shift
    assert {rank: interval and interval.estimate for rank, interval in found.items()} == {10: 4.0, 5: 3.0, 1: 0.0}


def test_only_prompts_whose_answer_the_model_itself_ranks_high_enough_count_for_earliness() -> None:
    prompts = [
        prompt("first", final_rank=1),
        prompt("fifth", norm=ranks(32, {5: 9}, 5), tuned=ranks(32, {5: 4}, 5), final_rank=5),
        prompt("tenth", norm=ranks(32, {10: 9}, 10), tuned=ranks(32, {10: 4}, 10), final_rank=10),
        # Ranked high on the way, by both lenses, and not in the end.
        prompt("never", norm=ranks(32, {1: 9}, 11), tuned=ranks(32, {1: 4}, 11), final_rank=11),
    ]
    kpis = measure(prompts, text(), 32)
    assert {rank: found and found.num for rank, found in kpis.earliness_shift.items()} == {10: 3, 5: 2, 1: 1}
    assert kpis.left_out["final_rank_above_10"] == ["never"]
    assert kpis.left_out["final_rank_above_5"] == ["tenth", "never"]
    assert kpis.left_out["final_rank_above_1"] == ["fifth", "tenth", "never"]
    assert len(kpis.early) == 2
    assert kpis.num_used == 4


def test_coverage_is_the_share_of_all_rows_at_rank_one_in_the_mean_over_prompts() -> None:
    prompts = [
        prompt("a", num_blocks=8, norm=ranks(8, {1: 6}, 1), tuned=ranks(8, {1: 2}, 1)),  # 3 and 7 of 9 rows
        prompt("b", num_blocks=8, norm=ranks(8, {1: 5}, 3), tuned=ranks(8, {2: 2}, 3), final_rank=3),  # 3 and 0
        prompt("c", num_blocks=8, norm=[2] * 9, tuned=[2] * 9, final_rank=2),
    ]
    found = measure(prompts, text(num_blocks=8), 8).rank1_coverage_gain
    assert found is not None
    assert (found.estimate, found.num) == (pytest.approx((4 - 3 + 0) / 9 / 3), 3)


def test_unresolved_answers_are_left_out_of_everything_and_missing_ones_of_ranks_only() -> None:
    bad = dict.fromkeys(LENSES, 0.0) | {"tuned": 50.0}
    prompts = [
        *(prompt(f"p{i}") for i in range(3)),
        prompt("merged", status="unresolved", worse_bits=bad, last=9.0),
        prompt("open", status="none"),
    ]
    kpis = measure(prompts, text(), 32)
    delta = kpis.median_delta_kl_bits["norm"][SUITE][50]
    assert delta is not None
    assert delta.to_final == Interval(1.0, 1.0, 1.0, 4)
    assert (kpis.num_prompts, kpis.num_used) == (5, 4)
    assert kpis.last_layer_kl_after_temp_bits_max == 0.0
    assert kpis.rank1_coverage_gain is not None
    assert kpis.rank1_coverage_gain.num == 3
    assert kpis.left_out["answer_unresolved"] == ["merged"]
    assert kpis.left_out["no_answer"] == ["open"]


@pytest.mark.parametrize("where", ["kl", "last"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_prompts_with_values_that_are_not_finite_are_named_and_not_averaged(where: str, value: float) -> None:
    broken = prompt("broken", last=value) if where == "last" else prompt("broken")
    if where == "kl":
        broken = altered(broken, "bias", "kl_from_final_bits", 3, value)
    kpis = measure([prompt("p"), broken], text(), 32)
    assert kpis.left_out["not_finite"] == ["broken"]
    assert kpis.num_used == 1


def test_text_with_a_value_that_is_not_finite_has_no_figures() -> None:
    figures = text()
    figures.kl_from_final_bits["norm_tau"][1, 7] = math.nan
    kpis = measure([prompt()], figures, 32)
    assert not kpis.text_is_finite
    assert kpis.median_delta_kl_bits["norm"][TEXT] == {25: None, 50: None, 75: None}
    assert set(kpis.gain_bits.values()) == {None}


def test_nothing_measured_gives_no_figures_and_no_nan() -> None:
    kpis = measure([], text(sequences=0), 32)
    assert kpis.median_delta_kl_bits["norm"] == {where: dict.fromkeys((25, 50, 75)) for where in (SUITE, TEXT)}
    assert kpis.earliness_shift == {10: None, 5: None, 1: None}
    assert (kpis.last_layer_kl_after_temp_bits, kpis.last_layer_kl_after_temp_bits_max) == (None, None)
    assert (kpis.rank1_coverage_gain, kpis.num_sequences, kpis.early) == (None, 0, [])


@pytest.mark.parametrize(
    ("to_bits", "from_bits", "agree"), [(1, 1, True), (1, -1, False), (-1, -1, True), (0, 0, True), (0, -1, False)]
)
def test_the_two_directions_agree_where_their_medians_have_one_sign(
    to_bits: float, from_bits: float, agree: bool
) -> None:
    worse, worse_from = (dict.fromkeys(LENSES, bits) | {"tuned": 0.0} for bits in (to_bits, from_bits))
    kpis = measure([prompt(worse_bits=worse, worse_from_bits=worse_from)], text(), 32)
    delta = kpis.median_delta_kl_bits["norm"][SUITE][25]
    assert delta is not None
    assert delta.signs_agree is agree


def test_the_rows_of_the_text_are_those_of_the_percentiles() -> None:
    assert depth_percentile_rows(8) == {25: 2, 50: 4, 75: 6}


def test_rows_that_a_lens_does_not_read_count_for_nothing() -> None:
    """A lens that reads rows 2 to 8: an answer that the norm lens has at row 0 cannot be found there."""
    plain = [prompt(f"p{i}", num_blocks=8, norm=[1] + [50] * 3 + [1] * 5) for i in range(6)]

    def part(values: Sequence[float | None] | None) -> list[float | None]:
        return [None, None, *(values or ())[2:]]

    read = [
        one._replace(lenses=one.lenses | {"imported": LensMeasurements(*map(part, one.lenses["tuned"]))})
        for one in plain
    ]
    figures = text(num_blocks=8)
    both = [{**values, "imported": values["tuned"]} for values in figures[1:]]
    found = measure(read, TextMeasurements(figures.sequences, *both), 8, "imported")
    whole = measure(read, TextMeasurements(figures.sequences, *both), 8)
    assert found.median_delta_kl_bits == whole.median_delta_kl_bits
    assert (found.num_used, found.left_out["not_finite"]) == (6, [])
    assert earliness(read[0], 10, "imported").largest == 0
    tuned, norm = read[0].lenses["tuned"].answer_rank, read[0].lenses["norm"].answer_rank
    assert tuned is not None
    assert norm is not None
    shares = [sum(rank == 1 for rank in of[2:]) / 7 for of in (tuned, norm)]
    assert found.rank1_coverage_gain is not None
    assert found.rank1_coverage_gain.estimate == pytest.approx(shares[0] - shares[1])
    without = [
        one._replace(
            lenses=one.lenses | {"imported": LensMeasurements([None] * 8 + [0.0], [None] * 8 + [0.0], [None] * 8 + [1])}
        )
        for one in plain
    ]
    with pytest.raises(ValueError, match="the imported lens lacks a row of the depth percentiles"):
        measure(without, TextMeasurements(figures.sequences, *both), 8, "imported")
