import json
from pathlib import Path

import pytest
from jsonschema import validate

from logos_pl.sweeps.folder import SweepFolder
from logos_pl.sweeps.schema_file import output_schema
from logos_pl.sweeps.several_models import record_skips, write_cross_report
from tests.sweeps.swept import sweep


def test_a_model_that_was_not_read_has_a_document_with_the_reason_and_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output-begun.json").write_text("{}")
    skipped = [("org/big", "It needs 140 GB."), ("/models/mine", "No such folder."), ("./begun", "It broke off.")]
    record_skips(SweepFolder(tmp_path), skipped)

    read = {name: json.loads((tmp_path / f"output-{name}.json").read_text()) for name in ("big", "mine", "begun")}
    for name in ("big", "mine"):
        validate(read[name], output_schema())
    assert (read["big"]["status"], read["big"]["reason"]) == ("skipped", "It needs 140 GB.")
    assert read["big"]["model"]["model_id"] == "org/big"
    assert read["mine"]["model"]["model_id"] == "mine"
    assert read["begun"] == {}, "a sweep that had begun has said more"


def test_the_comparison_is_one_file_in_the_folder_of_the_sweeps(tmp_path: Path) -> None:
    path = write_cross_report(SweepFolder(tmp_path), [sweep("a"), sweep("b")])
    assert path == tmp_path / "evaluation-cross-models.md"
    assert "org/a" in path.read_text()
