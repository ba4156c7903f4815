"""Jacobian lens: a matrix per row that carries the residual to the last row, in front of the frozen head.

The matrix is a mean of Jacobians ∂h_n/∂h_row over text. Lenses that estimate it differently (R-lens, J++ lens)
are read in the same way.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, check_rows


class JacobianLens(Lens):
    """``head(norm(J h))`` at the rows that have a map J, at temperature 1; row n is the model's own head.

    The norm is the model's final norm, regardless of the head's decoding norm, since J maps to the last row.
    Rows without a map are not read. Source: Gurnee et al. 2026, https://transformer-circuits.pub/2026/workspace.

    Args:
        head: The frozen head.
        maps: J by row, for some or all of rows 0 … n − 1; kept in their number format, applied in fp32.

    Raises:
        InputError: There is no map, or the row or width of one does not fit the head's model.
    """

    def __init__(self, head: Head, maps: Mapping[int, Float[Tensor, "d_model d_model"]]) -> None:
        width, last = head.anatomy.d_model, head.num_rows - 1
        unfit = sorted(row for row, matrix in maps.items() if not 0 <= row < last or matrix.shape != (width, width))
        if unfit or not maps:
            raise InputError(
                f"The Jacobian lens has {f'a map for row {unfit[0]}' if unfit else 'no map'}, but the model needs maps "
                f"of {width} × {width} for rows 0 to {last - 1}: use the lens of this model."
            )
        self._head = head.decoding_with("final")
        self.maps = {row: maps[row].detach().to(head.device) for row in sorted(maps)}

    @property
    def head(self) -> Head:
        """The frozen head."""
        return self._head

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows with a map, and row n."""
        return (*self.maps, self.head.num_rows - 1)

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """Residuals mapped to the last row, normed and projected, and ones.

        Raises:
            InputError: A row has no map.
        """
        check_rows(rows, self.head.num_rows)
        if without := sorted(set(rows) - set(self.rows)):
            raise InputError(
                f"The lens has no map for row(s) {', '.join(map(str, without))}: it reads "
                f"{', '.join(map(str, self.rows))}."
            )
        h = h.to(self.head.device).float()
        with torch.autocast(h.device.type, enabled=False):
            carried = torch.stack([self._carry(of, row) for of, row in zip(h, rows, strict=True)])
        x = self.head.normalise(carried, rows)
        return self.head.project(x), x.new_ones(len(rows))

    def _carry(self, h: Float[Tensor, "pos d_model"], row: int) -> Float[Tensor, "pos d_model"]:
        return h @ self.maps[row].float().T if row in self.maps else h
