from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.modules.imported_lens import ImportedLens
from logos_pl.modules.tuning import LensTuning
from tests.tiny import make_imported_lens, make_model

TRAINER = SimpleNamespace(is_global_zero=True)


def test_the_lens_is_found_before_the_model_is_loaded_and_joins_the_others_after(tmp_path: Path) -> None:
    module = LensTuning(str(make_model(tmp_path / "tiny-llama")), rank=2)
    missing = ImportedLens(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="There is no folder"):
        missing.setup(TRAINER, module, "predict")

    callback = ImportedLens(str(make_imported_lens(tmp_path / "theirs", scale=0.1)))
    callback.setup(TRAINER, module, "predict")
    assert module.lm is None
    module.configure_model()
    callback.on_predict_start(TRAINER, module)
    lens = module.lenses["imported"]
    assert list(module.lenses)[-1] == "imported"
    assert lens.head.unembedding.weight is module.head.unembedding.weight, "one unembedding serves all lenses"
    assert callback.origin is not None
    assert callback.origin.base_model == "tiny-llama"
    h = torch.randn(5, 3, 16)
    imported, norm = (of.logits(h, range(5)) for of in (lens, module.lenses["norm"]))
    assert [torch.equal(a, b) for a, b in zip(imported, norm, strict=True)] == [False] * 4 + [True]
