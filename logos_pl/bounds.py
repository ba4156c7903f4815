"""Bounds check of numeric options, with a uniform message."""

import math

from logos_pl.errors import InputError

MAX_SEED = 2**32 - 1
"""Largest seed that NumPy accepts."""


def check_number(
    option: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Check that a number is finite and within its bounds.

    Args:
        option: Name as on the command line, such as ``--data.seq_len``.
        value: Given value.
        at_least: Inclusive lower bound.
        above: Exclusive lower bound.
        at_most: Inclusive upper bound.
        below: Exclusive upper bound.

    Raises:
        InputError: The number is NaN or out of bounds.
    """
    bounds = [("at least", at_least), ("above", above), ("at most", at_most), ("below", below)]
    fits = (
        math.isfinite(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
        and (below is None or value < below)
    )
    if not fits:
        words = " and ".join(f"{word} {bound:,}" for word, bound in bounds if bound is not None)
        raise InputError(f"{option} must be {words or 'a finite number'} (got {value}).")
