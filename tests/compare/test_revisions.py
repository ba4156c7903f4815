"""Figures of revisions against means by hand, and the steps in their names."""

import json

import pytest
import torch

from logos_pl.compare.revision_module import MILESTONES, SETTLED, RevisionSamples
from logos_pl.compare.revisions import Model, Revision, measure_revision, milestone_lines, step_of, steps_of, to_plain
from logos_pl.functional.bootstrap import bootstrap_interval

ROWS = (0, 1, 2, 4)


def samples(seed: int = 3, facts: bool = True) -> RevisionSamples:
    """Random readings at twelve positions of four sequences, and of five facts."""
    generator = torch.Generator().manual_seed(seed)
    kl_from, kl_to = (torch.rand(len(ROWS), 12, generator=generator) for _ in range(2))
    agree = (torch.rand(len(ROWS), 12, generator=generator) > 0.3).float()
    rows = torch.tensor(ROWS)
    text = {name: rows[torch.randint(0, 4, (12,), generator=generator)] for name in (SETTLED, *MILESTONES)}
    answers = {name: torch.tensor([4, -1, 2, -1, 1]) for name in MILESTONES} if facts else {}
    ranks = torch.tensor([1, 3, 1, 9, 1]) if facts else torch.empty(0, dtype=torch.int64)
    return RevisionSamples(
        ROWS, torch.arange(12) // 3, kl_from, kl_to, agree, torch.rand(12, generator=generator), text, answers, ranks
    )


def revision(name: str = "m@step1000", seed: int = 3, facts: bool = True) -> Revision:
    return measure_revision(samples(seed, facts), Model(name, "org/m", "a" * 40, 4), {"kind": "norm"})


def test_rows_and_milestones_are_means_with_intervals_over_sequences() -> None:
    given, found = samples(), revision()
    assert list(found.rows) == list(ROWS)
    assert (found.num_sequences, found.num_positions, found.num_facts, found.num_known) == (4, 12, 5, 3)
    for number, row in enumerate(ROWS):
        values = given.kl_from_final_bits[number].double()
        assert found.rows[row]["kl_from_final_bits"] == bootstrap_interval(values, "mean", clusters=given.sequences)
        assert found.rows[row]["top1_agree_frac"].estimate == pytest.approx(float(given.top1_agree[number].mean()))
    assert found.inner is not None
    assert found.inner["kl_to_final_bits"].estimate == pytest.approx(float(given.kl_to_final_bits[1:3].double().mean()))
    settled = found.text[SETTLED]
    assert settled.row is not None
    assert (settled.row.estimate, settled.reached_frac) == (
        pytest.approx(float(given.text[SETTLED].double().mean())),
        1,
    )
    answers = found.answers["first_rank_le_1"]
    assert answers.row is not None
    assert (answers.row.estimate, answers.reached_frac) == (pytest.approx(7 / 3), 0.6)


def test_a_milestone_that_is_never_reached_has_no_row() -> None:
    given = samples()
    never = given._replace(answers={name: torch.full((5,), -1) for name in MILESTONES})
    found = measure_revision(never, Model("m", "m", "c", 4), {})
    assert found.answers["first_rank_le_1"] == (None, 0.0)
    assert to_plain(found)["answers_milestones"]["first_rank_le_1"] == {"row": None, "frac": None, "reached_frac": 0.0}


def test_plain_values_survive_json_and_say_depths_as_shares() -> None:
    plain = to_plain(revision())
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    settled = plain["text_milestones"][SETTLED]
    assert settled["frac"] == settled["row"]["estimate"] / 4
    assert [line[:2] for line in milestone_lines(revision(facts=False))] == [
        ("text", name) for name in (SETTLED, *MILESTONES)
    ]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("pythia-70m@step1000", 1000),
        ("OLMo@stage1-step1000-tokens4B", 1000),
        ("m@global_step_20", 20),
        ("m@steps0", 0),
        ("checkpoint-500", 500),
        ("step7@main", None),
        ("m@main", None),
        ("m@v2.0", None),
    ],
)
def test_the_step_is_read_from_the_revision_or_else_from_the_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_where_a_name_says_no_step_or_two_say_the_same_the_order_counts() -> None:
    assert steps_of(["m@step2", "m@step1"]) == [2, 1]
    assert steps_of(["m@step2", "m@main"]) is None
    assert steps_of(["a@step2", "b@step2"]) is None
