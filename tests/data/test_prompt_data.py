from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from logos_pl.data.prompt_data import PromptData
from logos_pl.data.suites import FACTS, PROBE
from logos_pl.errors import InputError
from logos_pl.settings.text import PromptSettings
from tests.tiny import make_chat_model, make_model


def reading(rank: int | None = None, **options: Any) -> PromptData:
    made = PromptData(PromptSettings(**options), "demo")
    if rank is not None:
        trainer: Any = SimpleNamespace(global_rank=rank)
        made.trainer = trainer
    made.setup("predict")
    return made


def texts(data: PromptData) -> list[str]:
    return [tokenized.prompt.text for batch in data.predict_dataloader() for tokenized in batch.prompts]


def test_a_prediction_reads_its_own_prompt() -> None:
    data = reading(prompt="a cat")
    assert texts(data) == [tokenized.prompt.text for tokenized in data.prompts] == ["a cat"]
    (tokenized,) = data.prompts
    assert (tokenized.prompt.prompt_id, tokenized.prompt.variant, tokenized.answer_tokens.status) == (
        "prompt",
        "orig",
        "none",
    )
    assert reading(prompt="a cat", answer="sat").prompts[0].prompt.answer == "sat"


def test_a_prompt_of_ones_own_takes_the_place_of_the_file(tmp_path: Path) -> None:
    assert texts(reading(prompt="a cat", prompts=str(tmp_path / "nowhere.yaml"))) == ["a cat"]


def test_the_packaged_probe_is_read_with_variants_and_controls_unless_told_otherwise() -> None:
    data = reading()
    wanted = []
    for fact in yaml.safe_load(PROBE.read_text())["facts"]:
        wanted += [fact["prompt"], *([fact["no_filler"]] if "no_filler" in fact else [])]
        wanted += [fact["control"]["prompt"]] if "control" in fact else []
    assert texts(data) == wanted
    assert data.num_prompts == len(wanted) >= 3
    assert {tokenized.prompt.variant for tokenized in data.prompts} == {"orig", "no_filler"}


def test_the_packaged_facts_go_by_their_name_and_a_file_by_its_path() -> None:
    assert texts(reading(prompts="facts")) == texts(reading(prompts=str(FACTS)))
    assert texts(reading(prompts="probe")) == texts(reading(prompts=str(PROBE)))


def test_an_answer_without_its_prompt_is_refused() -> None:
    with pytest.raises(InputError, match=r"--data\.answer needs --data\.prompt"):
        reading(answer="sat")


def test_a_file_that_is_not_there_and_an_empty_prompt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml cannot be read"):
        reading(prompts=str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="prompt 'prompt' is empty"):
        reading(prompt=" ")


def test_remarks_on_prompts_come_from_the_first_process_or_from_the_only_one(
    recwarn: pytest.WarningsRecorder,
) -> None:
    reading(rank=1, prompt="<s> a cat")
    assert len(recwarn) == 0
    for first in (reading, lambda **options: reading(rank=0, **options)):
        with pytest.warns(UserWarning, match="demo: prompt 'prompt' begins with the BOS"):
            first(prompt="<s> a cat")


def test_prompts_are_read_with_the_tokenizer_of_the_model_that_is_named(tmp_path: Path) -> None:
    data = PromptData(PromptSettings(prompt="sun moon"), str(make_model(tmp_path / "tiny-llama")))
    data.setup("predict")
    assert data.prompts[0].ids == (0, 3, 4)


def test_a_prompt_may_be_token_ids(tmp_path: Path) -> None:
    data = PromptData(PromptSettings(token_ids=[0, 3, 4], answer="tree"), str(make_model(tmp_path / "tiny-llama")))
    data.setup("predict")
    (tokenized,) = data.prompts
    assert (tokenized.ids, tokenized.prompt.text, tokenized.answer_tokens.ids) == ((0, 3, 4), "<s> sun moon", (8,))


def test_a_file_of_conversations_needs_a_chat_template(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("facts:\n- messages: [{role: user, content: sun}]\n  answer: moon\n")
    with pytest.raises(
        InputError, match=r"^prompt 'p1' cannot be rendered, as the model has no chat template: give plain"
    ):
        reading(prompts=str(path))
    data = PromptData(PromptSettings(prompts=str(path)), str(make_chat_model(tmp_path / "tiny-llama")))
    data.setup("predict")
    (tokenized,) = data.prompts
    assert (tokenized.prompt.text, tokenized.answer_tokens.ids) == ("<s> hill sun . road", (4,))
