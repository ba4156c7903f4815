"""The tuned lens: a trained map and temperature in front of the head at inner rows, the head alone at rows 0 and n."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.row_index import row_index
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, check_rows
from logos_pl.lenses.translator import Translators


class TunedLens(Lens):
    """Translators in front of a frozen head. Rows 0 and n have none and equal the norm lens.

    Args:
        translators: Maps and temperatures of rows 1 … n − 1.
        head: The head to decode with; a lens read from disk has none until ``bind``.

    Raises:
        InputError: If the head's model has a different number of rows or width.
    """

    def __init__(self, translators: Translators, head: Head | None = None) -> None:
        self.translators = translators
        self._head = head
        if head is not None:
            self._check(head)

    @property
    def head(self) -> Head:
        """The frozen head.

        Raises:
            InputError: If the lens is not bound to one.
        """
        if self._head is None:
            raise InputError("This tuned lens has no head to decode with: call bind(head) with its model's head first.")
        return self._head

    def bind(self, head: Head) -> "TunedLens":
        """The lens itself, decoding with ``head`` and moved to its device.

        Raises:
            InputError: If the head's model has a different number of rows or width.
        """
        self._check(head)
        self._head = head
        self.translators.to(head.device)
        return self

    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """Normed, translated and projected residuals, and 1/τ; one batched product for all inner rows."""
        check_rows(rows, self.head.num_rows)
        x = self.head.normalise(h, rows)
        inv_tau = x.new_ones(len(rows))
        inner = [slot for slot, row in enumerate(rows) if 0 < row < self.head.num_rows - 1]
        if inner:
            slots, index = row_index(inner, x.device), row_index([rows[slot] - 1 for slot in inner], x.device)
            x = x.index_copy(0, slots, self.translators(x.index_select(0, slots), index))
            inv_tau = inv_tau.index_copy(0, slots, self.translators.inv_tau(index))
        return self.head.project(x), inv_tau

    def _check(self, head: Head) -> None:
        trained = (self.translators.num_rows, self.translators.d_model)
        wanted = (head.num_rows - 2, head.anatomy.d_model)
        if trained != wanted:
            raise InputError(
                f"The tuned lens has translators for {trained[0]} rows of width {trained[1]}, but the model has "
                f"{wanted[0]} inner rows of width {wanted[1]}: use the lens trained for this model."
            )
