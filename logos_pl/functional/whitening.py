"""Whitening: the symmetric map that gives vectors unit variance in every direction, from their moments, in fp64.

A map is a matrix, or the vector of its diagonal; ``times`` applies either.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.moments import Moments

WhiteningKind = Literal["diagonal", "full"]

Symmetric = Float[Tensor, "d_model d_model"] | Float[Tensor, "d_model"]
"""A symmetric map, as a matrix or as its diagonal."""

SMALLEST_VARIANCE = 1e-10
"""Variances at or below this share of the largest count as 0, as rounding of the moments alone can give them."""


class Pooled(NamedTuple):
    """Moments of x over several rows taken together, each row with the same y; covariances are per sample.

    Attributes:
        mean_x: Mean of x over positions and rows.
        xx: Covariance of x.
        xy: Cross-covariance of x and y.
    """

    mean_x: Float[Tensor, "d_model"]
    xx: Float[Tensor, "d_model d_model"]
    xy: Float[Tensor, "d_model d_model"]


class Whitening(NamedTuple):
    """W = C^(−1/2) and its inverse, for a covariance C or for its diagonal."""

    whiten: Symmetric
    unwhiten: Symmetric


def pool_rows(moments: Moments, rows: Sequence[int]) -> Pooled:
    """The moments of some of the rows taken together as one set of samples.

    Args:
        moments: Moments of x at several rows, paired with one y.
        rows: Indices of the rows.

    Raises:
        ValueError: No row, or no position.
    """
    if not rows or moments.num_pos == 0:
        raise ValueError("pooling needs at least one row and one position.")
    index = list(rows)
    mean_x = moments.mean_x[index].mean(dim=0)
    apart = moments.mean_x[index] - mean_x
    xx = moments.xx[index].mean(dim=0) / moments.num_pos + apart.mT @ apart / len(index)
    # y has the same mean with every row, so the rows' own means do not affect the cross-covariance.
    return Pooled(mean_x, xx, moments.xy[index].mean(dim=0) / moments.num_pos)


def check_shrinkage(shrinkage: float) -> float:
    """``shrinkage`` unchanged, if it is a share from 0 to below 1.

    Raises:
        InputError: It is not.
    """
    if not 0 <= shrinkage < 1:
        raise InputError(
            f"--prism.shrinkage must be at least 0 and below 1 (got {shrinkage}): give a share such as 0.001."
        )
    return shrinkage


def whitening(covariance: Float[Tensor, "d_model d_model"], kind: WhiteningKind, shrinkage: float) -> Whitening:
    """The symmetric whitening of a covariance, shrunk towards a multiple of the identity of the same trace.

    Args:
        covariance: C.
        kind: `full`: C itself; `diagonal`: its diagonal, which leaves correlations as they are.
        shrinkage: Share of the identity, from 0 to below 1.

    Raises:
        InputError: ``shrinkage`` is out of bounds, or some direction has no variance that could be made 1.

    Source: Kessy, Lewin & Strimmer, arXiv:1512.00809 (ZCA whitening); Ledoit & Wolf 2004 (shrinkage).
    """
    level = check_shrinkage(shrinkage) * covariance.diagonal().mean()
    if kind == "diagonal":
        variances = _usable((1 - shrinkage) * covariance.diagonal() + level, shrinkage)
        return Whitening(variances.rsqrt(), variances.sqrt())
    values, vectors = torch.linalg.eigh((1 - shrinkage) * covariance)
    variances = _usable(values + level, shrinkage)
    return Whitening(*((vectors * scale) @ vectors.mT for scale in (variances.rsqrt(), variances.sqrt())))


def _usable(variances: Float[Tensor, "d_model"], shrinkage: float) -> Float[Tensor, "d_model"]:
    """The variances unchanged, if none is 0.

    Raises:
        InputError: Some are, or are not finite.
    """
    missing = int((variances <= SMALLEST_VARIANCE * variances.max()).sum())
    if missing or not bool(variances.isfinite().all()):
        raise InputError(
            f"The covariance is rank-deficient: {missing} of {variances.numel()} directions have no variance at a "
            f"shrinkage of {shrinkage:g}: read more positions, or give a shrinkage above 0, such as 0.001."
        )
    return variances


def times(x: Float[Tensor, "*lead d_model"], symmetric: Symmetric) -> Float[Tensor, "*lead d_model"]:
    """Apply the map to every vector of ``x``."""
    return x * symmetric if symmetric.ndim == 1 else x @ symmetric
