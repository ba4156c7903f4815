"""Tokenised prompts in, records out, the same as by text."""

from pathlib import Path

import pytest

from logos_pl.api import load_model, norm_lens, sweep
from logos_pl.data.prompt_types import Prompt
from logos_pl.data.prompts import tokenize_prompt
from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.in_memory import read_tokenized
from tests.artifacts.lenses import make_lm
from tests.tiny import make_chat_model, make_model


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return load_model(str(make_model(tmp_path_factory.mktemp("model") / "tiny")), device="cpu")


def test_tokens_are_read_as_their_text_would_be(lm: FrozenLM) -> None:
    prompts = [Prompt("a", "orig", "sun moon river", "stone"), Prompt("b", "orig", "bird .")]
    asked = [tokenize_prompt(lm.tokenizer, prompt, None) for prompt in prompts]
    read = read_tokenized(lm, asked, {"norm": norm_lens(lm)})
    assert read == sweep(lm, prompts)
    assert [record.prompt_id for record in read.next_token] == ["a"] * 5 + ["b"] * 5
    assert len(read.positions) == 5 * (len(asked[0].ids) + len(asked[1].ids))
    assert read.milestones.keys() == {("a", "orig", "norm"), ("b", "orig", "norm")}
    assert read.contributions == []


def test_without_a_tokenizer_there_are_no_names_for_tokens() -> None:
    lm = make_lm()
    with pytest.raises(InputError, match="has no tokenizer"):
        read_tokenized(lm, [], {"norm": norm_lens(lm)})


def test_records_are_found_by_the_name_of_their_place(tmp_path: Path) -> None:
    lm = load_model(str(make_chat_model(tmp_path / "tiny")), device="cpu")
    read = sweep(lm, [[{"role": "user", "content": "sun moon"}], [{"role": "user", "content": "tree"}]])
    assert read.prompts[0].tokens == ("<s>", " hill", " sun", " moon", " .", " road")
    for place, positions in (("turn1", [3, 2]), ("reply", [5, 4]), ("last", [5, 4])):
        found = read.at(place)
        assert [(record.prompt_id, record.layer, record.pos) for record in found] == [
            (f"p{number}", row, pos) for number, pos in enumerate(positions, start=1) for row in range(5)
        ]
    with pytest.raises(InputError, match=r"^The prompt p1 has no place 'turn2': it has turn1, reply, last\.$"):
        read.at("turn2")
