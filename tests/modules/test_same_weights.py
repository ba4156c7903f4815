"""When two models of one run are the same."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.lm.frozen import FrozenLM
from logos_pl.modules.base import LensModule
from logos_pl.modules.same_weights import SameWeights
from logos_pl.settings.model import ModelSettings
from tests.tiny import make_model


def module(folder: Path, seed: int) -> LensModule:
    """A module on a model of its own."""
    path = make_model(folder, seed=seed)
    found = LensModule(ModelSettings(model_id=str(path)))
    found.build(FrozenLM.load(str(path)))
    return found


def test_a_model_with_the_fingerprint_of_an_earlier_one_is_named_once(tmp_path: Path) -> None:
    seen: dict[str, Fingerprint] = {}
    trainer: Any = SimpleNamespace()
    check = SameWeights(seen)
    check.on_test_start(trainer, module(tmp_path / "first", 0))
    check.on_fit_start(trainer, module(tmp_path / "other", 1))
    twin = module(tmp_path / "twin", 0)
    with pytest.warns(UserWarning, match="first and twin have the same fingerprint: both serve the same weights"):
        check.on_fit_start(trainer, twin)
    check.on_validation_start(trainer, twin)  # of the same fit: nothing is said again
    check.on_predict_start(trainer, module(tmp_path / "third", 2))
    assert list(seen) == ["first", "other", "twin", "third"]
