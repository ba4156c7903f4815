"""Summaries over all prompts of a sweep, from a few values per prompt.

Maxima and medians ignore non-finite readings; each median comes with the number of prompts.
"""

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple, overload

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.sweeps.milestones import Milestones
from logos_pl.sweeps.records import NextTokenRecord, PromptRecords

RANKS = (10, 5, 1)

MEASURES = ("kl_to_final_bits", "kl_from_final_bits", "entropy_bits", "cos_to_final")
"""Measures stored for the rows of `depth_rows`, for every lens."""


class PackedValues(Sequence[dict[str, Any]]):
    """A sequence of plain values stored as JSON text, which needs less memory than dicts; decoded at each access."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def append(self, value: dict[str, Any]) -> None:
        """Append a value; tuples become lists."""
        self._texts.append(json.dumps(value, separators=(",", ":")))  # ASCII: one byte per character

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one value, or a list for a slice."""
        if isinstance(index, slice):
            return [json.loads(text) for text in self._texts[index]]
        value: dict[str, Any] = json.loads(self._texts[index])
        return value

    def __len__(self) -> int:
        return len(self._texts)


class PromptSummary(NamedTuple):
    """Values of a prompt that the summaries need.

    Attributes:
        prompt_id: Id of the prompt.
        variant: `orig` or `no_filler`.
        fact: Label.
        milestones: Milestones by lens.
        margins: Summary of `control_margin` by lens; only for control prompts.
        gains: Gains over the norm lens, by lens.
        at_depths: `MEASURES` at each of `depth_rows`, row by row, by lens; NaN at a row that the lens does not read.
        unread: Those of `depth_rows` that a lens does not read, by lens.
        identity_row: Whether row 0 is the identity of a tied embedding.
    """

    prompt_id: str
    variant: str
    fact: str
    milestones: dict[str, Milestones]
    margins: dict[str, dict[str, Any]]
    gains: "dict[str, LensGain]"
    at_depths: "dict[str, array[float]]"
    unread: dict[str, tuple[int, ...]]
    identity_row: bool


class LensGain(NamedTuple):
    """Gains of a lens over the norm lens on one prompt.

    Attributes:
        kl_to_final_bits: KL(P_row ‖ P_final) of the norm lens minus that of the lens, by depth percentile; NaN at a row
            that the lens does not read.
        kl_from_final_bits: Likewise for KL(P_final ‖ P_row).
        earlier_rows: By rank k: first row with the answer at rank ≤ k for the norm lens minus that for the lens; None
            unless the model's final rank is ≤ k.
    """

    kl_to_final_bits: dict[int, float]
    kl_from_final_bits: dict[int, float]
    earlier_rows: dict[int, int | None]


class SweptPrompts(NamedTuple):
    """Sections of a sweep's document with an entry per prompt, in order; named as in the JSON."""

    prompts: Sequence[dict[str, Any]]
    gold_answer: Sequence[dict[str, Any]]
    diagnostics: Sequence[dict[str, Any]]
    final_prediction: Sequence[dict[str, Any]]
    summaries: Sequence[PromptSummary]

    @property
    def lenses(self) -> list[str]:
        """Lenses used for any of the prompts, in order."""
        return list(dict.fromkeys(lens for prompt in self.summaries for lens in prompt.milestones))


def depth_rows(num_blocks: int) -> dict[int, int]:
    """Rows at 0, 25, 50, 75 and 100% depth, by percentage; with one block only the first and the last."""
    inner = depth_percentile_rows(num_blocks) if num_blocks >= 2 else {}
    return {0: 0, **inner, 100: num_blocks}


def prompt_summary(record: PromptRecords, reached: dict[str, Milestones]) -> PromptSummary:
    """Summarise a prompt; the size does not depend on its number of tokens.

    Args:
        record: Records of the prompt.
        reached: Milestones by lens.
    """
    prompt, rows = record.prompt, record.next_token
    return PromptSummary(
        prompt_id=prompt.prompt_id,
        variant=prompt.variant,
        fact=prompt.fact,
        milestones=reached,
        margins={lens: control_margins(rows[lens]) for lens in rows if prompt.contrast is not None},
        gains={lens: lens_gain(lens, rows, reached) for lens in rows if lens != "norm"},
        at_depths={lens: _at_depths(of) for lens, of in rows.items()},
        unread={lens: _unread(of) for lens, of in rows.items()},
        identity_row=any(row.identity_row for of in rows.values() for row in of),
    )


def _at_depths(rows: Sequence[NextTokenRecord]) -> "array[float]":
    """`MEASURES` at each of `depth_rows`; NaN at a row that the lens does not read."""
    by_layer = {row.layer: row for row in rows}
    at = depth_rows(rows[-1].layer).values()
    return array("d", [getattr(by_layer.get(row), measure, math.nan) for row in at for measure in MEASURES])


def _unread(rows: Sequence[NextTokenRecord]) -> tuple[int, ...]:
    return tuple(sorted(set(depth_rows(rows[-1].layer).values()) - {row.layer for row in rows}))


