"""CSV tables of a test: one line per prompt, one line per row. Source: docs/method.md §6."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.kpis import earliness
from logos_pl.gates.measurements import (
    DECIDES,
    RANKS,
    PromptMeasurements,
    prompt_is_finite,
    qualifies,
    read_by_test,
    shown_by_row,
    sort,
)
from logos_pl.kinds.registry import evaluated

RowFigures = Mapping[str, Mapping[str, Float[Tensor, " rows"]]]
"""Means over held-out positions for rows 0 … n, by lens and quantity."""


def prompts_csv(prompts: Sequence[PromptMeasurements], num_blocks: int) -> str:
    """CSV of the measurements by prompt from which the gates are computed.

    KL is given at the rows of the depth percentiles. `first_rank_le_*` are rows, n + 1 if never reached.
    `earliness_rank_le_*` is norm minus tuned, empty if the model itself ranks the answer lower. `left_out` is the
    reason why the prompt is excluded from some or all KPIs. Other lenses with gates add columns, such as `…_imported…`.
    """
    depths = depth_percentile_rows(num_blocks)
    read = [lens for lens in read_by_test() if all(lens in prompt.lenses for prompt in prompts)]
    header = ["prompt_id", "answer_status", "used", "final_rank", "last_layer_kl_after_temp_bits"]
    header += [
        f"{kl}_{lens}_depth{depth}"
        for kl in ("kl_to_final_bits", "kl_from_final_bits")
        for lens in read
        for depth in depths
    ]
    with_verdict = [lens for lens in evaluated() if lens in read]
    header += [f"earliness{_of(lens)}_rank_le_{rank}" for lens in with_verdict for rank in RANKS]
    header += [f"rank1_rows_{lens}" for lens in shown_by_row() if lens in read]
    header += [f"left_out{_of(lens)}" for lens in with_verdict]
    rows = [_prompt_row(prompt, list(depths.values()), read) for prompt in prompts]
    for lens in with_verdict:
        left_out = sort(prompts, lens).left_out
        for prompt, row in zip(prompts, rows, strict=True):
            row.append(";".join(reason for reason, ids in left_out.items() if prompt.prompt_id in ids) or None)
    return _csv(header, rows)


def _of(lens: str) -> str:
    return "" if lens == DECIDES else f"_{lens}"


def _prompt_row(prompt: PromptMeasurements, rows: list[int], read: list[str]) -> list[object]:
    resolved = prompt.answer_status != "unresolved"
    used = {lens: resolved and prompt_is_finite(prompt, lens) for lens in evaluated() if lens in read}
    cells: list[object] = [prompt.prompt_id, prompt.answer_status, used[DECIDES], prompt.final_rank]
    cells.append(_number(prompt.last_layer_kl_after_temp_bits))
    for kl in ("kl_to_final_bits", "kl_from_final_bits"):
        cells += [_number(getattr(prompt.lenses[lens], kl)[row]) for lens in read for row in rows]
    for lens, counts in used.items():
        cells += [earliness(prompt, rank, lens).shift if counts and qualifies(prompt, rank) else None for rank in RANKS]
    for ranks in (prompt.lenses[lens].answer_rank for lens in shown_by_row() if lens in read):
        cells.append(None if ranks is None else sum(rank == 1 for rank in ranks))
    return cells


def rows_csv(rows: RowFigures, bits_per_byte: Mapping[str, Float[Tensor, " rows"]]) -> str:
    """CSV of means over held-out positions by lens and row: both divergences, top-1 agreement, next-token cost."""
    shown = [lens for lens in shown_by_row() if lens in rows]
    quantities = ("kl_to_final_bits", "kl_from_final_bits", "top1_agree", "entropy_bits")
    header = ["layer", "depth_frac"]
    header += [f"{quantity}_{lens}" for quantity in quantities for lens in shown]
    header += [f"next_token_bits_per_byte_{lens}" for lens in shown]
    num_rows = len(bits_per_byte["norm"])
    lines = [
        [
            row,
            row / (num_rows - 1),
            *(_number(float(rows[lens][quantity][row])) for quantity in quantities for lens in shown),
            *(_number(float(bits_per_byte[lens][row])) for lens in shown),
        ]
        for row in range(num_rows)
    ]
    return _csv(header, lines)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _csv(header: list[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
