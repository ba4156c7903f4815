"""What the modules of all commands share."""

from pathlib import Path

import pytest
import torch

from logos_pl.errors import RunError
from logos_pl.lenses.norm import NormLens
from logos_pl.modules.base import LensModule, refuse_nonfinite
from logos_pl.settings.model import ModelSettings
from tests.tiny import make_model


@pytest.fixture
def module(tmp_path: Path) -> LensModule:
    made = LensModule(ModelSettings(model_id=str(make_model(tmp_path / "tiny-llama"))))
    made.configure_model()
    return made


def test_the_model_is_loaded_once_and_is_no_part_of_the_module(module: LensModule) -> None:
    lm = module.frozen
    module.configure_model()
    assert module.frozen is lm
    assert list(module.parameters()) == []
    assert module.state_dict() == {}


def test_a_lens_that_is_added_is_read_with_its_origin(module: LensModule) -> None:
    lens = NormLens(module.head)
    module.add_lens("toy", lens, "somewhere")
    module.add_lens("plain", lens)
    assert list(module.lenses) == ["norm", "toy", "plain"]
    assert module.origins == {"toy": "somewhere"}


def test_a_figure_that_is_not_finite_is_named_by_lens_and_row() -> None:
    fine = {"nonfinite": torch.tensor([0, 0, 0])}
    refuse_nonfinite({"norm": fine})
    with pytest.raises(RunError, match=r"tuned lens gave 7 values that are not finite, at rows \[1, 2\]"):
        refuse_nonfinite({"norm": fine, "tuned": {"nonfinite": torch.tensor([0, 3, 4])}})
