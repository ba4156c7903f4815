import dataclasses
import json
from pathlib import Path

import pytest

from logos_pl.artifacts.prism import read_prism_provenance, save_prism
from logos_pl.artifacts.prism_provenance import PrismProvenance, prism_card
from logos_pl.errors import InputError
from tests.artifacts.lenses import make_lm, write_sealed
from tests.artifacts.prisms import make_map, prism_provenance


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    save_prism(tmp_path / "tiny", make_map(), prism_provenance(make_lm()))
    return tmp_path / "tiny"


def test_a_provenance_survives_json() -> None:
    provenance = prism_provenance()
    assert PrismProvenance.from_json(provenance.to_json()) == provenance


def test_a_provenance_of_another_schema_is_refused(artifact: Path) -> None:
    plain = json.loads((artifact / "provenance.json").read_text())
    write_sealed(artifact, plain | {"schema_version": 99})
    with pytest.raises(InputError, match="schema_version 99"):
        read_prism_provenance(artifact)


def test_a_path_of_this_machine_is_never_written(tmp_path: Path) -> None:
    good = prism_provenance()
    local = dataclasses.replace(good, dataset=dataclasses.replace(good.dataset, repo_id="/home/me/text"))
    with pytest.raises(InputError, match=r"dataset\.repo_id holds a path"):
        save_prism(tmp_path / "tiny", make_map(), local)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [-1]}, "rows"),
        ({"rows": [1, 4]}, "rows"),  # of 3 blocks: rows 0 to 3
        ({"clean_model_name": "other"}, "clean_model_name"),
    ],
)
def test_what_has_the_right_type_and_cannot_be_is_refused_by_its_name(changes: dict[str, object], where: str) -> None:
    plain = json.loads(prism_provenance().to_json()) | changes
    with pytest.raises(InputError, match=f"^provenance.json: {where} cannot be "):
        PrismProvenance.from_json(json.dumps(plain))


@pytest.mark.parametrize("row", [0, 3])
def test_figures_are_of_inner_rows(row: int) -> None:
    provenance = prism_provenance()
    at = {"25": dataclasses.replace(provenance.val_kl_bits["25"], row=row)}
    with pytest.raises(InputError, match=f"val_kl_bits cannot be 25, {row}:"):
        PrismProvenance.from_json(dataclasses.replace(provenance, val_kl_bits=at).to_json())


def test_the_first_and_the_last_row_may_be_pooled() -> None:
    pooled = dataclasses.replace(prism_provenance(), rows=[0, 3])
    assert PrismProvenance.from_json(pooled.to_json()) == pooled


def test_the_card_names_the_model_the_figures_and_how_to_load_it(artifact: Path) -> None:
    card = (artifact / "README.md").read_text()
    assert "# Prism lens for org/tiny" in card
    assert "| 25% | 1 | 3.250 | 1.500 | 2.500 | 0.750 | 12.5% | 62.5% |" in card
    assert 'load_prism("checkpoints/prisms/tiny", lm)' in card
    assert "131,500 distinct positions" in card


def test_the_card_shows_what_was_tried_and_reads_the_last_row_that_was_pooled() -> None:
    card = prism_card(prism_provenance())
    assert "| full | 25%, 50% | 0.375 |" in card
    assert "row=2)" in card
    assert card.startswith("---\nlibrary_name: logos-pl\ntags:\n- prism-lens\n")
