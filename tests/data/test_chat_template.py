"""Conversations in a model's template, and templates that are missing or fail."""

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from logos_pl.data.chat_template import Message, has_template, render_chat
from logos_pl.errors import InputError
from tests.tiny import make_model

TURNS = [Message("user", "sun"), Message("assistant", "moon"), Message("user", "star ?")]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("model") / "tiny"))


def with_template(tokenizer: PreTrainedTokenizerBase, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", template)


def test_the_turns_are_rendered_and_the_models_own_is_begun(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    with_template(tokenizer, template + "{% if add_generation_prompt %}<assistant>{% endif %}", monkeypatch)
    assert has_template(tokenizer)
    assert render_chat(tokenizer, TURNS, "org/m") == "<user>sun\n<assistant>moon\n<user>star ?\n<assistant>"


def test_a_model_without_a_template_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    assert not has_template(tokenizer)
    with pytest.raises(InputError, match=r"^org/m has no chat template"):
        render_chat(tokenizer, TURNS, "org/m")


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for %}",
        "{{ messages[9].content.x }}",
        "{{ 1 / 0 }}",
        "{{ 1 + 'a' }}",
    ],
)
def test_a_template_that_fails_is_named_with_its_reason(
    template: str, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_template(tokenizer, template, monkeypatch)
    with pytest.raises(InputError, match=r"^The chat template of org/m cannot render this conversation: .*\.$"):
        render_chat(tokenizer, TURNS, "org/m")
