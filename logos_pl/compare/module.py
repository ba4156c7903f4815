"""LightningModule of `logos-pl compare`: two lenses on the same held-out text."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from logos_pl.data.packed_text import TextBatch
from logos_pl.errors import InputError
from logos_pl.lenses.decoding import lens_divergence, lens_pair_divergence
from logos_pl.lenses.norm import Lens
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings


class PairOrigin(NamedTuple):
    """Origin of a lens of the comparison.

    Attributes:
        label: Name in tables and plots.
        kind: Name of its kind.
        source: Relative path or Hub id; None: the default location of its kind.
        identity: Value that identifies the lens.
        text: Text it was fitted on; None if not recorded.
        text_sha256: Hash over the documents of that text, in order; None if not recorded.
        transfer: If it was fitted on another model, how far that is from this one, as plain values; else None.
    """

    label: str
    kind: str
    source: str | None
    identity: str
    text: str | None
    text_sha256: str | None
    transfer: dict[str, Any] | None = None


class PairSamples(NamedTuple):
    """Differences of two lenses at every row that both read and every sampled position.

    Attributes:
        rows: The rows.
        sequences: Packed sequence of each position.
        kl_ab_bits: KL(P_A ‖ P_B).
        kl_ba_bits: KL(P_B ‖ P_A).
        top1_agree: Whether both put the same token first.
        kl_final_a_bits: KL(P_final ‖ P_A), how far A is from the model.
        kl_final_b_bits: KL(P_final ‖ P_B).
    """

    rows: tuple[int, ...]
    sequences: Int[Tensor, " pos"]
    kl_ab_bits: Float[Tensor, "rows pos"]
    kl_ba_bits: Float[Tensor, "rows pos"]
    top1_agree: Bool[Tensor, "rows pos"]
    kl_final_a_bits: Float[Tensor, "rows pos"]
    kl_final_b_bits: Float[Tensor, "rows pos"]


class CompareModule(LensModule):
    """Reads two lenses on held-out text.

    Args:
        settings: Options of the frozen model and its head.

    Attributes:
        pair: Both lenses by side, `a` and `b`.
        pair_origins: Their origins, by side.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.pair: dict[str, Lens] = {}
        self.pair_origins: dict[str, PairOrigin] = {}
        self._found: list[tuple[Tensor, ...]] = []
        self._sequences: list[Tensor] = []

    def take(self, side: str, lens: Lens, origin: PairOrigin) -> None:
        """Set the lens of a side.

        Args:
            side: `a` or `b`.
            lens: Lens bound to the module's head.
            origin: Its origin.
        """
        self.pair[side], self.pair_origins[side] = lens, origin

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Compare both lenses at every sampled position."""
        h = self.given("val", batch).rows.flatten(1, 2)
        a, b, block_bytes = self.pair["a"], self.pair["b"], self.settings.block_bytes
        pair = lens_pair_divergence(a, b, h, block_bytes=block_bytes)
        final = [
            lens_divergence(lens, h, block_bytes=block_bytes).kl_from_final_bits[
                [lens.rows.index(r) for r in self._rows]
            ]
            for lens in (a, b)
        ]
        self._found.append((*pair, *(kl.cpu() for kl in final)))
        self._sequences.append(torch.tensor(batch.indices).repeat_interleave(batch.positions.shape[1]))

    @property
    def _rows(self) -> tuple[int, ...]:
        """Rows that both lenses read."""
        return tuple(row for row in self.pair["a"].rows if row in self.pair["b"].rows)

    def samples(self) -> PairSamples:
        """All differences.

        Raises:
            InputError: A lens gave values that are not finite.
        """
        rows = self._rows
        kl_ab, kl_ba, agree, final_a, final_b = (torch.cat(parts, dim=1) for parts in zip(*self._found, strict=True))
        both = zip(rows, kl_ab + kl_ba + final_a + final_b, strict=True)
        bad = [row for row, line in both if not bool(line.isfinite().all())]
        if bad:
            raise InputError(f"A lens gives values that are not finite at row(s) {bad}: compare others.")
        return PairSamples(rows, torch.cat(self._sequences), kl_ab, kl_ba, agree, final_a, final_b)
