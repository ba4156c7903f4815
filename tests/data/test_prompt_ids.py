"""Tokens of prompts in each of their forms, and what is said of their BOS."""

import pytest
from transformers import PreTrainedTokenizerFast

from logos_pl.data.prompt_types import Message, Place, Prompt
from logos_pl.data.prompts import TokenizedPrompt, remarks, tokenize_prompt
from logos_pl.errors import InputError
from logos_pl.settings.text import SpecialTokens
from tests.data.test_tokenizing import with_prefix

TURNS = (Message("user", "the"), Message("assistant", "end"), Message("user", "end the"))


def read(prompt: Prompt, template: str | None = None, special_tokens: SpecialTokens = "auto") -> TokenizedPrompt:
    """A prompt read by a tokenizer that puts `<s>` before every text."""
    return tokenize_prompt(tokenizer(template), prompt, None, 6, special_tokens)


def tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    found = with_prefix("<s>")
    found.chat_template = template
    return found


def chat(begin: str, messages: tuple[Message, ...] = TURNS) -> TokenizedPrompt:
    body = "{% for m in messages %}{{ m.content }} </s> {% endfor %}<g>"
    return read(Prompt("c", "orig", "", "end", messages=messages), begin + body)


def test_a_conversation_is_what_apply_chat_template_makes_of_it() -> None:
    template = "{{ bos_token }} {% for m in messages %}{{ m.content }} </s> {% endfor %}<g>"
    found = chat("{{ bos_token }} ")
    turns = [message._asdict() for message in TURNS]
    made = tokenizer(template).apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert list(found.ids) == made == [0, 4, 2, 5, 2, 5, 4, 2, 1]
    assert (found.prompt.text, found.prompt.messages) == ("<s> the </s> end </s> end the </s> <g>", TURNS)
    assert (found.added, found.left_out, found.oddity) == ((), (), None)
    assert (found.answer_tokens.ids, found.answer_tokens.status) == ((5,), "resolved")
    assert [place[:1] + place[2:] for place in found.places] == [
        ("turn1", 1, 1), ("turn2", 3, 3), ("turn3", 5, 6), ("reply", 8, 8), ("last", 8, 8)
    ]  # fmt: skip
    assert [place.role for place in found.places] == ["user", "assistant", "user", None, None]


def test_token_ids_are_read_as_they_are_and_their_answer_after_the_same_text() -> None:
    found = read(Prompt("x", "orig", "", "end", "the", token_ids=(0, 4, 2, 4)))
    assert (found.ids, found.tokens) == ((0, 4, 2, 4), ("<s>", " the", "</s>", " the"))
    assert (found.answer_tokens.ids, found.contrast.ids) == ((5,), (4,))
    assert (found.prompt.text, found.added, found.left_out) == ("<s> the </s> the", (), ())
    assert found.places == (Place("reply", None, 3, 3), Place("last", None, 3, 3))
    assert found.input_ids == (0, 4, 2, 4)


@pytest.mark.parametrize(
    ("text", "special_tokens", "ids", "added", "left_out"),
    [
        ("the", "auto", (0, 4), ("<s>",), ()),
        ("<s> the", "auto", (0, 4), (), ("<s>",)),
        ("the", "none", (4,), (), ()),
        ("<s> the", "none", (0, 4), (), ()),
    ],
)
def test_what_was_added_to_a_text_and_what_was_not_is_on_record(
    text: str, special_tokens: SpecialTokens, ids: tuple[int, ...], added: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    found = read(Prompt("x", "orig", text), special_tokens=special_tokens)
    assert (found.ids, found.added, found.left_out) == (ids, added, left_out)


def test_no_bos_and_two_are_remarked_on_by_whatever_way_they_came() -> None:
    ids = [Prompt(f"i{n}", "orig", "", token_ids=(4, n)) for n in (4, 5)]
    assert remarks([read(prompt) for prompt in ids]) == [
        "prompts 'i4', 'i5' are read without the BOS (<s>) that the tokenizer adds to every text."
    ]
    assert remarks([read(Prompt("x", "orig", "the"), special_tokens="none")]) == [
        "prompt 'x' is read without the BOS (<s>) that the tokenizer adds to every text (special_tokens none)."
    ]
    assert remarks([chat("")]) == ["prompt 'c' is read without the BOS (<s>) that the tokenizer adds to every text."]
    twice = "prompt 'c' is read with two BOS (<s><s>), which no model was trained on: remove one."
    assert remarks([chat("<s> <s> ")]) == [twice]
    assert remarks([read(Prompt("c", "orig", "", token_ids=(0, 0, 4)))]) == [twice]
    assert twice in remarks([read(Prompt("c", "orig", "<s> <s> the"))])
    assert (
        remarks([chat("<s> "), read(Prompt("x", "orig", "the")), read(Prompt("y", "orig", "", token_ids=(0, 4)))]) == []
    )


@pytest.mark.parametrize(
    ("prompt", "template", "wanted"),
    [
        (
            Prompt("x", "orig", "", messages=TURNS),
            None,
            "^prompt 'x' cannot be rendered, as the model has no chat template",
        ),
        (
            Prompt("x", "orig", "", messages=TURNS),
            "{{ raise_exception('roles must alternate') }}",
            r"^prompt 'x' cannot be rendered by the model's chat template: roles must alternate\.$",
        ),
        (
            Prompt("x", "orig", "", messages=TURNS),
            " ",
            "^prompt 'x' has no tokens: its chat template renders it as an empty text",
        ),
        (
            Prompt("x", "orig", "", token_ids=(0, 6)),
            None,
            "^prompt 'x' holds the token .* the id 6, but the model has only",
        ),
        (
            Prompt("x", "orig", "", messages=(Message("user", "\ud800"),)),
            "{{ messages[0].content }}",
            r"^prompt 'x' is not valid text: character 1 is half of a surrogate pair",
        ),
        (Prompt("x", "orig", " "), None, "^prompt 'x' is empty"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(prompt: Prompt, template: str | None, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        read(prompt, template)
