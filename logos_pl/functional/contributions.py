"""Direct logit attribution: with the final norm's scale frozen, a logit is linear in the components of row n."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Readout(NamedTuple):
    """The logits of chosen tokens as a linear map, with γ, projection and logit scale folded into one direction.

    ``logit = scale · (h − [centred] mean h) · direction + norm_bias + projection_bias + head_bias``; a bias is None
    where the model has none.
    """

    direction: Float[Tensor, "tokens d_model"]
    norm_bias: Float[Tensor, " tokens"] | None
    projection_bias: Float[Tensor, " tokens"] | None
    head_bias: Float[Tensor, " tokens"] | None


def frozen_scale(h: Float[Tensor, " d_model"], eps: float, centred: bool) -> Float[Tensor, ""]:
    """Factor that the norm applies to a residual before γ: 1 / root mean square, or 1 / standard deviation if centred.

    Source: Zhang & Sennrich, arXiv:1910.07467, eq. 4 (ε inside the root).
    """
    centre = h - h.mean() if centred else h
    return torch.rsqrt(centre.square().mean() + eps)


def logit_contributions(
    components: Float[Tensor, "components d_model"],
    direction: Float[Tensor, "tokens d_model"],
    scale: Float[Tensor, ""],
    centred: bool,
) -> Float[Tensor, "components tokens"]:
    """Contribution of each component of a residual to the logits of chosen tokens, in nats.

    Their sum over components that add up to the residual, plus the biases of the readout, is the logit.

    Args:
        components: Vectors that add up to the residual.
        direction: Directions of a `Readout`.
        scale: Scale of the whole residual, from `frozen_scale`.
        centred: Whether the norm subtracts the mean, which is linear and so is subtracted from every component.

    Source: Elhage et al., A Mathematical Framework for Transformer Circuits, 2021 (direct path to the logits).
    """
    if centred:
        components = components - components.mean(dim=-1, keepdim=True)
    return scale * (components @ direction.T)


def rounding_bound(added: Float[Tensor, "added d_model"], dtype: torch.dtype) -> Float[Tensor, " d_model"]:
    """Bound on the difference between the sum of vectors and the sum that a model computed in its number format.

    Each addition, of one vector or of two at once, is off by at most half an ε of its result; the bound counts one ε.

    Args:
        added: The vectors in fp64, in the order in which they were added.
        dtype: The model's number format.
    """
    format_ = torch.finfo(dtype)
    return format_.eps * (added.cumsum(dim=0).abs() + added.abs() + format_.tiny).sum(dim=0)
