"""Groups of texts and their padding."""

import random
from itertools import pairwise

import pytest

from logos_pl.data.padding import grouped, padded


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("tokens", [1, 12, 40, 10_000])
def test_groups_follow_each_other_and_are_as_large_as_they_may_be(tokens: int, most: int) -> None:
    lengths = random.Random(5).choices(range(1, 20), k=37)
    groups = grouped(lengths, tokens, most)
    assert [length for group in groups for length in lengths[group]] == lengths
    for group in groups:
        own = lengths[group]
        assert len(own) == 1 or (len(own) <= most and len(own) * max(own) <= tokens)
    for group, following in pairwise(groups):
        longer = [*lengths[group], lengths[following][0]]
        assert len(longer) > most or len(longer) * max(longer) > tokens


def test_no_texts_make_no_groups() -> None:
    assert grouped([], 10, 10) == []


def test_texts_are_padded_on_the_right_and_masked() -> None:
    ids, mask = padded([[5, 6, 7], [8]])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
