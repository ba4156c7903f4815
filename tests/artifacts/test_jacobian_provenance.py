import dataclasses
import json
from pathlib import Path

import pytest

from logos_pl.artifacts.jacobian import read_jacobian_provenance, save_jacobian
from logos_pl.artifacts.jacobian_provenance import JacobianProvenance, jacobian_card
from logos_pl.errors import InputError
from tests.artifacts.jacobians import jacobian_provenance, make_jacobians
from tests.artifacts.lenses import make_lm, write_sealed


def test_a_provenance_survives_json() -> None:
    provenance = jacobian_provenance()
    assert JacobianProvenance.from_json(provenance.to_json()) == provenance


def test_a_provenance_of_another_schema_is_refused(tmp_path: Path) -> None:
    save_jacobian(tmp_path / "tiny", make_jacobians(), jacobian_provenance(make_lm()))
    plain = json.loads((tmp_path / "tiny" / "provenance.json").read_text())
    write_sealed(tmp_path / "tiny", plain | {"schema_version": 99})
    with pytest.raises(InputError, match="schema_version 99"):
        read_jacobian_provenance(tmp_path / "tiny")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"relative_errors": [0.1, 0.2]}, "relative_errors"),  # of 3 blocks: rows 0 to 2
        ({"relative_errors": [0.1, -0.2, 0.1]}, "relative_errors"),
        ({"sequences": 0}, "sequences"),
        ({"probes": 0}, "probes"),
        ({"fewest_sequences": 0}, "fewest_sequences"),
        ({"skip_first": 127}, "skip_first"),
        ({"skip_first": -1}, "skip_first"),
        ({"clean_model_name": "other"}, "clean_model_name"),
    ],
)
def test_what_has_the_right_type_and_cannot_be_is_refused_by_its_name(changes: dict[str, object], where: str) -> None:
    plain = json.loads(jacobian_provenance().to_json()) | changes
    with pytest.raises(InputError, match=f"^provenance.json: {where} cannot be "):
        JacobianProvenance.from_json(json.dumps(plain))


@pytest.mark.parametrize("row", [0, 3])
def test_figures_are_of_inner_rows(row: int) -> None:
    provenance = jacobian_provenance()
    at = {"25": dataclasses.replace(provenance.val_kl_bits["25"], row=row)}
    with pytest.raises(InputError, match=f"val_kl_bits cannot be 25, {row}:"):
        JacobianProvenance.from_json(dataclasses.replace(provenance, val_kl_bits=at).to_json())


def test_the_card_names_the_model_the_figures_the_error_and_how_to_load_it() -> None:
    card = jacobian_card(jacobian_provenance())
    assert card.startswith("---\nlibrary_name: logos-pl\ntags:\n- jacobian-lens\n")
    assert "# Jacobian lens for org/tiny" in card
    assert "| 25% | 1 | 3.250 | 1.500 | 2.500 | 0.750 | 12.5% | 62.5% | 6.0% |" in card
    assert "1,024 sequences of 128 tokens" in card
    assert "the first 16 positions and the last of each are left out" in card
    assert "8 output dimensions were measured on each sequence, and every one on at least 512 of them" in card
    assert 'load_jacobian("checkpoints/jacobians/tiny", lm)' in card
