from typing import Any

import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from logos_pl.data.tokenizing import TextRefusedError, Tokenizer
from tests.data.toy_tokenizers import SENTENCES, toy_tokenizer


def with_prefix(prefix: str, suffix: str = "") -> PreTrainedTokenizerFast:
    """Words, and special tokens around every text."""
    words = ["<s>", "<g>", "</s>", "<unk>", "the", "end"]
    raw = RawTokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(
        single=f"{prefix} $A {suffix}".strip(), special_tokens=[(word, index) for index, word in enumerate(words[:3])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", additional_special_tokens=["<g>"]
    )


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "left_out", "ids"),
    [
        ("<s>", "", "<s> the end", [0], [0, 4, 5]),
        ("<s>", "", "the end", [], [0, 4, 5]),
        ("<s>", "", "<s> <s> the", [0], [0, 0, 4]),  # two were written, and two are read
        ("<s>", "", "<g> the", [], [0, 1, 4]),
        ("<s>", "", "the <s>", [], [0, 4, 0]),
        ("<s>", "</s>", "<s> the", [0], [0, 4, 2]),
        ("<g> <s>", "", "<g> <s> the", [1, 0], [1, 0, 4]),
        ("<g> <s>", "", "<s> the", [], [1, 0, 0, 4]),
        ("", "", "<s> <s> the", [], [0, 0, 4]),
    ],
)
def test_special_tokens_that_a_text_begins_with_are_not_added_again(
    prefix: str, suffix: str, text: str, left_out: list[int], ids: list[int]
) -> None:
    found, read = Tokenizer(with_prefix(prefix, suffix)).once(text)
    assert (list(found), list(read)) == (left_out, ids)


def test_a_document_with_its_own_special_token_is_read_with_one_and_that_is_said() -> None:
    encode = Tokenizer(with_prefix("<s>"))
    with pytest.warns(UserWarning, match=r"^Texts begin with the BOS \(<s>\) .* not added again"):
        assert list(encode("<s> the end")) == [0, 4, 5]
    assert list(encode("the end")) == [0, 4, 5]


@pytest.mark.parametrize(
    ("prefix", "suffix", "added", "begin"),
    [("<s>", "", (0,), (0,)), ("<s>", "</s>", (0, 2), (0,)), ("", "</s>", (2,), ()), ("<g> <s>", "", (1, 0), (1, 0))],
)
def test_what_is_added_and_what_of_it_comes_first_is_found(
    prefix: str, suffix: str, added: tuple[int, ...], begin: tuple[int, ...]
) -> None:
    tokenizer = with_prefix(prefix, suffix)
    assert (Tokenizer(tokenizer).added, Tokenizer(tokenizer).begin) == (added, begin)
    assert (Tokenizer(tokenizer, None, "none").added, Tokenizer(tokenizer, None, "none").begin) == ((), begin)


def test_without_special_tokens_a_text_has_those_that_it_writes_and_lacking_them_is_said() -> None:
    encode = Tokenizer(with_prefix("<s>"), special_tokens="none")
    assert list(encode("<s> the")) == [0, 4]
    with pytest.warns(UserWarning, match=r"^Texts are read without the BOS \(<s>\) .* text \(special_tokens none\)\.$"):
        assert list(encode("the")) == [4]


def test_a_text_with_two_bos_of_its_own_is_remarked_on() -> None:
    with pytest.warns(UserWarning, match=r"^Texts are read with two BOS \(<s><s>\), which no model was trained on"):
        assert list(Tokenizer(with_prefix(""))("<s> <s> the")) == [0, 0, 4]


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        ({"chat_template": "{{- bos_token }}{{ messages }}"}, "the model's chat template begins with one"),
        ({"add_bos_token": True}, "its settings ask for one"),
    ],
)
def test_a_tokenizer_that_adds_no_bos_where_the_model_was_trained_with_one_is_remarked_on(
    asks: dict[str, Any], why: str
) -> None:
    tokenizer = with_prefix("")
    tokenizer.init_kwargs |= asks
    tokenizer.chat_template = asks.get("chat_template")
    with pytest.warns(
        UserWarning, match=rf"^Texts are read without a BOS \(<s>\): the tokenizer adds none, though {why}"
    ):
        Tokenizer(tokenizer)("the end")
    assert list(Tokenizer(tokenizer)("<s> the")) == [0, 4]


@pytest.mark.parametrize("kind", ["byte_level", "metaspace_first", "llama", "word_level", "word_piece"])
def test_any_other_text_is_what_the_tokenizer_makes_of_it(kind: str) -> None:
    for begin in (True, False):
        tokenizer = toy_tokenizer(kind, begin=begin)
        encode = Tokenizer(tokenizer, len(tokenizer))
        for text in SENTENCES[:5]:
            assert list(encode(text)) == tokenizer(text)["input_ids"]
            assert list(encode.plain(text)) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_a_token_beyond_the_models_ids_is_named() -> None:
    encode = Tokenizer(with_prefix("<s>"), vocab_size=5)
    assert list(encode("the")) == [0, 4]
    with pytest.raises(TextRefusedError, match=r"^The text holds the token ' end' with the id 5, .* ids 0 to 4: use"):
        encode("the end")


def test_a_word_that_a_tokenizer_without_an_unknown_token_lacks_is_refused() -> None:
    raw = RawTokenizer(models.WordLevel({"the": 0}))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encode = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw))
    assert list(encode("the the")) == [0, 0]
    with pytest.raises(
        TextRefusedError, match=r"^The text holds text that the model's tokenizer has no token for \(Word"
    ):
        encode("the end")
