"""Lists of items in YAML files: what is read, and the line that a refusal names."""

from pathlib import Path

import pytest

from logos_pl.data.yaml_items import YamlItems, line_of
from logos_pl.errors import InputError


def items_of(path: Path, text: str) -> YamlItems:
    path.write_text(text, encoding="utf-8")
    return YamlItems(path, "items", "items of text")


def read_all(reader: YamlItems) -> None:
    for number, node in enumerate(reader.items()):
        fields = reader.fields(node, ("prompt", "id"))
        prompt = reader.required(node, fields, "prompt")
        reader.id(node, fields, f"p{number}")
        reader.refuse_second_prompt(node, prompt)


def test_fields_are_text_as_written_and_null_counts_as_missing(tmp_path: Path) -> None:
    reader = items_of(tmp_path / "a.yaml", "items:\n- {prompt: no, answer: 4, id: null}\n- {prompt: b, id: two}\n")
    first, second = reader.items()
    fields = reader.fields(first, ("prompt", "answer", "id"))
    assert (reader.required(first, fields, "prompt"), reader.optional(fields, "answer")) == ("no", "4")
    assert reader.id(first, fields, "p1") == "p1"
    assert reader.id(second, reader.fields(second, ("prompt", "id")), "p2") == "two"
    assert (line_of(first), line_of(second)) == (2, 3)


@pytest.mark.parametrize("null", ["null", "~", "Null"])
def test_null_in_a_list_is_not_taken_for_a_word(null: str, tmp_path: Path) -> None:
    reader = items_of(tmp_path / "a.yaml", f"items:\n- {{prompt: a, words: ['null', {null}, b]}}\n")
    (item,) = reader.items()
    quoted, bare, _ = reader.fields(item, ("prompt", "words"))["words"].value
    assert reader.text(quoted, "words") == "null"
    with pytest.raises(InputError, match="line 2: `words` holds null; put the word in quotes"):
        reader.text(bare, "words")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"line 1: the file is empty; put a list under `items:`"),
        ("- a\n", r"line 1: there is no `items:`"),
        ("items: 3\n", r"line 1: `items` is not a list of items of text"),
        ("items: []\n", r"line 1: `items` is not a list of items of text"),
        ("itms:\n- {prompt: a}\n", r"line 1: there is no field `itms`; did you mean `items`\?"),
        ("items:\n- a\n", r"line 2: expected the fields `prompt`, `id`, each with its text"),
        ("items:\n- {promt: a}\n", r"line 2: there is no field `promt`; did you mean `prompt`\?"),
        ("items:\n- {id: a}\n", r"line 2: the field `prompt` is missing; add it"),
        ("items:\n- prompt: [a]\n", r"line 2: `prompt` is not text; put it in quotes"),
        ("items:\n- prompt: ' '\n", r"line 2: `prompt` is empty; give a text or leave the field out"),
        ("items:\n- {prompt: a, id: nan}\n", r"line 2: `id` cannot be 'nan'"),
        ("items:\n- {prompt: a, id: x}\n- {prompt: b, id: x}\n", r"line 3: the id 'x' is already on line 2"),
        ("items:\n- {prompt: a}\n- {prompt: ' a'}\n", r"line 3: the prompt 'a' is already on line 2"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_all(items_of(tmp_path / "a.yaml", text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\): give a YAML file of items"):
        YamlItems(tmp_path / "none.yaml", "items", "items of text").items()
