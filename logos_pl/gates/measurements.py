"""Inputs of the gates: measurements of every lens on prompts and text, and the selection of prompts."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.kinds.registry import baselines, evaluated

DECIDES = "tuned"
"""Lens whose verdict sets the exit status; other lenses with gates are only reported."""

RANKS = (10, 5, 1)
"""Ranks: an answer counts as found at the first row where its rank is at most this."""


class LensMeasurements(NamedTuple):
    """Measurements of one lens after one prompt, at rows 0 … n; None at rows that the lens does not read.

    Attributes:
        kl_to_final_bits: KL(P_row ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_row).
        answer_rank: Rank of the answer's first token; None without a resolved answer.
    """

    kl_to_final_bits: Sequence[float | None]
    kl_from_final_bits: Sequence[float | None]
    answer_rank: Sequence[int | None] | None


class PromptMeasurements(NamedTuple):
    """Measurements of all lenses after one prompt.

    Attributes:
        prompt_id: Name of the prompt in the report.
        answer_status: `resolved`, `unresolved` (merges with the prompt's last token) or `none`.
        final_rank: Rank of the answer in the model's output; None without a resolved answer.
        last_layer_kl_after_temp_bits: KL between row n and the model's output at the best temperature.
        lenses: Measurements by lens, for the lenses in `read_by_test`.
    """

    prompt_id: str
    answer_status: Literal["resolved", "unresolved", "none"]
    final_rank: int | None
    last_layer_kl_after_temp_bits: float
    lenses: Mapping[str, LensMeasurements]


class TextMeasurements(NamedTuple):
    """Measurements of all lenses at positions of held-out text, at the rows of the depth percentiles.

    Attributes:
        sequences: Sequence index of each position; positions of a sequence are resampled together.
        kl_to_final_bits: KL(P_row ‖ P_final) by lens.
        kl_from_final_bits: KL(P_final ‖ P_row) by lens.
    """

    sequences: Int[Tensor, " pos"]
    kl_to_final_bits: Mapping[str, Float[Tensor, "percentiles pos"]]
    kl_from_final_bits: Mapping[str, Float[Tensor, "percentiles pos"]]


class Sorted(NamedTuple):
    """Prompts by usability.

    Attributes:
        used: Resolved prompts with only finite values.
        answered: Used prompts with an answer.
        left_out: Names of prompts excluded from some or all KPIs, by reason.
    """

    used: list[PromptMeasurements]
    answered: list[PromptMeasurements]
    left_out: dict[str, list[str]]


def read_by_test() -> tuple[str, ...]:
    """Lenses that a test evaluates if available: the one whose verdict counts, the baselines, others with gates."""
    return (DECIDES, *baselines(), *(lens for lens in evaluated() if lens != DECIDES))


def shown_by_row() -> tuple[str, ...]:
    """Lenses shown row by row if available: the norm lens and those with gates."""
    return ("norm", *evaluated())


def compared(lens: str) -> tuple[str, ...]:
    """A lens and its baselines; its verdict must not depend on any other lens."""
    return (lens, *baselines())


def check(prompts: Sequence[PromptMeasurements], text: TextMeasurements, num_blocks: int, lens: str = DECIDES) -> None:
    """Check that the measurements of a lens are complete, so that KPIs are not computed on fewer samples.

    Raises:
        ValueError: A lens, a row or a position is missing.
    """
    for prompt in prompts:
        for name in compared(lens):
            if not _complete(prompt, name, num_blocks + 1):
                raise ValueError(f"prompt {prompt.prompt_id}: the {name} lens has not read rows 0 … {num_blocks}.")
            if any(
                prompt.lenses[name].kl_to_final_bits[row] is None for row in depth_percentile_rows(num_blocks).values()
            ):
                raise ValueError(f"prompt {prompt.prompt_id}: the {name} lens lacks a row of the depth percentiles.")
    wanted = (len(depth_percentile_rows(num_blocks)), text.sequences.numel())
    for name in compared(lens):
        for values in (text.kl_to_final_bits, text.kl_from_final_bits):
            if name not in values or tuple(values[name].shape) != wanted:
                raise ValueError(
                    f"held-out text: the {name} lens lacks some of {wanted[0]} rows × {wanted[1]} positions."
                )


def _complete(prompt: PromptMeasurements, name: str, num_rows: int) -> bool:
    figures = prompt.lenses.get(name)
    if figures is None:
        return False
    resolved = prompt.answer_status == "resolved"
    if resolved != (figures.answer_rank is not None) or resolved != (prompt.final_rank is not None):
        return False
    return all(len(part) == num_rows for part in figures if part is not None)


def sort(prompts: Sequence[PromptMeasurements], lens: str = DECIDES) -> Sorted:
    """Select the prompts for the KPIs of a lens."""
    unresolved = [prompt for prompt in prompts if prompt.answer_status == "unresolved"]
    resolved = [prompt for prompt in prompts if prompt.answer_status != "unresolved"]
    used = [prompt for prompt in resolved if prompt_is_finite(prompt, lens)]
    answered = [prompt for prompt in used if prompt.answer_status == "resolved"]
    groups = {
        "answer_unresolved": unresolved,
        "not_finite": [prompt for prompt in resolved if not prompt_is_finite(prompt, lens)],
        "no_answer": [prompt for prompt in used if prompt.answer_status == "none"],
    } | {f"final_rank_above_{rank}": [p for p in answered if not qualifies(p, rank)] for rank in RANKS}
    return Sorted(used, answered, {reason: [p.prompt_id for p in group] for reason, group in groups.items()})


def qualifies(prompt: PromptMeasurements, rank: int) -> bool:
    """Whether the model's output ranks the answer ``rank`` or better; otherwise no lens can find it early."""
    return prompt.final_rank is not None and prompt.final_rank <= rank


def prompt_is_finite(prompt: PromptMeasurements, lens: str = DECIDES) -> bool:
    """Whether all values of a lens and its baselines are finite."""
    values = [value for name in compared(lens) for part in prompt.lenses[name][:2] for value in part]
    read = [value for value in values if value is not None]
    return all(math.isfinite(value) for value in [*read, prompt.last_layer_kl_after_temp_bits])


def text_is_finite(text: TextMeasurements, lens: str = DECIDES) -> bool:
    """Whether all values of a lens and its baselines are finite."""
    both = (text.kl_to_final_bits, text.kl_from_final_bits)
    return all(bool(values[name].isfinite().all()) for values in both for name in compared(lens))
