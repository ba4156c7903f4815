"""The closed-form start: translators by least squares, from moments of a little text and without a gradient step.

The best affine map from x_L to x_n is A = s(I + B) with B the regression of y/s − x on x. Of B the best rank-k part is
kept, in the metric in which errors matter: weighted by C, the covariance of x, on the one side, and by Γ, the Fisher
information of the final distribution, on the other, so that the error is the KL divergence to second order. With Γ = I
it is the classical reduced-rank regression. Source: docs/method.md §2.2; Izenman, *Reduced-rank regression for the
multivariate linear model*, 1975.

All of it runs in fp64.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.low_rank import balanced, rotated_towards, shared_draw
from logos_pl.functional.moments import Moments

SHRINKAGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for the ridge, as shares of the mean variance of x; an infinite ridge would give s·I."""

SMALLEST_SCALE = 0.02
"""Smallest s, so that τ = 1/s stays positive and finite where a row is uncorrelated or anti-correlated with row n."""

_METRIC_FLOOR = 1e-3
"""Share of its mean diagonal that is added to Γ, so that directions the head ignores get no huge factors."""


class AffineStart(NamedTuple):
    """Translators ``x + (x U) Vᵀ + c`` with temperatures, for each row, in fp64.

    Attributes:
        U: First factors.
        V: Second factors.
        c: Biases.
        tau: Temperatures.
    """

    U: Float[Tensor, "rows d_model rank"]
    V: Float[Tensor, "rows d_model rank"]
    c: Float[Tensor, "rows d_model"]
    tau: Float[Tensor, "rows"]


class Row(NamedTuple):
    """Moments of one row: means of x and y, covariance of x, cross-covariance of x and y."""

    mean_x: Float[Tensor, "d_model"]
    mean_y: Float[Tensor, "d_model"]
    xx: Float[Tensor, "d_model d_model"]
    xy: Float[Tensor, "d_model d_model"]


def row_of(moments: Moments, slot: int, device: torch.device) -> Row:
    """The moments of one row, on the device to solve on."""
    parts = moments.mean_x[slot], moments.mean_y, moments.xx[slot] / moments.num_pos, moments.xy[slot] / moments.num_pos
    return Row(*(part.to(device) for part in parts))


def metric_root(metric: Float[Tensor, "d_model d_model"]) -> Float[Tensor, "d_model d_model"]:
    """The symmetric square root of Γ, scaled to a mean diagonal of 1 and floored; the identity where Γ is 0.

    Γ is 0 up to rounding if the model is certain of the next token at every position.
    """
    width = metric.shape[0]
    identity = torch.eye(width, dtype=metric.dtype, device=metric.device)
    if not metric.trace() > 0:
        return identity
    values, vectors = torch.linalg.eigh(metric * (width / metric.trace()))
    return (vectors * (values.clamp(min=0) + _METRIC_FLOOR).sqrt()) @ vectors.mT


def scale_of(row: Row, root: Float[Tensor, "d_model d_model"]) -> float:
    """s, the scalar for which s·x is nearest to y in the metric, by least squares."""
    weighted = root @ root
    return max(float((row.xy * weighted).sum() / (row.xx * weighted).sum()), SMALLEST_SCALE)


def regression(row: Row, scale: float, shrinkage: float) -> Float[Tensor, "d_model d_model"]:
    """B of y ≈ s·x(I + B), shrunk towards 0: the ridge is ``shrinkage`` times the mean variance of x.

    NaN where the ridge is too small for a Cholesky factor: rounding of the moments can outweigh a small one.
    """
    ridged = row.xx.clone()
    ridged.diagonal().add_(shrinkage * row.xx.trace() / row.xx.shape[0])
    factor, failed = torch.linalg.cholesky_ex(ridged)
    solved = torch.cholesky_solve(row.xy / scale - row.xx, factor)
    return solved.masked_fill(failed > 0, torch.nan)


def held_out_errors(
    row: Row, scale: float, root: Tensor, x: Float[Tensor, "pos d_model"], y: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "candidates"]:
    """Squared error in the metric of each of the ``SHRINKAGES``, summed over held-out positions.

    Infinite for a candidate that gives no finite map.
    """
    x, wanted = x - row.mean_x, (y - row.mean_y) / scale
    errors = [(wanted - x - x @ regression(row, scale, shrinkage)) @ root for shrinkage in SHRINKAGES]
    return torch.stack([error.square().sum() for error in errors]).nan_to_num(nan=torch.inf)


def best_factors(
    B: Float[Tensor, "d_model d_model"], row: Row, root: Float[Tensor, "d_model d_model"], rank: int
) -> tuple[Float[Tensor, "d_model rank"], Float[Tensor, "d_model rank"]]:
    """U and V of the rank-k matrix nearest to B, errors weighted by C from the left and Γ from the right; balanced.

    The right singular vectors of C^{1/2} B Γ^{1/2} are the eigenvectors of its square, and B projected onto the first
    k of them is its best part.
    """
    weighted = B @ root
    _, vectors = torch.linalg.eigh(weighted.mT @ row.xx @ weighted)
    kept = vectors[:, vectors.shape[1] - rank :]
    return balanced(weighted @ kept, torch.linalg.solve(root, kept))


def random_factors(d_model: int, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """U and V of a random start: a random draw, and zero."""
    draw = shared_draw(1, d_model, rank, seed)[0].double()
    return draw, torch.zeros_like(draw)


def start_row(row: Row, root: Tensor, rank: int, shrinkage: float, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """U, V and c of one row; s becomes the temperature, τ = 1/s."""
    if rank == 0:  # nothing of B is kept
        U = V = row.xx.new_zeros(len(row.xx), 0)
    else:
        U, V = best_factors(regression(row, scale, shrinkage), row, root, rank)
    return U, V, row.mean_y / scale - row.mean_x - (row.mean_x @ U) @ V.mT


def closed_form(
    moments: Moments,
    root: Float[Tensor, "d_model d_model"],
    rank: int,
    shrinkages: list[float],
    *,
    like: tuple[Tensor, Tensor],
    temperature: bool,
    solved: Callable[[], None] = lambda: None,
) -> AffineStart:
    """Translators and temperatures from moments of x_L paired with x_n; on the CPU.

    Factors are determined up to a rotation only. Each row's are rotated towards those of the row before, so that depth
    smoothness is meaningful and small changes of the moments remain small changes of the factors.

    Args:
        moments: Moments of consecutive rows, paired with the last.
        root: ``metric_root``, on the device to solve on.
        rank: Rank k; 0 gives bias and temperature alone.
        shrinkages: Ridge of each row.
        like: Factors of the row before the first; ``random_factors`` if there is none.
        temperature: Whether the lens has temperatures, which absorb the scale; if not, s is 1.
        solved: Called after each row.
    """
    like = like[0].to(root), like[1].to(root)
    starts, taus = [], []
    for slot, shrinkage in enumerate(shrinkages):
        row = row_of(moments, slot, root.device)
        scale = scale_of(row, root) if temperature else 1.0
        U, V, c = start_row(row, root, rank, shrinkage, scale)
        U, V = like = rotated_towards(U, V, *like)
        starts.append((U.cpu(), V.cpu(), c.cpu()))
        taus.append(1.0 / scale)
        solved()
    U, V, c = (torch.stack(parts) for parts in zip(*starts, strict=True))
    return AffineStart(U, V, c, torch.tensor(taus, dtype=torch.float64))
