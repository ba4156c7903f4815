"""Replaces every `auto` by a value, from the schedule and the model's sizes, before anything is loaded.

Device, dtype and micro-batch depend on the machine: `lm.devices.choose_device` chooses them, and `cli.plan` writes
them into the same settings.
"""

from dataclasses import replace
from typing import TypeVar

from logos_pl.errors import InputError
from logos_pl.functional.budget import steps_of_pass
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import (
    SCHEDULES,
    SPEC_BATCH_SEQS,
    CpuWork,
    ScheduleName,
    scheduled_batch,
    scheduled_lr,
    scheduled_positions,
    scheduled_rows,
    scheduled_tokens,
    scheduled_val_seqs,
)
from logos_pl.lm.memory import ModelShape
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.text import TextSettings, TrainingTextSettings

DEFAULT_MICRO_BATCH_SEQS = 8
"""Sequences per forward pass when the device has not been examined."""

Text = TypeVar("Text", bound=TextSettings)


def resolve_tuning(
    settings: TuningSettings, schedule: ScheduleName, shape: ModelShape, passes: int = 1
) -> TuningSettings:
    """`model` options of a fit with every `auto` of lens and training replaced.

    Raises:
        InputError: The rank or the number of rows does not fit the model.
    """
    plan, inner = SCHEDULES[schedule], shape.num_blocks - 1
    rows = settings.layers_per_step
    if rows == "auto":
        rows = scheduled_rows(schedule, shape.vocab_size, inner)
    elif rows == "all":
        rows = inner
    elif rows > inner:
        raise InputError(
            f"--model.layers_per_step {rows} does not fit {settings.model_id}, which has {inner} rows with a "
            f"translator: choose 1 to {inner}, `auto` or `all`."
        )
    return replace(
        settings,
        rank=resolve_rank(settings.rank, shape.d_model),
        init=plan.init if settings.init == "auto" else settings.init,
        layers_per_step=rows,
        lr=scheduled_lr(schedule, shape.d_model, passes) if settings.lr == "auto" else settings.lr,
        anneal=plan.anneal if settings.anneal == "auto" else settings.anneal,
        l2=plan.regulariser if settings.l2 == "auto" else settings.l2,
        smoothness=plan.regulariser if settings.smoothness == "auto" else settings.smoothness,
    )


def cpu_work(shape: ModelShape, rows: int) -> CpuWork:
    """Operations of a fit with `rows` rows per step, from the model's sizes."""
    outside = shape.outside_blocks or 0
    logits_flop = 2 * shape.d_model * shape.vocab_size
    return CpuWork(2 * (shape.num_parameters - outside), (2 * rows + 1) * logits_flop)


def resolve_text(settings: Text, schedule: ScheduleName, vocab_size: int, cpu: CpuWork | None = None) -> Text:
    """`data` options with every `auto` replaced.

    Evaluation reads no more positions per sequence than a full training step.

    Args:
        settings: The options.
        schedule: Schedule that provides the defaults.
        vocab_size: Number of tokens in the vocabulary.
        cpu: Operations of a fit on a CPU; None on other devices, and where nothing is trained.

    Raises:
        InputError: `positions_per_seq` exceeds the positions in `position_range`.
    """
    batch_seqs, tokens, validations = SPEC_BATCH_SEQS, 0, 1
    if isinstance(settings, TrainingTextSettings):
        given_tokens, seq_len = settings.tokens, settings.seq_len
        tokens = scheduled_tokens(schedule, seq_len, cpu) if given_tokens == "auto" else given_tokens
        given = settings.effective_batch_seqs
        batch_seqs = scheduled_batch(schedule, tokens, settings.seq_len) if given == "auto" else given
        settings = replace(settings, tokens=tokens, effective_batch_seqs=batch_seqs)
        steps = settings.passes * steps_of_pass(tokens, settings.seq_len, batch_seqs, settings.passes, settings.lanes)
        validations = 1 + -(-steps // settings.validate_every_steps)
        tokens *= settings.passes
    positions, position_range = scheduled_positions(schedule, vocab_size, settings.seq_len, batch_seqs, cpu)
    micro, val_seqs = settings.micro_batch_seqs, settings.val_seqs
    resolved = replace(
        settings,
        positions_per_seq=positions if settings.positions_per_seq == "auto" else settings.positions_per_seq,
        position_range=position_range if settings.position_range == "auto" else settings.position_range,
        val_seqs=scheduled_val_seqs(validations, tokens, settings.seq_len) if val_seqs == "auto" else val_seqs,
        micro_batch_seqs=min(DEFAULT_MICRO_BATCH_SEQS, batch_seqs) if micro == "auto" else micro,
    )
    _check_positions(resolved)
    return resolved


def _check_positions(settings: TextSettings) -> None:
    first, last = position_bounds(settings.seq_len, settings.drawn_range)
    if not 1 <= int(settings.positions_per_seq) <= last - first + 1:
        raise InputError(
            f"--data.positions_per_seq is {settings.positions_per_seq}, but the range {settings.drawn_range} of "
            f"{settings.seq_len} tokens has {last - first + 1} positions; change it, "
            "--data.position_range or "
            "--data.seq_len."
        )
