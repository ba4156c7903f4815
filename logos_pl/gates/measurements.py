"""Measurements that the gates decide on: of every lens after prompts and at positions of text; which prompts count."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.kinds.registry import baselines, judged

DECIDES = "tuned"
"""The lens whose verdict is the command's; other judged lenses are evaluated beside it."""

RANKS = (10, 5, 1)
"""An answer counts as found from the first row on where its rank is at most this."""


class LensMeasurements(NamedTuple):
    """What one lens reads after one prompt, at rows 0 … n.

    Attributes:
        kl_to_final_bits: KL(P_L ‖ P_final).
        kl_from_final_bits: KL(P_final ‖ P_L).
        answer_rank: Rank of the answer's first token; None without a resolved answer.
    """

    kl_to_final_bits: Sequence[float]
    kl_from_final_bits: Sequence[float]
    answer_rank: Sequence[int] | None


class PromptMeasurements(NamedTuple):
    """What all lenses read after one prompt.

    Attributes:
        prompt_id: What the prompt is called in the report.
        answer_status: `resolved`, `unresolved` (its letters merge with the prompt's last token) or `none`.
        final_rank: Rank of the answer under the model itself; None without a resolved answer.
        last_layer_kl_after_temp_bits: What is left between row n and the model's output at the best temperature.
        lenses: Figures by lens, for each of `read_by_test`.
    """

    prompt_id: str
    answer_status: Literal["resolved", "unresolved", "none"]
    final_rank: int | None
    last_layer_kl_after_temp_bits: float
    lenses: Mapping[str, LensMeasurements]


class TextMeasurements(NamedTuple):
    """What all lenses read at positions of held-out text, at the rows of the depth percentiles, in their order.

    Attributes:
        sequences: Which sequence each position is from; positions of one are resampled together.
        kl_to_final_bits: KL(P_L ‖ P_final) by lens.
        kl_from_final_bits: KL(P_final ‖ P_L) by lens.
    """

    sequences: Int[Tensor, " pos"]
    kl_to_final_bits: Mapping[str, Float[Tensor, "percentiles pos"]]
    kl_from_final_bits: Mapping[str, Float[Tensor, "percentiles pos"]]


class Sorted(NamedTuple):
    """The prompts by what they can be used for.

    Attributes:
        used: Those that are neither unresolved nor have a value that is not finite.
        answered: Those of them with an answer.
        left_out: By reason, the names of the prompts that some or all figures are without.
    """

    used: list[PromptMeasurements]
    answered: list[PromptMeasurements]
    left_out: dict[str, list[str]]


def read_by_test() -> tuple[str, ...]:
    """The lenses that a test reads where they are there: the one that decides, the baselines, other judged ones."""
    return (DECIDES, *baselines(), *(lens for lens in judged() if lens != DECIDES))


def shown_by_row() -> tuple[str, ...]:
    """The lenses whose figures are shown row by row where they are there: the norm lens and the judged ones."""
    return ("norm", *judged())


def compared(lens: str) -> tuple[str, ...]:
    """A judged lens and the baselines it is compared with: its verdict must not depend on any other lens."""
    return (lens, *baselines())


def check(prompts: Sequence[PromptMeasurements], text: TextMeasurements, num_blocks: int, lens: str = DECIDES) -> None:
    """Refuse figures of a judged lens that lack a lens, a row or a position, before they can pass for few.

    Raises:
        ValueError: Naming prompt and lens.
    """
    for prompt in prompts:
        for name in compared(lens):
            if not _complete(prompt, name, num_blocks + 1):
                raise ValueError(f"prompt {prompt.prompt_id}: the {name} lens has not read rows 0 … {num_blocks}.")
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
    """Which prompts count for what in judging a lens, and who is left out for which reason."""
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
    """Whether the model itself ranks the answer ``rank`` or better at the end: else no lens can find it early."""
    return prompt.final_rank is not None and prompt.final_rank <= rank


def prompt_is_finite(prompt: PromptMeasurements, lens: str = DECIDES) -> bool:
    """Whether every figure of a judged lens and its baselines is finite."""
    values = [value for name in compared(lens) for part in prompt.lenses[name][:2] for value in part]
    return all(math.isfinite(value) for value in [*values, prompt.last_layer_kl_after_temp_bits])


def text_is_finite(text: TextMeasurements, lens: str = DECIDES) -> bool:
    """Whether every figure of a judged lens and its baselines is finite."""
    both = (text.kl_to_final_bits, text.kl_from_final_bits)
    return all(bool(values[name].isfinite().all()) for values in both for name in compared(lens))
