from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from logos_pl.data.token_strings import NO_TOKEN, TokenStrings
from logos_pl.lm.tokenizer import load_tokenizer
from tests.data.toy_tokenizers import KINDS, toy_tokenizer

TEXT = "The capital of France is called simply Berlin"


def strings_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    strings = TokenStrings(tokenizer)
    return [strings(token_id) for token_id in tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_text_make_the_text(kind: str) -> None:
    assert "".join(strings_of(toy_tokenizer(kind), TEXT)).removeprefix(" ") == TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_keeps_the_space_it_begins_with(kind: str) -> None:
    assert " Berlin" in strings_of(toy_tokenizer(kind), TEXT)


@pytest.mark.parametrize("kind", ["metaspace_always", "metaspace_first", "llama"])
def test_a_sentencepiece_tokenizer_tells_a_word_from_the_same_letters_within_one(kind: str) -> None:
    tokenizer = toy_tokenizer(kind)
    strings, ids = TokenStrings(tokenizer), tokenizer.get_vocab()
    both = [piece for piece in ids if piece.isalpha() and f"▁{piece}" in ids]

    assert len(both) >= 3
    assert [strings(ids[piece]) for piece in both] == both
    assert [strings(ids[f"▁{piece}"]) for piece in both] == [f" {piece}" for piece in both]


def test_a_continued_word_piece_begins_without_a_space() -> None:
    pieces = strings_of(toy_tokenizer("word_piece"), "Ger")

    assert pieces[0].startswith(" ")
    assert not any(piece.startswith((" ", "#")) for piece in pieces[1:])
    assert "".join(pieces) == " Ger"


@pytest.mark.parametrize("kind", ["byte_level", "llama"])
def test_part_of_a_character_is_the_replacement_character(kind: str) -> None:
    pieces = [piece for piece in strings_of(toy_tokenizer(kind), "🎉") if piece != " "]

    assert pieces == ["\ufffd"] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_added_tokens_are_shown_as_they_are_written(kind: str) -> None:
    tokenizer = toy_tokenizer(kind)
    tokenizer.add_tokens(["\n\n"])
    strings, ids = TokenStrings(tokenizer), tokenizer.get_vocab()

    for written in ("<s>", "</s>", "\n\n"):
        assert strings(ids[written]) == written


@pytest.mark.parametrize("beyond", [0, 1, 10_000])
def test_an_id_the_tokenizer_does_not_know_is_named_so(beyond: int) -> None:
    tokenizer = toy_tokenizer("byte_level")

    assert TokenStrings(tokenizer)(len(tokenizer) + beyond) == NO_TOKEN


def test_every_token_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = toy_tokenizer("byte_level")
    strings = TokenStrings(tokenizer)
    token_id = tokenizer("Berlin", add_special_tokens=False)["input_ids"][0]
    first = strings(token_id)
    monkeypatch.setattr(tokenizer, "decode", None)

    assert strings(token_id) == first


@pytest.mark.parametrize("kind", ["byte_level", "word_level"])
def test_the_space_before_punctuation_is_not_tidied_away(kind: str) -> None:
    assert strings_of(toy_tokenizer(kind), "it is Rome ?")[-1] == " ?"


def test_the_demos_tokens_make_the_text() -> None:
    assert "".join(strings_of(load_tokenizer("demo"), TEXT)) == TEXT


@pytest.mark.parametrize("model", ["tiny-llama", "stories260K"])
def test_the_reference_tokenizers_tokens_make_the_text(model: str, shared: Path) -> None:
    tokenizer = load_tokenizer(str(shared / "models" / model))

    assert "".join(strings_of(tokenizer, TEXT)).removeprefix(" ") == TEXT
