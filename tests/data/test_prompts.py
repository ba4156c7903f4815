import itertools
import logging
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import TokenizedPrompt, batches, remarks, tokenize_prompt
from logos_pl.errors import InputError
from logos_pl.lm.tokenizer import load_tokenizer
from tests.data.test_tokenizing import with_prefix
from tests.data.toy_tokenizers import KINDS, toy_tokenizer

CAPITAL = "The capital of Germany is called"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("demo")


def aligned(tokenizer: PreTrainedTokenizerBase, text: str, answer: str) -> AnswerTokens:
    """Where the answer stands after a prompt."""
    return tokenize_prompt(tokenizer, Prompt("x", "orig", text, answer), None).answer_tokens


def characters(alphabet: str, merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and some pairs, with `_` for a space: every merge is known by heart."""
    pieces = [*alphabet, *(left + right for left, right in merges)]
    model = models.BPE({piece: index for index, piece in enumerate(pieces)}, merges)
    plain = Tokenizer(model)
    plain.normalizer = normalizers.Replace(" ", "_")
    return PreTrainedTokenizerFast(tokenizer_object=plain)


def test_the_model_sees_the_tokenizers_own_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenized = tokenize_prompt(tokenizer, Prompt("pos", "orig", CAPITAL), 512)

    assert list(tokenized.ids) == tokenizer(CAPITAL)["input_ids"]
    assert tokenized.ids[0] == tokenizer.bos_token_id
    assert tokenized.tokens[0] == "<s>"
    assert "".join(tokenized.tokens[1:]) == CAPITAL
    assert tokenized.answer_tokens == tokenized.contrast == AnswerTokens("none")
    assert tokenized.input_ids == tokenized.ids


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_after_a_space_is_found_by_every_kind_of_tokenizer(kind: str, begin: bool) -> None:
    tokenizer = toy_tokenizer(kind, begin=begin)

    tokenized = tokenize_prompt(tokenizer, Prompt("pos", "orig", CAPITAL, "Berlin"), None)

    assert (tokenized.answer_tokens.status, tokenized.answer_tokens.form) == ("resolved", "with_space")
    assert "".join(tokenized.answer_tokens.pieces) == " Berlin"
    assert list(tokenized.ids + tokenized.answer_tokens.ids) == tokenizer(f"{CAPITAL} Berlin")["input_ids"]
    assert (tokenized.ids[0] == tokenizer.bos_token_id) == begin


@pytest.mark.parametrize("answer", ["Berlin", " Berlin", "Berlin\n"])
def test_white_space_around_an_answer_does_not_matter(answer: str, tokenizer: PreTrainedTokenizerBase) -> None:
    answer_tokens = aligned(tokenizer, CAPITAL, answer)

    assert answer_tokens == aligned(tokenizer, CAPITAL, "Berlin")
    assert tokenizer.decode(list(answer_tokens.ids)) == " Berlin"
    assert answer_tokens.first_id == answer_tokens.ids[0]


def test_all_tokens_of_a_long_answer_are_kept_and_the_model_reads_all_but_the_last(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenized = tokenize_prompt(tokenizer, Prompt("x", "orig", "The capital of Argentina is", "Buenos Aires"), None)

    assert len(tokenized.answer_tokens.ids) > 1
    assert "".join(tokenized.answer_tokens.pieces) == " Buenos Aires"
    assert tokenized.input_ids == tokenized.ids + tokenized.answer_tokens.ids[:-1]


def test_an_answer_whose_space_merges_with_the_prompt_is_taken_without_a_space() -> None:
    answer_tokens = aligned(characters("_A:B", [(":", "_")]), "A:", "B")

    assert answer_tokens == AnswerTokens("resolved", "no_space", (3,), ("B",))


def test_the_form_with_a_space_wins_where_both_extend_the_prompt() -> None:
    answer_tokens = aligned(characters("_A:B", []), "A:", "B")

    assert answer_tokens == AnswerTokens("resolved", "with_space", (0, 3), ("_", "B"))


def test_an_answer_that_merges_is_unresolved() -> None:
    # "A " and " B" make one token of two spaces; "A " and "B" make one of the space and the letter.
    tokenizer = characters("_A:B", [("_", "_"), ("_", "B")])

    tokenized = tokenize_prompt(tokenizer, Prompt("x", "orig", "A ", "B"), None)

    assert tokenized.answer_tokens == AnswerTokens("unresolved")
    assert tokenized.answer_tokens.first_id is None
    assert tokenized.input_ids == tokenized.ids == (1, 0)


@pytest.mark.parametrize("kind", ["word_level", "word_piece"])
def test_an_answer_that_the_vocabulary_cannot_spell_is_unresolved(kind: str) -> None:
    assert aligned(toy_tokenizer(kind), CAPITAL, "Ωmega") == AnswerTokens("unresolved")


def test_an_answer_without_tokens_is_unresolved() -> None:
    # A tokenizer that drops white space and, like many, what has no width.
    silent = Tokenizer(models.BPE({"a": 0}, []))
    silent.normalizer = normalizers.Sequence([normalizers.Replace("\u200b", ""), normalizers.Replace(" ", "")])

    assert aligned(PreTrainedTokenizerFast(tokenizer_object=silent), "a", "\u200b") == AnswerTokens("unresolved")


def test_a_contrast_is_aligned_like_an_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = Prompt("ctl", "orig", "The capital of France is called", "Paris", "Berlin")

    tokenized = tokenize_prompt(tokenizer, prompt, None)

    assert tokenized.contrast == aligned(tokenizer, prompt.text, "Berlin")
    assert tokenized.answer_tokens == aligned(tokenizer, prompt.text, "Paris") != tokenized.contrast


def test_a_special_token_after_the_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"prompt 'pos' cannot be continued: .* ends every text .* '</s>'"):
        tokenize_prompt(toy_tokenizer("byte_level", end=True), Prompt("pos", "orig", CAPITAL), None)


def test_a_special_token_written_into_the_prompt_stays(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenized = tokenize_prompt(tokenizer, Prompt("pos", "orig", f"{CAPITAL}<s>"), None)

    assert tokenized.ids[-1] == tokenizer.bos_token_id


def test_a_prompt_with_its_answer_may_fill_the_context_and_no_more(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = Prompt("long", "orig", "The capital of Argentina is", "Buenos Aires")
    needed = len(tokenizer("The capital of Argentina is Buenos Aires")["input_ids"]) - 1

    assert len(tokenize_prompt(tokenizer, prompt, needed).input_ids) == needed
    with pytest.raises(InputError, match=f"prompt 'long' has {needed} tokens, .* takes at most {needed - 1}"):
        tokenize_prompt(tokenizer, prompt, needed - 1)


def test_a_prompt_beyond_the_tokenizers_own_limit_is_no_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)

    tokenize_prompt(toy_tokenizer("byte_level"), Prompt("long", "orig", CAPITAL * 9, "Berlin"), None)

    assert caplog.records == []


@pytest.mark.parametrize(
    ("text", "answer", "contrast", "wanted"),
    [
        ("", None, None, "^prompt 'x' is empty"),
        (" \n", None, None, "^prompt 'x' is empty"),
        ("The", "", None, "^the answer of prompt 'x' is empty"),
        ("The", " ", None, "^the answer of prompt 'x' is empty"),
        ("The", "end", "", "^the contrast of prompt 'x' is empty"),
        (
            "The \ud83c",
            None,
            None,
            r"^prompt 'x' is not valid text: character 5 is half of a surrogate pair .'\\ud83c'",
        ),
        ("The", "\udf89", None, "^the answer of prompt 'x' is not valid text: character 1 "),
    ],
)
def test_what_is_no_text_is_refused_by_the_prompts_id(
    text: str, answer: str | None, contrast: str | None, wanted: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(InputError, match=wanted):
        tokenize_prompt(tokenizer, Prompt("x", "orig", text, answer, contrast), None)


@pytest.mark.parametrize("answer", ["", "\t", "\ud83c"])
def test_aligning_no_text_is_refused(answer: str, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"^the answer of prompt 'x' is "):
        aligned(tokenizer, "The", answer)


def test_a_text_without_tokens_is_refused() -> None:
    silent = Tokenizer(models.BPE({"a": 0}, []))
    silent.normalizer = normalizers.Replace("\u200b", "")

    with pytest.raises(InputError, match="prompt 'x' has no token"):
        tokenize_prompt(PreTrainedTokenizerFast(tokenizer_object=silent), Prompt("x", "orig", "\u200b"), None)


def of_lengths(lengths: list[int]) -> list[TokenizedPrompt]:
    """Prompts that the model reads so many tokens of; every second one ends in an answer of three tokens."""
    tokenized = []
    for number, length in enumerate(lengths):
        answer = (901, 902, 903) if number % 2 and length > 2 else ()
        ids = tuple(range(1, length + 1 - max(len(answer) - 1, 0)))
        answer_tokens = (
            AnswerTokens("resolved", "with_space", answer, ("a", "b", "c")) if answer else AnswerTokens("none")
        )
        tokenized.append(
            TokenizedPrompt(
                Prompt(f"p{number}", "orig", "t"), ids, ("t",) * len(ids), answer_tokens, AnswerTokens("none")
            )
        )
    return tokenized


@pytest.mark.parametrize("seed", range(20))
def test_batches_keep_the_order_and_the_bound_and_are_as_large_as_they_may_be(seed: int) -> None:
    draw = random.Random(seed)
    tokenized = of_lengths([draw.randint(1, 12) for _ in range(draw.randint(1, 30))])
    bound = draw.randint(1, 60)

    made = batches(tokenized, bound)

    assert [prompt for batch in made for prompt in batch.prompts] == tokenized
    for batch in made:
        assert batch.input_ids.shape == batch.attention_mask.shape
        assert batch.input_ids.numel() <= bound or len(batch.prompts) == 1
    for batch, following in itertools.pairwise(made):
        one_more = [*batch.prompts, following.prompts[0]]
        assert len(one_more) * max(len(prompt.input_ids) for prompt in one_more) > bound


def test_a_batch_is_padded_on_the_right_and_masked() -> None:
    (batch,) = batches(of_lengths([2, 5, 3]), 100)

    assert batch.input_ids.tolist() == [[1, 2, 0, 0, 0], [1, 2, 3, 901, 902], [1, 2, 3, 0, 0]]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.long


def test_no_prompts_make_no_batches() -> None:
    assert batches([], 100) == []


@pytest.mark.parametrize("model", ["tiny-llama", "stories260K"])
def test_the_reference_tokenizers_resolve_a_capital(model: str, shared: Path) -> None:
    tokenizer = load_tokenizer(str(shared / "models" / model))

    tokenized = tokenize_prompt(tokenizer, Prompt("pos", "orig", CAPITAL, "Berlin"), 512)

    assert tokenized.answer_tokens.form == "with_space"
    assert list(tokenized.ids + tokenized.answer_tokens.ids) == tokenizer(f"{CAPITAL} Berlin")["input_ids"]
    assert "".join(tokenized.answer_tokens.pieces) == " Berlin"


@pytest.mark.parametrize("ending", ["\n", "\n\n", "<|assistant|>\n"])
@pytest.mark.parametrize("kind", ["byte_level", "word_piece"])
def test_after_a_line_feed_the_answer_is_looked_for_without_a_space(kind: str, ending: str) -> None:
    tokenizer = toy_tokenizer(kind)

    answer_tokens = aligned(tokenizer, f"What is the capital of Germany?{ending}", "Berlin")

    assert (answer_tokens.status, answer_tokens.form) == ("resolved", "no_space")
    assert answer_tokens.pieces[0][0] != " " or kind == "word_piece"  # whose decoder puts a space before every word


def test_after_a_space_an_answer_that_does_not_merge_is_taken_without_another_space() -> None:
    answer_tokens = aligned(characters("_A:B", []), "A: ", "B")

    assert answer_tokens == AnswerTokens("resolved", "no_space", (3,), ("B",))


def test_after_a_space_that_merges_with_the_answer_it_is_not_looked_for_behind_another_space(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    tokenized = tokenize_prompt(tokenizer, Prompt("x", "orig", f"{CAPITAL} ", "Berlin"), None)

    assert tokenized.answer_tokens == AnswerTokens("unresolved")
    assert remarks([tokenized]) == [
        "prompt 'x' ends in white space that merges with the answer, so no answer is read: remove the white space."
    ]


def test_after_a_special_token_the_answer_is_first_looked_for_without_a_space() -> None:
    tokenizer = toy_tokenizer("byte_level")

    assert aligned(tokenizer, f"{CAPITAL}</s>", "Berlin").form == "no_space"
    assert aligned(tokenizer, CAPITAL, "Berlin").form == "with_space"


@pytest.mark.parametrize("kind", ["byte_level", "metaspace_first", "llama"])
def test_a_prompt_that_brings_its_own_bos_is_read_with_one_and_that_is_said(kind: str) -> None:
    tokenizer = toy_tokenizer(kind)
    prompts = [Prompt(f"p{number}", "orig", f"<s>{CAPITAL}", "Berlin") for number in range(5)]

    tokenized = [tokenize_prompt(tokenizer, prompt, None) for prompt in prompts]

    assert list(tokenized[0].ids) == tokenizer(f"<s>{CAPITAL}", add_special_tokens=False)["input_ids"]
    assert (tokenized[0].ids[0], tokenized[0].ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)
    assert tokenized[0].left_out == ("<s>",)
    assert tokenized[0].answer_tokens.status == "resolved"
    assert remarks(tokenized) == [
        "prompts 'p0', 'p1', 'p2' and 2 more begin with the BOS (<s>) that the tokenizer adds to every text: it is not "
        "added again."
    ]
    assert remarks([tokenize_prompt(tokenizer, Prompt("x", "orig", CAPITAL, "Berlin"), None)]) == []


@pytest.mark.parametrize(
    ("text", "answer", "contrast", "wanted"),
    [
        ("the end", None, None, "^prompt 'x' holds the token ' end' with the id 5"),
        ("the", "end", None, "^the answer of prompt 'x' holds the token ' end' with the id 5"),
        ("the", "the", "end", "^the contrast of prompt 'x' holds the token ' end' with the id 5"),
    ],
)
def test_a_token_beyond_the_models_ids_is_refused_by_where_it_stands(
    text: str, answer: str | None, contrast: str | None, wanted: str
) -> None:
    with pytest.raises(InputError, match=wanted):
        tokenize_prompt(with_prefix("<s>"), Prompt("x", "orig", text, answer, contrast), None, vocab_size=5)


def test_a_word_that_a_tokenizer_without_an_unknown_token_lacks_is_refused_by_where_it_stands() -> None:
    plain = Tokenizer(models.WordLevel({"the": 0}))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain)

    assert tokenize_prompt(tokenizer, Prompt("x", "orig", "the"), None).tokens == ("the",)
    with pytest.raises(InputError, match=r"^prompt 'x' holds text that the model's tokenizer has no "):
        tokenize_prompt(tokenizer, Prompt("x", "orig", "the end"), None)
    with pytest.raises(InputError, match=r"^the answer of prompt 'x' holds text that the model's "):
        tokenize_prompt(tokenizer, Prompt("x", "orig", "the", "end"), None)
