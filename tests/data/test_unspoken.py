"""Suites of unspoken intermediates: what is read, and what is refused with which sentence."""

import hashlib
from pathlib import Path

import pytest

from logos_pl.data import unspoken
from logos_pl.data.unspoken import UnspokenItem, read_yaml_suite
from logos_pl.errors import InputError

WHOLE = """\
items:
- id: eiffel
  set: two-hop
  prompt: The capital of the country where the Eiffel Tower stands is
  intermediates: [France, [country, nation]]
  target: Paris
- prompt: "(2 + 3) * 4 ="
  intermediates: [[5, five]]
  target: [20, twenty]
  read_after: " +"
  single_token: yes
- prompt: "A line,\\nand"
  intermediates: [no]
  read_after: "\\n"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_every_field_is_read_and_what_is_missing_has_its_default(tmp_path: Path) -> None:
    suite = read_yaml_suite(written(tmp_path, WHOLE))
    assert suite.items == (
        UnspokenItem(
            "eiffel",
            "two-hop",
            "The capital of the country where the Eiffel Tower stands is",
            (("France",), ("country", "nation")),
            ("Paris",),
        ),
        UnspokenItem("i2", "mine", "(2 + 3) * 4 =", (("5", "five"),), ("20", "twenty"), " +", True),
        UnspokenItem("i3", "mine", "A line,\nand", (("no",),), (), "\n"),
    )
    assert (suite.name, suite.sha256) == ("mine.yaml", hashlib.sha256(WHOLE.encode()).hexdigest())


ITEM = "items:\n- prompt: One and\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: the file is empty; put a list under `items:`."),
        ("facts: [a]", "line 1: there is no field `facts`; there are `items`, and a text with a colon needs quotes."),
        ("items: []", "line 1: `items` is not a list of prompts with intermediates; put one after a dash"),
        ("items:\n- One and", "line 2: expected the fields `id`, `set`"),
        (ITEM, "line 2: the field `intermediates` is missing; add it."),
        (ITEM + "  intermediates: two", "line 3: `intermediates` is not a list; write [France]"),
        (ITEM + "  intermediates: []", "line 3: `intermediates` is not a list"),
        (ITEM + "  intermediates: [[]]", "line 3: `intermediates` has an empty list of spellings; give one."),
        (ITEM + "  intermediates: [' ']", "line 3: `intermediates` is empty"),
        (ITEM + "  intermediates: [two, ' two']", "line 2: the intermediate 'two' is given twice; keep one."),
        (ITEM + "  intermediates: [two]\n  target: {}", "line 4: `target` is not text; put it in quotes."),
        (
            ITEM + "  intermediates: [two]\n  read_after: three",
            "line 2: the prompt does not contain the text of `read_after`, 'three'",
        ),
        (ITEM + "  intermediates: [two]\n  read_after: ''", "line 4: `read_after` is not text; put it in quotes."),
        (ITEM + "  intermediates: [two]\n  single_token: 1", "line 4: `single_token` must be yes or no."),
        (ITEM + "  intermediates: [two]\n  answer: a", "line 4: there is no field `answer`"),
        (ITEM + f"  intermediates: [{'a' * 101}]", "line 2: a spelling has more than 100 characters"),
        (ITEM + f"  intermediates: [[{', '.join(f'a{n}' for n in range(33))}]]", "a word has more than 32 spellings"),
        (ITEM + f"  intermediates: [{', '.join(f'a{n}' for n in range(17))}]", "it has 17 intermediates; give at most"),
        (ITEM + "  intermediates: [a]\n- prompt: One and\n  intermediates: [b]", "line 4: the prompt 'One and' is"),
        (
            "items:\n- {id: a, prompt: One, intermediates: [a]}\n- {id: a, prompt: Two, intermediates: [a]}",
            "line 3: the id 'a' is already on line 2; keep one.",
        ),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        read_yaml_suite(written(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_too_many_items_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\): give"):
        read_yaml_suite(tmp_path / "none.yaml")
    monkeypatch.setattr(unspoken, "MAX_ITEMS", 2)
    with pytest.raises(InputError, match="line 12: there are more than 2 items; split the file"):
        read_yaml_suite(written(tmp_path, WHOLE))
