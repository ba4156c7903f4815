"""Fitting a prism step by step, without whole runs."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.fit import prism as prism_fit
from logos_pl.fit.prism import PrismModule
from logos_pl.functional.moments import MomentStream
from logos_pl.lenses import prism as prism_lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings
from tests.lm.families import D_MODEL, tiny_model


def test_the_last_row_is_whitened_once_for_each_kind_and_not_for_each_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = PrismModule(ModelSettings(model_id="tiny"), PrismSettings(positions=200))
    module.build(FrozenLM.from_model(tiny_model("llama")))
    stream = MomentStream(len(module.pooled_rows), D_MODEL)
    x = torch.randn(len(module.pooled_rows) + 1, 200, D_MODEL, generator=torch.Generator().manual_seed(0))
    stream.add(x[:-1], x[-1])
    module._stream = stream
    monkeypatch.setattr(prism_fit, "all_sum", lambda trainer, tensor: tensor)
    monkeypatch.setattr(PrismModule, "trainer", SimpleNamespace())
    calls: list[str] = []

    def counted(covariance: Any, kind: str, shrinkage: float) -> Any:
        calls.append(kind)
        return whitening(covariance, kind, shrinkage)

    whitening = prism_lens.whitening
    monkeypatch.setattr(prism_lens, "whitening", counted)
    module.on_validation_epoch_start()
    assert len(module.prisms) == 8
    assert {kind: calls.count(kind) for kind in ("diagonal", "full")} == {"diagonal": 5, "full": 5}
    for candidate, lens in module.prisms.items():
        places = [list(module.pooled_rows).index(depth) for depth in candidate.depths]
        alone = prism_lens.fit_prism(stream.moments(), places, candidate.whiten, module.prism.shrinkage, module.rank)
        assert all(torch.equal(a, b) for a, b in zip(lens.prism, alone, strict=True))
