"""Named schedules: what `auto` stands for in the options of training.

`spec` is the plan that the others were measured against; docs/schedules.md has the measurements.
"""

import math
from typing import Literal, NamedTuple

from logos_pl.functional.positions import FIRST_SETTLED_POSITION

ScheduleName = Literal["full", "quick", "spec"]
Init = Literal["closed_form", "random"]


class Schedule(NamedTuple):
    """What does not depend on the model.

    Attributes:
        init: How the translators start.
        tokens: Token budget.
    """

    init: Init
    tokens: int


SCHEDULES: dict[ScheduleName, Schedule] = {
    "full": Schedule("closed_form", 32_000_000),
    "quick": Schedule("closed_form", 2_000_000),
    "spec": Schedule("random", 32_000_000),
}


def scheduled_rows(name: ScheduleName, vocab_size: int, inner_rows: int) -> int:
    """Rows trained in each step: all of them, but for the spec's rule. Source: SPEC §2.1, PERFORMANCE.md."""
    return min(spec_rows_and_positions(vocab_size)[0], inner_rows) if name == "spec" else inner_rows


def scheduled_positions(name: ScheduleName, vocab_size: int, seq_len: int) -> tuple[int, tuple[float, float]]:
    """Positions per sequence, and the part of the sequence they are drawn from, as fractions."""
    if name == "spec":
        return spec_rows_and_positions(vocab_size)[1], (0.60, 0.95)
    settled = FIRST_SETTLED_POSITION if seq_len > 2 * FIRST_SETTLED_POSITION else 0
    return min(32, seq_len - settled), (settled / seq_len, 1.0)


def spec_rows_and_positions(vocab_size: int) -> tuple[int, int]:
    """Rows per step and positions per sequence for a vocabulary: fewer of both as the loss gets dearer."""
    s = min(1.0, math.sqrt(32_000 / vocab_size))
    return min(max(round(24 * s), 8), 24), min(max(round(16 * s), 12), 16)
