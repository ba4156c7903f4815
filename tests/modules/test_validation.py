"""The module of `logos-pl validate`."""

from pathlib import Path

import pytest
import torch

from logos_pl.data.packed_text import TextBatch
from logos_pl.lenses.norm import NormLens
from logos_pl.modules.validation import ValidationModule
from logos_pl.settings.model import ModelSettings
from tests.tiny import make_model


def test_it_reads_the_lenses_whose_kinds_are_validated_and_leaves_a_baseline(tmp_path: Path) -> None:
    module = ValidationModule(ModelSettings(model_id=str(make_model(tmp_path / "tiny-llama"))))
    module.configure_model()
    for name in ("tuned", "bias", "prism"):
        module.add_lens(name, NormLens(module.head))
    module.on_validation_epoch_start()
    batch = TextBatch(torch.arange(20)[None], torch.tensor([[8, 12]]), {})
    with torch.no_grad():
        module.validation_step(batch, 0)
    module.on_validation_epoch_end()

    assert list(module.validation) == ["norm", "tuned", "prism"]
    kl = module.validation["tuned"]["kl_from_final_bits"]
    assert torch.equal(kl, module.validation["norm"]["kl_from_final_bits"])
    assert kl[-1] == pytest.approx(0, abs=1e-6)
    assert (kl[:-1] > 0).all()
