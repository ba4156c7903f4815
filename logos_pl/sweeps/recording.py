"""Converts the tensors of a batch to typed records of each prompt."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from logos_pl.data.prompts import TokenizedPrompt
from logos_pl.functional.last_row import LastRow
from logos_pl.functional.pair_readings import PairReadings
from logos_pl.sweeps.attribution import LogitParts, NotAttributed, logit_attribution
from logos_pl.sweeps.copy_collapse import COPY_RULE, CopyFlags, CopyRule, RowTop, copy_flags, uncounted_ids
from logos_pl.sweeps.reader import BatchReading
from logos_pl.sweeps.records import (
    FollowedTokens,
    LastRowCheck,
    NextTokenRecord,
    NonFinite,
    PairRow,
    PositionRecord,
    PromptRecords,
    TopToken,
)

Lists = Mapping[str, list[list[Any]]]
"""`RowReadings` of a lens as lists by row and token, by field name."""


class LensInBatch(NamedTuple):
    """Readings of one lens in a batch.

    Attributes:
        name: Name of the lens.
        rows: The rows that it reads, the last of them row n; the lists have only these.
        lists: Its readings.
    """

    name: str
    rows: tuple[int, ...]
    lists: Lists


class PromptInBatch(NamedTuple):
    """A prompt in a batch, with the values common to its records.

    Attributes:
        tokenized: The prompt.
        start: Index of its first token in the batch.
        strings: Decoded tokens of the batch, by id.
        uncounted: Tokens that never count as copies.
        tied_embeddings: Whether row 0 is the identity.
        copy_rule: Condition for copy collapse.
    """

    tokenized: TokenizedPrompt
    start: int
    strings: Mapping[int, str]
    uncounted: Set[int]
    tied_embeddings: bool
    copy_rule: CopyRule

    @property
    def last(self) -> int:
        """Index of the prompt's last token in the batch."""
        return self.start + len(self.tokenized.ids) - 1

    @property
    def answered(self) -> range:
        """Indices of tokens followed by a token of the answer; empty without a resolved answer."""
        return range(self.last, self.last + len(self.tokenized.answer_tokens.ids))

    @property
    def named(self) -> dict[str, Any]:
        """Fields that identify the prompt in its records."""
        prompt = self.tokenized.prompt
        return {"prompt_id": prompt.prompt_id, "prompt_variant": prompt.variant, "fact": prompt.fact}


def records_of(
    reading: BatchReading,
    token_string: Callable[[int], str],
    special_ids: Set[int],
    tied_embeddings: bool,
    copy_rule: CopyRule = COPY_RULE,
) -> list[PromptRecords]:
    """Records of every prompt of a batch, in order.

    NaN is kept. With non-finite logits, the answer has no rank (comparisons with NaN would give rank 1), no row is a
    copy, and `nonfinite` lists the place; there, tokens of the answer have the positions after the prompt.

    Args:
        reading: Readings of the lenses, on the CPU.
        token_string: Converts a token id to a string.
        special_ids: Special tokens of the tokenizer, which never count as copies.
        tied_embeddings: Whether the unembedding is the embedding, so that row 0 is the identity.
        copy_rule: Condition for copy collapse.
    """
    lenses = [
        LensInBatch(name, reading.rows[name], {field: of.tolist() for field, of in tensors._asdict().items()})
        for name, tensors in reading.lenses.items()
    ]
    teacher = reading.teacher_entropy_bits.tolist()
    raw = _pairs(reading.norm_to_raw)
    following = None if reading.final_to_next is None else _pairs(reading.final_to_next)
    checks = _checks(reading.last_row)
    strings, parts = _strings(reading, token_string), reading.logit_parts
    uncounted = uncounted_ids(strings, special_ids)
    records = []
    for number, (tokenized, start) in enumerate(zip(reading.prompts, reading.starts, strict=True)):
        prompt = PromptInBatch(tokenized, start, strings, uncounted, tied_embeddings, copy_rule)
        records.append(
            PromptRecords(
                prompt=tokenized.prompt,
                answer_tokens=tokenized.answer_tokens,
                contrast=tokenized.contrast,
                ids=tokenized.ids,
                tokens=tokenized.tokens,
                positions={lens.name: list(_positions(prompt, lens)) for lens in lenses},
                next_token={lens.name: _next_token(prompt, lens, teacher[prompt.last]) for lens in lenses},
                norm_to_raw=raw[number],
                final_to_next=None if following is None else following[number],
                last_row=checks[number],
                nonfinite=tuple(bad for lens in lenses for bad in _nonfinite(prompt, lens)),
                left_out=tokenized.left_out,
                added=tokenized.added,
                places=tokenized.places,
                followed=_followed(prompt, reading.followed[number], lenses),
                **({} if parts is None else _attributed(tokenized, parts[number], token_string)),
            )
        )
    return records


