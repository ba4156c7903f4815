import pytest
from transformers import PreTrainedTokenizerBase

from logos_pl.data.prompts import align_answer, make_prompt
from logos_pl.errors import InputError
from logos_pl.lm.frozen import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("demo")


def test_the_model_sees_the_tokenizers_own_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt = make_prompt(tokenizer, "The capital of Germany is", None)

    assert prompt.input_ids[0, 0] == tokenizer.bos_token_id
    assert tokenizer.decode(prompt.input_ids[0, 1:]) == "The capital of Germany is"
    assert prompt.answer_ids == ()


@pytest.mark.parametrize("answer", ["Berlin", " Berlin"])
def test_an_answer_follows_after_a_space_whether_or_not_one_was_given(
    answer: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    ids = align_answer(tokenizer, "The capital of Germany is", answer)

    assert tokenizer.decode(list(ids)) == " Berlin"
    joined = tokenizer("The capital of Germany is Berlin", add_special_tokens=False)["input_ids"]
    assert tuple(joined[-len(ids) :]) == ids


def test_a_prompt_that_ends_in_a_quote_takes_the_answer_without_a_space(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = align_answer(tokenizer, 'The capital is called "', "Berlin")

    assert str(tokenizer.decode(list(ids))).strip() == "Berlin"


def test_an_answer_that_merges_with_the_prompt_is_refused() -> None:
    class Merging:
        """One token for every text, whatever it is."""

        def __call__(self, text: str, **options: bool) -> dict[str, list[int]]:
            return {"input_ids": [len(text)]}

    with pytest.raises(InputError, match="cannot be told apart from the prompt 'The '"):
        align_answer(Merging(), "The ", "end")


@pytest.mark.parametrize(
    ("prompt", "answer", "wanted"), [("  ", None, "prompt is empty"), ("The", " ", "answer is empty")]
)
def test_nothing_to_read_or_to_look_for_is_refused(
    prompt: str, answer: str | None, wanted: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    with pytest.raises(InputError, match=wanted):
        make_prompt(tokenizer, prompt, answer)
