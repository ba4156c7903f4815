"""Figures of unspoken intermediates with bootstrap intervals over items.

Choices that the definitions leave open (docs/intermediates.md):

* An intermediate's rank is the best over all rows that a lens reads, the last among them, which all lenses share.
* Pass@k is the mean over items of the share of the item's intermediates whose rank is at most k.
* Recall@10 is the same share over only seven equally spaced rows; over all sets it is the mean of the sets. It leaves
  out items that the model does not answer; in sets without answers, all items count.
* Which comes first, intermediate or answer, is measured on items whose answer the model itself ranks ten or better. A
  word that a lens never has at rank ≤ 10 counts as found at row n + 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from logos_pl.functional.bootstrap import Interval, bootstrap_interval, bootstrap_mean_of_groups
from logos_pl.functional.pass_at_k import (
    FOUND_RANK,
    PASS_KS,
    area_under_pass,
    best_rank,
    first_row,
    item_means,
    pass_at,
    recall_rows,
)
from logos_pl.gates.unspoken_evaluator import LensRanks, UnspokenReadings

ALL = "all"
"""Key of the figures over all sets."""

CONTROLS = ("norm", "bias")
"""Lenses that the area of every other lens is compared with, if present."""


class Order(NamedTuple):
    """Whether a lens shows intermediate or answer first, over the items whose answer the model ranks ten or better.

    Attributes:
        num_items: Number of such items.
        intermediate_row: Median over items of the first row with the intermediate at rank ≤ 10.
        answer_row: The same for the answer.
        intermediate_first_frac: Share of intermediates that are found at an earlier row than the answer.
        answer_first_frac: Share of intermediates that are found at a later row than the answer.
    """

    num_items: int
    intermediate_row: Interval | None
    answer_row: Interval | None
    intermediate_first_frac: Interval | None
    answer_first_frac: Interval | None


class SetFigures(NamedTuple):
    """Figures of one lens on one set of items, or on all.

    Attributes:
        num_items: Number of items.
        pass_at: By k.
        area: Area under pass@k against log k, from 0 to 1.
        recall_at_10: Recall at seven rows; None if no item counts.
        order: Whether intermediate or answer comes first.
    """

    num_items: int
    pass_at: dict[int, Interval | None]
    area: Interval | None
    recall_at_10: Interval | None
    order: Order


class LensFigures(NamedTuple):
    """Figures of one lens.

    Attributes:
        sets: By set; `ALL` first.
        area_gain: By control: its area minus that of the control on the same items; None for the control itself.
        nonfinite: Number of readings that are not finite and count as not found.
    """

    sets: dict[str, SetFigures]
    area_gain: dict[str, Interval | None]
    nonfinite: int


class UnspokenFigures(NamedTuple):
    """Figures of all lenses.

    Attributes:
        lenses: By lens.
        num_answered: Items whose answer the model puts first.
        num_without_answer: Items without an answer.
        recall_rows: The seven rows.
    """

    lenses: dict[str, LensFigures]
    num_answered: int
    num_without_answer: int
    recall_rows: tuple[int, ...]


class _Samples(NamedTuple):
    """Values of one lens per item."""

    pass_at: dict[int, Float[Tensor, " items"]]
    area: Float[Tensor, " items"]
    recalled: Float[Tensor, " items"]
    intermediate_row: Float[Tensor, " items"]
    answer_row: Float[Tensor, " items"]
    intermediate_first: Float[Tensor, " items"]
    answer_first: Float[Tensor, " items"]


def measure_unspoken(readings: UnspokenReadings) -> UnspokenFigures:
    """Compute the figures of every lens."""
    num_blocks = readings.lenses["norm"].intermediates.shape[1] - 1
    rows = recall_rows(num_blocks)
    samples = {name: _samples(readings, ranks, rows) for name, ranks in readings.lenses.items()}
    has_answer = torch.tensor([bool(item.target) for item in readings.items])
    counts = ~has_answer | (readings.final_rank == 1)
    sets = _sets(readings)
    lenses = {}
    for name, of_lens in samples.items():
        figures = {
            which: _figures(of_lens, [members], counts, readings.final_rank <= FOUND_RANK)
            for which, members in sets.items()
        }
        whole = _figures(of_lens, list(sets.values()), counts, readings.final_rank <= FOUND_RANK)
        gains = {
            control: None if control == name else bootstrap_interval(of_lens.area - samples[control].area, "mean")
            for control in CONTROLS
            if control in samples
        }
        lenses[name] = LensFigures({ALL: whole} | figures, gains, readings.lenses[name].nonfinite)
    answered = int((has_answer & counts).sum())
    return UnspokenFigures(lenses, answered, int((~has_answer).sum()), rows)


def _sets(readings: UnspokenReadings) -> dict[str, Bool[Tensor, " items"]]:
    """Which items belong to each set, sets in the order of the suite."""
    names = [item.item.set_name for item in readings.items]
    return {which: torch.tensor([name == which for name in names]) for which in dict.fromkeys(names)}


def _samples(readings: UnspokenReadings, ranks: LensRanks, rows: Sequence[int]) -> _Samples:
    best, at_seven = best_rank(ranks.intermediates), best_rank(ranks.intermediates[:, list(rows)])
    found, answer = first_row(ranks.intermediates), first_row(ranks.answers)
    answer_of = answer[readings.of_item]

    def mean(values: Tensor) -> Tensor:
        return item_means(values.double(), readings.of_item)

    return _Samples(
        pass_at={k: mean(pass_at(best, k)) for k in PASS_KS},
        area=mean(area_under_pass(best)),
        recalled=mean(pass_at(at_seven, FOUND_RANK)),
        intermediate_row=mean(found),
        answer_row=answer,
        intermediate_first=mean(found < answer_of),
        answer_first=mean(answer_of < found),
    )


def _figures(
    samples: _Samples,
    sets: Sequence[Bool[Tensor, " _"]],
    counts: Bool[Tensor, " items"],
    ranked: Bool[Tensor, " items"],
) -> SetFigures:
    """Figures over some sets.

    Args:
        samples: Values of one lens per item.
        sets: Members of each set.
        counts: Which items count for the recall.
        ranked: Which items have an answer that the model itself ranks ten or better.
    """
    members = torch.stack(list(sets)).any(0)
    ordered = members & ranked
    return SetFigures(
        num_items=int(members.sum()),
        pass_at={k: bootstrap_interval(values[members], "mean") for k, values in samples.pass_at.items()},
        area=bootstrap_interval(samples.area[members], "mean"),
        recall_at_10=bootstrap_mean_of_groups([samples.recalled[of_set & counts] for of_set in sets]),
        order=Order(
            num_items=int(ordered.sum()),
            intermediate_row=bootstrap_interval(samples.intermediate_row[ordered], "median"),
            answer_row=bootstrap_interval(samples.answer_row[ordered], "median"),
            intermediate_first_frac=bootstrap_interval(samples.intermediate_first[ordered], "mean"),
            answer_first_frac=bootstrap_interval(samples.answer_first[ordered], "mean"),
        ),
    )
