"""The records of a batch against the tensors they come from, picked out one by one."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import TokenizedPrompt
from logos_pl.functional.last_row import LastRow
from logos_pl.functional.pair_readings import PairReadings
from logos_pl.functional.readings import RowReadings
from logos_pl.sweeps.copy_collapse import CopyRule
from logos_pl.sweeps.reader import BatchReading
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import LastRowCheck, NonFinite, PromptRecords, TopToken

ROWS, VOCAB, TOP = 5, 30, 10
UNRESOLVED, NO_ANSWER = AnswerTokens("unresolved"), AnswerTokens("none")


def answer_tokens(*ids: int) -> AnswerTokens:
    return AnswerTokens("resolved", "with_space", ids, tuple(f" w{id_}" for id_ in ids))


def tokenized(
    name: str, ids: tuple[int, ...], answer: AnswerTokens, contrast: AnswerTokens = NO_ANSWER
) -> TokenizedPrompt:
    prompt = Prompt(name, "orig", f"text of {name}", "answer", None, f"fact of {name}", "capital")
    return TokenizedPrompt(prompt, ids, tuple(f" w{id_}" for id_ in ids), answer, contrast)


PROMPTS = (
    tokenized("three tokens", (0, 4, 5, 6), answer_tokens(7, 8, 9)),
    tokenized("none", (0, 11), NO_ANSWER),
    tokenized("control", (0, 12, 13), answer_tokens(14), answer_tokens(15)),
    tokenized("merged", (16,), UNRESOLVED, answer_tokens(3)),
    tokenized("contrast merged", (0, 17), answer_tokens(18, 19), UNRESOLVED),
)
STARTS = (0, 6, 8, 11, 12)
"""Four tokens of the first prompt and two of its answer, and so on."""

FOLLOWED = ((4, 2, 1, 0), (3,), (2, 1), (0, 1, 2), (1, 4))
"""Tokens of each prompt that are followed."""

TOKENS = 15
LASTS = (3, 7, 10, 11, 13)


def token_string(token_id: int) -> str:
    return f" w{token_id}"


def drawn(seed: int) -> RowReadings:
    """Readings in which no two numbers are the same."""
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int) -> Tensor:
        return torch.rand(ROWS, TOKENS, *shape, generator=generator, dtype=torch.float64)

    return RowReadings(
        top_ids=torch.rand(ROWS, TOKENS, VOCAB, generator=generator).argsort(dim=-1)[..., :TOP],
        top_p=values(TOP).sort(descending=True).values,
        rest_mass=values(),
        entropy_bits=values() * 2,
        kl_to_final_bits=values(),
        kl_from_final_bits=values(),
        cos_to_final=values(),
        target_rank=torch.randint(1, 4, (ROWS, TOKENS), generator=generator),
        target_p=values(),
        target_nll_bits=values(),
        target_logit_gap=values(),
        contrast_p=values(),
        followed_rank=torch.randint(1, 99, (ROWS, TOKENS, 4), generator=generator),
        followed_p=values(4),
        finite=torch.ones(ROWS, TOKENS, dtype=torch.bool),
    )


def drawn_pairs(seed: int) -> PairReadings:
    generator = torch.Generator().manual_seed(seed)
    shape = (ROWS, len(PROMPTS))
    ranks = torch.randint(1, 9, (2, *shape), generator=generator)
    ranks[:, :, [1, 3]] = 0  # no target
    return PairReadings(
        kl_bits=torch.rand(shape, generator=generator),
        top1_agree=torch.rand(shape, generator=generator) < 0.5,
        top10_jaccard=torch.rand(shape, generator=generator),
        target_rank_a=ranks[0],
        target_rank_b=ranks[1],
    )


def drawn_reading(**lenses: RowReadings) -> BatchReading:
    generator = torch.Generator().manual_seed(99)
    size = len(PROMPTS)
    return BatchReading(
        prompts=PROMPTS,
        starts=STARTS,
        followed=FOLLOWED,
        lenses=lenses or {"norm": drawn(0), "tuned": drawn(1)},
        rows=dict.fromkeys(lenses or ("norm", "tuned"), tuple(range(ROWS))),
        teacher_entropy_bits=torch.rand(TOKENS, generator=generator),
        norm_to_raw=drawn_pairs(2),
        final_to_next=drawn_pairs(3),
        last_row=LastRow(
            torch.rand(size, generator=generator),
            torch.rand(size, generator=generator) < 0.5,
            torch.rand(size, generator=generator),
            torch.rand(size, generator=generator),
        ),
        residuals=None,
    )


def recorded(
    reading: BatchReading, *, tied: bool = False, special: frozenset[int] = frozenset()
) -> list[PromptRecords]:
    return records_of(reading, token_string, special, tied)


def test_each_prompt_comes_back_with_what_was_asked_in_order() -> None:
    for records, prompt in zip(recorded(drawn_reading()), PROMPTS, strict=True):
        assert records[:5] == (prompt.prompt, prompt.answer_tokens, prompt.contrast, prompt.ids, prompt.tokens)


def test_followed_tokens_have_their_ranks_at_the_prompts_own_tokens_row_by_row() -> None:
    reading = drawn_reading()
    reading.lenses["tuned"].followed_rank[1, STARTS[1], 0] = 0
    for number, (records, prompt) in enumerate(zip(recorded(reading), PROMPTS, strict=True)):
        followed, ids = records.followed, FOLLOWED[number]
        assert (followed.ids, followed.tokens) == (ids, tuple(map(token_string, ids)))
        places = [(row, STARTS[number] + pos) for row in range(ROWS) for pos in range(len(prompt.ids))]
        for lens, readings in reading.lenses.items():
            wanted = [readings.followed_rank[at][: len(ids)].tolist() for at in places]
            assert [[rank or 0 for rank in cell] for cell in followed.ranks[lens]] == wanted
            assert [list(cell) for cell in followed.p[lens]] == [
                readings.followed_p[at][: len(ids)].tolist() for at in places
            ]
    assert recorded(reading)[1].followed.ranks["tuned"][len(PROMPTS[1].ids)] == (None,)


def test_position_records_are_the_readings_at_the_prompts_own_tokens_row_by_row() -> None:
    reading = drawn_reading()
    for records, prompt, start in zip(recorded(reading), PROMPTS, STARTS, strict=True):
        assert list(records.positions) == ["norm", "tuned"]
        for lens, readings in reading.lenses.items():
            wanted = itertools.product(range(ROWS), range(len(prompt.ids)))
            for record, (row, pos) in zip(records.positions[lens], wanted, strict=True):
                at = (row, start + pos)
                assert record[:4] == (prompt.prompt.prompt_id, "orig", lens, prompt.prompt.fact)
                assert record[4:8] == (row, pos, prompt.ids[pos], prompt.tokens[pos])
                assert record.entropy_bits == readings.entropy_bits[at].item()
                assert record.kl_to_final_bits == readings.kl_to_final_bits[at].item()
                assert record.kl_from_final_bits == readings.kl_from_final_bits[at].item()
                assert record.rest_mass == readings.rest_mass[at].item()
                ids, p = readings.top_ids[at].tolist(), readings.top_p[at].tolist()
                assert record.top == tuple(map(TopToken, ids, map(token_string, ids), p))


def test_next_token_records_are_the_readings_at_the_prompts_last_token() -> None:
    reading = drawn_reading()
    for records, prompt, at in zip(recorded(reading), PROMPTS, LASTS, strict=True):
        for lens, readings in reading.lenses.items():
            for row, record in enumerate(records.next_token[lens]):
                last = len(prompt.ids) - 1
                assert record[:4] == (prompt.prompt.prompt_id, "orig", lens, prompt.prompt.fact)
                assert record[4:8] == (row, last, prompt.ids[last], prompt.tokens[last])
                assert record.teacher_entropy_bits == reading.teacher_entropy_bits[at].item()
                for name in ("entropy_bits", "rest_mass", "kl_to_final_bits", "kl_from_final_bits", "cos_to_final"):
                    assert getattr(record, name) == getattr(readings, name)[row, at].item(), name
                assert record.top == records.positions[lens][row * len(prompt.ids) + last].top
                assert record.p_top1 == readings.top_p[row, at, 0].item()
                assert record.p_top5 == pytest.approx(readings.top_p[row, at, :5].sum().item(), rel=1e-14)
                assert record.entropy_collapse == (readings.entropy_bits[row, at].item() <= 1.0)


def test_answer_metrics_are_those_of_the_first_token_and_the_nll_is_the_whole_answers() -> None:
    reading = drawn_reading()
    result = recorded(reading)
    for number, at, length in ((0, 3, 3), (2, 10, 1), (4, 13, 2)):
        for lens, readings in reading.lenses.items():
            for row, record in enumerate(result[number].next_token[lens]):
                assert record.p_answer == readings.target_p[row, at].item()
                assert record.answer_rank == readings.target_rank[row, at].item()
                assert record.is_answer is (record.answer_rank == 1)
                assert record.answer_logit_gap == readings.target_logit_gap[row, at].item()
                whole = readings.target_nll_bits[row, at : at + length].sum().item()
                assert record.answer_nll_bits == pytest.approx(whole, rel=1e-14)


@pytest.mark.parametrize("number", [1, 3])
def test_without_a_resolved_answer_every_answer_metric_is_none(number: int) -> None:
    for rows in recorded(drawn_reading())[number].next_token.values():
        for record in rows:
            assert record.p_answer is record.answer_rank is record.is_answer is None
            assert record.answer_logit_gap is record.answer_nll_bits is record.control_margin is None


def test_the_control_margin_stands_only_where_answer_and_contrast_are_resolved() -> None:
    reading = drawn_reading()
    for number, records in enumerate(recorded(reading)):
        for lens, readings in reading.lenses.items():
            for row, record in enumerate(records.next_token[lens]):
                if number == 2:
                    wanted = readings.target_p[row, 10].item() - readings.contrast_p[row, 10].item()
                    assert record.control_margin == wanted
                else:
                    assert record.control_margin is None


def copying(*ids: int) -> RowReadings:
    """Readings whose top-1 tokens at the first prompt's end are `ids`, row by row, all but certain."""
    readings = drawn(0)
    for row, id_ in enumerate(ids):
        rest = [other for other in range(VOCAB) if other != id_]
        readings.top_ids[row, 3] = torch.tensor([id_, *rest[: TOP - 1]])
        readings.top_p[row, 3] = torch.tensor([0.97] + [0.001] * (TOP - 1))
    return readings


