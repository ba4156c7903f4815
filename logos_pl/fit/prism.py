"""LightningModule that fits a Prism lens: streams moments, fits candidates, selects one on held-out text."""

from typing import NamedTuple

import torch
from torch import nn

from logos_pl.agreement import together
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.reading_ahead import Stage
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.low_rank import check_rank
from logos_pl.functional.moments import MomentStream, reduce_moments
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.whitening import WhiteningKind
from logos_pl.lenses.prism import PrismLens, fit_prism, whiten_final
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request
from logos_pl.modules.all_sum import all_sum
from logos_pl.modules.base import LensModule
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings

POOLS = ((0, 25, 50, 75), (25, 50, 75), (50, 75), (75,))
"""Sets of depths that candidates pool, in percent; 0 is the embedding row. Source: docs/method.md §3."""


class Candidate(NamedTuple):
    """A candidate Prism lens: kind of whitening, and depths pooled in percent."""

    whiten: WhiteningKind
    depths: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.whiten} {'+'.join(map(str, self.depths))}%"


class PrismModule(LensModule):
    """Takes moments over the text in one pass, validates every candidate on held-out text and keeps the best.

    No gradients are involved. Source: docs/method.md §3.

    Args:
        model: Options of the frozen model and its head.
        prism: Options of the Prism fit.

    Attributes:
        num_sequences: Sequences read by this process.
        num_positions: Distinct positions read by this process.
        chosen: Candidate with the lowest divergence; None before the validation.
        divergences: KL(P_final‖P_row) in bits by candidate and depth percentile.
        validation: Held-out means of the norm lens and the chosen Prism lens.
    """

    def __init__(self, model: ModelSettings, prism: PrismSettings) -> None:
        super().__init__(model)
        self.automatic_optimization = False
        # DDP rejects a module without trainable parameters.
        self.untrained = nn.Parameter(torch.zeros(()))
        self.prism = prism
        self.num_sequences, self.num_positions = 0, 0
        self.total_positions = 0
        self.prisms: dict[Candidate, PrismLens] = {}
        self.divergences: dict[Candidate, dict[int, float]] = {}
        self.chosen: Candidate | None = None

    pooled_rows: dict[int, int]
    rank: int

    def build(self, lm: FrozenLM) -> None:
        """Prepare the moments for a loaded model.

        Raises:
            InputError: The rank exceeds the width of the model, or there are fewer positions than its width.
        """
        wanted = self.prism.rank
        self.rank = lm.d_model if wanted == "full" else check_rank(wanted, lm.d_model)
        if self.prism.positions <= lm.d_model:
            raise InputError(
                f"--prism.positions {self.prism.positions} is too few for {lm.model_id}, whose width is "
                f"{lm.d_model}: give more than that; 100,000 or more is sensible."
            )
        self.pooled_rows = {0: 0} | depth_percentile_rows(lm.num_blocks)
        self._stream = MomentStream(len(self.pooled_rows), lm.d_model)
        super().build(lm)

    @property
    def data(self) -> TrainingText:
        """Data module of the text."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return no optimiser."""
        return []

    @together
    def training_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Add the batch's positions within the range to the moments.

        Raises:
            InputError: The text is exhausted and starts over, so positions would repeat.
        """
        self.data.advance(batch.cursors)
        if any(cursor.pass_index > 0 for cursor in batch.cursors.values()):
            raise InputError(
                f"The text has only {self.num_positions * self.trainer.world_size:,} distinct positions, but "
                f"--prism.positions is {self.prism.positions:,}: give more text, or a smaller number."
            )
        h = self.given("train", batch).rows
        x = self.head.normalise(h.flatten(1, 2), [*self.pooled_rows.values(), self.frozen.num_blocks])
        self._stream.add(x[:-1], x[-1])
        self.num_sequences += h.shape[1]
        self.num_positions += h.shape[1] * h.shape[2]

    def request(self, stage: Stage, batch: TextBatch) -> Request:
        """In training, the pooled rows and row n at every position within the range."""
        if stage != "train":
            return super().request(stage, batch)
        num_seqs, seq_len = batch.input_ids.shape
        first, last = position_bounds(seq_len, self.data.settings.drawn_range)
        positions = torch.arange(first, last + 1, device=batch.input_ids.device).expand(num_seqs, -1)
        return Request(batch.input_ids, positions, [*self.pooled_rows.values(), self.frozen.num_blocks])

    @together
    def on_validation_epoch_start(self) -> None:
        """Merge the moments of all processes and fit every candidate.

        Raises:
            InputError: The covariance is rank-deficient, or there are too few positions.
        """
        moments = reduce_moments(self._stream.moments(), lambda tensor: all_sum(self.trainer, tensor))
        self.total_positions = moments.num_pos
        kinds: tuple[WhiteningKind, ...] = ("diagonal", "full")
        if self.prism.whiten != "auto":
            kinds = (self.prism.whiten,)
        places = {depth: place for place, depth in enumerate(self.pooled_rows)}
        for kind in kinds:
            final = whiten_final(moments, kind, self.prism.shrinkage)
            for depths in POOLS:
                pooled = [places[depth] for depth in depths]
                fitted = fit_prism(moments, pooled, kind, self.prism.shrinkage, self.rank, final=final)
                candidate = Candidate(kind, depths)
                self.prisms[candidate] = PrismLens(fitted, self.head)
                self.add_lens(str(candidate), self.prisms[candidate])
        self.validate_lenses(self.lenses)

    def on_validation_epoch_end(self) -> None:
        """Select the candidate with the lowest mean KL(P_final‖P_row) at 25, 50 and 75% depth.

        Raises:
            RunError: A value is not finite.
        """
        readings = self.take_readings()
        percentiles = depth_percentile_rows(self.frozen.num_blocks)
        for candidate in self.prisms:
            kl = readings[str(candidate)]["kl_from_final_bits"]
            self.divergences[candidate] = {percent: float(kl[row]) for percent, row in percentiles.items()}
        self.chosen = min(self.divergences, key=self.mean_divergence)
        self.validation = {"norm": readings["norm"], "prism": readings[str(self.chosen)]}

    def mean_divergence(self, candidate: Candidate) -> float:
        """Mean KL(P_final‖P_row) in bits over the depth percentiles."""
        of = self.divergences[candidate].values()
        return sum(of) / len(of)