def _followed(prompt: PromptInBatch, ids: tuple[int, ...], lenses: Sequence[LensInBatch]) -> FollowedTokens:
    """Ranks and probabilities of the followed tokens at the prompt's own tokens, for the rows that are read."""
    at, many = slice(prompt.start, prompt.last + 1), slice(len(ids))
    ranks = {
        of.name: [tuple(rank or None for rank in cell[many]) for row in of.lists["followed_rank"] for cell in row[at]]
        for of in lenses
    }
    p = {of.name: [tuple(cell[many]) for row in of.lists["followed_p"] for cell in row[at]] for of in lenses}
    return FollowedTokens(ids, tuple(prompt.strings[id_] for id_ in ids), ranks, p)


def _attributed(
    tokenized: TokenizedPrompt, parts: LogitParts | NotAttributed, token_string: Callable[[int], str]
) -> dict[str, Any]:
    """Attribution of the prompt's logit, or the reason why there is none."""
    if isinstance(parts, NotAttributed):
        return {"not_attributed": parts.reason}
    return {"attribution": logit_attribution(tokenized, parts, token_string)}


def _strings(reading: BatchReading, token_string: Callable[[int], str]) -> dict[int, str]:
    """Strings of all tokens that are listed by any lens or followed, by id."""
    listed = torch.cat([readings.top_ids.flatten() for readings in reading.lenses.values()]).unique().tolist()
    followed = (id_ for ids in reading.followed for id_ in ids)
    return {id_: token_string(id_) for id_ in dict.fromkeys((*listed, *followed))}


def readings_in(record: type[Any], lens: Lists) -> Lists:
    """Readings that are fields of a record type, by name."""
    return {name: lens[name] for name in record._fields if name in lens}


def _at(lists: Lists, slot: int, at: int) -> dict[str, Any]:
    """Values at one of the rows that are read, and one token."""
    return {name: values[slot][at] for name, values in lists.items()}


def _positions(prompt: PromptInBatch, lens: LensInBatch) -> Iterator[PositionRecord]:
    """Records of a lens at the prompt's tokens, row by row."""
    named, readings = prompt.named, readings_in(PositionRecord, lens.lists)
    for slot, layer in enumerate(lens.rows):
        for pos, (token_id, token) in enumerate(zip(prompt.tokenized.ids, prompt.tokenized.tokens, strict=True)):
            at = prompt.start + pos
            yield PositionRecord(
                **named,
                lens=lens.name,
                layer=layer,
                pos=pos,
                token_id=token_id,
                token=token,
                top=_top(prompt, lens.lists, slot, at),
                **_at(readings, slot, at),
            )


def _top(prompt: PromptInBatch, lists: Lists, slot: int, at: int) -> tuple[TopToken, ...]:
    listed = zip(lists["top_ids"][slot][at], lists["top_p"][slot][at], strict=True)
    return tuple(TopToken(id_, prompt.strings[id_], p) for id_, p in listed)