def copies(reading: BatchReading, **settings: Any) -> list[tuple[bool, tuple[bool, ...]]]:
    return [(record.copy_collapse, record.copy_soft) for record in recorded(reading, **settings)[0].next_token["norm"]]


def test_copies_are_looked_for_among_the_prompts_tokens_and_not_the_answers() -> None:
    found = copies(drawn_reading(norm=copying(4, 5, 7, 8, 12)))
    assert found == [
        (True, (True, False, False)),
        (True, (True, True, False)),
        (False, (False, False, False)),
        (False, (False, False, False)),
        (False, (False, False, False)),
    ]


def test_the_sweep_of_thresholds_is_recorded_beside_the_copies() -> None:
    readings = copying(4, 4, 4, 4, 4)
    readings.top_p[:, 3, 0] = torch.tensor([0.6, 0.75, 0.85, 0.92, 0.97])
    at = [record.copy_at for record in recorded(drawn_reading(norm=readings))[0].next_token["norm"]]
    assert at == [tuple(place < row for place in range(4)) for row in range(5)]


def test_a_copy_is_what_the_rule_says() -> None:
    readings = copying(4, 4, 4, 4, 4)
    readings.top_p[:, 3, 0] = torch.tensor([0.6, 0.75, 0.85, 0.92, 0.97])
    reading = drawn_reading(norm=readings)
    for threshold, copies_from in ((0.95, 4), (0.8, 2), (0.5, 0)):
        read = records_of(reading, token_string, frozenset(), False, CopyRule(threshold, 0.1))
        assert [row.copy_collapse for row in read[0].next_token["norm"]] == [row >= copies_from for row in range(5)]


