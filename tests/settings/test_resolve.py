"""What every `auto` comes to, against the tables of docs/schedules.md and docs/method.md §2."""

import math
import re
from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest

from logos_pl.errors import InputError
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lm.memory import ModelShape
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.resolve import resolve_text, resolve_tuning
from logos_pl.settings.text import SampleTextSettings, TestTextSettings, TextSettings, TrainingTextSettings

SCHEDULE_NAMES: tuple[ScheduleName, ...] = ("full", "quick", "spec")
BY_THE_DEVICE = {"dtype", "placement", "group_tokens", "fp32_unembed", "precond"}
"""Options of a fit's model whose `auto` is no matter of the schedule."""


def shape(d_model: int = 512, num_blocks: int = 80, vocab_size: int = 32_000) -> ModelShape:
    return ModelShape("llama", 10**6, num_blocks, d_model, vocab_size)


def tuning(**given: Any) -> TuningSettings:
    return TuningSettings(model_id="any", **given)


def left_open(settings: Any) -> set[str]:
    """Options that are still `auto`, without the one whose `auto` is a rule for each text."""
    found = {field.name for field in fields(settings) if getattr(settings, field.name) == "auto"}
    return found - {"special_tokens"}


# The lens and its training


@pytest.mark.parametrize(
    ("schedule", "init", "anneal", "weight"),
    [("full", "closed_form", "average", 0), ("quick", "closed_form", "average", 0), ("spec", "random", "cosine", 1e-4)],
)
def test_start_anneal_and_penalties_are_those_of_the_schedules_table(
    schedule: ScheduleName, init: str, anneal: str, weight: float
) -> None:
    found = resolve_tuning(tuning(), schedule, shape())
    assert (found.init, found.anneal, found.l2, found.smoothness) == (init, anneal, weight, weight)
    assert left_open(found) <= BY_THE_DEVICE


@pytest.mark.parametrize("d_model", [16, 127, 128, 192, 256, 1280, 1281, 8192])
def test_the_learning_rate_is_inverse_to_the_width_between_its_bounds_and_in_the_spec_a_thousandth(
    d_model: int,
) -> None:
    wanted = sorted([0.001, 1.28 / d_model, 0.01])[1]
    for schedule in ("full", "quick"):
        assert resolve_tuning(tuning(), schedule, shape(d_model)).lr == pytest.approx(wanted)
    assert resolve_tuning(tuning(), "spec", shape(d_model)).lr == 0.001


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
@pytest.mark.parametrize(
    ("d_model", "rank"), [(16, 16), (64, 64), (2048, 64), (2080, 65), (4095, 127), (4096, 256), (16_384, 256)]
)
def test_the_rank_is_a_thirty_second_of_the_width_within_its_bounds(
    schedule: ScheduleName, d_model: int, rank: int
) -> None:
    assert resolve_tuning(tuning(), schedule, shape(d_model)).rank == rank


@pytest.mark.parametrize(("vocab_size", "rows"), [(1000, 24), (32_000, 24), (128_000, 12), (256_000, 8), (10**7, 8)])
def test_every_row_is_trained_in_each_step_and_in_the_spec_fewer_of_large_vocabularies(
    vocab_size: int, rows: int
) -> None:
    model = shape(vocab_size=vocab_size)
    assert resolve_tuning(tuning(), "spec", model).layers_per_step == rows
    assert resolve_tuning(tuning(layers_per_step="all"), "spec", model).layers_per_step == 79
    for schedule in ("full", "quick"):
        assert resolve_tuning(tuning(), schedule, model).layers_per_step == 79


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_never_more_rows_are_trained_than_have_a_translator(schedule: ScheduleName) -> None:
    for given in ("auto", "all", 3):
        assert resolve_tuning(tuning(layers_per_step=given), schedule, shape(num_blocks=4)).layers_per_step == 3
    with pytest.raises(InputError) as caught:
        resolve_tuning(tuning(layers_per_step=4), schedule, shape(num_blocks=4))
    assert str(caught.value) == (
        "--model.layers_per_step 4 does not fit any, which has 3 rows with a translator: "
        "choose 1 to 3, `auto` or `all`."
    )