def _next_token(prompt: PromptInBatch, lens: LensInBatch, teacher_entropy_bits: float) -> list[NextTokenRecord]:
    """Records of a lens for the token after the prompt, row by row."""
    at, tokenized, lists = prompt.last, prompt.tokenized, lens.lists
    readings = readings_in(NextTokenRecord, lists)
    return [
        NextTokenRecord(
            **prompt.named,
            lens=lens.name,
            layer=layer,
            pos=len(tokenized.ids) - 1,
            token_id=tokenized.ids[-1],
            token=tokenized.tokens[-1],
            **_at(readings, slot, at),
            teacher_entropy_bits=teacher_entropy_bits,
            top=_top(prompt, lists, slot, at),
            p_top1=lists["top_p"][slot][at][0],
            p_top5=math.fsum(lists["top_p"][slot][at][:5]),
            **_answer(prompt, lists, slot),
            copy_collapse=flags.strict,
            copy_soft=flags.soft,
            copy_at=flags.at,
            identity_row=prompt.tied_embeddings and layer == 0,
            entropy_collapse=lists["entropy_bits"][slot][at] <= 1.0,
        )
        for slot, (layer, flags) in enumerate(zip(lens.rows, _copies(prompt, lens), strict=True))
    ]


def _answer(prompt: PromptInBatch, lists: Lists, slot: int) -> dict[str, Any]:
    """Answer metrics of a row; all None without a resolved answer; rank and `is_answer` also with non-finite logits."""
    at, resolved = prompt.last, prompt.tokenized.answer_tokens.first_id is not None
    p = lists["target_p"][slot][at]
    rank = lists["target_rank"][slot][at] if resolved and lists["finite"][slot][at] else None
    contrasted = resolved and prompt.tokenized.contrast.first_id is not None
    return {
        "p_answer": p if resolved else None,
        "answer_rank": rank,
        "is_answer": None if rank is None else rank == 1,
        "answer_logit_gap": lists["target_logit_gap"][slot][at] if resolved else None,
        "answer_nll_bits": math.fsum(lists["target_nll_bits"][slot][i] for i in prompt.answered) if resolved else None,
        "control_margin": p - lists["contrast_p"][slot][at] if contrasted else None,
    }


def _copies(prompt: PromptInBatch, lens: LensInBatch) -> list[CopyFlags]:
    """Copy flags of the rows that a lens reads; no window spans a row that it does not read."""
    at, lists = prompt.last, lens.lists
    tops = []
    for ids, p, finite in zip(lists["top_ids"], lists["top_p"], lists["finite"], strict=True):
        p_top1, p_top2 = (*p[at], 0.0)[:2]
        tops.append(RowTop(ids[at][0], p_top1 if finite[at] else math.nan, p_top2))
    flags: list[CopyFlags] = []
    for run in _runs(lens.rows):
        identity = prompt.tied_embeddings and lens.rows[run.start] == 0
        flags += copy_flags(
            tops[run], prompt.tokenized.ids, prompt.uncounted, identity_row=identity, rule=prompt.copy_rule
        )
    return flags


def _runs(rows: tuple[int, ...]) -> Iterator[slice]:
    """Slices of rows that follow each other."""
    starts = [slot for slot, row in enumerate(rows) if slot == 0 or row != rows[slot - 1] + 1]
    return (slice(*ends) for ends in pairwise([*starts, len(rows)]))


def _nonfinite(prompt: PromptInBatch, lens: LensInBatch) -> Iterator[NonFinite]:
    end = prompt.start + len(prompt.tokenized.input_ids)
    for layer, finite in zip(lens.rows, lens.lists["finite"], strict=True):
        yield from (NonFinite(lens.name, layer, pos) for pos, ok in enumerate(finite[prompt.start : end]) if not ok)


def _pairs(readings: PairReadings) -> list[tuple[PairRow, ...]]:
    """Comparison of two lenses at every row, by prompt; the answer has no rank if logits are NaN."""

    def row(layer: int, kl_bits: float, agree: bool, jaccard: float, *ranks: int) -> PairRow:
        answer = (None if rank == 0 or math.isnan(kl_bits) else rank for rank in ranks)
        return PairRow(layer, kl_bits, agree, jaccard, *answer)

    by_prompt = zip(*(tensor.T.tolist() for tensor in readings), strict=True)
    return [
        tuple(row(layer, *values) for layer, values in enumerate(zip(*fields, strict=True))) for fields in by_prompt
    ]


def _checks(readings: LastRow) -> list[LastRowCheck]:
    return [LastRowCheck(*values) for values in zip(*(tensor.tolist() for tensor in readings), strict=True)]
