"""Turns as tokens, with a chat template and without."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from logos_pl.data.conversation import Conversation
from logos_pl.data.prompt_types import Message
from logos_pl.errors import InputError
from tests.tiny import WORDS, make_model

TEMPLATE = "<s> {% for m in messages %}{{ 'sun' if m.role == 'user' else 'moon' }} {{ m.content }} . {% endfor %}moon"


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(make_model(tmp_path / "tiny"))


def of(tokenizer: PreTrainedTokenizerBase, context_length: int | None = None) -> Conversation:
    return Conversation(tokenizer, "org/m", len(WORDS) + 3, context_length)


def test_with_a_template_every_turn_is_rendered_anew(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = TEMPLATE
    talk = of(tokenizer)
    talk.ask("bird")
    assert talk.ids == tuple(tokenizer("sun bird . moon")["input_ids"])
    reply = tokenizer("tree stone", add_special_tokens=False)["input_ids"]
    talk.answer(reply)
    assert talk.messages == [Message("user", "bird"), Message("assistant", "tree stone")]
    talk.ask("wind")
    assert talk.ids == tuple(tokenizer("sun bird . moon tree stone . sun wind . moon")["input_ids"])


def test_without_a_template_text_goes_on_and_begins_once(tokenizer: PreTrainedTokenizerBase) -> None:
    talk = of(tokenizer)
    assert not talk.has_template
    talk.ask("sun bird")
    talk.answer(tokenizer("moon", add_special_tokens=False)["input_ids"])
    talk.ask("star")
    assert talk.ids == tuple(tokenizer("sun bird moon star")["input_ids"])
    talk.clear()
    assert (talk.ids, talk.messages) == ((), [])


def test_what_does_not_fit_the_context_is_refused_and_not_kept(tokenizer: PreTrainedTokenizerBase) -> None:
    talk = of(tokenizer, context_length=6)
    talk.ask("sun bird")
    assert talk.room == 3
    talk.answer(tokenizer("moon", add_special_tokens=False)["input_ids"])
    before = (talk.ids, list(talk.messages))
    with pytest.raises(
        InputError, match="would have 6 tokens, but org/m reads at most 6, including the reply: start another with /new"
    ):
        talk.ask("star star")
    assert (talk.ids, talk.messages) == before
    talk.ask("star")
    assert talk.room == 1


def test_a_template_that_fails_adds_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    talk = of(tokenizer)
    with pytest.raises(InputError, match="cannot be rendered by the model's chat template: no"):
        talk.ask("sun")
    assert (talk.ids, talk.messages) == ((), [])


def test_a_system_message_begins_every_conversation(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"^org/m has no chat template, and so no place for a system message"):
        Conversation(tokenizer, "org/m", len(WORDS) + 3, None, "stone")
    tokenizer.chat_template = TEMPLATE
    talk = Conversation(tokenizer, "org/m", len(WORDS) + 3, None, "stone")
    for _ in range(2):
        talk.ask("bird")
        assert talk.ids == tuple(tokenizer("moon stone . sun bird . moon")["input_ids"])
        talk.clear()
        assert (talk.ids, talk.messages) == ((), [Message("system", "stone")])


def test_a_template_that_writes_no_bos_is_remarked_on_once(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = TEMPLATE.removeprefix("<s> ")
    talk = of(tokenizer)
    with pytest.warns(UserWarning, match=r"^org/m: the conversation is read without the BOS \(<s>\)"):
        talk.ask("bird")
    assert talk.ids == tuple(tokenizer("sun bird . moon", add_special_tokens=False)["input_ids"])
    talk.ask("bird")
