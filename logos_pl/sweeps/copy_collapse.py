"""Copy collapse: rows where a lens only repeats the prompt. Source: docs/method.md §5.2."""

import unicodedata
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from logos_pl.settings.sweep import COPY_MARGIN, COPY_THRESHOLD
from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS

SOFT_THRESHOLD = 0.33
"""The same for the soft variants, at every row of the window."""


class CopyRule(NamedTuple):
    """When a row counts as a copy.

    Attributes:
        threshold: Probability that the top-1 token has to exceed; the soft variants and the sweep of thresholds have
            their own.
        margin: What it has to exceed the second by, in every variant; 0.10 can decide only below p = 0.55.
    """

    threshold: float = COPY_THRESHOLD
    margin: float = COPY_MARGIN


COPY_RULE = CopyRule()


class RowTop(NamedTuple):
    """A row's top-1 token, its probability and that of the second."""

    top1_id: int
    p_top1: float
    p_top2: float


class CopyFlags(NamedTuple):
    """A row's copy flags.

    Attributes:
        strict: One row, at the rule's threshold.
        soft: The last k rows, at `SOFT_THRESHOLD`, for k in `SOFT_WINDOWS`.
        at: One row, at each of `COPY_THRESHOLDS`.
    """

    strict: bool
    soft: tuple[bool, ...]
    at: tuple[bool, ...]


def is_blank_or_punctuation(token: str) -> bool:
    """Whether every character is whitespace or of Unicode category P or Z; so is a token that decodes to nothing."""
    return all(character.isspace() or unicodedata.category(character)[0] in "PZ" for character in token)


def uncounted_ids(tokens: Mapping[int, str], special_ids: Set[int]) -> frozenset[int]:
    """The tokens that never make a copy, however likely: whitespace, punctuation and special ones such as BOS.

    Args:
        tokens: The tokens in question, decoded.
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
    """Every row's copy flags under one lens.

    A window of k rows that begins before row 0 makes no copy, nor does one with an uncounted token anywhere in it, nor
    one with a probability that is NaN.

    Args:
        rows: Rows 0 to n, in order.
        prompt_ids: The prompt's tokens.
        uncounted: Tokens that never count; see `uncounted_ids`.
        identity_row: Row 0 repeats its input by construction. Alone it is flagged as it was read, for the milestones
            to leave out; a window of a later row that reaches into it makes no copy.
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
    """Whether `ids` stand in `whole` one right after the other."""
    length = len(ids)
    return any(list(whole[start : start + length]) == list(ids) for start in range(len(whole) - length + 1))
