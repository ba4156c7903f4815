"""Orthogonal Procrustes: the rotation that brings one set of vectors closest to another. In fp64."""

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.low_rank import check_rank


def procrustes_rotation(
    cross: Float[Tensor, "d_model d_model"], rank: int | None = None
) -> Float[Tensor, "d_model d_model"]:
    """The orthogonal Q that minimises Σ ‖z Q − t‖² over pairs of row vectors z, t.

    Between whitened spaces the singular values of ``cross`` are the canonical correlations of z and t; a rank keeps
    the directions with the largest ones and maps the others to zero, hence to the mean of t.

    Args:
        cross: Σ zᵀ t, or any positive multiple of it.
        rank: Directions that are kept; None for all of them, which makes Q orthogonal.

    Raises:
        InputError: ``rank`` is negative or larger than the width.

    Source: Schönemann, *A generalized solution of the orthogonal Procrustes problem*, 1966.
    """
    kept = check_rank(cross.shape[0] if rank is None else rank, cross.shape[0])
    left, _, right = torch.linalg.svd(cross)
    return left[:, :kept] @ right[:kept]
