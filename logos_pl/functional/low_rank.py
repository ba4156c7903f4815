"""Low-rank corrections of the residual stream, all rows in one batched product."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError


def default_rank(d_model: int) -> int:
    """Rank ``auto``: d_model / 32 (rounded down) within [64, 256], 256 from d_model 4096 on, never above d_model."""
    rank = 256 if d_model >= 4096 else min(max(d_model // 32, 64), 256)
    return min(rank, d_model)


def check_rank(rank: int, d_model: int) -> int:
    """``rank`` unchanged, if it is valid; 0 gives the bias-only lens.

    Raises:
        InputError: If ``rank`` is negative or larger than ``d_model``.
    """
    if not 0 <= rank <= d_model:
        raise InputError(
            f"Rank {rank} does not fit a model of width {d_model}: choose a rank from 0 to {d_model}, or `auto`."
        )
    return rank


def resolve_rank(rank: int | Literal["auto"], d_model: int) -> int:
    """``default_rank`` for ``auto``, else ``rank`` unchanged, if it is valid.

    Raises:
        InputError: As ``check_rank``.
    """
    return default_rank(d_model) if rank == "auto" else check_rank(rank, d_model)


def apply_low_rank(
    x: Float[Tensor, "rows pos d_model"],
    U: Float[Tensor, "rows d_model rank"],
    V: Float[Tensor, "rows d_model rank"],
    c: Float[Tensor, "rows d_model"],
) -> Float[Tensor, "rows pos d_model"]:
    """``x + (x U) Vᵀ + c`` for every row at once."""
    return torch.baddbmm(x + c[:, None, :], torch.bmm(x, U), V.mT)


def balanced(
    U: Float[Tensor, "d_model rank"], V: Float[Tensor, "d_model rank"]
) -> tuple[Float[Tensor, "d_model rank"], Float[Tensor, "d_model rank"]]:
    """The factors of U Vᵀ with equal norms, U = P√Σ and V = Q√Σ of its singular value decomposition P Σ Qᵀ."""
    (left, upper), (right, lower) = torch.linalg.qr(U), torch.linalg.qr(V)
    p, sigma, qt = torch.linalg.svd(upper @ lower.mT)
    return left @ (p * sigma.sqrt()), right @ (qt.mT * sigma.sqrt())


def rotated_towards(
    U: Float[Tensor, "d_model rank"],
    V: Float[Tensor, "d_model rank"],
    like_U: Float[Tensor, "d_model rank"],
    like_V: Float[Tensor, "d_model rank"],
) -> tuple[Float[Tensor, "d_model rank"], Float[Tensor, "d_model rank"]]:
    """(U R, V R) with the orthogonal R that brings them nearest to ``like_U`` and ``like_V``; U Vᵀ does not change."""
    p, _, qt = torch.linalg.svd(U.mT @ like_U + V.mT @ like_V)
    return U @ (p @ qt), V @ (p @ qt)


def shared_draw(num_rows: int, d_model: int, rank: int, seed: int) -> Float[Tensor, "rows d_model rank"]:
    """One draw of N(0, 1/d_model) per seed, seen by every row (an expanded view: copy it before writing).

    Drawn on the CPU whatever the default device, so that a seed means the same numbers everywhere.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    draw = torch.randn(d_model, rank, generator=generator, device="cpu") * d_model**-0.5
    return draw.expand(num_rows, d_model, rank)
