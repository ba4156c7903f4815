"""Named schedules: what `auto` stands for in the options of training.

`spec` is the plan that the others were measured against; docs/schedules.md has the measurements.
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


SPEC_LR = 1e-3
SPEC_BATCH_SEQS = 32
STEPS_WANTED = 96
"""Steps that a budget should have; where it has fewer, a step gets fewer sequences with more positions each."""
POSITIONS_PER_STEP = 1024
VAL_SEQS = (64, 32, 16, 8)
VALIDATION_SHARE = 0.1
"""Most text that all validations of a fit together read, as a share of the text trained on."""


def scheduled_lr(name: ScheduleName, d_model: int) -> float:
    """Peak learning rate of AdamW: inverse to the width from 128 to 1280, 0.001 from there on, never above 0.01.

    AdamW moves every number of a factor by about the rate, so that what a step changes grows with the width it sums
    over. Source: arXiv:2203.03466 for the rule; docs/schedules.md for where it was measured.
    """
    return SPEC_LR if name == "spec" else min(max(1.28 / d_model, SPEC_LR), 1e-2)


def scheduled_rows(name: ScheduleName, vocab_size: int, inner_rows: int) -> int:
    """Rows trained in each step: all of them, but for `spec`, which trains fewer. Source: docs/method.md §2.1."""
    return min(spec_rows_and_positions(vocab_size)[0], inner_rows) if name == "spec" else inner_rows


def scheduled_batch(name: ScheduleName, tokens: int, seq_len: int) -> int:
    """Sequences per optimiser step: 32, or where they make too few steps, fewer, halved down to two."""
    sizes = [SPEC_BATCH_SEQS] if name == "spec" else [SPEC_BATCH_SEQS, 16, 8, 4]
    return next((size for size in sizes if tokens >= STEPS_WANTED * size * seq_len), sizes[-1] if name == "spec" else 2)


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
    name: ScheduleName, vocab_size: int, seq_len: int, batch_seqs: int
) -> tuple[int, tuple[float, float]]:
    """Positions per sequence, and the part of the sequence they are drawn from, as fractions.

    Args:
        name: The schedule.
        vocab_size: Tokens of the vocabulary.
        seq_len: Tokens per sequence.
        batch_seqs: Sequences per optimiser step; the number of positions of all of them together stays the same.
    """
    if name == "spec":
        return spec_rows_and_positions(vocab_size)[1], (0.60, 0.95)
    settled = FIRST_SETTLED_POSITION if seq_len > 2 * FIRST_SETTLED_POSITION else 0
    return min(max(POSITIONS_PER_STEP // batch_seqs, 32), seq_len - settled), (settled / seq_len, 1.0)


def spec_rows_and_positions(vocab_size: int) -> tuple[int, int]:
    """Rows per step and positions per sequence for a vocabulary: fewer of both as the loss gets dearer."""
    s = min(1.0, math.sqrt(32_000 / vocab_size))
    return min(max(round(24 * s), 8), 24), min(max(round(16 * s), 12), 16)
