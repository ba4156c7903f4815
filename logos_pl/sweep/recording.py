"""From the tensors of a batch to the typed rows of each prompt."""

import math
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import torch

from logos_pl.data.prompts import TokenizedPrompt
from logos_pl.functional.last_row import LastRow
from logos_pl.functional.pair_readings import PairReadings
from logos_pl.functional.readings import RowReadings
from logos_pl.sweep.attribution import LogitParts, NotDecomposed, decomposition
from logos_pl.sweep.copy_collapse import COPY_RULE, CopyFlags, CopyRule, RowTop, copy_flags, uncounted_ids
from logos_pl.sweep.reader import BatchReading
from logos_pl.sweep.records import (
    LastRowCheck,
    NextTokenRecord,
    NonFinite,
    PairRow,
    PositionRecord,
    PromptRecords,
    TopToken,
)


class LensLists(NamedTuple):
    """One lens's `RowReadings` as lists by row and token; the fields are the same."""

    top_ids: list[list[list[int]]]
    top_p: list[list[list[float]]]
    rest_mass: list[list[float]]
    entropy_bits: list[list[float]]
    kl_to_final_bits: list[list[float]]
    kl_from_final_bits: list[list[float]]
    cos_to_final: list[list[float]]
    target_rank: list[list[int]]
    target_p: list[list[float]]
    target_nll_bits: list[list[float]]
    target_logit_gap: list[list[float]]
    contrast_p: list[list[float]]
    finite: list[list[bool]]


class Place(NamedTuple):
    """Where a prompt stands in a batch, and what is the same for all of its records.

    Attributes:
        asked: The prompt.
        start: Where its tokens begin in the batch.
        strings: All tokens of the batch's readings, decoded.
        uncounted: Those among them that never make a copy.
        tied_embeddings: Whether row 0 is the identity.
        copy_rule: What makes a copy.
    """

    asked: TokenizedPrompt
    start: int
    strings: Mapping[int, str]
    uncounted: Set[int]
    tied_embeddings: bool
    copy_rule: CopyRule

    @property
    def last(self) -> int:
        """The prompt's last token in the batch."""
        return self.start + len(self.asked.ids) - 1

    @property
    def answered(self) -> range:
        """The tokens in the batch that a token of the answer follows; empty without a resolved answer."""
        return range(self.last, self.last + len(self.asked.gold.ids))

    @property
    def named(self) -> dict[str, Any]:
        """What tells the prompt's records from another's."""
        prompt = self.asked.prompt
        return {"prompt_id": prompt.prompt_id, "prompt_variant": prompt.variant, "fact": prompt.fact}


def records_of(
    reading: BatchReading,
    token_string: Callable[[int], str],
    special_ids: Set[int],
    tied_embeddings: bool,
    copy_rule: CopyRule = COPY_RULE,
) -> list[PromptRecords]:
    """The records of every prompt of a batch, in order.

    NaN stays NaN. Where logits are not finite, the answer has no rank (a NaN is larger than nothing and would make it
    the first), nothing is a copy, and `nonfinite` names the place; the answer's own tokens stand there at the positions
    after the prompt's.

    Args:
        reading: What the lenses read; on the CPU.
        token_string: A token as a string.
        special_ids: The tokenizer's special tokens, which never make a copy.
        tied_embeddings: Whether the unembedding is the embedding, so that row 0 is the identity.
        copy_rule: What makes a copy.
    """
    lenses = {name: LensLists(*(t.tolist() for t in tensors)) for name, tensors in reading.lenses.items()}
    teacher = reading.teacher_entropy_bits.tolist()
    raw = _pairs(reading.norm_to_raw)
    following = None if reading.final_to_next is None else _pairs(reading.final_to_next)
    checks = _checks(reading.last_row)
    strings, parts = _strings(reading.lenses, token_string), reading.logit_parts
    uncounted = uncounted_ids(strings, special_ids)
    records = []
    for number, (asked, start) in enumerate(zip(reading.prompts, reading.starts, strict=True)):
        place = Place(asked, start, strings, uncounted, tied_embeddings, copy_rule)
        records.append(
            PromptRecords(
                prompt=asked.prompt,
                gold=asked.gold,
                contrast=asked.contrast,
                ids=asked.ids,
                tokens=asked.tokens,
                positions={name: list(_positions(place, name, lens)) for name, lens in lenses.items()},
                next_token={name: _next_token(place, name, lens, teacher[place.last]) for name, lens in lenses.items()},
                norm_to_raw=raw[number],
                final_to_next=None if following is None else following[number],
                last_row=checks[number],
                nonfinite=tuple(bad for name, lens in lenses.items() for bad in _nonfinite(place, name, lens)),
                left_out=asked.left_out,
                **({} if parts is None else _decomposed(asked, parts[number], token_string)),
            )
        )
    return records


def _decomposed(
    asked: TokenizedPrompt, parts: LogitParts | NotDecomposed, token_string: Callable[[int], str]
) -> dict[str, Any]:
    """The prompt's decomposition, or why there is none."""
    if isinstance(parts, NotDecomposed):
        return {"not_decomposed": parts.reason}
    return {"decomposition": decomposition(asked, parts, token_string)}


