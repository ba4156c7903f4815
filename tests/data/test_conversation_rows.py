"""Rows of conversations: what is one, its fixed form, and its tokens."""

import json
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from logos_pl.data.conversation_rows import ConversationTokenizer, NotMessagesError, document_of, messages_of
from logos_pl.data.prompt_types import Message
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from tests.data.test_tokenizing import with_prefix

SAID = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "end"}]


def test_the_fixed_form_depends_on_what_is_said_alone() -> None:
    form = '[{"role":"user","content":"the"},{"role":"assistant","content":"end"}]'
    assert document_of(SAID) == form
    assert document_of([{"content": "the", "name": "x", "role": "user"}, SAID[1] | {"tool_calls": None}]) == form
    assert document_of([{"role": "user", "content": "né\ud800"}]) == '[{"role":"user","content":"né\ud800"}]'


@pytest.mark.parametrize("nothing", [None, []])
def test_a_row_may_have_none(nothing: Any) -> None:
    assert document_of(nothing) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("Hello", "it is text, not an array of messages"),
        ({"role": "user", "content": "a"}, "it is an object, not an array of messages"),
        (3, "it is a number, not an array"),
        (["a"], "message 1 is text, not an object with `role` and `content`"),
        ([None], "message 1 is null, not an object"),
        ([SAID[0], {"from": "human", "value": "a"}], "message 2 has no `role`"),
        ([{"role": "user"}], "message 1 has no `content`"),
        ([{"role": "user", "content": None}], "message 1 has no `content`"),
        ([{"role": "user", "content": [{"type": "text"}]}], "`content` of message 1 is an array, not text"),
        ([{"role": 1, "content": "a"}], "`role` of message 1 is a number, not text"),
        (
            [{"role": "gpt", "content": "a"}],
            "message 1 has the role 'gpt'; roles are system, developer, user, assistant",
        ),
        ([{"role": "user", "content": " "}], "all messages are empty"),
    ],
)
def test_what_is_no_conversation_is_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(NotMessagesError) as caught:
        document_of(value)
    assert str(caught.value).startswith(reason)


def test_messages_may_be_given_as_such() -> None:
    assert messages_of([Message("user", "the"), SAID[1]]) == (Message("user", "the"), Message("assistant", "end"))


def chatty(template: str) -> PreTrainedTokenizerFast:
    tokenizer = with_prefix("<s>")
    tokenizer.chat_template = template
    return tokenizer


def test_a_conversation_gets_what_its_template_writes_and_nothing_else() -> None:
    tokenizer = chatty("{{ bos_token }} {% for m in messages %}{{ m.content }} </s> {% endfor %}")
    encode = ConversationTokenizer(Tokenizer(tokenizer))
    assert list(encode(json.dumps(SAID))) == tokenizer.apply_chat_template(SAID, return_dict=False) == [0, 4, 2, 5, 2]


@pytest.mark.parametrize(
    ("begin", "remark"),
    [
        ("", r"^Conversations are read without the BOS \(<s>\) that the tokenizer adds to every text\.$"),
        ("<s> <s>", r"^Conversations are read with two BOS \(.*\), which no model was trained on: remove one\.$"),
    ],
)
def test_a_template_with_no_bos_or_with_two_is_remarked_on(begin: str, remark: str) -> None:
    encode = ConversationTokenizer(
        Tokenizer(chatty(f"{begin} {{% for m in messages %}}{{{{ m.content }}}} {{% endfor %}}"))
    )
    with pytest.warns(UserWarning, match=remark):
        encode(json.dumps(SAID))


def test_one_that_cannot_be_rendered_or_read_is_refused() -> None:
    with pytest.raises(TextRefusedError, match="cannot be rendered by the model's chat template: no such role"):
        ConversationTokenizer(Tokenizer(chatty("{{ raise_exception('no such role') }}")))(json.dumps(SAID))
    with pytest.raises(TextRefusedError, match="the id 5, but the model has only the ids 0 to 4"):
        ConversationTokenizer(Tokenizer(chatty("<s> {{ messages[1].content }}"), 5))(json.dumps(SAID))
