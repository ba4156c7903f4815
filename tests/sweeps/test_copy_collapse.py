import itertools
import math
import random
import sys
import unicodedata

import pytest

from logos_pl.sweeps.copy_collapse import CopyRule, RowTop, copy_flags, is_blank_or_punctuation, uncounted_ids
from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS

NONE: frozenset[int] = frozenset()


def sure(*ids: int) -> list[RowTop]:
    return [RowTop(id_, 0.99, 0.005) for id_ in ids]


def test_a_sure_token_of_the_prompt_is_a_copy_and_another_is_not() -> None:
    flags = copy_flags(sure(4, 9), [3, 4], NONE, identity_row=False)
    assert [flag.strict for flag in flags] == [True, False]
    assert [flag.soft for flag in flags] == [(True, False, False), (False, False, False)]


@pytest.mark.parametrize(
    ("p_top1", "strict", "soft", "at"),
    [
        (0.33, False, False, (False, False, False, False)),
        (0.3301, False, True, (False, False, False, False)),
        (0.70, False, True, (False, False, False, False)),
        (0.7001, False, True, (True, False, False, False)),
        (0.90, False, True, (True, True, False, False)),
        (0.95, False, True, (True, True, True, False)),
        (0.9501, True, True, (True, True, True, True)),
    ],
)
def test_a_probability_has_to_exceed_its_threshold(
    p_top1: float, strict: bool, soft: bool, at: tuple[bool, ...]
) -> None:
    (flags,) = copy_flags([RowTop(4, p_top1, 0.0)], [4], NONE, identity_row=False)
    assert (flags.strict, flags.soft[0], flags.at) == (strict, soft, at)


@pytest.mark.parametrize(
    ("rule", "strict"),
    [(CopyRule(0.5, 0.1), True), (CopyRule(0.6, 0.1), False), (CopyRule(0.5, 0.3), False), (CopyRule(), False)],
)
def test_threshold_and_margin_can_be_set(rule: CopyRule, strict: bool) -> None:
    row = RowTop(4, 0.6, 0.35)
    (flags,) = copy_flags([row], [4], NONE, identity_row=False, rule=rule)
    assert flags.strict is strict
    assert flags.soft[0] is (rule.margin < 0.25), "the margin is of every variant, the threshold of its own"


def test_a_close_second_prevents_a_soft_copy_at_any_row_of_the_window() -> None:
    close, clear = RowTop(4, 0.5, 0.4), RowTop(5, 0.5, 0.39)
    assert copy_flags([close], [4], NONE, identity_row=False)[0].soft[0] is False
    assert copy_flags([clear], [5], NONE, identity_row=False)[0].soft[0] is True
    assert copy_flags([close, clear], [4, 5], NONE, identity_row=False)[1].soft == (True, False, False)


def test_a_window_has_to_stand_in_the_prompt_contiguously_and_in_order() -> None:
    prompt = [7, 4, 5, 6]
    assert copy_flags(sure(4, 5, 6), prompt, NONE, identity_row=False)[2].soft == (True, True, True)
    assert copy_flags(sure(6, 5, 4), prompt, NONE, identity_row=False)[2].soft == (True, False, False)
    assert copy_flags(sure(7, 4, 6), prompt, NONE, identity_row=False)[2].soft == (True, False, False)
    assert copy_flags(sure(5, 6, 7), prompt, NONE, identity_row=False)[2].soft == (True, False, False)


def test_a_token_that_stays_on_top_is_no_slice_unless_the_prompt_repeats_it() -> None:
    assert copy_flags(sure(4, 4), [4, 5], NONE, identity_row=False)[1].soft == (True, False, False)
    assert copy_flags(sure(4, 4), [5, 4, 4], NONE, identity_row=False)[1].soft == (True, True, False)


def test_a_window_that_begins_before_row_0_is_no_copy() -> None:
    soft = [flags.soft for flags in copy_flags(sure(4, 5, 6), [4, 5, 6], NONE, identity_row=False)]
    assert soft == [(True, False, False), (True, True, False), (True, True, True)]


