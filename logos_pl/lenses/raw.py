"""The raw lens: the unembedding without the norm, to show the effect of the norm."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, check_rows


class RawLens(Lens):
    """The head without its norm at every row, temperature 1. Source: docs/method.md §5.4.

    Args:
        head: The frozen head.
    """

    def __init__(self, head: Head) -> None:
        self._head = head

    @property
    def head(self) -> Head:
        """The frozen head."""
        return self._head

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """Projected residuals in fp32, and ones."""
        check_rows(rows, self.head.num_rows)
        x = h.to(self.head.device).float()
        return self.head.project(x), x.new_ones(len(rows))