def test_special_tokens_and_punctuation_never_make_a_copy() -> None:
    reading = drawn_reading(norm=copying(0, 4, 5, 6, 4))
    assert [flag for flag, _ in copies(reading)] == [True] * 5
    assert [flag for flag, _ in copies(reading, special=frozenset({0, 6}))] == [False, True, True, False, True]
    dotted = records_of(reading, lambda id_: "..." if id_ == 5 else token_string(id_), frozenset(), False)
    assert [row.copy_collapse for row in dotted[0].next_token["norm"]] == [True, True, False, True, True]


def test_row_0_of_tied_embeddings_is_flagged_and_no_window_reaches_into_it() -> None:
    reading = drawn_reading(norm=copying(4, 5, 6, 4, 5))
    for tied in (False, True):
        rows = recorded(reading, tied=tied)[0].next_token["norm"]
        assert [row.identity_row for row in rows] == [tied, False, False, False, False]
        assert [row.copy_collapse for row in rows] == [True] * 5
        assert rows[1].copy_soft == (True, not tied, False)
        assert rows[2].copy_soft == (True, True, not tied)


def spoiled(row: int, at: int) -> RowReadings:
    """Readings as they come from logits that are all NaN at one place: nothing is larger, so the rank would be 1."""
    readings = drawn(0)
    for name, tensor in readings._asdict().items():
        if tensor.dtype == torch.float64:
            tensor[row, at] = math.nan
        elif name == "target_rank":
            tensor[row, at] = 1
    readings.finite[row, at] = False
    return readings


