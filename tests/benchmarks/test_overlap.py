"""Lengths of spans that overlap, against counting small ticks."""

import random

import pytest

from benchmarks.overlap import Span, overlap_of


@pytest.mark.parametrize("seed", range(5))
def test_copying_and_computing_are_counted_once_wherever_they_overlap(seed: int) -> None:
    generator = random.Random(seed)

    def draw() -> list[Span]:
        starts = [generator.randrange(1000) for _ in range(20)]
        return [(start, start + generator.randrange(1, 60)) for start in starts]

    copies, kernels = draw(), draw()

    def ticks(spans: list[Span]) -> set[int]:
        return {tick for start, end in spans for tick in range(int(start), int(end))}

    one, other = ticks(copies), ticks(kernels)
    found = overlap_of(copies, kernels)
    wanted = (max(one | other) + 1 - min(one | other), len(one), len(other), len(one & other))
    assert [part * 1e6 for part in found] == pytest.approx(wanted)


def test_work_that_copies_nothing_overlaps_with_nothing() -> None:
    assert overlap_of([], [(5.0, 9.0), (6.0, 7.0)]) == pytest.approx((4e-6, 0.0, 4e-6, 0.0))
    assert overlap_of([], []) == (0.0, 0.0, 0.0, 0.0)
