"""What a step of a fit is made of. Beside `test_fit.py`, so that two processes share the work."""

from pathlib import Path

import pytest

from logos_pl.lenses.translator import Translators
from tests.fit.test_fit import DEMO, fit


def test_accumulation_changes_nothing_but_rounding(tmp_path: Path) -> None:
    # From one and the same start: Adam's first steps would blow up what rounding makes of the closed form.
    arguments = [*DEMO, "--schedule=spec", "--data.tokens=24_576", "--data.val_seqs=8"]
    _, whole, _ = fit(tmp_path / "whole", [*arguments, "--data.micro_batch_seqs=32"])
    _, split, provenance = fit(tmp_path / "split", [*arguments, "--data.micro_batch_seqs=8"])

    assert provenance["batching"]["grad_accum"] == 4
    start = Translators(7, 128, 64, seed=provenance["seed"]).state_dict()
    for name, tensor in whole.items():
        # Of the whole tensor: Adam takes a step of full size by a gradient that is rounding alone, too, so that one
        # element of many thousands may differ by more than the rest.
        moved = (tensor - start[name]).norm()
        assert (split[name] - tensor).norm() < 1e-4 * moved, name


@pytest.mark.parametrize("rows", ["all", 2])
def test_rows_per_step_are_recorded_as_they_were(rows: str | int, tmp_path: Path) -> None:
    arguments = [*DEMO, "--data.tokens=12_288", "--data.val_seqs=8"]
    _, _, provenance = fit(tmp_path, [*arguments, f"--model.layers_per_step={rows}"])

    assert provenance["layers_per_step"] == (7 if rows == "all" else 2)
