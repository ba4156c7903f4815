"""Unspoken intermediates made up so that every figure can be told by hand."""

import math
from collections.abc import Sequence

import torch

from logos_pl.data.unspoken import UnspokenItem, UnspokenSuite
from logos_pl.data.unspoken_tokens import TokenizedItem, TokenizedSuite
from logos_pl.gates.unspoken_evaluator import LensRanks, UnspokenReadings

NEVER = math.inf


def item(
    name: str, num_intermediates: int = 1, *, set_name: str = "one", target: bool = True, num_ids: int = 3
) -> TokenizedItem:
    words = tuple((f"w{number}",) for number in range(num_intermediates))
    given = UnspokenItem(name, set_name, f"prompt {name}", words, ("answer",) if target else ())
    tokens = tuple((10 + number,) for number in range(num_intermediates))
    return TokenizedItem(given, tuple(range(num_ids)), num_ids - 1, tokens, (5,) if target else ())


def readings(
    items: Sequence[TokenizedItem],
    intermediates: dict[str, Sequence[Sequence[float]]],
    answers: dict[str, Sequence[Sequence[float]]],
) -> UnspokenReadings:
    """Readings with the given ranks, by lens: a line for each intermediate, and for each item's answer."""
    of_item = torch.tensor([number for number, one in enumerate(items) for _ in one.intermediates])
    lenses = {
        name: LensRanks(torch.tensor(ranks).double(), torch.tensor(answers[name]).double(), 0)
        for name, ranks in intermediates.items()
    }
    return UnspokenReadings(list(items), of_item, lenses, lenses["norm"].answers[:, -1])


def suite_of(
    items: Sequence[TokenizedItem], unscored: Sequence[UnspokenItem] = ()
) -> tuple[UnspokenSuite, TokenizedSuite]:
    whole = tuple([one.item for one in items] + list(unscored))
    return (
        UnspokenSuite(whole, "mine.yaml", "0" * 64),
        TokenizedSuite(list(items), [(one, "no_spelling") for one in unscored]),
    )


def example() -> UnspokenReadings:
    """Four items in two sets with two lenses, on a model of eight blocks; the last item has no answer."""
    items = [
        item("a", 2),
        item("b"),
        item("c", set_name="two"),
        item("d", set_name="two", target=False),
    ]
    norm: list[list[float]] = [
        [900, 400, 300, 200, 90, 40, 9, 3, 30],
        [NEVER, 500, 300, 200, 150, 120, 110, 101, 105],
        [50, 40, 30, 20, 11, 10, 6, 5, 1],
        [900, 900, 900, 900, 900, 900, 900, 900, 11],
        [10, 900, 900, 900, 900, 900, 900, 900, 900],
    ]
    tuned = [[max(1, rank // 4) if rank < NEVER else rank for rank in line] for line in norm]
    answer: list[list[float]] = [
        [800, 700, 600, 500, 400, 60, 20, 8, 1],
        [800, 700, 600, 500, 400, 9, 5, 2, 2],
        [800, 700, 600, 500, 400, 90, 80, 70, 60],
        [NEVER] * 9,
    ]
    sooner = [[max(1, rank // 100) if rank < NEVER else rank for rank in line] for line in answer]
    return readings(
        items, {"norm": norm, "tuned": tuned}, {"norm": answer, "tuned": [*sooner[:2], answer[2], answer[3]]}
    )
