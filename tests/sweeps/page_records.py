"""Records with ten different tokens and probabilities in every cell, for the page."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.sweeps.milestones import Milestones, milestones
from logos_pl.sweeps.page import PageWriter
from logos_pl.sweeps.records import (
    TOP_K,
    FollowedTokens,
    LastRowCheck,
    NextTokenRecord,
    NonFinite,
    PositionRecord,
    PromptRecords,
    TopToken,
)

VOCABULARY = (
    "<s>", " the", " of", " Berlin", "Germany", " capital", "'s", " is", " called", " simply", " Paris", " München",
    "\n", "\t", " ", "  ", "東京", " שלום", " العاصمة", "é", " Москва", "👍🏽", "\u200b", "\u202e", "\\", "", "�",
    "\u0301", " città", " internationalisation", "ing", "0",
)  # fmt: skip
"""Token strings by id, with everything that is hard to show among them."""


COMMAND = "logos-pl predict --model.model_id=demo"
"""What repeats the made-up sweep."""

HOSTILE = (
    '</script><script>window.pwned=1</script><!--<script><img src=x onerror="pwned=1">&amp;"\''
    "\u2028\u2029\ud800\x1b\x85\u202e"
)
"""A string that would be run if it were taken for markup."""


NO_FOLLOWED = FollowedTokens((), (), {}, {})


def page_records(
    num_rows: int,
    num_positions: int,
    lenses: Sequence[str] = ("norm", "tuned"),
    *,
    prompt_id: str = "pos",
    seed: int = 0,
    vocabulary: Sequence[str] = VOCABULARY,
    answer_tokens: AnswerTokens | None = None,
    nonfinite: Sequence[NonFinite] = (),
) -> PromptRecords:
    """One prompt at random: KL and entropy fall roughly with depth, the last row is the same for every lens."""
    draw = random.Random(f"{seed} {prompt_id!a}")
    ids = tuple(draw.randrange(len(vocabulary)) for _ in range(num_positions))
    tokens = tuple(vocabulary[id_] for id_ in ids)
    prompt = Prompt(prompt_id, "orig", "".join(tokens), "Berlin", None, "Germany → Berlin", "capital")
    last = [_top(draw, vocabulary, 1.0) for _ in ids]
    places = {(lens.lens, lens.layer, lens.pos) for lens in nonfinite}
    positions, next_token = {}, {}
    for lens in lenses:
        cells = [
            _cell(draw, prompt, lens, row, pos, num_rows, ids[pos], tokens[pos], last[pos], vocabulary)
            for row in range(num_rows)
            for pos in range(num_positions)
        ]
        positions[lens] = [_broken(cell) if (lens, cell.layer, cell.pos) in places else cell for cell in cells]
        next_token[lens] = [_next(draw, cell, num_rows) for cell in positions[lens] if cell.pos == num_positions - 1]
    answer_tokens = answer_tokens or AnswerTokens("resolved", "with_space", (3,), (" Berlin",))
    check = LastRowCheck(0.0, True, 1.0, 0.0)
    followed = _followed(draw, vocabulary, lenses, num_rows * num_positions) if answer_tokens.ids else NO_FOLLOWED
    return PromptRecords(
        prompt,
        answer_tokens,
        AnswerTokens("none"),
        ids,
        tokens,
        positions,
        next_token,
        (),
        None,
        check,
        tuple(nonfinite),
        followed=followed,
    )


def reached(record: PromptRecords) -> dict[str, Milestones]:
    """The milestones of a prompt under every lens."""
    return {lens: milestones(rows) for lens, rows in record.next_token.items()}


def write_page(
    path: Path, *records: PromptRecords, name: str = "demo", lenses: tuple[str, ...] = ("norm", "tuned")
) -> Path:
    """A page of the records with all of their milestones; its path."""
    num_blocks = len(records[0].next_token["norm"]) - 1 if records else 8
    with PageWriter(path, name, lenses, num_blocks, COMMAND) as page:
        for record in records:
            page.add(record, reached(record))
    return path


def _followed(draw: random.Random, vocabulary: Sequence[str], lenses: Sequence[str], num_cells: int) -> FollowedTokens:
    """Two tokens, the answer's and another, with a rank and a probability of their own in every cell."""
    ids = (3, 5)
    ranks: dict[str, list[tuple[int | None, ...]]] = {
        lens: [tuple(draw.randrange(1, 4000) for _ in ids) for _ in range(num_cells)] for lens in lenses
    }
    p = {lens: [tuple(draw.random() / 50 for _ in ids) for _ in range(num_cells)] for lens in lenses}
    return FollowedTokens(ids, tuple(vocabulary[id_] for id_ in ids), ranks, p)


def _top(draw: random.Random, vocabulary: Sequence[str], sharpness: float) -> tuple[TopToken, ...]:
    ids = draw.sample(range(len(vocabulary)), min(TOP_K, len(vocabulary)))
    weights = sorted((math.exp(3 * sharpness * draw.random()) for _ in ids), reverse=True)
    total = sum(weights) * (1.05 + draw.random())
    return tuple(TopToken(id_, vocabulary[id_], weight / total) for id_, weight in zip(ids, weights, strict=True))


def _cell(
    draw: random.Random, prompt: Prompt, lens: str, row: int, pos: int, num_rows: int, token_id: int, token: str,
    last: tuple[TopToken, ...], vocabulary: Sequence[str],
) -> PositionRecord:  # fmt: skip
    left = 1.0 - row / max(1, num_rows - 1)
    kl = left ** (1.0 if lens == "norm" else 2.0) * 16.0 * draw.uniform(0.6, 1.1)
    top = last if draw.random() > left else _top(draw, vocabulary, 1.0 - left)
    return PositionRecord(
        prompt.prompt_id, prompt.variant, lens, prompt.fact, row, pos, token_id, token,
        1.0 + 9.0 * left * draw.random(), kl, kl * draw.uniform(0.4, 1.4), top, 1.0 - sum(t.p for t in top),
    )  # fmt: skip


def _broken(cell: PositionRecord) -> PositionRecord:
    """What a cell is where the logits are not finite."""
    nan = math.nan
    return cell._replace(entropy_bits=nan, kl_to_final_bits=nan, kl_from_final_bits=nan, top=(), rest_mass=nan)


def _next(draw: random.Random, cell: PositionRecord, num_rows: int) -> NextTokenRecord:
    rank = 1 + int(5000 * (1 - cell.layer / max(1, num_rows - 1)) ** 4 * draw.random())
    return NextTokenRecord(
        *cell[:9], teacher_entropy_bits=1.2345678, top=cell.top, rest_mass=cell.rest_mass, p_top1=0.5, p_top5=0.8,
        p_answer=0.3 / rank, answer_rank=rank, is_answer=rank == 1, answer_logit_gap=-math.log(rank) - 0.1,
        answer_nll_bits=2.0 + math.log2(rank), kl_to_final_bits=cell.kl_to_final_bits,
        kl_from_final_bits=cell.kl_from_final_bits, cos_to_final=(cell.layer + 1) / num_rows, control_margin=None,
        copy_collapse=cell.layer == num_rows // 4, copy_soft=(False, False, False), copy_at=(False,) * 4,
        identity_row=False, entropy_collapse=False,
    )  # fmt: skip
