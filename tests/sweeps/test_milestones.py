import json
import math
import random
from typing import Any

import pytest

from logos_pl.sweeps.milestones import Milestones, as_json, milestones
from logos_pl.sweeps.records import NextTokenRecord
from tests.sweeps.made_records import next_token


def rows(**fields: list[Any]) -> list[NextTokenRecord]:
    """A record per row; `fields` gives the values of a field row by row."""
    length = len(next(iter(fields.values())))
    return [
        next_token(layer, 9.0)._replace(**{name: values[layer] for name, values in fields.items()})
        for layer in range(length)
    ]


def test_nothing_reached_is_none_everywhere() -> None:
    reached = milestones(rows(cos_to_final=[0.1, 0.1], answer_rank=[11, 11]))
    flat = [*reached.L_copy_soft, *reached.L_copy_at, *(value for value in reached if not isinstance(value, tuple))]
    assert flat == [None] * 18


def test_no_rows_reach_nothing() -> None:
    assert milestones([]).L_copy_soft == (None, None, None)
    assert milestones([]).first_kl_below_1_0 is None


def test_the_first_row_counts_whatever_later_rows_do() -> None:
    reached = milestones(
        rows(
            kl_to_final_bits=[3.0, 0.9, 5.0, 0.4, 7.0],
            cos_to_final=[0.3, -0.5, 0.7, 0.1, 0.1],
            answer_rank=[30, 7, 2, 400, 1],
            is_answer=[False, False, False, False, True],
        )
    )
    assert (reached.first_kl_below_1_0, reached.first_kl_below_0_5) == (1, 3)
    assert (reached.first_cos_ge_0_2, reached.first_cos_ge_0_4, reached.first_cos_ge_0_6) == (0, 2, 2)
    assert (reached.first_rank_le_10, reached.first_rank_le_5, reached.first_rank_le_1) == (1, 2, 4)
    assert reached.L_semantic == 4


def test_bounds_are_inclusive_for_ranks_and_cosines_and_exclusive_for_kl() -> None:
    reached = milestones(
        rows(
            kl_to_final_bits=[1.0, 0.5, math.nextafter(0.5, 0.0)],
            cos_to_final=[0.2, 0.4, 0.6],
            answer_rank=[10, 5, 1],
        )
    )
    assert (reached.first_kl_below_1_0, reached.first_kl_below_0_5) == (1, 2)
    assert (reached.first_cos_ge_0_2, reached.first_cos_ge_0_4, reached.first_cos_ge_0_6) == (0, 1, 2)
    assert (reached.first_rank_le_10, reached.first_rank_le_5, reached.first_rank_le_1) == (0, 1, 2)


def test_values_just_outside_the_bounds_reach_nothing_more() -> None:
    cosines = [math.nextafter(bound, 0.0) for bound in (0.2, 0.4, 0.6)]
    reached = milestones(rows(kl_to_final_bits=[1.0, 1.0, 0.5], cos_to_final=cosines, answer_rank=[11, 6, 2]))
    assert (reached.first_kl_below_1_0, reached.first_kl_below_0_5) == (2, None)
    assert (reached.first_cos_ge_0_2, reached.first_cos_ge_0_4, reached.first_cos_ge_0_6) == (1, 2, None)
    assert (reached.first_rank_le_10, reached.first_rank_le_5, reached.first_rank_le_1) == (1, 2, None)


def test_copies_are_found_per_window_and_per_threshold() -> None:
    reached = milestones(
        rows(
            copy_collapse=[False, False, True],
            copy_soft=[(True, False, False), (True, True, False), (False, False, False)],
            copy_at=[(False,) * 4, (True, True, False, False), (True, True, True, True)],
        )
    )
    assert reached.L_copy == 2
    assert reached.L_copy_soft == (0, 1, None)
    assert reached.L_copy_at == (1, 1, 2, 2)


def test_an_identity_row_counts_for_no_copy_but_for_all_else() -> None:
    first = [True, False, False]
    copied = [(True,) * 4, (False,) * 4, (True,) * 4]
    reached = milestones(
        rows(
            identity_row=first,
            copy_collapse=[True, False, True],
            copy_soft=[flags[:3] for flags in copied],
            copy_at=copied,
            is_answer=[True, False, False],
            answer_rank=[1, 2, 3],
        )
    )
    assert (reached.L_copy, reached.L_copy_soft, reached.L_copy_at) == (2, (2, 2, 2), (2, 2, 2, 2))
    assert (reached.L_semantic, reached.first_rank_le_1) == (0, 0)
    assert reached.delta_layers == -2


