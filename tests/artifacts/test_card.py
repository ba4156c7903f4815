import dataclasses
from typing import Any

import pytest
import yaml

from logos_pl.artifacts import Provenance
from logos_pl.artifacts.card import model_card
from tests.artifacts.lenses import make_provenance


def front_matter(card: str) -> Any:
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_the_front_matter_is_yaml_that_names_model_and_text() -> None:
    head = front_matter(model_card(make_provenance(), 1_700))
    assert head["base_model"] == "org/tiny"
    assert head["datasets"] == ["org/text"]
    assert head["library_name"] == "logos-pl"
    assert "tuned-lens" in head["tags"]


def test_local_models_and_texts_are_no_hub_ids_in_the_front_matter() -> None:
    provenance = make_provenance()
    local = dataclasses.replace(
        provenance, model_id="demo", dataset=dataclasses.replace(provenance.dataset, repo_id="stories.jsonl")
    )
    assert front_matter(model_card(local, 1)).keys() == {"library_name", "tags"}


def test_the_card_states_the_provenances_numbers() -> None:
    card = model_card(make_provenance(), 129_310_720)
    for fact in ("`org/tiny`", "`c0ffee`", "| Rank | 4 |", "| Parameters | 435 |", "129.3 MB", "1 to 3", "`final`"):
        assert fact in card, fact
    for fact in (
        "12,345 documents",
        "245,760 tokens",
        "14 steps (ended by early stopping), weights of step 10",
        "0.001",
    ):
        assert fact in card, fact


def test_the_divergence_table_has_a_line_per_percentile() -> None:
    lines = model_card(make_provenance(), 1).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    table = {line[0]: line[1:] for line in cells}
    assert len(table["Depth"]) == 7
    assert table["25%"] == ["1", "3.250", "1.500", "2.500", "0.750", "12.5%", "62.5%"]
    assert table["50%"] == ["2", "1.500", "3.250", "0.750", "2.500", "62.5%", "12.5%"]


def quick_start(provenance: Provenance) -> str:
    return model_card(provenance, 1).split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize(("commit", "pinned"), [("a1" * 20, True), ("sha256:" + "a" * 64, False), ("unknown", False)])
def test_the_quick_start_pins_the_commit_where_the_hub_has_it(commit: str, pinned: bool) -> None:
    code = quick_start(dataclasses.replace(make_provenance(), model_commit=commit))
    assert (f'revision="{commit}"' in code) == pinned
    compile(code, "card", "exec")
