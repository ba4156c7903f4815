"""Entries of one prompt in a sweep's document, from its records.

Maxima ignore non-finite readings; `nonfinite` lists their rows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.milestones import Milestones, as_json
from logos_pl.sweeps.records import LastRowCheck, LogitAttribution, NonFinite, PairRow, PromptRecords

RawLens = Literal["sample", "full"]

LOW_RISK_BITS, HIGH_RISK_BITS = 0.5, 1.0
"""Bounds in bits on the KL between norm lens and raw lens: below the first, low risk; from the second, high.
Source: docs/method.md §5.4."""

HIGH_LAST_ROW_BITS = 0.05
"""KL in bits between the last row and the model's output above which a warning is given. With the exact head it is due
to rounding: below 1e-4 bits in fp32 and about 1e-2 for half-precision logits. The bound equals that of gate C (§6)."""


def identity(record: PromptRecords) -> dict[str, Any]:
    """Fields that identify a prompt in every section."""
    return {"prompt_id": record.prompt.prompt_id, "prompt_variant": record.prompt.variant}


def prompt_entry(record: PromptRecords) -> dict[str, Any]:
    """Text and tokens of the prompt."""
    prompt = record.prompt
    return {
        **identity(record),
        "fact": prompt.fact,
        "relation": prompt.relation,
        "form": "token_ids" if prompt.token_ids else "messages" if prompt.messages else "text",
        "text": prompt.text,
        "messages": [message._asdict() for message in prompt.messages] or None,
        "answer": prompt.answer,
        "contrast": prompt.contrast,
        "ids": list(record.ids),
        "tokens": list(record.tokens),
        "places": [place._asdict() for place in record.places],
        "special_tokens_added": list(record.added),
        "special_tokens_left_out": list(record.left_out),
    }


def gold_answer(record: PromptRecords) -> dict[str, Any]:
    """Tokens of the answer. Source: docs/method.md §4."""
    return {**identity(record), "answer": record.prompt.answer, **_answer_tokens(record.answer_tokens)}


def control_prompt(record: PromptRecords) -> dict[str, Any]:
    """Answer and contrast of a control prompt."""
    prompt = record.prompt
    return {
        **identity(record),
        "fact": prompt.fact,
        "text": prompt.text,
        "gold_answer": {"answer": prompt.answer, **_answer_tokens(record.answer_tokens)},
        "contrast_answer": {"answer": prompt.contrast, **_answer_tokens(record.contrast)},
    }


def _answer_tokens(answer_tokens: AnswerTokens) -> dict[str, Any]:
    return {
        "status": answer_tokens.status,
        "variant": answer_tokens.form,
        "first_id": answer_tokens.first_id,
        "answer_ids": list(answer_tokens.ids),
        "pieces": list(answer_tokens.pieces),
    }


def final_prediction(record: PromptRecords) -> dict[str, Any]:
    """The model's prediction: row n of the norm lens."""
    last = record.next_token["norm"][-1]
    return {
        **identity(record),
        "top": [token._asdict() for token in last.top],
        "rest_mass": last.rest_mass,
        "p_answer": last.p_answer,
        "answer_rank": last.answer_rank,
        "answer_nll_bits": last.answer_nll_bits,
        "entropy_bits": last.teacher_entropy_bits,
    }


def attributed_logit(record: PromptRecords, parts: LogitAttribution) -> dict[str, Any]:
    """Sum of a logit's components and the model's logit, in nats, before any soft-cap."""
    total = parts.total
    (rounding,) = (part for part in parts.contributions if part.component == "rounding")
    return {
        **identity(record),
        "token_id": total.token_id,
        "token": total.token,
        "contrast_id": total.contrast_id,
        "contrast": total.contrast,
        "norm_scale": parts.norm_scale,
        "total_nats": total.contribution_nats,
        "model_logit_nats": parts.model_logit_nats,
        "error_nats": parts.error_nats,
        "rounding_nats": rounding.contribution_nats,
        "capped_logit_nats": parts.capped_logit_nats,
        "total_margin_nats": total.margin_contribution_nats,
        "model_margin_nats": parts.model_margin_nats,
    }


def diagnosis(record: PromptRecords, reached: Mapping[str, Milestones], raw_lens: RawLens) -> dict[str, Any]:
    """Milestones and checks of one prompt. Source: docs/method.md §5.3–§5.6.

    Args:
        record: Records of the prompt.
        reached: Milestones by lens.
        raw_lens: Rows at which norm lens and raw lens are compared.
    """
    num_blocks = len(record.norm_to_raw) - 1
    return {
        **identity(record),
        "milestones": {lens: as_json(rows, num_blocks) for lens, rows in reached.items()},
        "raw_versus_norm": raw_versus_norm(record.norm_to_raw, raw_lens),
        "last_row": last_row_check(record.last_row),
        "decoding_point": decoding_point(record.final_to_next, reached["norm"], num_blocks),
        "nonfinite": nonfinite_rows(record.nonfinite),
        "not_decomposed": record.not_attributed,
    }


