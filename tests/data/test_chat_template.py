"""Conversations in a model's template, where their turns are, and templates that are missing or fail."""

from datetime import datetime

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from logos_pl.data.chat_template import has_template, places_in, render_chat
from logos_pl.data.prompt_types import Message, Place
from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from tests.tiny import make_model

TURNS = [Message("user", "sun"), Message("assistant", "moon"), Message("user", "star ?")]
HEADED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

DATED = """  {% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}
{% macro also() %}{{ strftime_now( "%Y-%m-%d" ) }}{% endmacro %}
{{ today }}
{{ messages[0].content }} {{ also() }}"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture
def templated(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> PreTrainedTokenizerBase:
    monkeypatch.setattr(tokenizer, "chat_template", HEADED)
    return tokenizer


def test_the_turns_are_rendered_and_the_models_own_is_begun(templated: PreTrainedTokenizerBase) -> None:
    assert has_template(templated)
    assert render_chat(templated, TURNS) == "<user>sun\n<assistant>moon\n<user>star ?\n<assistant>"


def test_a_reply_that_has_begun_is_gone_on_with(templated: PreTrainedTokenizerBase) -> None:
    assert render_chat(templated, TURNS[:2]) == "<user>sun\n<assistant>moon"


@pytest.mark.parametrize("turns", [TURNS, TURNS[:2]])
def test_a_whole_conversation_is_rendered_as_it_is(turns: list[Message], templated: PreTrainedTokenizerBase) -> None:
    whole = "".join(f"<{message.role}>{message.content}\n" for message in turns)
    assert render_chat(templated, turns, to_continue=False) == whole


def test_what_is_packed_does_not_depend_on_the_day(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", DATED)
    assert render_chat(tokenizer, TURNS, to_continue=False) == "26 Jul 2024\nsun 2024-07-26"
    assert render_chat(tokenizer, TURNS)[11:] == f"\nsun {datetime.now():%Y-%m-%d}"


def test_a_model_without_a_template_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not has_template(tokenizer)
    with pytest.raises(TextRefusedError, match=r"^The conversation cannot be rendered, as the model has no chat templ"):
        render_chat(tokenizer, TURNS)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for %}",
        "{{ messages[9].content.x }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for x in range(10**9) %}{{ x }}{% endfor %}",
        "{{ '{0}'.format() }}",
        "{{ 'a' * 10**30 }}",
        "{{ 'x' * (2**25 + 1) }}",
    ],
)
def test_a_template_that_fails_is_named_with_its_reason(
    template: str, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", template)
    with pytest.raises(
        TextRefusedError, match=r"^The conversation cannot be rendered by the model's chat temp.*: .*\.$"
    ):
        render_chat(tokenizer, TURNS)


def words(tokenizer: PreTrainedTokenizerBase, turns: list[Message]) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """Tokens of a conversation, and its places."""
    encode = Tokenizer(tokenizer)
    text = render_chat(tokenizer, turns)
    ids = encode.plain(text)
    found = places_in(encode, turns, text, ids)
    return tokenizer.convert_ids_to_tokens(list(ids)), {place.name: (place.first, place.last) for place in found}


def test_every_turn_the_reply_and_the_last_token_have_names(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "{{ 'hill' if m.role == 'user' else 'road' }} {{ m.content | trim }} . "
    own = "{% if messages[0].role != 'system' %}<s> sun . {% endif %}"  # a system message of the template's own
    monkeypatch.setattr(
        tokenizer,
        "chat_template",
        f"{own}{{% for m in messages %}}{header}{{% endfor %}}{{% if add_generation_prompt %}}road{{% endif %}}",
    )
    tokens, places = words(
        tokenizer, [Message("user", "sun moon "), Message("assistant", "bird"), Message("user", "sun")]
    )
    assert tokens == ["<s>", "sun", ".", "hill", "sun", "moon", ".", "road", "bird", ".", "hill", "sun", ".", "road"]
    assert places == {"turn1": (4, 5), "turn2": (8, 8), "turn3": (11, 11), "reply": (13, 13), "last": (13, 13)}
    tokens, places = words(tokenizer, [Message("user", "sun"), Message("assistant", "bird tree")])
    assert tokens[-3:] == ["road", "bird", "tree"]
    assert places == {"turn1": (4, 4), "turn2": (7, 8), "reply": (6, 6), "last": (8, 8)}


@pytest.mark.parametrize(
    "template", ["moon {{ messages[-1].content | upper }}", "moon", "{{ messages[0].content }} sun"]
)
def test_turns_that_a_template_changes_or_leaves_out_have_no_names(
    template: str, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", template)
    _, places = words(tokenizer, [Message("user", "sun"), Message("user", "star")])
    assert places.keys() == {"reply", "last"}


def test_a_turn_without_content_has_no_place(templated: PreTrainedTokenizerBase) -> None:
    encode, turns = Tokenizer(templated), [Message("system", ""), Message("user", "sun")]
    text = render_chat(templated, turns)
    ids = encode.plain(text)
    assert places_in(encode, turns, text, ids)[0] == Place("turn2", "user", *[list(ids).index(3)] * 2)
