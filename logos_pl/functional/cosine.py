"""Cosine of mean-centred logits, invariant to an added constant and to a positive factor."""

import torch
from jaxtyping import Float
from torch import Tensor


def _length(centred: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead 1"]:
    """Euclidean length, never 0: logits that are all equal get the cosine 0, not NaN."""
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    return length.clamp_(min=torch.finfo(centred.dtype).tiny)


def direction(z: Float[Tensor, "*lead vocab"]) -> Float[Tensor, "*lead vocab"]:
    """Logits centred on their mean and scaled to length 1."""
    centred = z - z.mean(-1, keepdim=True)
    return centred.div_(_length(centred))


def cosine(
    z: Float[Tensor, "pos rows vocab"], mean: Float[Tensor, "pos rows 1"], to: Float[Tensor, "pos 1 vocab"]
) -> Float[Tensor, "pos rows"]:
    """Cosine of ``z``, whose mean is known, and a direction; 0 where all logits are equal."""
    centred = z - mean
    length = _length(centred)
    return (centred.mul_(to).sum(-1, keepdim=True) / length).clamp_(-1.0, 1.0)[..., 0]