def test_a_place_that_is_not_finite_is_named_and_its_values_stay_nan() -> None:
    records = recorded(drawn_reading(norm=spoiled(2, 3), tuned=drawn(1)))
    assert records[0].nonfinite == (NonFinite("norm", 2, 3),)
    assert all(other.nonfinite == () for other in records[1:])
    bad = records[0].next_token["norm"][2]
    for value in (bad.entropy_bits, bad.p_answer, bad.answer_nll_bits, bad.cos_to_final, bad.p_top1, bad.p_top5):
        assert value is not None
        assert math.isnan(value)
    assert math.isnan(records[0].positions["norm"][2 * 4 + 3].kl_to_final_bits)
    assert all(math.isnan(token.p) for token in bad.top)


def test_an_answer_has_no_rank_and_nothing_is_a_copy_where_logits_are_not_finite() -> None:
    bad = recorded(drawn_reading(norm=spoiled(2, 3)))[0].next_token["norm"][2]
    assert bad.answer_rank is bad.is_answer is None
    assert not any((bad.copy_collapse, bad.entropy_collapse, *bad.copy_soft, *bad.copy_at))


def test_a_likely_token_is_no_copy_where_another_logit_is_not_finite() -> None:
    readings = copying(4, 4, 4, 4, 4)
    readings.finite[1, 3] = False
    assert [flag for flag, _ in copies(drawn_reading(norm=readings))] == [True, False, True, True, True]


def test_a_place_among_the_answers_tokens_is_named_after_the_prompts_and_spoils_only_the_nll() -> None:
    records = recorded(drawn_reading(norm=spoiled(1, 5)))[0]
    assert records.nonfinite == (NonFinite("norm", 1, 5),)
    bad = records.next_token["norm"][1]
    assert bad.answer_nll_bits is not None
    assert math.isnan(bad.answer_nll_bits)
    assert bad.answer_rank is not None
    assert bad.p_answer == drawn(0).target_p[1, 3].item()


def test_every_place_that_is_not_finite_is_named_once_by_lens_row_and_position() -> None:
    readings = {"norm": drawn(0), "tuned": drawn(1)}
    draw = torch.Generator().manual_seed(8)
    for lens in readings.values():
        lens.finite[:] = torch.rand(ROWS, TOKENS, generator=draw) < 0.7
    found = recorded(drawn_reading(**readings))
    for records, start, end in zip(found, STARTS, (*STARTS[1:], TOKENS), strict=True):
        wanted = [
            NonFinite(name, row, at - start)
            for name, lens in readings.items()
            for row in range(ROWS)
            for at in range(start, end)
            if not lens.finite[row, at]
        ]
        assert list(records.nonfinite) == wanted


