"""The lens-eval files: JSON of others, read with bounds and by the rules of each set."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from logos_pl.data import lens_eval
from logos_pl.data.lens_eval import read_lens_eval
from logos_pl.errors import InputError

SHARED = os.environ.get("LOGOS_PL_SHARED")
ONE = {"name": "a", "prompt": "One and", "intermediates": ["two"], "target": "three"}


def written(folder: Path, items: Any, set_name: str = "multihop") -> Path:
    path = folder / f"lens-eval-{set_name}.json"
    path.write_text(json.dumps({"items": items}))
    return path


def test_a_set_is_named_and_read_as_its_file_says(tmp_path: Path) -> None:
    for name in ("multihop", "poetry", "order-ops"):
        written(tmp_path, [ONE | {"prompt": "One\nand "}], name)
    found = {item.set_name: item for item in read_lens_eval(tmp_path).items}
    assert {name: item.read_after for name, item in found.items()} == {
        "multihop": None,
        "poetry": "\n",
        "order-ops": None,
    }
    assert [name for name, item in found.items() if item.single_token] == ["order-ops"]
    assert (found["multihop"].intermediates, found["multihop"].target) == ((("two",),), ("three",))
    assert (found["order-ops"].intermediates, found["order-ops"].target) == ((("2", "two"),), ("3", "three"))


def test_numbers_and_operations_are_spelled_as_digits_words_and_symbols(tmp_path: Path) -> None:
    words = ["12", "multiplication", "mod", "banana", "21"]
    (item,) = read_lens_eval(written(tmp_path, [ONE | {"intermediates": words}], "order-ops")).items
    number, operation, modulo, other, large = item.intermediates
    assert (number, other, large) == (("12", "twelve"), ("banana",), ("21",))
    assert {"multiplication", "times", "*"} <= set(operation)
    assert {"mod", "%"} <= set(modulo)


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ([], "has no list `items` of prompts"),
        ([ONE | {"more": 1}], "item 1: expected only `name`, `prompt`, `intermediates` and, optionally, `target`"),
        ([{"name": "a", "prompt": "One"}], "item 1: expected"),
        (["One and"], "item 1: expected"),
        ([ONE | {"intermediates": "two"}], "item 1: every field must be text, and `intermediates` a list"),
        ([ONE | {"intermediates": []}], "item 1: every field must be text"),
        ([ONE | {"target": ""}], "none may be empty"),
        ([ONE | {"prompt": 3}], "item 1: every field must be text"),
        ([ONE | {"intermediates": ["two", "two"]}], "item 1: the intermediate 'two' is given twice"),
        ([ONE, ONE], "item 2: the name 'a' is already given; keep one."),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, items: Any, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read_lens_eval(written(tmp_path, items))
    assert sentence in str(caught.value)


def test_what_is_not_such_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has no lens-eval-\*.json"):
        read_lens_eval(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        read_lens_eval(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_lens_eval(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(InputError, match="has no list `items`"):
        read_lens_eval(tmp_path / "list.json")
    monkeypatch.setattr(lens_eval, "MAX_ITEMS", 1)
    with pytest.raises(InputError, match="has 2 items, but at most 1 are read"):
        read_lens_eval(written(tmp_path, [ONE, ONE | {"name": "b"}]))


@pytest.mark.skipif(SHARED is None, reason="LOGOS_PL_SHARED is not set")
def test_the_published_sets_are_read_whole() -> None:
    suite = read_lens_eval(Path(str(SHARED)) / "lens-eval")
    counted = {name: sum(item.set_name == name for item in suite.items) for name in {i.set_name for i in suite.items}}
    assert counted == {
        "association": 102, "multihop": 93, "multilingual": 107, "order-ops": 55, "poetry": 98, "typo": 96,
    }  # fmt: skip
    assert all(item.target for item in suite.items if item.set_name in ("multihop", "multilingual", "order-ops"))
    assert not any(item.target for item in suite.items if item.set_name in ("association", "poetry", "typo"))
