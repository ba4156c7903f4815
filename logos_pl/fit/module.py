"""LightningModule that trains a tuned lens."""

import copy
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from logos_pl.agreement import together
from logos_pl.artifacts.checkpoint_lens import basis_of
from logos_pl.data.packed_text import TextBatch
from logos_pl.data.reading_ahead import Stage
from logos_pl.errors import state_of_a_checkpoint
from logos_pl.fit.closed_form import ClosedFormStart, StartRecord
from logos_pl.fit.depth_metrics import depth_metrics
from logos_pl.fit.optimizer import optimizer_of
from logos_pl.fit.resume import refuse_other_run
from logos_pl.functional.bias_loss import bias_cross_entropy
from logos_pl.functional.budget import average_weight
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import RowDivergence
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.positions import sample_rows
from logos_pl.functional.row_index import row_index
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request
from logos_pl.modules.base import LensModule, Reading, Readings, reading_of
from logos_pl.modules.keyed_rows import KeyedRows
from logos_pl.settings.lens import TuningSettings

VALIDATED = ("norm", "tuned")
"""Lenses evaluated in the validation of a fit."""


class StepReading(NamedTuple):
    """Results of the last training step; tensors stay on the device to avoid synchronisation."""

    cross_entropy_nats: Float[Tensor, ""]
    kl_nats: Float[Tensor, " rows"]
    rows: list[int]


