"""Named schedules: what `auto` stands for in the options of training.

`spec` is the baseline that the others were measured against; docs/schedules.md has the measurements.
"""

import math
from typing import Literal, NamedTuple

from logos_pl.functional.positions import FIRST_SETTLED_POSITION

ScheduleName = Literal["full", "quick", "spec"]
Init = Literal["closed_form", "random"]
Anneal = Literal["average", "cosine"]


class Schedule(NamedTuple):
    """The settings of a schedule that do not depend on the model.

    Attributes:
        init: How the translators start.
        tokens: Token budget.
        anneal: How the noise of the last steps is removed: by averaging the weights at a constant learning rate, or by
            a cosine decay of the rate to 0.
        regulariser: Weight of the penalty and of depth smoothness.
    """

    init: Init
    tokens: int
    anneal: Anneal
    regulariser: float


SCHEDULES: dict[ScheduleName, Schedule] = {
    "full": Schedule("closed_form", 32_000_000, "average", 0.0),
    "quick": Schedule("closed_form", 2_000_000, "average", 0.0),
    "spec": Schedule("random", 32_000_000, "cosine", 1e-4),
}


class CpuWork(NamedTuple):
    """Operations of a fit on a CPU, which limit how much can be trained in reasonable time.

    Attributes:
        token_flop: Operations per token in the model's blocks.
        position_flop: Operations per position at all rows of a step: logits, gradient and final distribution.
    """

    token_flop: float
    position_flop: float


SPEC_LR = 1e-3
SPEC_BATCH_SEQS = 32
LEAST_BATCH_SEQS = 2
LEAST_STEPS = {SPEC_BATCH_SEQS: 192, 16: 192, 8: 96, 4: 96}
"""Fewest steps by sequences per batch; a budget with fewer gets a smaller batch, with more positions per sequence."""
LEAST_QUICK_STEPS = 96
"""Fewest steps, of two sequences each, that `quick` takes on a CPU."""
POSITIONS_PER_STEP = 1024
LEAST_POSITIONS = 32
"""Fewest positions per sequence; held-out text is read at this number, whatever the fit."""
CPU_STEP_FLOP = 1e11
"""Most work for the positions of a step on a CPU, about a second on a core: sequences get fewer, but at least 32."""
CPU_QUICK_FLOP = 20 * 60 * 40e9
"""Work of `quick` on a CPU: 20 minutes of a core at 40 GFLOP/s."""
VAL_SEQS = (64, 32, 16, 8)
VALIDATION_SHARE = 0.1
"""Most text that all validations of a fit read together, as a share of the training text."""


def scheduled_lr(name: ScheduleName, d_model: int, passes: int = 1) -> float:
    """Peak learning rate of AdamW: 1.28 / width, but at least 0.001 (from width 1280) and at most 0.01 (up to 128).

    AdamW moves every element of a factor by about the learning rate, so the effect of a step grows with the width it
    sums over. Several passes multiply the number of steps at the same noise, so the rate is divided by the square root
    of their number. Sources: arXiv:2203.03466 for the width; docs/schedules.md for where both were measured.
    """
    return SPEC_LR if name == "spec" else min(max(1.28 / d_model, SPEC_LR), 1e-2) / math.sqrt(passes)


def scheduled_rows(name: ScheduleName, vocab_size: int, inner_rows: int) -> int:
    """Rows trained in each step: all of them, except for `spec`, which trains fewer. Source: docs/method.md §2.1."""
    return min(spec_rows_and_positions(vocab_size)[0], inner_rows) if name == "spec" else inner_rows


def scheduled_tokens(name: ScheduleName, seq_len: int, cpu: CpuWork | None = None) -> int:
    """Token budget: that of the schedule; on a CPU, what `quick` can do in 20 minutes, but enough for its steps.

    Args:
        name: The schedule.
        seq_len: Tokens per sequence.
        cpu: Operations on a CPU; None on other devices.
    """
    tokens = SCHEDULES[name].tokens
    if cpu is None or name != "quick":
        return tokens
    # The start reads a quarter of a small budget once more.
    flop = 1.25 * cpu.token_flop + LEAST_POSITIONS / seq_len * cpu.position_flop
    affordable = int(CPU_QUICK_FLOP / flop) // 1000 * 1000
    return min(tokens, max(affordable, LEAST_QUICK_STEPS * LEAST_BATCH_SEQS * seq_len))


def scheduled_batch(name: ScheduleName, tokens: int, seq_len: int) -> int:
    """Sequences per optimiser step: 32, halved down to two while there are too few steps."""
    if name == "spec":
        return SPEC_BATCH_SEQS
    enough = (size for size, steps in LEAST_STEPS.items() if tokens >= steps * size * seq_len)
    return next(enough, LEAST_BATCH_SEQS)


def scheduled_val_seqs(num_validations: int, tokens: int, seq_len: int) -> int:
    """Sequences of one validation: 64, halved down to 8 while all validations read over a tenth of the training text.

    Args:
        num_validations: Validations of the run, that of the start included.
        tokens: Tokens trained on; 0 for a run that trains nothing.
        seq_len: Tokens per sequence.
    """
    read = num_validations * seq_len
    return next((seqs for seqs in VAL_SEQS if tokens == 0 or seqs * read <= VALIDATION_SHARE * tokens), VAL_SEQS[-1])


def scheduled_positions(
    name: ScheduleName, vocab_size: int, seq_len: int, batch_seqs: int, cpu: CpuWork | None = None
) -> tuple[int, tuple[float, float]]:
    """Positions per sequence, and the part of the sequence they are drawn from, as fractions.

    Args:
        name: The schedule.
        vocab_size: Tokens of the vocabulary.
        seq_len: Tokens per sequence.
        batch_seqs: Sequences per optimiser step; the number of positions of all of them together stays the same.
        cpu: Operations on a CPU, where a step of a large vocabulary gets fewer; None on other devices.
    """
    if name == "spec":
        return spec_rows_and_positions(vocab_size)[1], (0.60, 0.95)
    settled = FIRST_SETTLED_POSITION if seq_len > 2 * FIRST_SETTLED_POSITION else 0
    of_step = POSITIONS_PER_STEP if cpu is None else min(POSITIONS_PER_STEP, int(CPU_STEP_FLOP / cpu.position_flop))
    return min(max(of_step // batch_seqs, LEAST_POSITIONS), seq_len - settled), (settled / seq_len, 1.0)


def spec_rows_and_positions(vocab_size: int) -> tuple[int, int]:
    """Rows per step and positions per sequence for a vocabulary: fewer of both as the loss gets more expensive."""
    s = min(1.0, math.sqrt(32_000 / vocab_size))
    return min(max(round(24 * s), 8), 24), min(max(round(16 * s), 12), 16)