def control_margins(rows: Sequence[NextTokenRecord]) -> dict[str, Any]:
    """First row with P(answer) > P(contrast); the largest margin and its first row. Source: docs/method.md §5.3."""
    margins = [(row.control_margin, row.layer) for row in rows if row.control_margin is not None]
    finite = [(margin, layer) for margin, layer in margins if math.isfinite(margin)]
    largest = max((margin for margin, _ in finite), default=None)
    return {
        "first_control_margin_pos": next((layer for margin, layer in finite if margin > 0), None),
        "max_control_margin": largest,
        "max_control_margin_layer": next((layer for margin, layer in finite if margin == largest), None),
    }


def lens_gain(lens: str, rows: Mapping[str, Sequence[NextTokenRecord]], reached: Mapping[str, Milestones]) -> LensGain:
    """Gains of a lens over the norm lens on one prompt.

    Args:
        lens: Name of the lens.
        rows: Records of the rows that each lens reads, by lens; row n of the norm lens is the model's prediction.
        reached: Milestones by lens.
    """
    norm, other = rows["norm"], {row.layer: row for row in rows[lens]}
    num_blocks = len(norm) - 1

    def gain(measure: str, row: int) -> float:
        of_lens: float = getattr(other.get(row), measure, math.nan)
        return getattr(norm[row], measure) - of_lens

    at = depth_percentile_rows(num_blocks) if num_blocks >= 2 else {}  # one block: no row to translate
    final_rank = norm[-1].answer_rank
    earlier: dict[int, int | None] = {}
    for rank in RANKS:
        first_norm, first = (getattr(reached[name], f"first_rank_le_{rank}") for name in ("norm", lens))
        qualifies = final_rank is not None and final_rank <= rank and first is not None
        earlier[rank] = first_norm - first if qualifies else None
    return LensGain(
        {percent: gain("kl_to_final_bits", row) for percent, row in at.items()},
        {percent: gain("kl_from_final_bits", row) for percent, row in at.items()},
        earlier,
    )


def gain_summaries(prompts: Sequence[PromptSummary], lens: str, num_blocks: int) -> dict[str, Any]:
    """Medians of a lens's gains over all prompts, each with the number of prompts. Source: docs/method.md §6."""
    gains = [prompt.gains[lens] for prompt in prompts if lens in prompt.gains]
    at = depth_percentile_rows(num_blocks) if num_blocks >= 2 else {}
    delta_kl = []
    for percent, row in at.items():
        to_final, num_prompts = _median([gain.kl_to_final_bits[percent] for gain in gains])
        from_final, _ = _median([gain.kl_from_final_bits[percent] for gain in gains])
        delta_kl.append(
            {
                "percentile": percent,
                "row": row,
                "median_delta_kl_bits": to_final,
                "median_delta_kl_from_final_bits": from_final,
                "num_prompts": num_prompts,
            }
        )
    earliness = []
    for rank in RANKS:
        rows, num_prompts = _median([gain.earlier_rows[rank] for gain in gains])
        earliness.append({"milestone": f"first_rank_le_{rank}", "median_rows": rows, "num_prompts": num_prompts})
    return {"delta_kl": delta_kl, "earliness_shift": earliness}


def _median(values: Sequence[float | None]) -> tuple[float | None, int]:
    there = [value for value in values if value is not None and math.isfinite(value)]
    return (float(median(there)) if there else None), len(there)


def ablation_summary(prompts: Sequence[PromptSummary]) -> list[dict[str, Any]]:
    """Milestones with and without filler, for facts with both variants; differences are without − with."""
    without = {prompt.prompt_id: prompt for prompt in prompts if prompt.variant == "no_filler"}
    both = [(prompt, without[prompt.prompt_id]) for prompt in prompts if _is_ablated(prompt, without)]
    return [
        {
            "prompt_id": orig.prompt_id,
            "fact": orig.fact,
            "lens": lens,
            **_shift("L_copy", reached.L_copy, bare.milestones[lens].L_copy),
            **_shift("L_semantic", reached.L_semantic, bare.milestones[lens].L_semantic),
        }
        for orig, bare in both
        for lens, reached in orig.milestones.items()
    ]


def _is_ablated(prompt: PromptSummary, without: Mapping[str, PromptSummary]) -> bool:
    return prompt.variant == "orig" and prompt.prompt_id in without


def _shift(name: str, orig: int | None, no_filler: int | None) -> dict[str, int | None]:
    delta = None if orig is None or no_filler is None else no_filler - orig
    return {f"{name}_orig": orig, f"{name}_no_filler": no_filler, f"delta_{name}": delta}


def control_summary(prompts: Sequence[PromptSummary]) -> list[dict[str, Any]]:
    """Margins of every control prompt, by lens."""
    return [
        {"prompt_id": prompt.prompt_id, "prompt_variant": prompt.variant, "lens": lens, **margins}
        for prompt in prompts
        for lens, margins in prompt.margins.items()
    ]
