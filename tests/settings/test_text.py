import dataclasses
import math
import re
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.settings.text import (
    BudgetSettings,
    PromptSettings,
    SampleTextSettings,
    StreamSettings,
    TestTextSettings,
    TextSettings,
    TrainingTextSettings,
)
from tests.settings.documentation import unexplained

OF_TEXT: list[tuple[dict[str, Any], str]] = [
    ({"held_out_frac": 0.0}, "--data.held_out_frac must be above 0 and below 0.5 (got 0.0)."),
    ({"held_out_frac": 0.5}, "--data.held_out_frac must be"),
    ({"held_out_frac": math.nan}, "--data.held_out_frac must be"),
    ({"seq_len": 0}, "--data.seq_len must be at least 1 and at most 16,777,216 (got 0)."),
    ({"seq_len": 2**24 + 1}, "--data.seq_len must be"),
    ({"micro_batch_seqs": 0}, "--data.micro_batch_seqs must be at least 1 and at most 10,000,000 (got 0)."),
    ({"positions_per_seq": 0}, "--data.positions_per_seq must be at least 1"),
    ({"val_seqs": 0}, "--data.val_seqs must be at least 1"),
    ({"val_seqs": 10**7 + 1}, "--data.val_seqs must be"),
    ({"position_range": (0.9, 0.1)}, "--data.position_range is [0.9, 0.1]; give two increasing fractions from 0 to 1."),
    ({"position_range": (0.5, 0.5)}, "--data.position_range is [0.5, 0.5]; give two increasing"),
    ({"position_range": (-0.1, 0.5)}, "--data.position_range is [-0.1, 0.5]; give two increasing"),
    ({"position_range": (0.5, 1.1)}, "--data.position_range is [0.5, 1.1]; give two increasing"),
    ({"position_range": (math.nan, 0.5)}, "--data.position_range is [nan, 0.5]; give two increasing"),
]
OF_STREAMS: list[tuple[dict[str, Any], str]] = [
    ({"part": "2/1"}, "--data.part must be NUMBER/PARTS with at most 100 parts, such as 1/2 (got 2/1)."),
    ({"part": "0/2"}, "such as 1/2 (got 0/2)"),
    ({"part": "half"}, "such as 1/2 (got half)"),
    ({"part": "1/101"}, "at most 100 parts, such as 1/2"),
    ({"lanes": 0}, "--data.lanes must be at least 1 and at most 65,536 (got 0)."),
    ({"lanes": 2**16 + 1}, "--data.lanes must be at least 1"),
    ({"num_workers": -1}, "--data.num_workers must be at least 0 and at most 65,536 (got -1)."),
]
OF_BUDGETS: list[tuple[dict[str, Any], str]] = [
    ({"tokens": 0}, "--data.tokens must be at least 1 and at most 1,000,000,000,000,000 (got 0)."),
    ({"tokens": 10**15 + 1}, "--data.tokens must be"),
    ({"passes": 0}, "--data.passes must be at least 1 and at most 1,000 (got 0)."),
    ({"effective_batch_seqs": 0}, "--data.effective_batch_seqs must be at least 1"),
    ({"validate_every_steps": 0}, "--data.validate_every_steps must be at least 1"),
]
OF_TESTS: list[tuple[dict[str, Any], str]] = [
    ({"test_seqs": 0}, "--data.test_seqs must be at least 1 and at most 10,000,000 (got 0)."),
]
KINDS: dict[type, list[tuple[dict[str, Any], str]]] = {
    TextSettings: OF_TEXT,
    StreamSettings: OF_STREAMS,
    BudgetSettings: OF_BUDGETS,
    TrainingTextSettings: OF_TEXT + OF_STREAMS + OF_BUDGETS,
    SampleTextSettings: OF_TEXT + OF_STREAMS,
    TestTextSettings: OF_TEXT + OF_TESTS,
}


@pytest.mark.parametrize(
    ("kind", "setting", "message"), [(kind, *case) for kind, cases in KINDS.items() for case in cases]
)
def test_a_number_out_of_its_bounds_is_refused(kind: type, setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        kind(**setting)


def test_the_bounds_themselves_are_taken() -> None:
    TrainingTextSettings(
        tokens=10**15, seq_len=2**24, effective_batch_seqs=10**7, micro_batch_seqs=10**7, positions_per_seq=2**24,
        position_range=(0, 1), held_out_frac=0.499, validate_every_steps=10**15, val_seqs=10**7, lanes=2**16,
        num_workers=0,
    )  # fmt: skip
    TrainingTextSettings(
        tokens=1, seq_len=1, effective_batch_seqs=1, micro_batch_seqs=1, positions_per_seq=1, held_out_frac=1e-9,
        validate_every_steps=1, val_seqs=1, lanes=1, num_workers=2**16,
    )  # fmt: skip
    TestTextSettings(test_seqs=1)


def test_a_test_reads_by_default_a_little_more_than_a_hundred_thousand_tokens() -> None:
    settings = TestTextSettings()
    assert 100_000 < settings.test_seqs * settings.seq_len < 110_000


def test_the_range_of_positions_is_a_pair_of_fractions() -> None:
    as_parsed: Any = [0.25, 1]
    assert TextSettings(position_range=as_parsed).drawn_range == (0.25, 1)
    with pytest.raises(AssertionError, match=r"settings\.resolve replaces it"):
        assert TextSettings().drawn_range


def test_the_text_of_a_prism_with_a_budget_is_the_same_text() -> None:
    given: dict[str, Any] = {
        "dataset": "corpus", "name": "part", "split": "other", "revision": "v1", "text_column": "body", "seq_len": 64,
        "format": "chat", "special_tokens": "none",
        "micro_batch_seqs": 3, "positions_per_seq": 5, "position_range": (0.1, 0.9), "held_out_frac": 0.1,
        "val_seqs": 7, "part": "2/3", "lanes": 4, "num_workers": 2,
    }  # fmt: skip
    own = {field.name for field in dataclasses.fields(SampleTextSettings)}
    assert given.keys() == own, "or an option would be left at its default here"
    wanted = TrainingTextSettings(**given, tokens=1000, effective_batch_seqs=8, validate_every_steps=2)
    assert SampleTextSettings(**given).as_training(tokens=1000, batch_seqs=8, validate_every_steps=2) == wanted


def test_a_fit_reads_what_a_prism_does_within_a_budget() -> None:
    names = [{field.name for field in dataclasses.fields(kind)} for kind in (TrainingTextSettings, SampleTextSettings)]
    assert names[0] - names[1] == {"tokens", "passes", "effective_batch_seqs", "validate_every_steps"}
    assert names[1] < names[0]


@pytest.mark.parametrize("kind", [*KINDS, PromptSettings])
def test_every_option_is_explained(kind: type) -> None:
    assert unexplained(kind) == set()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"token_ids": []}, "--data.token_ids must be one or more non-negative token ids, such as [1, 2, 3]."),
        ({"token_ids": [1, -1]}, "--data.token_ids must be one or more non-negative token ids"),
        ({"token_ids": [1], "prompt": "a"}, "--data.prompt and --data.token_ids cannot be combined"),
    ],
)
def test_a_prompt_has_one_form(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        PromptSettings(**setting)


def test_the_column_is_named_after_what_it_holds() -> None:
    assert (TextSettings().column, TextSettings(format="chat").column) == ("text", "messages")
    assert TextSettings(format="chat", text_column="turns").column == "turns"