def test_nan_and_absent_values_are_never_reached() -> None:
    nan = math.nan
    reached = milestones(
        rows(kl_to_final_bits=[nan, 0.1], cos_to_final=[nan, 0.9], answer_rank=[None, None], is_answer=[None, None])
    )
    assert (reached.first_kl_below_0_5, reached.first_cos_ge_0_6) == (1, 1)
    assert reached.first_rank_le_10 is reached.L_semantic is reached.delta_layers is None


@pytest.mark.parametrize(
    ("copied", "known", "delta"), [(0, 2, 2), (2, 0, -2), (1, 1, 0), (None, 1, None), (1, None, None)]
)
def test_delta_layers_is_semantic_minus_copy_where_both_are_reached(
    copied: int | None, known: int | None, delta: int | None
) -> None:
    made = rows(copy_collapse=[layer == copied for layer in range(3)], is_answer=[layer == known for layer in range(3)])
    assert milestones(made).delta_layers == delta


def test_milestones_equal_a_scan_from_the_back_over_random_rows() -> None:
    draw = random.Random(11)
    for _ in range(100):
        n = draw.randint(1, 9)
        kl = [draw.choice([0.2, 0.7, 1.5, math.nan]) for _ in range(n)]
        rank = [draw.choice([1, 3, 8, 90, None]) for _ in range(n)]
        copied, identity = [draw.random() < 0.4 for _ in range(n)], draw.random() < 0.5
        reached = milestones(
            rows(
                kl_to_final_bits=kl,
                answer_rank=rank,
                copy_collapse=copied,
                identity_row=[identity and layer == 0 for layer in range(n)],
            )
        )
        below: int | None = None
        ranked: int | None = None
        copy: int | None = None
        for layer in reversed(range(n)):
            below = layer if kl[layer] in (0.2, 0.7) else below
            ranked = layer if rank[layer] in (1, 3) else ranked
            copy = layer if copied[layer] and (layer > 0 or not identity) else copy
        assert (reached.first_kl_below_1_0, reached.first_rank_le_5, reached.L_copy) == (below, ranked, copy)


REACHED = Milestones(
    L_copy=0, L_copy_soft=(1, None, 8), L_copy_at=(0, 2, None, 4), L_semantic=6, first_rank_le_1=6, first_rank_le_5=5,
    first_rank_le_10=3, first_kl_below_0_5=8, first_kl_below_1_0=7, first_cos_ge_0_2=0, first_cos_ge_0_4=4,
    first_cos_ge_0_6=None, delta_layers=6,
)  # fmt: skip


def test_as_json_gives_rows_and_fractions_under_the_agreed_keys() -> None:
    def depth(row: int | None, frac: float | None) -> dict[str, float | None]:
        return {"row": row, "frac": frac}

    nowhere = depth(None, None)
    assert as_json(REACHED, 8) == {
        "L_copy": depth(0, 0.0),
        "L_copy_soft": {"1": depth(1, 0.125), "2": nowhere, "3": depth(8, 1.0)},
        "L_copy_at": {"0.70": depth(0, 0.0), "0.80": depth(2, 0.25), "0.90": nowhere, "0.95": depth(4, 0.5)},
        "L_semantic": depth(6, 0.75),
        "first_rank_le_1": depth(6, 0.75),
        "first_rank_le_5": depth(5, 0.625),
        "first_rank_le_10": depth(3, 0.375),
        "first_kl_below_0.5": depth(8, 1.0),
        "first_kl_below_1.0": depth(7, 0.875),
        "first_cos_ge_0.2": depth(0, 0.0),
        "first_cos_ge_0.4": depth(4, 0.5),
        "first_cos_ge_0.6": nowhere,
        "delta_layers": 6,
    }


def test_as_json_is_valid_json_whether_anything_was_reached_or_not() -> None:
    for reached in (REACHED, milestones([])):
        assert json.loads(json.dumps(as_json(reached, 8), allow_nan=False)) == as_json(reached, 8)