def test_a_rank_beyond_the_width_is_refused() -> None:
    assert resolve_tuning(tuning(rank=16), "full", shape(16)).rank == 16
    with pytest.raises(InputError, match="Rank 17 does not fit a model of width 16"):
        resolve_tuning(tuning(rank=17), "full", shape(16))


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_every_option_of_the_lens_that_is_given_wins(schedule: ScheduleName) -> None:
    given = tuning(
        revision="v1", dtype="float16", compile=True, fp32_unembed=False, decoding_norm="next", loss_block_mib=3,
        rank=0, init="random" if schedule != "spec" else "closed_form", layers_per_step=2, precond="off",
        temperature=False, bias_only=False, lr=0.5, anneal="cosine" if schedule != "spec" else "average",
        betas=(0.1, 0.2), weight_decay=0.3, l2=0.0, smoothness=0.25,
    )  # fmt: skip
    assert resolve_tuning(given, schedule, shape()) == given


# The text


@pytest.mark.parametrize(
    ("schedule", "tokens", "seqs", "positions", "first", "last"),
    [
        ("full", 32_000_000, 32, 32, 8, 511),
        ("quick", 2_000_000, 16, 64, 8, 511),
        ("spec", 32_000_000, 32, 16, 308, 486),  # ceil(0.60 × 512), ceil(0.95 × 512) − 1
    ],
)
def test_budget_step_and_places_are_those_of_the_schedules_table(
    schedule: ScheduleName, tokens: int, seqs: int, positions: int, first: int, last: int
) -> None:
    found = resolve_text(TrainingTextSettings(), schedule, 32_000)
    assert (found.tokens, found.effective_batch_seqs, found.micro_batch_seqs) == (tokens, seqs, 8)
    assert found.positions_per_seq == positions
    assert position_bounds(512, found.drawn_range) == (first, last)
    assert left_open(found) == set()


