"""The temperature at which one distribution comes closest to another."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.divergence import NATS_TO_BITS, kl_nats

_MIN, _MAX = 0.1, 10.0
_GRID = 25
# Below this, two distributions count as equal and no temperature is searched for.
_SAME_BITS = 1e-9
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
# A bracket of two grid steps, 0.38 in log T, shrinks below 1e-5.
_STEPS = 22


def kl_at_bits(
    z: Float[Tensor, "pos vocab"], log_p: Float[Tensor, "pos vocab"], log_t: Float[Tensor, "pos"]
) -> Float[Tensor, "pos"]:
    """KL(softmax(z/T) ‖ P) in bits at one temperature per position."""
    return kl_nats(torch.log_softmax(z * log_t.neg().exp()[:, None], dim=-1), log_p) * NATS_TO_BITS


def _cost_nats(z: Tensor, log_p: Tensor, log_t: Float[Tensor, "pos"]) -> Float[Tensor, "pos"]:
    """The same divergence in nats, with one exponential and no log-softmax: several times faster.

    It cancels where :func:`kl_at_bits` does not, to about 1e-14 in fp64: good enough to search with. The largest
    logit has to be 0.
    """
    inv_t = log_t.neg().exp()[:, None]
    weight = torch.mul(z, inv_t).exp_()
    total = weight.sum(-1)
    return weight.mul_(torch.addcmul(log_p, z, inv_t, value=-1.0)).sum(-1).div_(total).neg_().sub_(total.log())


def _bracket(z: Tensor, log_p: Tensor) -> tuple[Float[Tensor, "pos"], Float[Tensor, "pos"]]:
    """The neighbours, in log T, of the best point of a grid over the whole range."""
    grid = torch.linspace(math.log(_MIN), math.log(_MAX), _GRID, dtype=z.dtype, device=z.device)
    best = torch.stack([_cost_nats(z, log_p, log_t.expand(len(z))) for log_t in grid]).argmin(0)
    return grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=_GRID - 1)]


def _golden_section(z: Tensor, log_p: Tensor) -> Float[Tensor, "pos"]:
    """Logarithm of T at the minimum within the bracket, every position by its own search."""
    low, high = _bracket(z, log_p)
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = _cost_nats(z, log_p, left), _cost_nats(z, log_p, right)
    for _ in range(_STEPS):
        keep_low = at_left <= at_right
        low, high = torch.where(keep_low, low, left), torch.where(keep_low, right, high)
        new = torch.where(keep_low, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = _cost_nats(z, log_p, new)
        left, right = torch.where(keep_low, new, right), torch.where(keep_low, left, new)
        at_left, at_right = torch.where(keep_low, at_new, at_right), torch.where(keep_low, at_left, at_new)
    return (low + high) / 2


def closest_temperature(
    z: Float[Tensor, "pos vocab"], log_p: Float[Tensor, "pos vocab"]
) -> tuple[Float[Tensor, "pos"], Float[Tensor, "pos"]]:
    """T in [0.1, 10] that minimises KL(softmax(z/T) ‖ P), and the KL in bits at this T; inputs in fp64.

    The divergence need not be convex in T: a grid brackets the minimum before golden section finds it, to 1e-5 in
    log T. T is 1 wherever no other is strictly better, also where a logit is not finite.
    """
    one = torch.zeros_like(z[:, 0])
    best, log_best = kl_at_bits(z, log_p, one), one
    apart = (best > _SAME_BITS).nonzero()[:, 0]
    if len(apart):
        best[apart], log_best[apart] = _search(z[apart], log_p[apart], best[apart])
    return log_best.exp().clamp(_MIN, _MAX), best.clamp(min=0.0)


def _search(z: Tensor, log_p: Tensor, best: Float[Tensor, "pos"]) -> tuple[Float[Tensor, "pos"], Float[Tensor, "pos"]]:
    """The divergence and the logarithm of the temperature where it is smallest; ``best`` is that at T = 1."""
    log_t, log_best = _golden_section(z - z.amax(-1, keepdim=True), log_p), torch.zeros_like(best)
    ends = (log_t.new_full(log_t.shape, math.log(end)) for end in (_MIN, _MAX))
    for other in (log_t, *ends):
        kl = kl_at_bits(z, log_p, other)
        better = kl < best
        best, log_best = torch.where(better, kl, best), torch.where(better, other, log_best)
    return best, log_best
