"""Ranks of unspoken intermediates against a float64 brute force, one item, row and lens at a time."""

import math

import pytest
import torch

from logos_pl.data.unspoken import UnspokenItem
from logos_pl.data.unspoken_tokens import TokenizedItem, UnspokenBatch, UnspokenBatches
from logos_pl.gates.unspoken_evaluator import UnspokenEvaluator, UnspokenReadings
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.residuals import gather
from tests.gates.test_evaluator import EvaluatorCase

IDS = ((1, 5, 9, 33, 17), (1, 60), (1, 12, 90, 3, 44, 21, 70, 11, 96, 2, 35), (50, 4, 4))
PLACES = (4, 1, 3, 2)
WORDS = (((40,),), ((7, 8), (9,)), ((41, 3, 70), (2,), (96, 95)), ((20, 21),))
TARGETS = ((60, 61), (), (5,), (11,))


def items() -> list[TokenizedItem]:
    return [
        TokenizedItem(UnspokenItem(f"i{number}", "mine", "", (), ()), ids, place, words, target)
        for number, (ids, place, words, target) in enumerate(zip(IDS, PLACES, WORDS, TARGETS, strict=True))
    ]


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def case(request: pytest.FixtureRequest) -> EvaluatorCase:
    case = EvaluatorCase(request.param)
    case.lenses = {name: case.lenses[name] for name in ("norm", "tuned", "bias")}
    return case


def read(case: EvaluatorCase, one_by_one: bool = False) -> UnspokenReadings:
    evaluator = UnspokenEvaluator(case.lenses, items(), 3 * 97 * 4)
    batches: list[UnspokenBatch] = UnspokenBatches(items()).batches
    if one_by_one:
        batches = [batch for rank in (3, 1, 0, 2) for batch in UnspokenBatches(items(), rank, 4)]
    for batch in batches:
        evaluator.read(batch, gather(case.lm, [evaluator.request(batch)])[0])
    return evaluator.compute()


def test_every_rank_is_that_of_float64_at_the_place_of_its_item(case: EvaluatorCase) -> None:
    found = read(case)
    assert found.of_item.tolist() == [0, 1, 1, 2, 2, 2, 3]
    for lens, ranks in found.lenses.items():
        wanted, answers = [], []
        for item in items():
            rows = case.rows64(item.ids)
            at_place = [case.log_q(lens, row, h[item.place]) for row, h in enumerate(rows)]
            at_end = [case.log_q(lens, row, h[-1]) for row, h in enumerate(rows)]
            wanted += [
                [min(1 + int((q > q[token]).sum()) for token in tokens) for q in at_place]
                for tokens in item.intermediates
            ]
            answers.append(
                [min((1 + int((q > q[token]).sum()) for token in item.target), default=math.inf) for q in at_end]
            )
        assert ranks.intermediates.tolist() == wanted
        assert ranks.answers.tolist() == answers
        assert ranks.nonfinite == 0
    assert found.final_rank.tolist() == [line[-1] for line in found.lenses["norm"].answers.tolist()]


def test_batches_their_order_and_processes_leave_no_trace(case: EvaluatorCase) -> None:
    one, other = read(case), read(case, one_by_one=True)
    for lens in case.lenses:
        assert torch.equal(one.lenses[lens].intermediates, other.lenses[lens].intermediates)
        assert torch.equal(one.lenses[lens].answers, other.lenses[lens].answers)


class PartLens(NormLens):
    """The norm lens at two rows."""

    @property
    def rows(self) -> tuple[int, ...]:
        return (1, self.head.num_rows - 1)


def test_rows_that_a_lens_does_not_read_are_never_found(case: EvaluatorCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(case.lenses, "tuned", PartLens(case.lenses["norm"].head))
    lenses = read(case).lenses
    part, whole = lenses["tuned"], lenses["norm"]
    for row in range(case.num_rows):
        wanted = whole.intermediates[:, row] if row in (1, case.lm.num_blocks) else torch.full((7,), math.inf)
        assert part.intermediates[:, row].tolist() == wanted.tolist()
    assert part.nonfinite == 0


def test_readings_that_are_not_finite_are_counted_and_not_found(
    case: EvaluatorCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        monkeypatch.setattr(case.bias, "c", torch.nn.Parameter(case.bias.c.clone()))
        case.bias.c[0, 0] = torch.nan
        found = read(case).lenses["bias"]
    assert (found.intermediates[:, 1] == math.inf).all()
    assert found.nonfinite == 7 + 3