@pytest.mark.parametrize("seq_len", [64, 512, 2048])
@pytest.mark.parametrize("tokens", [1, 12_288, 100_000, 250_000, 1_000_000, 32_000_000])
def test_a_step_has_as_many_sequences_as_leave_enough_steps(seq_len: int, tokens: int) -> None:
    enough = [seqs for seqs, steps in {4: 96, 8: 96, 16: 192, 32: 192}.items() if tokens / (seqs * seq_len) >= steps]
    wanted = max(enough, default=2)
    given = TrainingTextSettings(tokens=tokens, seq_len=seq_len)
    for schedule in ("full", "quick"):
        found = resolve_text(given, schedule, 32_000)
        assert (found.tokens, found.effective_batch_seqs) == (tokens, wanted)
        assert found.micro_batch_seqs == min(8, wanted)
        assert found.positions_per_seq == min(1024 // wanted, seq_len - 8)
    assert resolve_text(given, "spec", 32_000).effective_batch_seqs == 32


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, 64),
        ({"tokens": 2_000_000}, 64),
        ({"tokens": 1_000_000, "seq_len": 128}, 64),  # the demo: four validations of 8,192 tokens
        ({"tokens": 262_144}, 16),  # 128 steps: at the start, after 100 and after 128
        ({"tokens": 262_144, "validate_every_steps": 200}, 16),
        ({"tokens": 262_144, "validate_every_steps": 10}, 8),
        ({"tokens": 1}, 8),
        ({"tokens": 262_144, "val_seqs": 48}, 48),
    ],
)
def test_validations_read_at_most_a_tenth_of_the_text_or_eight_sequences_each(
    given: dict[str, Any], wanted: int
) -> None:
    found = resolve_text(TrainingTextSettings(**given), "full", 32_000)
    assert found.val_seqs == wanted
    steps = -(-int(found.tokens) // (found.seq_len * int(found.effective_batch_seqs)))
    read = (1 + math.ceil(steps / found.validate_every_steps)) * wanted * found.seq_len
    assert "val_seqs" in given or wanted == 8 or read <= int(found.tokens) / 10
    assert resolve_text(TextSettings(), "full", 32_000).val_seqs == 64


def test_what_was_settled_at_set_up_is_settled_here() -> None:
    given: dict[str, Any] = {"seq_len": 64, "val_seqs": 2, "effective_batch_seqs": 8}
    found = resolve_text(TrainingTextSettings(**given), "full", 257)
    assert (found.micro_batch_seqs, found.positions_per_seq, found.drawn_range) == (8, 56, (8 / 64, 1.0))
    assert found.tokens == 32_000_000
    found = resolve_text(TrainingTextSettings(**given | {"effective_batch_seqs": "auto"}), "full", 257)
    assert (found.effective_batch_seqs, found.positions_per_seq) == (32, 32)
    small = given | {"effective_batch_seqs": "auto", "tokens": 3 * 64}
    found = resolve_text(TrainingTextSettings(**small), "full", 257)
    assert (found.effective_batch_seqs, found.micro_batch_seqs) == (2, 2)
    found = resolve_text(TrainingTextSettings(**given), "spec", 257)
    assert (found.positions_per_seq, found.drawn_range) == (16, (0.60, 0.95))


@pytest.mark.parametrize(("vocab_size", "positions"), [(1000, 16), (32_000, 16), (64_000, 12), (256_000, 12)])
def test_the_spec_reads_fewer_positions_of_large_vocabularies(vocab_size: int, positions: int) -> None:
    assert positions == min(max(round(16 * math.sqrt(32_000 / vocab_size)), 12), 16), "docs/method.md §2.1"
    for settings in (TrainingTextSettings(), TextSettings()):
        assert resolve_text(settings, "spec", vocab_size).positions_per_seq == positions
        assert resolve_text(settings, "full", vocab_size).positions_per_seq == 32


@pytest.mark.parametrize("kind", [TextSettings, TestTextSettings, SampleTextSettings])
@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_text_without_a_budget_is_read_as_in_a_step_of_32_sequences(kind: Any, schedule: ScheduleName) -> None:
    found = resolve_text(kind(seq_len=1024), schedule, 32_000)
    assert type(found) is kind
    assert left_open(found) == set()
    assert (found.positions_per_seq, found.micro_batch_seqs) == (16 if schedule == "spec" else 32, 8)


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_held_out_text_is_read_at_the_same_places_in_a_fit_and_after_it(schedule: ScheduleName) -> None:
    """Of a held-out sequence no more than 32 positions are read (`data.held_out_text`)."""
    budgets = [{}, {"tokens": 1000}, {"tokens": 10**6}, {"effective_batch_seqs": 1}, {"effective_batch_seqs": 4096}]
    for seq_len, budget, vocab_size in product((64, 100, 512, 4096), budgets, (1000, 200_000)):
        fitted = resolve_text(TrainingTextSettings(seq_len=seq_len, **budget), schedule, vocab_size)
        evaluated = resolve_text(TextSettings(seq_len=seq_len), schedule, vocab_size)
        assert min(32, int(fitted.positions_per_seq)) == min(32, int(evaluated.positions_per_seq))
        assert fitted.drawn_range == evaluated.drawn_range


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_every_option_of_the_text_that_is_given_wins(schedule: ScheduleName) -> None:
    given = TrainingTextSettings(
        dataset="corpus", name="part", split="other", revision="v1", format="chat", text_column="body", seq_len=100,
        micro_batch_seqs=3, positions_per_seq=5, position_range=(0.1, 0.2), held_out_frac=0.1, val_seqs=7, lanes=4,
        num_workers=2, tokens=5, effective_batch_seqs=9, validate_every_steps=11,
    )  # fmt: skip
    assert resolve_text(given, schedule, 32_000) == given


@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_what_is_resolved_stays_as_it_is(schedule: ScheduleName) -> None:
    once = resolve_text(TrainingTextSettings(tokens=10**6), schedule, 50_257)
    assert resolve_text(once, "full" if schedule == "spec" else "spec", 1000) == once
    lens = resolve_tuning(tuning(), schedule, shape())
    assert resolve_tuning(lens, "full" if schedule == "spec" else "spec", shape(1024)) == lens


@pytest.mark.parametrize(
    ("schedule", "given", "message"),
    [
        (
            "full",
            {"seq_len": 16, "positions_per_seq": 7, "position_range": (0.60, 0.95)},
            "--data.positions_per_seq is 7, but the range (0.6, 0.95) of 16 tokens has 6 positions; change it, "
            "--data.position_range or "
            "--data.seq_len.",
        ),
        (
            "full",
            {"position_range": (0.60, 0.65)},
            "--data.positions_per_seq is 32, but the range (0.6, 0.65) of 512 tokens",
        ),
        (
            "full",
            {"positions_per_seq": 505},
            "--data.positions_per_seq is 505, but the range (0.015625, 1.0) of 512 tokens has",
        ),
        ("spec", {"seq_len": 16}, "--data.positions_per_seq is 16, but the range (0.6, 0.95) of 16 tokens has 6"),
        ("full", {"position_range": (0.5001, 0.5002)}, "holds no position of a sequence of 512 tokens"),
    ],
)
def test_more_positions_than_there_are_are_refused(schedule: ScheduleName, given: dict[str, Any], message: str) -> None:
    for kind in (TrainingTextSettings, TextSettings, TestTextSettings, SampleTextSettings):
        with pytest.raises(InputError, match=re.escape(message)):
            resolve_text(kind(**given), schedule, 32_000)
    fits = replace(TextSettings(), positions_per_seq=6, position_range=(0.60, 0.95), seq_len=16)
    assert resolve_text(fits, schedule, 32_000).positions_per_seq == 6
