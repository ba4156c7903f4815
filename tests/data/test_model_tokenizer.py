import warnings
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from logos_pl.data.conversation_rows import document_of
from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.tokenizing import TextRefusedError
from logos_pl.errors import InputError
from tests.tiny import make_chat_model, make_model


def test_tokenizer_ids_and_context_are_those_of_the_model(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny-llama", vocab_size=30)
    model = ModelTokenizer.load(str(folder))
    assert model.model_id == str(folder)
    assert model.tokenizer("sun moon").input_ids == [0, 3, 4]
    assert (model.num_ids, model.context_length) == (30, 64), "of the configuration, not of the tokenizer"


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="is not a folder"):
        ModelTokenizer.load("./nowhere")


def test_a_token_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    model = ModelTokenizer.load(str(make_model(tmp_path / "tiny-llama")))
    assert model.encoder()("sun") == [0, 3]
    with pytest.raises(TextRefusedError):
        model._replace(num_ids=3).encoder()("sun")
    with pytest.raises(InputError, match="prompt 'p'"):
        model._replace(num_ids=3).tokenize([Prompt("p", "orig", "sun")])


def test_prompts_become_the_models_tokens_in_their_order(tokenizer: PreTrainedTokenizerFast) -> None:
    model = ModelTokenizer("bytes", tokenizer, len(tokenizer), None)
    tokenized = model.tokenize([Prompt("p", "orig", "ab"), Prompt("q", "orig", "a", "b")])
    assert [prompt.prompt.prompt_id for prompt in tokenized] == ["p", "q"]
    assert [list(prompt.ids) for prompt in tokenized] == [tokenizer(text).input_ids for text in ("ab", "a")]
    assert tokenized[1].answer_tokens.ids == tuple(tokenizer(" b").input_ids[1:])


def test_a_prompt_fits_into_the_context_with_its_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    """A BOS, four letters and the blank before the answer, whose last token nothing follows."""
    prompt = Prompt("p", "orig", "abcd", "x")
    assert len(ModelTokenizer("bytes", tokenizer, len(tokenizer), 6).tokenize([prompt])) == 1
    with pytest.raises(
        InputError, match=r"prompt 'p' has 6 tokens, including its answer, but the model takes at most 5"
    ):
        ModelTokenizer("bytes", tokenizer, len(tokenizer), 5).tokenize([prompt])


def test_remarks_name_the_model_and_come_only_from_the_process_that_speaks(tokenizer: PreTrainedTokenizerFast) -> None:
    model, doubled = ModelTokenizer("bytes", tokenizer, len(tokenizer), None), [Prompt("p", "orig", "<s>ab")]
    with pytest.warns(UserWarning, match="bytes: prompt 'p' begins with the BOS"):
        spoken = model.tokenize(doubled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.tokenize(doubled, speaks=False) == spoken


def test_documents_are_texts_or_conversations_for_the_models_template(tmp_path: Path) -> None:
    model = ModelTokenizer.load(str(make_chat_model(tmp_path / "tiny")))
    assert model.of_documents("text")("sun moon") == [0, 3, 4]
    turns = [{"role": "user", "content": "sun"}]
    rendered = model.tokenizer.apply_chat_template(turns, return_dict=False)
    assert list(model.of_documents("chat")(str(document_of(turns)))) == rendered == [0, 17, 3, 2]
    assert (model.added_tokens("text"), model.added_tokens("chat")) == (["<s>"], [])


def test_conversations_for_a_model_without_a_template_are_refused(tmp_path: Path) -> None:
    model = ModelTokenizer.load(str(make_model(tmp_path / "tiny")))
    with pytest.raises(
        InputError, match=r"^--data\.format chat: .*tiny has no chat template to render .*: give text, or"
    ):
        model.of_documents("chat")


def test_no_special_tokens_are_added_if_none_are_wanted(tmp_path: Path) -> None:
    model = ModelTokenizer.load(str(make_model(tmp_path / "tiny")), special_tokens="none")
    assert model.encoder().plain("sun moon") == (3, 4)
    assert model.added_tokens("text") == []
    with pytest.warns(
        UserWarning, match=r"tiny: prompt 'p' is read without the BOS \(<s>\) .* \(special_tokens none\)\.$"
    ):
        assert model.tokenize([Prompt("p", "orig", "sun")])[0].ids == (3,)
