from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.fit.depth_figure import DepthFigure, kl_against_depth
from logos_pl.fit.module import TuningModule
from logos_pl.lenses.translator import Translators
from tests.tiny import resolved


def test_the_figure_draws_both_lenses_and_both_directions() -> None:
    norm = {"kl_from_final_bits": torch.tensor([3.0, 2.0, 0.0]), "kl_to_final_bits": torch.tensor([4.0, 3.0, 0.0])}
    tuned = {name: values / 2 for name, values in norm.items()}

    (axes,) = kl_against_depth({"norm": norm, "tuned": tuned}).axes

    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(drawn["norm: KL(final ‖ row)"]) == [3.0, 2.0, 0.0]
    assert list(drawn["tuned: KL(row ‖ final)"]) == [2.0, 1.5, 0.0]
    assert len(drawn) == 4
    assert "bits" in axes.get_ylabel()


def test_every_row_of_both_lenses_and_every_temperature_has_a_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = TuningModule(resolved(model_id="any"))
    module.averages = torch.nn.ModuleDict({"translators": Translators(1, 4, 2)})
    readings = {"kl_from_final_bits": torch.tensor([3.0, 2.0, 0.0]), "kl_to_final_bits": torch.ones(3)}
    module.validation = {"norm": readings, "tuned": readings | {"kl_from_final_bits": torch.tensor([3.0, 1.0, 0.0])}}
    logger = TensorBoardLogger(tmp_path)
    written: dict[str, tuple[float, int]] = {}
    monkeypatch.setattr(logger.experiment, "add_scalar", lambda name, *value: written.update({name: value}))
    trainer: Any = SimpleNamespace(sanity_checking=False, logger=logger, is_global_zero=True, global_step=7)
    DepthFigure().on_validation_end(trainer, module)

    assert written.pop("tau/row_01") == (pytest.approx(1), 7)
    assert written == {
        f"val_kl_from_final_bits/{lens}_row_{row:02d}": (kl, 7)
        for lens, kls in (("norm", (3.0, 2.0, 0.0)), ("tuned", (3.0, 1.0, 0.0)))
        for row, kl in enumerate(kls)
    }