class TuningModule(LensModule):
    """Trains the translators and temperatures of a tuned lens on a frozen model.

    Source: docs/method.md §2; arXiv:2303.08112 §3.

    Args:
        settings: Options of model, lens and training, every `auto` resolved.
        schedule: Schedule that provided the defaults.
        seed: Seed of the initialisation and of the rows sampled in each step.

    Attributes:
        translators: Trained parameters of the tuned lens.
        bias_only: Trained parameters of the bias-only lens, or None.
        averages: Running averages of both, which are validated and exported.
        start: Statistics of the closed-form start; None without one.
        reading: Results of the last training step.
        sequence_kl_bits: In the last validation, KL(P_final‖P_row) of the tuned lens for each held-out sequence of all
            processes, the mean at the depth percentiles.
    """

    settings: TuningSettings
    translators: Translators
    bias_only: Translators | None
    averages: torch.nn.ModuleDict

    def __init__(self, settings: TuningSettings, schedule: ScheduleName = "full", seed: int = 316) -> None:
        super().__init__(settings)
        self.schedule: ScheduleName = schedule
        self.seed = seed
        self.start: StartRecord | None = None
        self.reading: StepReading | None = None
        self.sequence_kl_bits = torch.zeros(0)
        self._norm_reading: Reading | None = None
        self._by_sequence = KeyedRows(1)

    # Set-up

    def build(self, lm: FrozenLM) -> None:
        """Create the lenses for a loaded model."""
        super().build(lm)
        given, inner = self.settings, lm.num_blocks - 1
        self.translators = self._untrained(inner, lm.d_model, int(given.rank))
        self.bias_only = None
        if given.bias_only and given.rank != 0:
            self.bias_only = self._untrained(inner, lm.d_model, 0)
        self.averages = torch.nn.ModuleDict({name: copy.deepcopy(lens) for name, lens in self._trained().items()})
        self.averages.requires_grad_(False)
        self.lenses["tuned"] = TunedLens(self.average("translators"), self.head)

    def _untrained(self, rows: int, d_model: int, rank: int) -> Translators:
        translators = Translators(rows, d_model, rank, seed=self.seed)
        translators.log_tau.requires_grad_(self.settings.temperature)
        return translators

    @property
    def in_basis(self) -> bool:
        """Whether U and V are trained in the basis whitened by the closed-form start."""
        given = self.settings
        return given.precond == "auto" and given.init == "closed_form" and given.rank != 0

    def begin_at(self, start: ClosedFormStart) -> None:
        """Initialise tuned and bias-only lens from the closed-form start."""
        self.translators.start_at(start.tuned, start.basis if self.in_basis else None)
        if self.bias_only is not None:
            self.bias_only.start_at(start.bias_only)
        for name, lens in self._trained().items():
            self.average(name).load_state_dict(lens.state_dict())
            self.average(name).basis = lens.basis
        self.start = StartRecord(*start[3:])

    def _trained(self) -> dict[str, Translators]:
        """Trained parameters by lens."""
        lenses = {"translators": self.translators}
        return lenses if self.bias_only is None else lenses | {"bias_only": self.bias_only}

    def average(self, name: str) -> Translators:
        """Running average of the tuned or the bias-only lens."""
        return cast(Translators, self.averages[name])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW for both lenses; see ``fit.optimizer``."""
        total = self.trainer.datamodule.total_steps  # type: ignore[attr-defined]
        return optimizer_of(self.parameters(), self.settings, total)

    # Training

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the optimiser step and update the averages."""
        super().optimizer_step(*args, **kwargs)
        self.update_averages(self.global_step + 1)

    @torch.no_grad()
    def update_averages(self, step: int) -> None:
        """Update the averages after optimiser step `step` (from 1); with `cosine`, copy the weights."""
        weight = average_weight(step) if self.settings.anneal == "average" else 1.0
        for name, lens in self._trained().items():
            for mean, value in zip(self.average(name).parameters(), lens.parameters(), strict=True):
                mean.lerp_(value, weight)

    def training_step(self, batch: TextBatch, batch_idx: int) -> dict[str, Any]:
        """Return the cross-entropy of the sampled rows with the final distribution, plus the regularisers.

        The loss of the bias-only lens is added. The two lenses share no parameters, so their gradients are independent.
        """
        rows = self._rows_of_step()
        x, teacher, index = self._read(batch, rows)
        inv_tau = self.translators.inv_tau(index)
        loss = lens_loss(
            self.head.project(self.translators(x, index)),
            teacher,
            inv_tau,
            self.head.unembedding,
            block_bytes=self.settings.block_bytes,
        )
        cross_entropy = loss.kl_nats.mean() + loss.final_entropy_nats.mean()
        self.reading = StepReading(cross_entropy.detach(), loss.kl_nats.detach().mean(dim=1), rows)
        total = cross_entropy + self._regularisers(self.translators)
        if self.bias_only is not None:
            total = total + self._bias_only_loss(self.bias_only, x, teacher, index)
        return {"loss": total, "rows": len(rows)}

    def _bias_only_loss(
        self,
        bias_only: Translators,
        x: Float[Tensor, "rows pos d_model"],
        teacher: Float[Tensor, "pos d_head"],
        index: Int[Tensor, " rows"] | None,
    ) -> Float[Tensor, ""]:
        """Loss of the bias-only lens on the step's residuals, with half the matrix products of the tuned lens."""
        cross_entropy = bias_cross_entropy(
            self.head.project(x),
            self.head.project_shift(bias_only.bias(index)),
            bias_only.inv_tau(index),
            teacher,
            self.head.unembedding,
            block_bytes=self.settings.block_bytes,
        )
        return cross_entropy.mean() + self._regularisers(bias_only)

    def _regularisers(self, translators: Translators) -> Float[Tensor, ""]:
        given = self.settings
        return float(given.l2) * translators.penalty() + float(given.smoothness) * translators.smoothness()

    def _rows_of_step(self) -> list[int]:
        inner, drawn = self.frozen.num_blocks - 1, int(self.settings.layers_per_step)
        if drawn == inner:
            return list(range(1, inner + 1))
        return sample_rows(self.seed, self.global_step, drawn, inner).tolist()

    def request(self, stage: Stage, batch: TextBatch) -> Request:
        """In training, the rows of the step and row n; for a streamed model, all inner rows and row n."""
        if stage != "train":
            return super().request(stage, batch)
        last = self.frozen.num_blocks
        inner = self._rows_of_step() if self.frozen.streamed is None else range(1, last)
        return Request(batch.input_ids, batch.positions, [*inner, last])

    def _read(
        self, batch: TextBatch, rows: list[int]
    ) -> tuple[Float[Tensor, "rows pos d_model"], Float[Tensor, "pos d_head"], Int[Tensor, " rows"] | None]:
        """Normalised residuals of `rows`, the head's input at row n, and the indices of the rows' translators."""
        last = self.frozen.num_blocks
        h = self.given("train", batch).rows.flatten(1, 2)
        if len(h) != len(rows) + 1:
            h = h[[*(row - 1 for row in rows), last - 1]]
        x = self.head.normalise(h[:-1], rows)
        teacher = self.head.final_x(h)
        index = None if len(rows) == last - 1 else row_index([row - 1 for row in rows], h.device)
        return x, teacher, index

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Create the metrics: the norm lens does not change, so it is read in the run's first validation only."""
        self.validate_lenses(name for name in VALIDATED if name != "norm" or self._norm_reading is None)
        self._by_sequence = KeyedRows(1).to(self.device)

    def _note_divergence(self, name: str, divergence: RowDivergence, batch: TextBatch) -> None:
        if name != "tuned":
            return
        depths = [self.lenses[name].rows.index(row) for row in depth_percentile_rows(self.frozen.num_blocks).values()]
        by_sequence = divergence.kl_from_final_bits[depths].unflatten(1, batch.positions.shape).mean(dim=(0, 2))
        self._by_sequence.update(torch.tensor(batch.indices), by_sequence[:, None])

    def take_readings(self) -> Readings:
        """Return the results of the validation, merged over processes; the norm lens is read only once.

        Raises:
            RunError: A lens gave non-finite values.
        """
        readings = super().take_readings()
        self.sequence_kl_bits = self._by_sequence.compute().values[:, 0].cpu()
        self._norm_reading = readings.get("norm", self._norm_reading)
        return readings if self._norm_reading is None else {"norm": self._norm_reading} | readings

    def on_validation_epoch_end(self) -> None:
        """Merge the readings of all processes and log the metrics at the depth percentiles."""
        self.validation = self.take_readings()
        # "step" sets Lightning's x-axis; its default is one less than that of the figures and temperatures.
        self.log_dict(depth_metrics(self.validation, self.frozen.num_blocks) | {"step": float(self.global_step)})

    # Checkpoints

    def identity(self) -> dict[str, Any]:
        """Settings that must agree between a checkpoint and the run that resumes it, as plain values."""
        given = self.settings
        return super().identity() | {
            "rank": self.translators.rank,
            "init": given.init,
            "rows_in_step": given.layers_per_step,
            "in_basis": self.in_basis,
            "temperature": given.temperature,
            "bias_only": self.bias_only is not None,
            "lr": given.lr,
            "anneal": given.anneal,
            "betas": list(given.betas),
            "weight_decay": given.weight_decay,
            "l2": given.l2,
            "smoothness": given.smoothness,
            "seed": self.seed,
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the run's identity, the record of the closed-form start, and the last validation."""
        checkpoint["lens_identity"] = self.identity()
        checkpoint["lens_start"] = None if self.start is None else self.start._asdict()
        basis = self.translators.basis
        checkpoint["lens_basis"] = None if basis is None else basis.to(torch.device("cpu"))._asdict()
        checkpoint["lens_validation"] = {
            name: {key: value.tolist() for key, value in reading.items()} for name, reading in self.validation.items()
        }

    @together
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of the same model and hyperparameters, and take its reading of the norm lens.

        Raises:
            InputError: Settings differ; the message names them.
        """
        refuse_other_run(checkpoint.get("lens_identity"), self.identity())
        with state_of_a_checkpoint("validation"):
            norm = checkpoint["lens_validation"].get("norm")  # none before the first validation
            self._norm_reading = None if norm is None else reading_of(norm, self.frozen.num_blocks + 1)
        began = checkpoint["lens_start"]
        self.start = None if began is None else StartRecord(**began)
        basis = basis_of(checkpoint)
        for lens in (self.translators, self.average("translators")):
            # Lightning restores the state before it moves the module to the device.
            lens.basis = None if basis is None else basis.to(self.device)