def _strings(lenses: Mapping[str, RowReadings], token_string: Callable[[int], str]) -> dict[int, str]:
    """Every token that any lens lists, decoded once."""
    ids = torch.cat([readings.top_ids.flatten() for readings in lenses.values()]).unique().tolist()
    return {id_: token_string(id_) for id_ in ids}


def _positions(place: Place, name: str, lens: LensLists) -> Iterator[PositionRecord]:
    """One lens's records of the prompt's tokens, row by row."""
    named = place.named
    for layer in range(len(lens.finite)):
        for pos, (token_id, token) in enumerate(zip(place.asked.ids, place.asked.tokens, strict=True)):
            at = place.start + pos
            yield PositionRecord(
                **named,
                lens=name,
                layer=layer,
                pos=pos,
                token_id=token_id,
                token=token,
                entropy_bits=lens.entropy_bits[layer][at],
                kl_to_final_bits=lens.kl_to_final_bits[layer][at],
                kl_from_final_bits=lens.kl_from_final_bits[layer][at],
                top=_top(place, lens, layer, at),
                rest_mass=lens.rest_mass[layer][at],
            )


def _top(place: Place, lens: LensLists, layer: int, at: int) -> tuple[TopToken, ...]:
    listed = zip(lens.top_ids[layer][at], lens.top_p[layer][at], strict=True)
    return tuple(TopToken(id_, place.strings[id_], p) for id_, p in listed)


def _next_token(place: Place, name: str, lens: LensLists, teacher_entropy_bits: float) -> list[NextTokenRecord]:
    """One lens's records of the token after the prompt, row by row."""
    at, asked = place.last, place.asked
    return [
        NextTokenRecord(
            **place.named,
            lens=name,
            layer=layer,
            pos=len(asked.ids) - 1,
            token_id=asked.ids[-1],
            token=asked.tokens[-1],
            entropy_bits=lens.entropy_bits[layer][at],
            teacher_entropy_bits=teacher_entropy_bits,
            top=_top(place, lens, layer, at),
            rest_mass=lens.rest_mass[layer][at],
            p_top1=lens.top_p[layer][at][0],
            p_top5=math.fsum(lens.top_p[layer][at][:5]),
            **_answer(place, lens, layer),
            kl_to_final_bits=lens.kl_to_final_bits[layer][at],
            kl_from_final_bits=lens.kl_from_final_bits[layer][at],
            cos_to_final=lens.cos_to_final[layer][at],
            copy_collapse=flags.strict,
            copy_soft=flags.soft,
            copy_at=flags.at,
            identity_row=place.tied_embeddings and layer == 0,
            entropy_collapse=lens.entropy_bits[layer][at] <= 1.0,
        )
        for layer, flags in enumerate(_copies(place, lens))
    ]


def _answer(place: Place, lens: LensLists, layer: int) -> dict[str, Any]:
    """A row's answer metrics; all None without a resolved answer, rank and `is_answer` also without finite logits."""
    at, resolved = place.last, place.asked.gold.first_id is not None
    p = lens.target_p[layer][at]
    rank = lens.target_rank[layer][at] if resolved and lens.finite[layer][at] else None
    contrasted = resolved and place.asked.contrast.first_id is not None
    return {
        "p_answer": p if resolved else None,
        "answer_rank": rank,
        "is_answer": None if rank is None else rank == 1,
        "answer_logit_gap": lens.target_logit_gap[layer][at] if resolved else None,
        "answer_nll_bits": math.fsum(lens.target_nll_bits[layer][i] for i in place.answered) if resolved else None,
        "control_margin": p - lens.contrast_p[layer][at] if contrasted else None,
    }


def _copies(place: Place, lens: LensLists) -> list[CopyFlags]:
    at = place.last
    tops = []
    for ids, p, finite in zip(lens.top_ids, lens.top_p, lens.finite, strict=True):
        p_top1, p_top2 = (*p[at], 0.0)[:2]
        tops.append(RowTop(ids[at][0], p_top1 if finite[at] else math.nan, p_top2))
    return copy_flags(tops, place.asked.ids, place.uncounted, identity_row=place.tied_embeddings, rule=place.copy_rule)


def _nonfinite(place: Place, name: str, lens: LensLists) -> Iterator[NonFinite]:
    end = place.start + len(place.asked.input_ids)
    for layer, finite in enumerate(lens.finite):
        yield from (NonFinite(name, layer, pos) for pos, ok in enumerate(finite[place.start : end]) if not ok)


def _pairs(readings: PairReadings) -> list[tuple[PairRow, ...]]:
    """For each prompt, how two readings of every row differ; where logits are NaN, the answer has no rank."""

    def row(layer: int, kl_bits: float, agree: bool, jaccard: float, *ranks: int) -> PairRow:
        answer = (None if rank == 0 or math.isnan(kl_bits) else rank for rank in ranks)
        return PairRow(layer, kl_bits, agree, jaccard, *answer)

    by_prompt = zip(*(tensor.T.tolist() for tensor in readings), strict=True)
    return [
        tuple(row(layer, *values) for layer, values in enumerate(zip(*fields, strict=True))) for fields in by_prompt
    ]


def _checks(readings: LastRow) -> list[LastRowCheck]:
    return [LastRowCheck(*values) for values in zip(*(tensor.tolist() for tensor in readings), strict=True)]
