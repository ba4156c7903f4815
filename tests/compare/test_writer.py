"""What a comparison of two lenses prints and writes."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.compare.figures import measure_pair
from logos_pl.compare.module import CompareModule
from logos_pl.compare.writer import FILES, CompareWriter
from logos_pl.errors import InputError
from logos_pl.settings.model import ModelSettings
from tests.compare.test_figures import samples
from tests.compare.test_report import A, B


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> CompareModule:
    lm: Any = SimpleNamespace(clean_model_name="m", model_id="org/m", model_commit="c")
    module = CompareModule(ModelSettings(model_id="org/m"))
    module.pair_origins = {"a": A, "b": B}
    monkeypatch.setattr(CompareModule, "frozen", lm, raising=False)
    monkeypatch.setattr(module, "samples", samples)
    return module


def write(module: CompareModule, root: Path, out_dir: str | None = None) -> None:
    trainer: Any = SimpleNamespace(datamodule=SimpleNamespace(same_in_all=lambda: {"split": "validation"}))
    CompareWriter(root, out_dir).on_validation_end(trainer, module)


def test_table_document_and_plot_are_of_the_same_figures(
    module: CompareModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(module, tmp_path)
    (folder,) = (tmp_path / "comparisons").iterdir()
    assert {path.name for path in folder.iterdir()} == set(FILES)
    figures, document = measure_pair(samples()), json.loads((folder / "compare.json").read_text())
    assert (document["model"], document["text"]) == (
        {"model_id": "org/m", "model_commit": "c"},
        {"split": "validation"},
    )
    lines = list(csv.DictReader((folder / "compare.csv").read_text().splitlines()))
    for row, line in zip((0, 1, 3, 4), lines, strict=False):
        wanted = figures.rows[row].kl_ab_bits.estimate
        assert (float(line["kl_ab_bits"]), document["rows"][str(row)]["kl_ab_bits"]["estimate"]) == (wanted, wanted)
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "m: A = tuned one, B = tuned two; means over" in capsys.readouterr().out


def test_a_folder_with_results_is_never_written_to_again(module: CompareModule, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    write(module, tmp_path, str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"compare\.out_dir"):
        write(module, tmp_path, str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
