"""The affine lens: a full-rank translator in front of the norm at every row but the last.

The `tuned-lens` package trains and publishes such lenses.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, check_rows


class AffineLens(Lens):
    """``head(norm(h + h Wᵀ + b))`` at rows 0 … n − 1, at temperature 1; row n has no translator and is the norm lens.

    The norm is the model's final norm, regardless of the head's decoding norm. Source: arXiv:2303.08112 §3, with the
    translator added to the residual as in the `tuned-lens` package.

    Args:
        head: The frozen head.
        weight: W of rows 0 … n − 1.
        bias: b of the same rows.

    Raises:
        InputError: If the head's model has a different number of rows or width.
    """

    def __init__(
        self,
        head: Head,
        weight: Float[Tensor, "translators d_model d_model"],
        bias: Float[Tensor, "translators d_model"],
    ) -> None:
        rows, width = bias.shape
        wanted = (head.num_rows - 1, head.anatomy.d_model)
        if (rows, width) != wanted:
            raise InputError(
                f"The affine lens has translators for {rows} rows of width {width}, but the model has {wanted[0]} rows "
                f"before its last of width {wanted[1]}: use the lens trained for this model."
            )
        self._head = head.decoding_with("final")
        self.weight = weight.detach().to(device=head.device, dtype=torch.float32)
        self.bias = bias.detach().to(device=head.device, dtype=torch.float32)

    @property
    def head(self) -> Head:
        """The frozen head."""
        return self._head

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """Translated, normed and projected residuals, and ones."""
        check_rows(rows, self.head.num_rows)
        h = h.to(self.head.device).float()
        # Row by row: gathering the translators would copy n·d² numbers, more than the unembedding of many models.
        moved = torch.stack([self._translate(of, row) for of, row in zip(h, rows, strict=True)])
        x = self.head.normalise(moved, rows)
        return self.head.project(x), x.new_ones(len(rows))

    def _translate(self, h: Float[Tensor, "pos d_model"], row: int) -> Float[Tensor, "pos d_model"]:
        return h if row == self.head.num_rows - 1 else h + torch.addmm(self.bias[row], h, self.weight[row].T)
