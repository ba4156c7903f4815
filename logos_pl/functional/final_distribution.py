"""The model's final distribution, with which every row is compared.

It is given as ``final_x``, the input of the unembedding at row n (``Head.final_x``), never as logits or probabilities
of all positions: these are computed here, for the positions of one block at a time. Its temperature is 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.unembedding import PreparedHead, unscaled_logits


class Distribution(NamedTuple):
    """A next-token distribution that others are compared with; an axis of size 1 stands for all rows.

    Attributes:
        log_p: Log-probabilities in nats.
        p: Probabilities.
    """

    log_p: Float[Tensor, "pos #rows vocab"]
    p: Float[Tensor, "pos #rows vocab"]

    def at(self, pos: slice) -> "Distribution":
        """The same at some of the positions."""
        return Distribution(self.log_p[pos], self.p[pos])


def distribution(z: Float[Tensor, "pos #rows vocab"], head: PreparedHead) -> Distribution:
    """The distribution that logits give at temperature 1.

    Args:
        z: Logits divided by ``head.amplitude``; overwritten where the head has a soft-cap.
        head: The unembedding.
    """
    log_p = torch.log_softmax(z.mul_(head.amplitude) if head.capped else z, dim=-1)
    return Distribution(log_p, log_p.exp())


def final_logits(final_x: Float[Tensor, "pos d_head"], head: PreparedHead) -> Float[Tensor, "pos 1 vocab"]:
    """The model's logits divided by ``head.amplitude``, in a fresh tensor that may be overwritten."""
    return unscaled_logits(final_x[:, None], head)


def final_distribution(final_x: Float[Tensor, "pos d_head"], head: PreparedHead) -> Distribution:
    """P_final at some positions."""
    return distribution(final_logits(final_x, head), head)
