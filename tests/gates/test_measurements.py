import math

import pytest

from logos_pl.gates.kpis import measure
from logos_pl.gates.measurements import (
    compared,
    prompt_is_finite,
    qualifies,
    read_by_test,
    shown_by_row,
    sort,
    text_is_finite,
)
from tests.gates.lens_suite import altered, prompt, ranks, text


def test_a_prompt_without_a_lens_or_a_row_is_refused() -> None:
    whole = prompt("short")
    without = whole._replace(lenses={name: part for name, part in whole.lenses.items() if name != "bias"})
    with pytest.raises(ValueError, match="short: the bias lens"):
        measure([without], text(), 32)
    with pytest.raises(ValueError, match=r"short: the tuned lens has not read rows 0 … 33"):
        measure([whole], text(num_blocks=33), 33)
    with pytest.raises(ValueError, match="short: the tuned lens"):
        measure([whole._replace(final_rank=None)], text(), 32)


def test_text_without_a_lens_or_a_position_is_refused() -> None:
    figures = text()
    with pytest.raises(ValueError, match="held-out text: the tuned lens lacks"):
        measure([], figures._replace(sequences=figures.sequences[1:]), 32)
    without = {lens: values for lens, values in figures.kl_from_final_bits.items() if lens != "bias"}
    with pytest.raises(ValueError, match="held-out text: the bias lens lacks"):
        measure([], figures._replace(kl_from_final_bits=without), 32)


def test_a_test_reads_the_lens_that_decides_then_the_baselines_then_other_evaluated_lenses() -> None:
    assert read_by_test() == ("tuned", "norm", "norm_tau", "bias", "jacobian", "imported")
    assert shown_by_row() == ("norm", "tuned", "jacobian", "imported")
    assert compared("imported") == ("imported", "norm", "norm_tau", "bias")


def test_prompts_are_sorted_by_what_they_can_be_used_for() -> None:
    prompts = [
        prompt("fine"),
        prompt("low", final_rank=7, norm=ranks(32, {10: 9}, 7), tuned=ranks(32, {10: 4}, 7)),
        prompt("open", status="none"),
        prompt("merged", status="unresolved"),
        altered(prompt("broken"), "bias", "kl_to_final_bits", 3, math.nan),
    ]
    found = sort(prompts)
    assert [p.prompt_id for p in found.used] == ["fine", "low", "open"]
    assert [p.prompt_id for p in found.answered] == ["fine", "low"]
    assert {reason: names for reason, names in found.left_out.items() if names} == {
        "answer_unresolved": ["merged"], "not_finite": ["broken"], "no_answer": ["open"],
        "final_rank_above_5": ["low"], "final_rank_above_1": ["low"],
    }  # fmt: skip
    assert prompt_is_finite(prompts[0])
    assert not prompt_is_finite(prompts[-1])
    assert qualifies(prompts[1], 10)
    assert not qualifies(prompts[1], 5)


def test_text_counts_only_where_every_figure_of_a_lens_and_its_baselines_is_finite() -> None:
    figures = text()
    assert text_is_finite(figures)
    figures.kl_to_final_bits["norm_tau"][0, 0] = math.inf
    assert not text_is_finite(figures)
