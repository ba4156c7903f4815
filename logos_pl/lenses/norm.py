"""The norm lens (logit lens): every row through the model's own head; also the interface of all lenses."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.unembedding import unembed
from logos_pl.lenses.head import Head


class Lens(ABC):
    """Reads a next-token distribution from any row 0 … n of the residual stream."""

    @property
    @abstractmethod
    def head(self) -> Head:
        """The frozen head the lens decodes with."""

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows that the lens reads, in order, ending with row n: 0 … n unless a lens has maps for fewer rows."""
        return tuple(range(self.head.num_rows))

    @abstractmethod
    def decode_inputs(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]
    ) -> tuple[Float[Tensor, "rows pos d_head"], Float[Tensor, "rows"]]:
        """The unembedding's input in fp32, and 1/τ: all that fused sweeps need, without any logits.

        Args:
            h: Residuals before any final norm.
            rows: Which row each slice of ``h`` is.

        Raises:
            InputError: If the model does not have a row, or the lens does not read it.
        """

    def logits(self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]) -> Float[Tensor, "rows pos vocab"]:
        """Logits in fp32, divided by each row's temperature."""
        x, inv_tau = self.decode_inputs(h, rows)
        return unembed(x, self.head.unembedding) * inv_tau[:, None, None]

    def log_probs(self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int]) -> Float[Tensor, "rows pos vocab"]:
        """Log-probabilities in nats, fp32."""
        return torch.log_softmax(self.logits(h, rows), dim=-1)


class NormLens(Lens):
    """The model's head at every row, unchanged: temperature 1, nothing trained.

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
        """Normed and projected residuals, and ones."""
        check_rows(rows, self.head.num_rows)
        x = self.head.normalise(h, rows)
        return self.head.project(x), x.new_ones(len(rows))


def check_rows(rows: Sequence[int], num_rows: int) -> None:
    """Refuse rows the model does not have.

    Raises:
        InputError: If a row is not one of 0 … num_rows − 1.
    """
    unknown = [row for row in rows if not 0 <= row < num_rows]
    if unknown:
        raise InputError(f"Row(s) {unknown} cannot be decoded: this model's rows are 0 to {num_rows - 1}.")
