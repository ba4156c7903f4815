"""What is said of a lens on another model."""

from dataclasses import replace

import pytest

from logos_pl.artifacts.fingerprint import Movement
from logos_pl.artifacts.transfer import DepthKl, Transfer, depth_kl, refuse_shape, text_words
from logos_pl.errors import InputError

MOVED = Movement(False, True, 0.0123, 3, [0.0, 0.01, 0.011, 0.0123], 0.04, 8, 10)
FOUND = Transfer("org/base", "a" * 40, "org/tuned", "b" * 40, MOVED, {"50": DepthKl(2, 1.2, 0.7)}, "corpus")


def test_the_sentence_names_both_models_and_how_far_they_are_apart() -> None:
    assert FOUND.sentence("tuned lens") == (
        "the tuned lens was fitted on org/base at aaaaaaaaaaaa and is read with org/tuned at bbbbbbbbbbbb: the head "
        "differs; on a fixed sequence the residual norms differ by 1.2% (row 3), the logits by 4.0%, and 8 of the 10 "
        "likeliest tokens stay among the likeliest"
    )
    same = replace(FOUND, moved=MOVED._replace(same_head=True, same_rotary=False))
    assert "the head is the same, the rotary frequencies differ;" in same.sentence("tuned lens")


def test_plain_values_hold_both_sides() -> None:
    here = depth_kl({"50": 2}, {"kl_from_final_bits": [0, 0, 1.5]}, {"kl_from_final_bits": [0, 0, 0.9]})
    plain = replace(FOUND, here=here).to_plain()
    assert plain["recorded"] == {"50": {"row": 2, "norm": 1.2, "lens": 0.7}}
    assert plain["here"] == {"50": {"row": 2, "norm": 1.5, "lens": 0.9}}
    assert plain["moved"]["top_kept"] == 8
    assert FOUND.to_plain()["here"] is None


def test_another_shape_is_refused_with_both() -> None:
    refuse_shape((5, 5), (16, 16), "tuned lens")
    for rows, width in (((5, 4), (16, 16)), ((5, 5), (16, 8))):
        with pytest.raises(InputError, match="is for a model of 4 blocks and width 16, but this one has"):
            refuse_shape(rows, width, "tuned lens")


def test_a_text_in_words_says_all_that_its_bits_depend_on() -> None:
    assert text_words("org/text", None, "text", "auto") == "org/text"
    assert text_words("org/text", "en", "chat", "none") == "org/text en, conversations, without special tokens"
