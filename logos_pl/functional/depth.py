"""Row at a given depth of the model."""

from logos_pl.errors import InputError


def percentile_row(p: float, num_blocks: int) -> int:
    """The inner row (1 … num_blocks − 1) at depth fraction ``p``: p · num_blocks, rounded half to even.

    Raises:
        InputError: If the model has fewer than two blocks, hence no inner row, or ``p`` is not within [0, 1].
    """
    if num_blocks < 2:
        raise InputError(f"A model with {num_blocks} block(s) has no inner row to decode: use one with two or more.")
    if not 0.0 <= p <= 1.0:
        raise InputError(f"A depth must be between 0 and 1 (got {p}): write 25% as 0.25.")
    return min(max(round(p * num_blocks), 1), num_blocks - 1)


def depth_percentile_rows(num_blocks: int) -> dict[int, int]:
    """The row at each of the depth percentiles 25, 50 and 75, by percentile."""
    return {percentile: percentile_row(percentile / 100, num_blocks) for percentile in (25, 50, 75)}