def test_pairs_and_checks_are_dealt_out_to_their_prompts() -> None:
    reading = drawn_reading()
    for number, records in enumerate(recorded(reading)):
        for pairs, rows in ((reading.norm_to_raw, records.norm_to_raw), (reading.final_to_next, records.final_to_next)):
            assert pairs is not None
            assert rows is not None
            assert [row.layer for row in rows] == list(range(ROWS))
            for layer, row in enumerate(rows):
                values = [tensor[layer, number].item() for tensor in pairs]
                assert list(row[1:]) == [
                    None if place > 2 and value == 0 else value for place, value in enumerate(values)
                ]
                assert (row.answer_rank_a is None) == (number in (1, 3))
        assert records.last_row == LastRowCheck(*(tensor[number].item() for tensor in reading.last_row))


def test_a_pair_whose_divergence_is_nan_has_no_ranks() -> None:
    reading = drawn_reading()
    reading.norm_to_raw.kl_bits[2, 0] = math.nan
    rows = recorded(reading)[0].norm_to_raw
    assert [row.answer_rank_a is None for row in rows] == [False, False, True, False, False]
    assert [row.answer_rank_b is None for row in rows] == [False, False, True, False, False]


def test_a_model_without_next_norms_has_no_such_pairs() -> None:
    reading = drawn_reading()._replace(final_to_next=None)
    assert all(records.final_to_next is None for records in recorded(reading))


def test_every_token_is_decoded_once_however_often_it_is_listed() -> None:
    decoded: list[int] = []

    def decode(token_id: int) -> str:
        decoded.append(token_id)
        return token_string(token_id)

    reading = drawn_reading()
    records_of(reading, decode, frozenset(), False)
    listed = {id_ for lens in reading.lenses.values() for id_ in lens.top_ids.flatten().tolist()}
    assert sorted(decoded) == sorted(listed)


def test_a_vocabulary_of_one_token_has_no_second_to_compare_with() -> None:
    one = drawn(0)
    one = one._replace(top_ids=torch.full_like(one.top_ids[..., :1], 4), top_p=torch.ones_like(one.top_p[..., :1]))
    row = recorded(drawn_reading(norm=one))[0].next_token["norm"][0]
    assert row.copy_collapse
    assert (row.p_top1, row.p_top5, row.top) == (1.0, 1.0, (TopToken(4, " w4", 1.0),))


def test_records_hold_plain_numbers_that_json_knows() -> None:
    records = recorded(drawn_reading())[0]
    plain = {str, int, float, bool, tuple, type(None)}
    assert {type(value) for value in records.next_token["norm"][1]} <= plain
    assert {type(value) for value in records.positions["norm"][1]} <= plain
    assert {type(value) for value in records.norm_to_raw[1] + records.last_row} <= plain


def test_rows_that_a_lens_does_not_read_have_no_record_and_no_window_goes_over_them() -> None:
    reading = drawn_reading(norm=drawn(0), j=RowReadings(*(tensor[[1, 3]] for tensor in drawn(0))))
    reading = reading._replace(rows={"norm": tuple(range(ROWS)), "j": (1, 3)})
    certain = torch.zeros(2, TOKENS, TOP)
    certain[..., 0] = 1.0
    copied = reading.lenses["j"]._replace(top_p=certain, top_ids=torch.full((2, TOKENS, TOP), PROMPTS[0].ids[0]))
    for records in recorded(reading, tied=True):
        assert [row.layer for row in records.next_token["j"]] == [1, 3]
        assert {cell.layer for cell in records.positions["j"]} == {1, 3}
        by_layer = {row.layer: row for row in records.next_token["norm"]}
        for row in records.next_token["j"]:
            assert row.p_top1 == by_layer[row.layer].p_top1
            assert row.answer_rank == by_layer[row.layer].answer_rank
            assert not row.identity_row
    windows = recorded(reading._replace(lenses=reading.lenses | {"j": copied}))[0].next_token["j"]
    assert [any(row.copy_soft[1:]) for row in windows] == [False, False]
