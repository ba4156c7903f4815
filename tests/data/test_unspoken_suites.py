"""The bundled suites of unspoken intermediates, and how a suite is found."""

import json
import re
from pathlib import Path

import pytest

from logos_pl.data.model_tokenizer import ModelTokenizer
from logos_pl.data.unspoken import UnspokenSuite
from logos_pl.data.unspoken_suites import BUNDLED, read_unspoken_suite
from logos_pl.data.unspoken_tokens import tokenize_suite


@pytest.fixture(scope="module", params=list(BUNDLED))
def suite(request: pytest.FixtureRequest) -> UnspokenSuite:
    return read_unspoken_suite(request.param)


def test_no_intermediate_and_no_answer_stands_in_its_prompt(suite: UnspokenSuite) -> None:
    for item in suite.items:
        words = set(re.findall(r"\w+", item.prompt.lower()))
        for spelling in (*(word for of_one in item.intermediates for word in of_one), *item.target):
            assert spelling.lower() not in words, item.item_id
        assert not {word for of_one in item.intermediates for word in of_one} & set(item.target)
        assert item.target


def test_the_bundled_suite_has_sixty_items_of_two_hop_facts_and_arithmetic() -> None:
    items = read_unspoken_suite("unspoken").items
    counted = {name: sum(item.set_name == name for item in items) for name in ("two-hop", "arithmetic")}
    assert sum(counted.values()) == len(items) >= 60
    assert min(counted.values()) >= 10
    assert all(item.single_token == (item.set_name == "arithmetic") for item in items)


def test_the_demo_model_can_be_asked_every_item_of_its_suite() -> None:
    tokenized = tokenize_suite(read_unspoken_suite("demo").items, ModelTokenizer.load("demo"))
    assert tokenized.unscored == []
    assert len(tokenized.items) == 48


def test_a_path_is_read_by_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("items:\n- {prompt: One and, intermediates: [two]}\n")
    item = {"name": "a", "prompt": "One and", "intermediates": ["two"]}
    (tmp_path / "lens-eval-typo.json").write_text(json.dumps({"items": [item]}))
    assert read_unspoken_suite(str(tmp_path / "mine.yaml")).items[0].set_name == "mine"
    assert read_unspoken_suite(str(tmp_path / "lens-eval-typo.json")).items[0].set_name == "typo"
    assert read_unspoken_suite(str(tmp_path)).items[0].item_id == "a"
