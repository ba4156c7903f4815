"""First rows where a lens copies, finds the answer or is close to the model. Source: docs/method.md §5.3."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict

from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS, NextTokenRecord


class Milestones(NamedTuple):
    """Rows of the milestones; None if never reached.

    Attributes:
        L_copy: First copy collapse; the identity row is excluded here and in the next two.
        L_copy_soft: First soft copy collapse, for each of `SOFT_WINDOWS`.
        L_copy_at: First copy collapse at each of `COPY_THRESHOLDS`.
        L_semantic: First row whose top-1 token is the answer.
        first_rank_le_1: First row with the answer at rank 1.
        first_rank_le_5: First row with rank ≤ 5.
        first_rank_le_10: First row with rank ≤ 10.
        first_kl_below_0_5: First row with KL(P_row‖P_final) below 0.5 bits.
        first_kl_below_1_0: Below 1 bit.
        first_cos_ge_0_2: First row with centred logits at a cosine of at least 0.2 to the model's.
        first_cos_ge_0_4: At least 0.4.
        first_cos_ge_0_6: At least 0.6.
        delta_layers: L_semantic − L_copy; None unless both were reached.
    """

    L_copy: int | None
    L_copy_soft: tuple[int | None, ...]
    L_copy_at: tuple[int | None, ...]
    L_semantic: int | None
    first_rank_le_1: int | None
    first_rank_le_5: int | None
    first_rank_le_10: int | None
    first_kl_below_0_5: int | None
    first_kl_below_1_0: int | None
    first_cos_ge_0_2: int | None
    first_cos_ge_0_4: int | None
    first_cos_ge_0_6: int | None
    delta_layers: int | None


class Depth(TypedDict):
    """A row, and its fraction of the number of blocks; both None if never reached."""

    row: int | None
    frac: float | None


def milestones(rows: Sequence[NextTokenRecord]) -> Milestones:
    """Milestones of one prompt for one lens.

    A milestone is the first row that meets its condition, regardless of later rows; no monotonicity is assumed. NaN and
    None meet no condition.

    Args:
        rows: Records of the prompt for the lens, in order; rows that it does not read are not there.
    """
    copies = [row for row in rows if not row.identity_row]
    copy = _first(copies, lambda row: row.copy_collapse)
    semantic = _first(rows, lambda row: row.is_answer is True)
    return Milestones(
        L_copy=copy,
        L_copy_soft=_first_each(copies, lambda row: row.copy_soft, len(SOFT_WINDOWS)),
        L_copy_at=_first_each(copies, lambda row: row.copy_at, len(COPY_THRESHOLDS)),
        L_semantic=semantic,
        first_rank_le_1=_first_rank(rows, 1),
        first_rank_le_5=_first_rank(rows, 5),
        first_rank_le_10=_first_rank(rows, 10),
        first_kl_below_0_5=_first(rows, lambda row: row.kl_to_final_bits < 0.5),
        first_kl_below_1_0=_first(rows, lambda row: row.kl_to_final_bits < 1.0),
        first_cos_ge_0_2=_first(rows, lambda row: row.cos_to_final >= 0.2),
        first_cos_ge_0_4=_first(rows, lambda row: row.cos_to_final >= 0.4),
        first_cos_ge_0_6=_first(rows, lambda row: row.cos_to_final >= 0.6),
        delta_layers=None if semantic is None or copy is None else semantic - copy,
    )


def as_json(m: Milestones, num_blocks: int) -> dict[str, Depth | dict[str, Depth] | int | None]:
    """Milestones as plain values: each row with its fraction of `num_blocks`; variants by window or threshold."""
    soft = zip(SOFT_WINDOWS, m.L_copy_soft, strict=True)
    at = zip(COPY_THRESHOLDS, m.L_copy_at, strict=True)
    return {
        "L_copy": _depth(m.L_copy, num_blocks),
        "L_copy_soft": {str(window): _depth(row, num_blocks) for window, row in soft},
        "L_copy_at": {f"{threshold:.2f}": _depth(row, num_blocks) for threshold, row in at},
        "L_semantic": _depth(m.L_semantic, num_blocks),
        "first_rank_le_1": _depth(m.first_rank_le_1, num_blocks),
        "first_rank_le_5": _depth(m.first_rank_le_5, num_blocks),
        "first_rank_le_10": _depth(m.first_rank_le_10, num_blocks),
        "first_kl_below_0.5": _depth(m.first_kl_below_0_5, num_blocks),
        "first_kl_below_1.0": _depth(m.first_kl_below_1_0, num_blocks),
        "first_cos_ge_0.2": _depth(m.first_cos_ge_0_2, num_blocks),
        "first_cos_ge_0.4": _depth(m.first_cos_ge_0_4, num_blocks),
        "first_cos_ge_0.6": _depth(m.first_cos_ge_0_6, num_blocks),
        "delta_layers": m.delta_layers,
    }


def _first(rows: Sequence[NextTokenRecord], reached: Callable[[NextTokenRecord], bool]) -> int | None:
    return next((row.layer for row in rows if reached(row)), None)


def _first_each(
    rows: Sequence[NextTokenRecord], flags: Callable[[NextTokenRecord], tuple[bool, ...]], count: int
) -> tuple[int | None, ...]:
    return tuple(next((row.layer for row in rows if flags(row)[i]), None) for i in range(count))


def _first_rank(rows: Sequence[NextTokenRecord], rank: int) -> int | None:
    return _first(rows, lambda row: row.answer_rank is not None and row.answer_rank <= rank)


def _depth(row: int | None, num_blocks: int) -> Depth:
    return {"row": row, "frac": None if row is None else row / num_blocks}
