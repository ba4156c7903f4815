"""Parameters of a norm module, read from its attributes and checked against its output.

Families store γ in two ways (``w`` and ``1 + w``) and name ε in several, or hard-code it, in which case it is measured.
Names are not reliable, so the module is run on random input and the description that reproduces its output is chosen.
"""

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from logos_pl.errors import InputError

EPS_NAMES = ("eps", "variance_epsilon", "epsilon", "layer_norm_eps", "norm_eps", "rms_norm_eps")
# Float32 statistics inside the modules agree to about 1e-6; a wrong ε, γ or kind is off by 1e-2 and more.
RELATIVE_TOLERANCE = 2e-5
SMALLEST_EPS = 1e-13
"""Below this, a measured ε cannot be distinguished from zero."""

NormKind = Literal["rms", "layer", "identity"]


@dataclass(frozen=True)
class NormWeights:
    """A norm as numbers: ``(x − [layer] mean) / sqrt(mean square + ε) · γ + β``.

    Attributes:
        kind: ``rms`` (no centring), ``layer`` (centred) or ``identity`` (the model has no norm here).
        gamma: Effective γ in fp32 (``1 + w`` where the module adds one); ones for a norm without weight.
        beta: β in fp32, or None.
        eps: ε, inside the root.
    """

    kind: NormKind
    gamma: Float[Tensor, "d_model"]
    beta: Float[Tensor, "d_model"] | None
    eps: float


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm by its class and has no submodules."""
    return "norm" in type(module).__name__.lower() and next(module.children(), None) is None


def identity_norm(d_model: int, device: torch.device | None = None) -> NormWeights:
    """The norm of a model without one: the identity."""
    return NormWeights("identity", torch.ones(d_model, dtype=torch.float32, device=device), None, 0.0)


def apply_norm(x: Float[Tensor, "*lead d_model"], norm: NormWeights) -> Float[Tensor, "*lead d_model"]:
    """The normalised tensor, in the dtype of ``x`` (fp32 or fp64).

    Source: Zhang & Sennrich, arXiv:1910.07467, eq. 4 (ε inside the root, as every checkpoint's own code has it).
    """
    if norm.kind == "identity":
        return x
    centred = x - x.mean(dim=-1, keepdim=True) if norm.kind == "layer" else x
    scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + norm.eps)
    out = centred * scale * norm.gamma.to(x)
    return out if norm.beta is None else out + norm.beta.to(x)


def norm_weights(module: nn.Module, d_model: int | None = None) -> NormWeights:
    """Find the parameters of a norm module that reproduce it on random input of ordinary and tiny size.

    Args:
        module: The norm.
        d_model: Its width; needed only if it has no weight.

    Raises:
        InputError: No ε can be read from the module or measured, or no known norm reproduces it.
    """
    name = type(module).__name__
    weight, bias = (_vector(module, key) for key in ("weight", "bias"))
    width = d_model if weight is None else weight.numel()
    if width is None:
        raise ValueError(f"{name} has no weight: give its width.")
    with torch.no_grad():
        eps = _epsilon(module, width)
        x = _probe(width, eps)
        wanted = widened(module, torch.float64)(x).double()
        for norm in _candidates(weight, bias, width, eps):
            if _same(apply_norm(x, norm), wanted):
                return norm
    raise InputError(
        f"the norm {name} is not supported: neither RMS nor layer normalisation with its weight, bias and ε={eps:g} "
        "reproduces it; use a model whose final norm is one of these."
    )


def _epsilon(module: nn.Module, width: int) -> float:
    """ε from a norm's attributes or, if it has none (OLMo), measured from its output."""
    stated = [getattr(module, name) for name in EPS_NAMES if hasattr(module, name)]
    numbers = [float(value) for value in stated if isinstance(value, int | float)]
    if numbers:
        return numbers[0]
    measured = 0.0 if stated else _measured_epsilon(module, width)
    if measured > SMALLEST_EPS:
        return measured
    raise InputError(
        f"the norm {type(module).__name__} is not supported: it has no ε among its attributes "
        f"({', '.join(EPS_NAMES)}), none can be measured, and an ε of 0 must not be assumed; use a model whose norms "
        "state it."
    )


def _measured_epsilon(module: nn.Module, width: int) -> float:
    """ε to four digits, from a norm's outputs on one centred row, scaled to be large and tiny.

    The output for a row of mean square t² is t / √(t² + ε) times its limit; β cancels between a row and its negative.
    """
    row = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(width // 2 + 1)[:width]
    row[width - width % 2 :] = 0.0
    large, tiny = 1e4, 1e-8
    run = widened(module, torch.float64)
    limit, small = (((run(t * row) - run(-t * row)) / 2).double() for t in (large, tiny))
    share = float(small.norm() / limit.norm())
    square = tiny**2 * float(row.square().mean())
    return float(f"{square / share**2 - square:.4g}") if 0 < share < math.inf else 0.0


def _vector(module: nn.Module, name: str) -> Tensor | None:
    value = getattr(module, name, None)
    return value.detach().float() if isinstance(value, Tensor) else None


def _probe(d_model: int, eps: float) -> Float[Tensor, "4 d_model"]:
    """Random rows whose mean is not zero, of size 1, 30, √ε and √ε/10, so that centring and ε both show."""
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(4, d_model, generator=generator, dtype=torch.float64, device="cpu") + 0.3
    small = max(eps, 1e-12) ** 0.5
    return x * torch.tensor([1.0, 30.0, small, small / 10], dtype=torch.float64, device="cpu")[:, None]


def widened(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a norm on the CPU with its weights cast to a wider type, which keeps their values."""
    return copy.deepcopy(module).to(device="cpu", dtype=dtype)


def _candidates(weight: Tensor | None, bias: Tensor | None, d_model: int, eps: float) -> list[NormWeights]:
    gammas = [torch.ones(d_model)] if weight is None else [weight.cpu(), 1.0 + weight.cpu()]
    beta = None if bias is None else bias.cpu()
    kinds: tuple[NormKind, ...] = ("rms", "layer")
    return [NormWeights(kind, gamma, beta, eps) for kind in kinds for gamma in gammas]


def _same(got: Tensor, wanted: Tensor) -> bool:
    error = (got - wanted).abs().amax(dim=-1)
    return bool((error <= RELATIVE_TOLERANCE * wanted.abs().amax(dim=-1)).all())
