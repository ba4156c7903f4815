import pytest
import torch

from logos_pl.lenses.head import Head
from logos_pl.lenses.readout import readout
from logos_pl.lm.frozen import FrozenLM
from tests.lm.families import FAMILIES, VOCAB, tiny_model
from tests.lm.oracle import head_logits


@pytest.mark.parametrize("name", ["llama", "gpt2", "gptj", "cohere", "granite", "opt_project", "gemma2"])
def test_direction_and_biases_are_the_familys_head_in_float64(name: str) -> None:
    lm, family = FrozenLM.from_model(tiny_model(name)), FAMILIES[name]._replace(softcap=None)
    head = Head(lm.anatomy)
    ids = [0, VOCAB - 1, 13]
    got = readout(head, ids)
    assert (got.norm_bias is not None) == (family.norm == "layer" and name != "cohere")
    assert (got.head_bias is not None) == family.head_bias
    h = torch.randn(lm.d_model, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 4
    centred = h - h.mean() if family.norm == "layer" else h
    scale = 1.0 / (centred.square().mean() + head.final.eps).sqrt()
    logits = scale * (got.direction @ centred)
    for bias in (got.norm_bias, got.projection_bias, got.head_bias):
        logits = logits if bias is None else logits + bias
    # γ of Gemma is 1 + w, which the model itself adds in fp32.
    torch.testing.assert_close(logits, head_logits(lm.model, family, h)[ids], rtol=1e-6, atol=1e-6)
