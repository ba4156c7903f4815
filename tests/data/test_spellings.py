"""First tokens of words, for every common kind of tokenizer."""

import pytest
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from logos_pl.data.spellings import FirstTokens
from logos_pl.data.token_strings import TokenStrings
from logos_pl.data.tokenizing import Tokenizer
from tests.data.toy_tokenizers import KINDS, toy_tokenizer


def spoken(tokenizer: PreTrainedTokenizerFast, ids: tuple[int, ...]) -> set[str]:
    return set(map(TokenStrings(tokenizer), ids))


def byte_level(*merged: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose only merges make these words, left to right; Ġ is a space."""
    alphabet = [*pre_tokenizers.ByteLevel.alphabet()]
    merges = [(word[:k], word[k]) for word in merged for k in range(1, len(word))]
    vocabulary = dict.fromkeys([*alphabet, *(a + b for a, b in merges)])
    raw = RawTokenizer(models.BPE({token: number for number, token in enumerate(vocabulary)}, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw)


@pytest.mark.parametrize("kind", KINDS)
def test_a_known_word_is_found_with_every_kind_of_tokenizer(kind: str) -> None:
    tokenizer = toy_tokenizer(kind)
    found = FirstTokens(Tokenizer(tokenizer))(["Berlin"], "if_needed")
    assert "Berlin" in {text.strip() for text in spoken(tokenizer, found)}


def test_a_word_counts_with_a_leading_space_and_without() -> None:
    tokenizer = byte_level("ĠRome", "Rome")
    assert spoken(tokenizer, FirstTokens(Tokenizer(tokenizer))(["Rome"])) == {"Rome", " Rome"}


def test_a_bare_space_is_no_first_token_of_a_number() -> None:
    """Where digits are tokens of their own, ` 5` begins with a space, as every other number does."""
    tokenizer = byte_level("five")
    first = FirstTokens(Tokenizer(tokenizer))
    assert Tokenizer(tokenizer).plain("a 5")[1:] == Tokenizer(tokenizer).plain("\n 5")[1:]
    assert spoken(tokenizer, first(["5"])) == {"5"}
    assert spoken(tokenizer, first(["five"])) == {"five"}


def test_a_piece_of_a_word_counts_only_where_the_word_is_never_a_token() -> None:
    tokenizer = byte_level("ĠBrazil")
    first = FirstTokens(Tokenizer(tokenizer))
    assert spoken(tokenizer, first(["Brazil"], "if_needed")) == {" Brazil"}
    assert spoken(tokenizer, first(["Brazil"], "all")) == {" Brazil", "B"}
    assert spoken(tokenizer, first(["Peru"], "if_needed")) == {"P"}
    assert first(["Peru"], "none") == ()
    assert spoken(tokenizer, first(["12", "7"], "none")) == {"7"}


def test_an_unknown_word_has_no_first_token() -> None:
    assert FirstTokens(Tokenizer(toy_tokenizer("word_level")))(["xylophone"]) == ()


def test_a_token_that_the_model_lacks_is_left_out() -> None:
    tokenizer = byte_level("ĠRome")
    lacking = Tokenizer(tokenizer, vocab_size=256)
    assert spoken(tokenizer, FirstTokens(lacking)(["Rome"])) == {"R"}
