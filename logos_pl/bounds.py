"""Bounds of the options that are numbers, said in one way."""

import math

from logos_pl.errors import InputError

MAX_SEED = 2**32 - 1
"""NumPy takes none above it."""


def check_number(
    option: str,
    value: float,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Make sure that a number lies within its bounds; NaN lies within none.

    Args:
        option: As the user gives it, such as ``--data.seq_len``.
        value: What was given.
        at_least: Least value.
        above: What it has to be larger than.
        at_most: Largest value; without one and without ``below``, every finite number.
        below: What it has to be smaller than.

    Raises:
        InputError: It lies outside.
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
