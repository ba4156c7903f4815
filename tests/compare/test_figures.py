"""Differences by row against means by hand."""

import pytest
import torch

from logos_pl.compare.figures import largest, measure_pair
from logos_pl.compare.module import PairSamples
from logos_pl.functional.bootstrap import bootstrap_interval


def samples(rows: tuple[int, ...] = (0, 1, 3, 4)) -> PairSamples:
    generator = torch.Generator().manual_seed(3)
    kl_ab, kl_ba, final_a, final_b = (torch.rand(len(rows), 12, generator=generator) for _ in range(4))
    kl_ab[-2] += 5
    agree = torch.rand(len(rows), 12, generator=generator) > 0.3
    return PairSamples(rows, torch.arange(12) // 3, kl_ab, kl_ba, agree, final_a, final_b)


def test_every_row_has_its_means_with_intervals_over_sequences() -> None:
    given = samples()
    found = measure_pair(given)
    assert list(found.rows) == [0, 1, 3, 4]
    assert (found.num_sequences, found.num_positions) == (4, 12)
    for number, of in enumerate(found.rows.values()):
        wanted = bootstrap_interval(given.kl_ab_bits[number].double(), "mean", clusters=given.sequences)
        assert of.kl_ab_bits == wanted
        assert of.kl_ba_bits.estimate == float(given.kl_ba_bits[number].double().mean())
        assert of.kl_final_a_bits.estimate == pytest.approx(float(given.kl_final_a_bits[number].double().mean()))
        assert of.kl_final_b_bits.estimate == pytest.approx(float(given.kl_final_b_bits[number].double().mean()))
        assert of.top1_overlap_frac.estimate == float(given.top1_agree[number].double().mean())


def test_the_inner_rows_are_those_between_the_first_and_the_last() -> None:
    given = samples()
    inner = measure_pair(given).inner
    assert inner is not None
    assert inner.kl_ab_bits.estimate == pytest.approx(float(given.kl_ab_bits[1:3].double().mean()), abs=1e-9)
    assert measure_pair(samples((0, 4))).inner is None


def test_the_row_at_which_they_differ_most_is_named() -> None:
    row, of = largest(measure_pair(samples()))
    assert row == 3
    assert of.kl_ab_bits.estimate > 5
