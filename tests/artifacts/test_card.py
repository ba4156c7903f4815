import dataclasses
import re
from typing import Any

import pytest
import yaml

from logos_pl.artifacts.card import model_card
from logos_pl.artifacts.prism_provenance import prism_card
from logos_pl.artifacts.provenance import Provenance
from tests.artifacts.lenses import make_provenance
from tests.artifacts.prisms import prism_provenance
from tests.artifacts.verdicts import make_acceptance, make_kpis


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
        "14 steps (ended early), weights of step 10",
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


EVIL = "m<img src=x onerror=alert(1)>`](javascript:x)|$x$\n# heading"


def test_names_from_outside_are_text_on_the_card_and_nothing_else() -> None:
    p = make_provenance()
    evil = dataclasses.replace(
        p,
        model_id=EVIL,
        clean_model_name=EVIL,
        model_commit=f"sha256:{EVIL}",
        project_version=EVIL,
        dataset=dataclasses.replace(p.dataset, repo_id=EVIL, name=EVIL, split=EVIL, revision=EVIL),
        optim=dataclasses.replace(p.optim, schedule=EVIL),
        precision=dataclasses.replace(p.precision, model=EVIL, unembed=EVIL, loss=EVIL),
        acceptance=dataclasses.replace(
            make_acceptance(passed=True),
            remarks=[EVIL],
            evaluated_on=dataclasses.replace(make_acceptance(True).evaluated_on, suite=EVIL, dataset=EVIL, device=EVIL),
        ),
        kpis=make_kpis(),
    )
    plain, card = model_card(p, 1), model_card(evil, 1)
    assert "<img" not in card
    assert not re.search(r"(?<!\\)\]\(javascript", card.split("```python")[0])
    assert card.count("\n# ") == plain.count("\n# ") == 1
    assert front_matter(card).keys() == {"library_name", "tags"}
    code = quick_start(evil)
    assert eval(code.split("load_model(")[1].split(")\n")[0]) == f"path/to/{EVIL}"
    compile(code, "card", "exec")


def test_names_from_outside_are_text_on_the_card_of_a_prism() -> None:
    p = prism_provenance()
    evil = dataclasses.replace(
        p, model_id=EVIL, clean_model_name=EVIL, dataset=dataclasses.replace(p.dataset, repo_id=EVIL, split=EVIL)
    )
    card = prism_card(evil)
    assert "<img" not in card
    assert not re.search(r"(?<!\\)\]\(javascript", card.split("```python")[0])
    assert card.count("\n# ") == prism_card(p).count("\n# ") == 1
