"""Prompts as a caller in Python gives them."""

from typing import Any

import pytest

from logos_pl.data.given_prompts import prompts_in
from logos_pl.data.prompt_types import Message, Prompt
from logos_pl.errors import InputError

TURN = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("item", "prompt"),
    [
        ("Say", Prompt("p1", "orig", "Say")),
        (("Say", "b"), Prompt("p1", "orig", "Say", "b")),
        ([TURN], Prompt("p1", "orig", "", messages=(Message("user", "Hi"),))),
        (([TURN], "b"), Prompt("p1", "orig", "", "b", messages=(Message("user", "Hi"),))),
        (
            (TURN, Message("assistant", "a")),
            Prompt("p1", "orig", "", None, messages=(Message("user", "Hi"), Message("assistant", "a"))),
        ),
        ([1, 2], Prompt("p1", "orig", "", token_ids=(1, 2))),
        (((1, 2), "b"), Prompt("p1", "orig", "", "b", token_ids=(1, 2))),
        (Prompt("own", "orig", "Say"), Prompt("own", "orig", "Say")),
    ],
)
def test_a_text_a_conversation_or_token_ids_with_an_answer_or_without(item: Any, prompt: Prompt) -> None:
    assert prompts_in([item]) == [prompt]


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ([], r"^Prompt p1 is \[\]: give a text, a list of messages or a list of token ids\.$"),
        (4, "^Prompt p1 is 4: give a text"),
        (None, "^Prompt p1 is None: give a text"),
        ([1, -2], "^Prompt p1 has the token id -2: ids begin with 0"),
        ([1, True], "^Prompt p1 is not a conversation: message 1 is a number"),
        (["Say"], "^Prompt p1 is not a conversation: message 1 is text, not an object with `role` and `content`"),
        (("Say", 418), "^Prompt p1 has the answer 418, which is not text: give it as a string"),
        (([0, 52], None), "^Prompt p1 has the answer None"),
        ([{"role": "user"}], r"^Prompt p1 is not a conversation: message 1 has no `content`\.$"),
    ],
)
def test_anything_else_is_refused(item: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        prompts_in([item])


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"^Two prompts are called p2 \(orig\): give every prompt its own id\.$"):
        prompts_in([Prompt("p2", "orig", "a"), "b"])
