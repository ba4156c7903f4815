"""The Prism lens: one whitening and one rotation for all rows, before the frozen head. Source: docs/method.md §3."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.moments import Moments
from logos_pl.functional.procrustes import procrustes_rotation
from logos_pl.functional.whitening import Symmetric, Whitening, WhiteningKind, pool_rows, times, whitening
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, check_rows


class PrismMap(NamedTuple):
    """x ↦ ((x − mean) whiten) rotation unwhiten_final + mean_final, on row vectors; fp32.

    Attributes:
        mean: Mean of x over the pooled rows.
        whiten: Whitening of x over the pooled rows.
        rotation: Orthogonal, or of a lower rank.
        unwhiten_final: The inverse whitening of x_n, which maps back to its scale.
        mean_final: Mean of x_n.
    """

    mean: Float[Tensor, "d_model"]
    whiten: Symmetric
    rotation: Float[Tensor, "d_model d_model"]
    unwhiten_final: Symmetric
    mean_final: Float[Tensor, "d_model"]

    def affine(self) -> tuple[Float[Tensor, "d_model d_model"], Float[Tensor, "d_model"]]:
        """A and b of the same map x ↦ x A + b, computed in fp64 and returned in fp32."""
        mean, whiten, rotation, unwhiten, mean_final = (part.double() for part in self)
        # times() multiplies from the right; whiten is symmetric, so that whiten @ rotation is (rotationᵀ whiten)ᵀ.
        matrix = times(times(rotation.mT, whiten).mT, unwhiten)
        return matrix.float(), (mean_final - mean @ matrix).float()


def fit_prism(
    moments: Moments,
    rows: Sequence[int],
    kind: WhiteningKind,
    shrinkage: float,
    rank: int | None = None,
    *,
    final: Whitening | None = None,
) -> PrismMap:
    """Fit the map from the pooled rows to the last row: both are whitened in the same way, then aligned by a rotation.

    Args:
        moments: Moments of normalised residuals at several rows, paired with the last row at the same positions.
        rows: Which of them are pooled, by index.
        kind: Kind of both whitenings.
        shrinkage: Shrinkage of both covariances.
        rank: Number of directions of the rotation that are kept; None: all.
        final: The result of ``whiten_final``, the same for any pooled rows; None: computed here.

    Raises:
        InputError: Too few positions (at most the width) to determine a rotation, a rank-deficient covariance, or a
            rank or shrinkage out of bounds.
    """
    final = whiten_final(moments, kind, shrinkage) if final is None else final
    pooled = pool_rows(moments, rows)
    source = whitening(pooled.xx, kind, shrinkage)
    cross = times(times(pooled.xy.mT, source.whiten).mT, final.whiten)
    rotation = procrustes_rotation(cross, rank)
    parts = (pooled.mean_x, source.whiten, rotation, final.unwhiten, moments.mean_y)
    return PrismMap(*(part.float() for part in parts))


def whiten_final(moments: Moments, kind: WhiteningKind, shrinkage: float) -> Whitening:
    """The whitening of the last row.

    Args:
        moments: The same as for ``fit_prism``.
        kind: The same as for ``fit_prism``.
        shrinkage: The same as for ``fit_prism``.

    Raises:
        InputError: Too few positions (at most the width) to determine a rotation, or a rank-deficient covariance.
    """
    d_model = moments.mean_y.numel()
    if moments.num_pos <= d_model:
        raise InputError(
            f"{moments.num_pos} distinct positions do not determine a rotation in {d_model} dimensions: read more than "
            f"{d_model} (--prism.positions); 100,000 or more is sensible."
        )
    return whitening(moments.yy / moments.num_pos, kind, shrinkage)


class PrismLens(Lens):
    """One map in front of a frozen head, the same at rows 0 … n − 1; row n is the model's own head. Temperature 1.

    Args:
        prism: The map.
        head: The head to decode with; a lens read from disk has none until ``bind``.

    Raises:
        InputError: The head's model has a different width.
    """

    def __init__(self, prism: PrismMap, head: Head | None = None) -> None:
        self.prism = prism
        self._affine = prism.affine()
        self._head: Head | None = None
        if head is not None:
            self.bind(head)

    @property
    def head(self) -> Head:
        """The frozen head.

        Raises:
            InputError: The lens is not bound to one.
        """
        if self._head is None:
            raise InputError("This Prism lens has no head to decode with: call bind(head) with its model's head first.")
        return self._head

    def bind(self, head: Head) -> "PrismLens":
        """The lens itself, decoding with ``head`` and moved to its device.

        Raises:
            InputError: The head's model has a different width.
        """
        width = self.prism.mean.numel()
        if width != head.anatomy.d_model:
            raise InputError(
                f"The Prism lens has a map of width {width}, but the model is {head.anatomy.d_model} wide: use the "
                "prism fitted for this model."
            )
        self._head = head
        matrix, bias = self._affine
        self._affine = matrix.to(head.device), bias.to(head.device)
        return self

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """Normed, mapped and projected residuals, and ones."""
        check_rows(rows, self.head.num_rows)
        x = self.head.normalise(h, rows)
        inner = [slot for slot, row in enumerate(rows) if row < self.head.num_rows - 1]
        if inner:
            matrix, bias = self._affine
            slots = torch.tensor(inner, device=x.device)
            with torch.autocast(x.device.type, enabled=False):
                x = x.index_copy(0, slots, x.index_select(0, slots) @ matrix + bias)
        return self.head.project(x), x.new_ones(len(rows))
