"""Copy collapse: rows where a lens only repeats the prompt. Source: docs/method.md §5.2."""

import unicodedata
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from logos_pl.settings.sweep import COPY_MARGIN, COPY_THRESHOLD
from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS

SOFT_THRESHOLD = 0.33
"""Probability threshold of the soft variants, at every row of the window."""


class CopyRule(NamedTuple):
    """Condition for copy collapse.

    Attributes:
        threshold: The top-1 probability must exceed it; soft variants and the sweep of thresholds have their own.
        margin: The lead over the top-2 probability must exceed it, in every variant; 0.10 matters only below p = 0.55.
    """

    threshold: float = COPY_THRESHOLD
    margin: float = COPY_MARGIN


COPY_RULE = CopyRule()


class RowTop(NamedTuple):
    """Top-1 token of a row, its probability and the top-2 probability."""

    top1_id: int
    p_top1: float
    p_top2: float


class CopyFlags(NamedTuple):
    """Copy flags of a row.

    Attributes:
        strict: This row at the rule's threshold.
        soft: The last k rows at `SOFT_THRESHOLD`, for k in `SOFT_WINDOWS`.
        at: This row at each of `COPY_THRESHOLDS`.
    """

    strict: bool
    soft: tuple[bool, ...]
    at: tuple[bool, ...]


def is_blank_or_punctuation(token: str) -> bool:
    """Whether every character is whitespace or of Unicode category P or Z; True for an empty string."""
    return all(character.isspace() or unicodedata.category(character)[0] in "PZ" for character in token)


def uncounted_ids(tokens: Mapping[int, str], special_ids: Set[int]) -> frozenset[int]:
    """Tokens that never count as copies: whitespace, punctuation and special tokens such as BOS.

    Args:
        tokens: Decoded tokens by id.
        special_ids: The tokenizer's special tokens.
    """
    return frozenset(id for id, token in tokens.items() if id in special_ids or is_blank_or_punctuation(token))


def copy_flags(
    rows: Sequence[RowTop],
    prompt_ids: Sequence[int],
    uncounted: Set[int],
    *,
    identity_row: bool,
    rule: CopyRule = COPY_RULE,
) -> list[CopyFlags]:
    """Copy flags of every row for one lens.

    A window of k rows does not count if it begins before row 0, contains an uncounted token, or has a NaN probability.

    Args:
        rows: Rows 0 to n, in order.
        prompt_ids: The prompt's tokens.
        uncounted: Tokens that never count; see `uncounted_ids`.
        identity_row: Whether row 0 repeats its input by construction. Row 0 itself is flagged, and milestones exclude
            it; windows of later rows that include it do not count.
        rule: Threshold and margin.
    """

    def copies(row: int, window: int, threshold: float) -> bool:
        start = row - window + 1
        if start < 0 or (identity_row and start == 0 < row):
            return False
        seen = rows[start : row + 1]
        ids = [top.top1_id for top in seen]
        sure = all(top.p_top1 > threshold and top.p_top1 - top.p_top2 > rule.margin for top in seen)
        return sure and uncounted.isdisjoint(ids) and _is_slice(ids, prompt_ids)

    return [
        CopyFlags(
            strict=copies(row, 1, rule.threshold),
            soft=tuple(copies(row, window, SOFT_THRESHOLD) for window in SOFT_WINDOWS),
            at=tuple(copies(row, 1, threshold) for threshold in COPY_THRESHOLDS),
        )
        for row in range(len(rows))
    ]


def _is_slice(ids: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether `ids` is a contiguous slice of `whole`."""
    length = len(ids)
    return any(list(whole[start : start + length]) == list(ids) for start in range(len(whole) - length + 1))