def sanity_rows(num_blocks: int) -> list[int]:
    """Rows {0, ⌊n/4⌋, ⌊n/2⌋, ⌊3n/4⌋}, each once. Source: docs/method.md §5.4."""
    return sorted({0, num_blocks // 4, num_blocks // 2, 3 * num_blocks // 4})


def raw_versus_norm(pairs: Sequence[PairRow], mode: RawLens) -> dict[str, Any]:
    """Comparison of norm lens and raw lens on one prompt. Source: docs/method.md §5.4.

    `rows` and the largest divergence cover `sanity_rows`, or all rows with `full`. The first norm-only semantic row,
    where the norm lens has the answer at rank 1 and the raw lens does not, is searched in all rows 0 … n in both modes,
    as four rows would nearly always miss it.

    Args:
        pairs: Norm lens (a) against raw lens (b), rows 0 to n.
        mode: Which rows to list.
    """
    listed = list(pairs) if mode == "full" else [pairs[row] for row in sanity_rows(len(pairs) - 1)]
    norm_only = next((p.layer for p in pairs if p.answer_rank_a == 1 and p.answer_rank_b != 1), None)
    return {
        "mode": mode,
        "rows": [
            {
                "layer": pair.layer,
                "kl_norm_to_raw_bits": pair.kl_bits,
                "top1_agree": pair.top1_agree,
                "answer_rank_norm": pair.answer_rank_a,
                "answer_rank_raw": pair.answer_rank_b,
            }
            for pair in listed
        ],
        "first_norm_only_semantic_layer": norm_only,
        "max_kl_norm_vs_raw_bits": max((p.kl_bits for p in listed if math.isfinite(p.kl_bits)), default=None),
        "lens_artifact_risk": _risk([pair.kl_bits for pair in listed], norm_only),
    }


def _risk(kl_bits: Sequence[float], norm_only: int | None) -> str:
    if norm_only is not None or not all(kl < HIGH_RISK_BITS for kl in kl_bits):  # NaN is high, too
        return "high"
    return "low" if all(kl < LOW_RISK_BITS for kl in kl_bits) else "medium"


def last_row_check(check: LastRowCheck) -> dict[str, Any]:
    """Comparison of the last row with the model's output, with a warning. Source: docs/method.md §5.5."""
    close = check.kl_to_final_bits <= HIGH_LAST_ROW_BITS  # False for NaN
    return {**check._asdict(), "warn_high_last_layer_kl": not close}


def decoding_point(pairs: Sequence[PairRow] | None, reached: Milestones, num_blocks: int) -> dict[str, Any]:
    """Comparison of the final norm with the norm of the next block at milestone rows. Source: docs/method.md §5.6.

    Args:
        pairs: Final (a) and next (b), rows 0 to n; None if the model has no norm for `next`.
        reached: Milestones of the lens.
        num_blocks: n.
    """
    if pairs is None:
        return {"rows": None, "reason": "This model has no norm to use for decoding_norm next."}
    named = sorted(_milestones_by_row(reached, num_blocks).items())
    rows = [
        {
            "layer": row,
            "milestones": names,
            "kl_final_to_next_bits": pairs[row].kl_bits,
            "top1_agree": pairs[row].top1_agree,
            "top10_jaccard": pairs[row].top10_jaccard,
            "answer_rank_final": pairs[row].answer_rank_a,
            "answer_rank_next": pairs[row].answer_rank_b,
        }
        for row, names in named
    ]
    return {"rows": rows, "reason": None if rows else "No milestone was reached."}


def _milestones_by_row(reached: Milestones, num_blocks: int) -> dict[int, list[str]]:
    by_row: dict[int, list[str]] = {}
    for name, value in as_json(reached, num_blocks).items():
        if not isinstance(value, dict):  # delta_layers is a distance, not a row
            continue
        depths: Mapping[str, Any] = value if "row" not in value else {"": value}
        for variant, depth in depths.items():
            if depth["row"] is not None:
                by_row.setdefault(depth["row"], []).append(f"{name}[{variant}]" if variant else name)
    return by_row


def nonfinite_rows(found: Sequence[NonFinite]) -> list[dict[str, Any]]:
    """Rows with non-finite logits: lens, first position and number of positions."""
    positions: dict[tuple[str, int], list[int]] = {}
    for place in found:
        positions.setdefault((place.lens, place.layer), []).append(place.pos)
    return [
        {"lens": lens, "layer": layer, "first_pos": min(at), "num_positions": len(at)}
        for (lens, layer), at in positions.items()
    ]
