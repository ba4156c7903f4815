"""Replies read with keys and values kept, against a sweep of the same text."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from logos_pl.api import load_model, norm_lens, sweep
from logos_pl.cli.chat_reply import ReplyToken, end_ids, read_again, reply
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lenses.norm import Lens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.cached import CachedReader
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.records import PositionRecord
from tests.tiny import make_model

TEXT = "The capital of Germany is"
TOKENS = 24


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return load_model("demo", device="cpu")


@pytest.fixture(scope="module")
def tuned(lm: FrozenLM) -> Lens:
    """A lens that reads otherwise than the norm lens."""
    translators = Translators(num_rows=lm.num_blocks - 1, d_model=lm.d_model, rank=2)
    torch.manual_seed(0)
    for parameter in translators.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return TunedLens(translators).bind(Head(lm.anatomy))


def settled_by_hand(records: list[PositionRecord], pos: int, token: int, num_rows: int) -> int | None:
    """From the records of a sweep: the row above the highest at which another token is the likeliest."""
    tops = {record.layer: record.top[0].id for record in records if record.pos == pos}
    others = [row for row in range(num_rows) if tops[row] != token]
    first = max(others, default=-1) + 1
    return None if first == num_rows else first


@pytest.mark.parametrize("name", ["norm", "tuned"])
def test_every_token_settles_where_a_sweep_of_the_whole_text_says(name: str, lm: FrozenLM, tuned: Lens) -> None:
    norm = norm_lens(lm)
    lens = {"norm": norm, "tuned": tuned}[name]
    assert lm.tokenizer is not None
    ids = lm.tokenizer(TEXT)["input_ids"]
    tokens = list(reply(CachedReader(lm), norm, lens, ids, TOKENS))
    assert len(tokens) == TOKENS
    text = str(lm.tokenizer.decode([*ids, *(token.id for token in tokens)][1:]))  # without BOS, which a sweep adds
    (records,) = sweep(lm, [text], {"tuned": tuned}).prompts
    assert records.ids == (*ids, *(token.id for token in tokens)), "the text has the tokens that were read"
    for number, token in enumerate(tokens):
        pos = len(ids) - 1 + number
        there = settled_by_hand(records.positions[name], pos, token.id, lm.num_blocks + 1)
        assert token.settled == there
        tops = [record.top[0].id for record in records.positions[name] if record.pos == pos]
        assert list(token.top_ids) == tops
        assert tops[-1] == token.id, "greedy: the likeliest of the final distribution"
    assert len({token.settled for token in tokens}) > 2, "the depths differ, so that equality says something"
    assert read_again(lm, lens, records.ids, len(ids)) == tokens


def test_a_token_settles_at_a_row_that_the_lens_reads(lm: FrozenLM) -> None:
    """The identity reads as the norm lens does, at rows 2, 5 and the last alone."""
    assert lm.tokenizer is not None
    ids, rows = lm.tokenizer(TEXT)["input_ids"], (2, 5, lm.num_blocks)
    part = JacobianLens(Head(lm.anatomy), dict.fromkeys(rows[:-1], torch.eye(lm.d_model)))
    for whole, some in zip(read_again(lm, norm_lens(lm), ids, 1), read_again(lm, part, ids, 1), strict=True):
        assert some.top_ids == tuple(whole.top_ids[row] for row in rows)
        others = [row for row in rows if whole.top_ids[row] != some.id]
        later = [row for row in rows if row > max(others, default=-1)]
        assert some.settled == (later[0] if later else None)


def test_greedy_is_what_transformers_generates(lm: FrozenLM) -> None:
    assert lm.tokenizer is not None
    ids = lm.tokenizer(TEXT, return_tensors="pt")["input_ids"]
    wanted = lm.model.generate(
        ids, attention_mask=ids * 0 + 1, do_sample=False, max_new_tokens=TOKENS, eos_token_id=None, pad_token_id=0
    )
    norm = norm_lens(lm)
    found = [token.id for token in reply(CachedReader(lm), norm, norm, ids[0].tolist(), TOKENS)]
    assert found == wanted[0, ids.shape[1] :].tolist()


def test_a_reply_ends_with_a_token_that_ends_texts_and_does_not_show_it(tmp_path: Path) -> None:
    lm = load_model(str(make_model(tmp_path / "tiny")), device="cpu")
    norm = norm_lens(lm)

    def tokens() -> Iterator[ReplyToken]:
        return reply(CachedReader(lm), norm, norm, [0, 5, 6], 8)

    assert end_ids(lm) == set()
    first, second, third = (token.id for token in islice(tokens(), 3))
    assert lm.model.generation_config is not None
    lm.model.generation_config.eos_token_id = [third, 999]
    assert end_ids(lm) == {third, 999}
    shown = [token.id for token in tokens()]
    assert shown == ([first, second, third][: [first, second, third].index(third)])
