"""The entries of one prompt in a sweep's document: its records in, plain values out.

A reading that is not finite counts for no maximum; `nonfinite` names its row.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.sweeps.milestones import Milestones, as_json
from logos_pl.sweeps.records import LastRowCheck, LogitAttribution, NonFinite, PairRow, PromptRecords

RawLens = Literal["sample", "full"]

LOW_RISK_BITS, HIGH_RISK_BITS = 0.5, 1.0
"""KL of logit lens and raw lens: low risk below the first, high from the second on. docs/method.md §5.4."""

HIGH_LAST_ROW_BITS = 0.05
"""Divergence of the last row from the model's own output that is warned of. With the exact head it is rounding, below
1e-4 bits in fp32 and some 1e-2 against half-precision logits; the gates allow as much after a temperature (§6)."""


def identity(record: PromptRecords) -> dict[str, Any]:
    """What identifies a prompt in every section."""
    return {"prompt_id": record.prompt.prompt_id, "prompt_variant": record.prompt.variant}


def asked(record: PromptRecords) -> dict[str, Any]:
    """The prompt as it was asked: text and tokens."""
    prompt = record.prompt
    return {
        **identity(record),
        "fact": prompt.fact,
        "relation": prompt.relation,
        "text": prompt.text,
        "answer": prompt.answer,
        "contrast": prompt.contrast,
        "ids": list(record.ids),
        "tokens": list(record.tokens),
        "special_tokens_left_out": list(record.left_out),
    }


def gold_answer(record: PromptRecords) -> dict[str, Any]:
    """Where the answer stands in the vocabulary. Source: docs/method.md §4."""
    return {**identity(record), "answer": record.prompt.answer, **_gold(record.gold)}


def control_prompt(record: PromptRecords) -> dict[str, Any]:
    """What a control prompt sets against what."""
    prompt = record.prompt
    return {
        **identity(record),
        "fact": prompt.fact,
        "text": prompt.text,
        "gold_answer": {"answer": prompt.answer, **_gold(record.gold)},
        "contrast_answer": {"answer": prompt.contrast, **_gold(record.contrast)},
    }


def _gold(gold: AnswerTokens) -> dict[str, Any]:
    return {
        "status": gold.status,
        "variant": gold.form,
        "first_id": gold.first_id,
        "answer_ids": list(gold.ids),
        "pieces": list(gold.pieces),
    }


def final_prediction(record: PromptRecords) -> dict[str, Any]:
    """The model's own prediction: the norm lens's last row, which decodes with the model's head."""
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
    """What the components of a logit add up to, beside the model's own logit, in nats and before any soft-cap."""
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
        record: What was read.
        reached: Milestones by lens.
        raw_lens: Rows at which norm lens and raw lens are listed side by side.
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
    """Norm lens against the unembedding alone on one prompt. Source: docs/method.md §5.4.

    `rows` and the largest divergence are those of `sanity_rows`, with `full` of every row. The first norm-only semantic
    row, where the norm lens has the answer at rank 1 and the raw lens has not, is looked for in every row 0 … n under
    both modes: four rows would nearly always miss it.

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
    """The last row against the model's own output, and whether they are too far apart. Source: docs/method.md §5.5."""
    close = check.kl_to_final_bits <= HIGH_LAST_ROW_BITS  # False for NaN
    return {**check._asdict(), "warn_high_last_layer_kl": not close}


def decoding_point(pairs: Sequence[PairRow] | None, reached: Milestones, num_blocks: int) -> dict[str, Any]:
    """Final norm against the norm that reads the row next, at a lens's milestone rows. Source: docs/method.md §5.6.

    Args:
        pairs: Final (a) against next (b), rows 0 to n; None where no norm reads the rows.
        reached: The lens's milestones.
        num_blocks: n.
    """
    if pairs is None:
        return {"rows": None, "reason": "No norm of this model reads the rows next."}
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
    """Rows with logits that are not finite: under which lens, first position, and how many."""
    positions: dict[tuple[str, int], list[int]] = {}
    for place in found:
        positions.setdefault((place.lens, place.layer), []).append(place.pos)
    return [
        {"lens": lens, "layer": layer, "first_pos": min(at), "num_positions": len(at)}
        for (lens, layer), at in positions.items()
    ]
