"""What a card says of a quantised or adapted model, and how it loads it again."""

import ast
import dataclasses

import pytest

from logos_pl.artifacts.card import front_matter, model_card
from logos_pl.artifacts.card_model import loaded_facts, quick_start, weights_line
from logos_pl.artifacts.provenance import Provenance
from logos_pl.lm.loaded_as import LoadedAs, MergedAdapter
from tests.artifacts.lenses import make_provenance

COMMIT, LOCAL = "c" * 40, "sha256:" + "d" * 64
STORED = LoadedAs("GGUF Q8_0", "de-quantised when it is loaded", "org/models", "m.Q8_0.gguf", "f" * 64)
MERGED = MergedAdapter("org/adapter", "e" * 40, "a" * 64, "LORA", "org/base", "b" * 40)


def provenance(loaded: LoadedAs | None, model_id: str, commit: str) -> Provenance:
    p = make_provenance()
    mark = dataclasses.replace(p.fingerprint, loaded_as=loaded)
    name = model_id.rpartition("/")[2]
    return dataclasses.replace(p, fingerprint=mark, model_id=model_id, clean_model_name=name, model_commit=commit)


GGUF = provenance(STORED, "org/m.Q8_0.gguf", COMMIT)
ADAPTED = provenance(LoadedAs(adapter=MERGED), "org/adapter", LOCAL)


@pytest.mark.parametrize(
    ("given", "arguments", "options"),
    [
        (provenance(None, "org/base", COMMIT), ["org/base"], {"revision": COMMIT}),
        (provenance(None, "base", LOCAL), ["path/to/base"], {}),
        (GGUF, ["org/models"], {"revision": COMMIT, "gguf": "m.Q8_0.gguf"}),
        (
            provenance(dataclasses.replace(STORED, repo_id="models"), "m.Q8_0.gguf", LOCAL),
            ["path/to/models"],
            {"gguf": "m.Q8_0.gguf"},
        ),
        (ADAPTED, ["org/base"], {"revision": "b" * 40, "adapter": "org/adapter"}),
        (
            provenance(
                LoadedAs(adapter=dataclasses.replace(MERGED, adapter_id="a", commit=LOCAL, base_commit=LOCAL)),
                "a",
                LOCAL,
            ),
            ["path/to/org/base"],
            {"adapter": "path/to/a"},
        ),
    ],
)
def test_the_quick_start_loads_what_was_loaded(
    given: Provenance, arguments: list[str], options: dict[str, str]
) -> None:
    code = quick_start(given, "load_tuned_lens", "folder", 3).removeprefix("```python\n").removesuffix("```\n")
    call = next(
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "load_model"
    )
    assert [ast.literal_eval(part) for part in call.args] == arguments
    assert {part.arg: ast.literal_eval(part.value) for part in call.keywords} == options


def test_the_card_says_format_file_and_hash() -> None:
    card = model_card(GGUF, 1)
    for words in ("GGUF Q8", "de-quantised when it is loaded", "`m.Q8_0.gguf` of `org/models`", "f" * 64):
        assert words in card
    assert 'base_model: "org/models"' in front_matter(GGUF, [])


def test_the_card_says_adapter_and_base() -> None:
    facts = loaded_facts(ADAPTED)
    assert facts["Base model"] == f"`org/base` at `{'b' * 40}`"
    assert facts["Adapter"] == f"`org/adapter` at `{'e' * 40}`, sha256 `{'a' * 64}`"
    assert weights_line(ADAPTED).count("\n") == len(facts) == 3
    assert 'base_model: "org/adapter"' in front_matter(ADAPTED, [])


def test_of_plain_weights_nothing_is_said() -> None:
    plain = provenance(None, "org/base", COMMIT)
    assert loaded_facts(plain) == {}
    assert weights_line(plain) == ""
    assert "loaded_as" not in plain.to_json()
    assert Provenance.from_json(GGUF.to_json()).fingerprint.loaded_as == STORED
    assert Provenance.from_json(ADAPTED.to_json()).fingerprint.loaded_as == LoadedAs(adapter=MERGED)
