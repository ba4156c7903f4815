from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from logos_pl.modules.tuning import LensTuning

from logos_pl.artifacts import tuned_lens
from logos_pl.artifacts.tuned_lens import save_tuned_lens
from logos_pl.data.training_text import TrainingText
from logos_pl.modules.lens_import import LensImport
from tests.artifacts.lenses import make_lm, make_provenance, make_translators


def evaluated(folder: Path, with_bias_only: bool) -> LensTuning:
    """A module as it stands when an evaluation of the artifact in `folder` begins."""
    lm, translators = make_lm(), make_translators()
    bias_only = make_translators(rank=0) if with_bias_only else None
    save_tuned_lens(folder, translators, make_provenance(lm, translators), bias_only)
    module = LensTuning(lm.model_id, rank=2)
    module.build(lm)
    data = TrainingText(held_out_frac=0.02)
    LensImport(folder, "fit").on_test_start(SimpleNamespace(is_global_zero=True, datamodule=data), module)
    return module


def test_an_evaluation_takes_both_lenses_from_the_artifact(tmp_path: Path) -> None:
    module = evaluated(tmp_path / "tiny", with_bias_only=True)
    assert torch.equal(module.translators.V, make_translators().V)
    assert module.bias_only is not None
    assert torch.equal(module.bias_only.c, make_translators(rank=0).c)
    assert module.lenses["bias"].head is module.lenses["tuned"].head is module.head


def test_an_evaluation_makes_no_second_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold a large unembedding once more, and not in the number format that the run asks for."""
    monkeypatch.delattr(tuned_lens, "Head")
    evaluated(tmp_path / "tiny", with_bias_only=True)


def test_an_untrained_bias_only_never_stands_in_for_one_that_the_artifact_lacks(tmp_path: Path) -> None:
    module = evaluated(tmp_path / "tiny", with_bias_only=False)
    assert module.bias_only is None
    assert module.lenses.keys() == {"norm", "tuned"}