def test_an_uncounted_token_anywhere_in_the_window_disqualifies_it() -> None:
    flags = copy_flags(sure(4, 5, 6), [4, 5, 6], {5}, identity_row=False)
    assert [flag.strict for flag in flags] == [True, False, True]
    assert [flag.soft for flag in flags] == [(True, False, False), (False, False, False), (True, False, False)]
    assert [flag.at for flag in flags] == [(True,) * 4, (False,) * 4, (True,) * 4]


def test_an_identity_row_is_flagged_alone_and_no_later_window_reaches_into_it() -> None:
    flags = copy_flags(sure(4, 5, 6, 7), [4, 5, 6, 7], NONE, identity_row=True)
    assert flags[0].strict
    assert flags[0].at == (True,) * 4
    assert [flag.soft for flag in flags] == [
        (True, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]


def test_a_probability_that_is_nan_makes_no_copy() -> None:
    flags = copy_flags([RowTop(4, math.nan, math.nan), *sure(5)], [4, 5], NONE, identity_row=False)
    assert not flags[0].strict
    assert not any(flags[0].soft + flags[0].at)
    assert flags[1].soft == (True, False, False)


def test_all_flags_equal_a_search_for_substrings_over_random_rows() -> None:
    draw = random.Random(5)
    seen = set()
    for _ in range(400):
        prompt = draw.choices(range(4), k=draw.randint(1, 6))
        rows = [
            RowTop(draw.randrange(5), draw.choice([0.2, 0.33, 0.4, 0.72, 0.85, 0.95, 0.96]), draw.choice([0.02, 0.35]))
            for _ in range(draw.randint(1, 6))
        ]
        uncounted, identity = set(draw.sample(range(5), draw.randint(0, 1))), draw.random() < 0.5
        whole = "|" + "".join(f"{id_}|" for id_ in prompt)

        def wanted(end: int, k: int, threshold: float) -> bool:
            window = rows[max(end - k + 1, 0) : end + 1]  # noqa: B023
            if len(window) < k or (identity and k > 1 and end - k + 1 == 0):  # noqa: B023
                return False
            text = "|" + "".join(f"{top.top1_id}|" for top in window)
            return text in whole and all(  # noqa: B023
                top.p_top1 > threshold and top.p_top1 - top.p_top2 > 0.1 and top.top1_id not in uncounted  # noqa: B023
                for top in window
            )

        for end, flags in enumerate(copy_flags(rows, prompt, uncounted, identity_row=identity)):
            assert flags.strict == wanted(end, 1, 0.95)
            assert flags.soft == tuple(wanted(end, k, 0.33) for k in SOFT_WINDOWS)
            assert flags.at == tuple(wanted(end, 1, threshold) for threshold in COPY_THRESHOLDS)
            seen |= {(flags.strict, flags.soft, flags.at)}
    assert len(seen) > 8, "the random rows hardly reach any flag"


def test_every_single_character_is_classified_by_its_category_or_as_whitespace() -> None:
    for character in map(chr, itertools.chain(range(0x3000), range(0xFE00, 0x10000, 3), (0x1F600, 0x10FFFF))):
        wanted = unicodedata.category(character) in {
            "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Zs", "Zl", "Zp",
        } or not character.strip()  # fmt: skip
        assert is_blank_or_punctuation(character) == wanted, hex(ord(character))
    assert sys.maxunicode == 0x10FFFF


@pytest.mark.parametrize("token", ["", " ", "\n\n", "\t ", " .", "...", "。", "\u2028", "«", " -", '"', "_"])
def test_tokens_of_whitespace_and_punctuation_alone_are_blank(token: str) -> None:
    assert is_blank_or_punctuation(token)


@pytest.mark.parametrize("token", [" a", "don't", "U.S.", "ä", "柏林", "+", "$", "1", "\ufffd", " =", "\x00"])
def test_tokens_with_a_letter_a_digit_or_a_symbol_are_not(token: str) -> None:
    assert not is_blank_or_punctuation(token)


def test_special_tokens_never_count_whatever_they_look_like() -> None:
    assert uncounted_ids({0: "<s>", 1: " ,", 2: "Berlin", 3: "word"}, {0, 3, 99}) == {0, 1, 3}
