"""The basis that translators are trained in, whitened by the covariance of x and by the head's Fisher information.

AdamW treats all elements of U and V alike, so the basis determines what is learned quickly. In the plain basis most of
its steps go into directions in which x hardly varies or to which the head is insensitive. Source: docs/method.md §2.3;
docs/schedules.md has the measurements.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.low_rank import balanced, rotated_towards

DAMPING = 0.1
"""Share of the mean variance that is added in every direction, so that none without variance gets a huge factor."""


class TrainingBasis(NamedTuple):
    """The symmetric maps of ``x + (x W_L U)(W_R V)ᵀ + c``, in fp32, the same for all rows.

    Attributes:
        left: W_L, from the covariance of x.
        right: W_R, from the Fisher information Γ of the final distribution.
    """

    left: Float[Tensor, "d_model d_model"]
    right: Float[Tensor, "d_model d_model"]

    def to(self, device: torch.device) -> "TrainingBasis":
        """The same on a device."""
        return TrainingBasis(self.left.to(device), self.right.to(device))


def training_basis(
    covariance: Float[Tensor, "d_model d_model"], fisher: Float[Tensor, "d_model d_model"]
) -> TrainingBasis:
    """W_L ∝ (C + damping)^(−1/2) and W_R ∝ (Γ + damping)^(−1/2), each with a mean diagonal of 1.

    The scale keeps the sizes of U and V, and with them the learning rate, what they are in the plain basis.

    Args:
        covariance: C, the covariance of x over all rows.
        fisher: Γ, the Fisher information with respect to x.

    Source: docs/method.md §2.3; Amari, *Natural Gradient Works Efficiently in Learning*, 1998, for the two metrics.
    """
    return TrainingBasis(_inverse_root(covariance), _inverse_root(fisher))


def _inverse_root(metric: Float[Tensor, "d_model d_model"]) -> Float[Tensor, "d_model d_model"]:
    """(metric + damping)^(−1/2), scaled to a mean diagonal of 1; the identity where the metric is 0."""
    metric = metric.cpu().double()
    mean = metric.trace() / metric.shape[0]
    if not mean > 0:
        return torch.eye(metric.shape[0])
    values, vectors = torch.linalg.eigh(metric / mean)
    root = (vectors * (values.clamp(min=0) + DAMPING).rsqrt()) @ vectors.mT
    return (root * (root.shape[0] / root.trace())).float()


def out_of_basis(
    U: Float[Tensor, "rows d_model rank"], V: Float[Tensor, "rows d_model rank"], basis: TrainingBasis
) -> tuple[Float[Tensor, "rows d_model rank"], Float[Tensor, "rows d_model rank"]]:
    """W_L U and W_R V: the factors that act on x itself; in the precision of U and V."""
    return basis.left.to(U) @ U, basis.right.to(V) @ V


def into_basis(
    U: Float[Tensor, "rows d_model rank"], V: Float[Tensor, "rows d_model rank"], basis: TrainingBasis
) -> tuple[Float[Tensor, "rows d_model rank"], Float[Tensor, "rows d_model rank"]]:
    """Factors of the same maps in the basis, balanced, each row's rotated towards those of the row before; in fp64.

    Of all factors of one map, those with equal norms have the least penalty, and AdamW moves both at the same rate.
    """
    left, right = (torch.linalg.solve(part.double(), factor) for part, factor in zip(basis, (U, V), strict=True))
    pairs = [balanced(*pair) for pair in zip(left, right, strict=True)]
    for row in range(1, len(pairs)):
        pairs[row] = rotated_towards(*pairs[row], *pairs[row - 1])
    us, vs = zip(*pairs, strict=True)
    return torch.stack(us), torch.stack(vs)
