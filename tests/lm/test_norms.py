"""The numbers of a norm, against the module and against float64 arithmetic."""

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

from logos_pl.errors import InputError
from logos_pl.lm.norms import apply_norm, identity_norm, is_norm, norm_weights
from tests.lm.families import D_MODEL, FAMILIES, NAMES, tiny_model


def filled(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def test_llamas_gamma_is_the_weight() -> None:
    norm = filled(LlamaRMSNorm(16, eps=1e-4))
    found = norm_weights(norm)
    assert (found.kind, found.eps, found.beta) == ("rms", 1e-4, None)
    assert torch.equal(found.gamma, norm.weight)


def test_gemmas_gamma_is_one_plus_the_weight() -> None:
    norm = filled(Gemma2RMSNorm(16, eps=1e-4))
    found = norm_weights(norm)
    assert found.kind == "rms"
    assert torch.equal(found.gamma, 1.0 + norm.weight)


def test_nemotrons_layer_norm_adds_one_and_keeps_its_bias() -> None:
    norm = filled(NemotronLayerNorm1P(16))
    found = norm_weights(norm)
    assert found.kind == "layer"
    assert torch.equal(found.gamma, 1.0 + norm.weight)
    assert torch.equal(found.beta, norm.bias)


@pytest.mark.parametrize("elementwise", [True, False])
def test_a_layer_norm_with_and_without_weights_is_read(elementwise: bool) -> None:
    norm = filled(nn.LayerNorm(16, eps=1e-3, elementwise_affine=elementwise))
    found = norm_weights(norm, 16)
    assert (found.kind, found.eps) == ("layer", 1e-3)
    assert found.gamma.shape == (16,)
    assert (found.beta is not None) == elementwise


def test_a_norm_without_weights_has_no_width_of_its_own() -> None:
    with pytest.raises(ValueError, match="give its width"):
        norm_weights(nn.LayerNorm(16, elementwise_affine=False))


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_apply_norm_is_the_formula_with_epsilon_inside_the_root(kind: str, size: float) -> None:
    module = filled(LlamaRMSNorm(16, eps=1e-6) if kind == "rms" else nn.LayerNorm(16, eps=1e-6))
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * size
    centred = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    wanted = centred / (centred.pow(2).sum(-1, keepdim=True) / 16 + 1e-6).sqrt() * module.weight.double()
    wanted = wanted if kind == "rms" else wanted + module.bias.double()
    assert torch.allclose(apply_norm(x, norm_weights(module)), wanted, rtol=1e-12)
    assert torch.allclose(apply_norm(x.float(), norm_weights(module)).double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_identity_norm_changes_no_bit() -> None:
    x = torch.randn(3, 8)
    assert torch.equal(apply_norm(x, identity_norm(8)), x)


class WrongEpsilonRMSNorm(nn.RMSNorm):
    """States one ε and computes with another."""

    def __init__(self) -> None:
        super().__init__(16, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class EpsilonOutsideRMSNorm(WrongEpsilonRMSNorm):
    def forward(self, x: Tensor) -> Tensor:
        assert self.eps is not None
        return self.weight * x / (x.pow(2).mean(-1, keepdim=True).sqrt() + self.eps)


class ConstantEpsilonRMSNorm(nn.Module):
    def __init__(self, eps: float, width: int = 16) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.constant = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()  # as the families' own norms do
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.constant)


@pytest.mark.parametrize("width", [16, 17])
@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-6, 1e-8, 3.5e-12])
def test_an_epsilon_that_is_a_constant_of_the_code_is_measured(eps: float, width: int) -> None:
    norm = filled(ConstantEpsilonRMSNorm(eps, width))
    found = norm_weights(norm)
    assert (found.kind, found.eps) == ("rms", eps)
    assert torch.equal(found.gamma, norm.weight)


def test_the_epsilon_of_olmos_layer_norm_without_weights_is_measured() -> None:
    found = norm_weights(OlmoLayerNorm(16), 16)
    assert (found.kind, found.eps, found.beta) == ("layer", 1e-5, None)
    assert torch.equal(found.gamma, torch.ones(16))


@pytest.mark.parametrize("eps", [0.0, 1e-16])
def test_a_missing_epsilon_is_an_error_and_never_zero(eps: float) -> None:
    with pytest.raises(InputError, match="ConstantEpsilonRMSNorm is not supported: it has no ε"):
        norm_weights(ConstantEpsilonRMSNorm(eps))


def test_an_rms_norm_of_torch_that_leaves_epsilon_open_is_an_error() -> None:
    with pytest.raises(InputError, match="RMSNorm is not supported: it has no ε"):
        norm_weights(nn.RMSNorm(16))


@pytest.mark.parametrize("kind", [WrongEpsilonRMSNorm, EpsilonOutsideRMSNorm])
def test_a_norm_that_does_not_compute_what_it_states_is_an_error(kind: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__} is not supported: neither RMS nor layer"):
        norm_weights(kind())


@pytest.mark.parametrize("name", NAMES)
def test_norms_of_every_family_are_of_the_kind_its_code_says(name: str) -> None:
    family = FAMILIES[name]
    if family.final_norm is None:
        return
    module = tiny_model(name, torch.bfloat16).get_submodule(family.final_norm)
    found = norm_weights(module, D_MODEL)
    assert is_norm(module)
    assert found.kind == family.norm
    weight = module.weight.float() if hasattr(module, "weight") else torch.ones(D_MODEL)
    assert torch.equal(found.gamma, weight + (1.0 if family.one_plus_w else 0.0))
    assert found.gamma.dtype == torch.float32
