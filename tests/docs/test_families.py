"""The tables of families in the documentation, held to what the tests of `tests/lm` run on each, and to trials."""

import warnings

import pytest
from transformers import __version__

from scripts.family_trials.table import PAGE, TESTED, TRIED, counts, read_trials, title
from scripts.family_trials.tested import families_of_tests
from scripts.family_trials.trial import CAUSAL, EXACT, MULTIMODAL, NO, NOT_BUILT, REFUSED, SAME_BITS, try_family

TEXT = PAGE.read_text(encoding="utf-8")
TRIALS = read_trials()
AGAIN = (
    "llama", "deepseek_v3", "zamba2", "gemma4", "gemma3n_text", "deepseek_v4", "hy_v4", "inkling_text",
    "longcat_flash", "hrm_text", "roberta", "modernbert-decoder", "cpmant", "blt", "musicgen",
)  # fmt: skip
"""Tried again by every run of the tests: one of each reason, and some that the other tests do not run on."""
same_version = pytest.mark.skipif(
    title(__version__) not in TEXT, reason=f"the table is of another version of transformers than {__version__}"
)


def again(name: str) -> tuple[str, ...]:
    """What the page says of an architecture, from another trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, about defaults
        return try_family(name)[:-1]


def test_the_table_lists_every_family_of_the_tests_with_what_they_show() -> None:
    assert families_of_tests() == TEXT.split(TESTED)[1].split(TRIED)[0].strip()


@same_version
def test_every_architecture_of_transformers_is_in_the_tables_once() -> None:
    assert list(TRIALS) == [*CAUSAL, *MULTIMODAL]


def test_every_row_has_a_verdict_and_whatever_is_not_exact_a_reason() -> None:
    for name, trial in TRIALS.items():
        assert {trial.float32, trial.bfloat16} <= {EXACT, REFUSED, NOT_BUILT}, name
        assert trial.attribution in (EXACT, NO), name
        assert trial.streamed in (SAME_BITS, NO), name
        assert (trial.architecture == NO) == (trial.float32 == NOT_BUILT) == (trial.bfloat16 == NOT_BUILT), name
        if (trial.float32, trial.bfloat16, trial.streamed) != (EXACT, EXACT, SAME_BITS):
            assert len(trial.remark) > 10, name


@same_version
def test_the_counts_are_those_of_the_rows() -> None:
    for group in (CAUSAL, MULTIMODAL):
        assert counts([TRIALS[name] for name in group]) in TEXT


def test_in_a_batch_of_eight_experts_move_a_float32_row_by_rounding_alone() -> None:
    moved = {name: trial.moved["float32"] for name, trial in TRIALS.items() if "float32" in trial.moved}
    assert len(moved) > 20
    assert max(moved.values()) < 1e-4, moved


@same_version
@pytest.mark.parametrize("name", AGAIN)
def test_an_architecture_tried_again_comes_out_as_the_table_says(name: str) -> None:
    assert again(name) == TRIALS[name][:-1]


@pytest.mark.slow
@same_version
@pytest.mark.parametrize("name", [name for name in (*CAUSAL, *MULTIMODAL) if name not in AGAIN])
def test_every_other_architecture_tried_again_comes_out_as_the_table_says(name: str) -> None:
    assert again(name) == TRIALS[name][:-1]
