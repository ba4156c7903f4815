"""Progress of a fit, on the terminal and in TensorBoard: steps, KL by row, tokens per second, memory."""

import time
from statistics import fmean
from typing import Any

import psutil
import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from logos_pl.data.packed_text import TextBatch
from logos_pl.data.training_text import TrainingText
from logos_pl.fit.module import StepReading, TuningModule
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import NATS_TO_BITS
from logos_pl.io.progress import DISPLAY, SECONDS_BETWEEN_LINES, Display, Progress


class FitProgress(ProgressBar):
    """Progress of set-up, steps and validations, and one line per validation.

    Args:
        every_n_steps: Optimiser steps between readings, which are means over these steps; a reading synchronises the
            device. With slow steps, there is one for every printed line.
        display: Where it is shown.
    """

    def __init__(self, every_n_steps: int = 10, display: Display = DISPLAY) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.display = display
        self._enabled = True
        self._setting_up = Progress("setting up", display=display)
        self._steps = Progress("step", display=display)
        self._validation = Progress("validation", display=display)
        self._tokens = 0
        self._lr = 0.0
        self._window_start = self._read_at = 0.0
        self._readings: list[StepReading] = []  # of the micro-batches since the last output

    def disable(self) -> None:
        """Disable output, in processes other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Enable output again."""
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show that the run is being set up."""
        super().setup(trainer, pl_module, stage)
        self._setting_up = Progress("setting up", shown=self._enabled, display=self.display).start()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting at the current step."""
        self._setting_up.stop()
        self._begin_window()
        self._steps = Progress("step", trainer.max_steps, shown=self._enabled, display=self.display)
        self._steps.start(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Store the learning rate of this step, before the scheduler changes it."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TextBatch, batch_idx: int
    ) -> None:
        """Take a reading every few optimiser steps, or seconds."""
        assert isinstance(pl_module, TuningModule)
        assert pl_module.reading is not None
        self._tokens += batch.input_ids.numel() * trainer.world_size
        self._readings.append(pl_module.reading)
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches != 0:
            self._steps.advance(0)
            return
        due = self.display.clock() - self._read_at >= SECONDS_BETWEEN_LINES
        note = None
        if due or step % self.every_n_steps == 0 or step == trainer.max_steps:
            note = self._take_reading(trainer, pl_module)
        self._steps.advance(step - self._steps.done, note)
        if step == trainer.max_steps:
            self._steps.say()

    def _take_reading(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Log the readings since the last call, and return them as text."""
        kl_nats = torch.stack([reading.kl_nats for reading in self._readings])
        kl_bits = kl_nats.cpu() * NATS_TO_BITS  # synchronises the device
        tokens_per_second = self._tokens / max(time.monotonic() - self._window_start, 1e-9)
        if trainer.logger is not None:
            trainer.logger.log_metrics(self._scalars(pl_module, kl_bits, tokens_per_second), trainer.global_step)
        self._readings.clear()
        self._begin_window()
        return f"KL {float(kl_bits.mean()):.3f} bits · {tokens_per_second:,.0f} tokens/s"

    def _scalars(
        self, pl_module: LightningModule, kl_bits: Float[Tensor, "readings rows"], tokens_per_second: float
    ) -> dict[str, float]:
        """Means over the readings; for each row, over the steps in which it was trained."""
        by_row: dict[int, list[float]] = {}
        for reading, values in zip(self._readings, kl_bits.tolist(), strict=True):
            for row, value in zip(reading.rows, values, strict=True):
                by_row.setdefault(row, []).append(value)
        scalars = {f"train_kl_from_final_bits/row_{row:02d}": fmean(values) for row, values in by_row.items()}
        scalars |= {
            "train/cross_entropy_nats": float(torch.stack([r.cross_entropy_nats for r in self._readings]).mean()),
            "train/kl_from_final_bits": float(kl_bits.mean()),
            "train/lr": self._lr,
            "train/tokens_per_second": tokens_per_second,
            "memory/process_gib": psutil.Process().memory_info().rss / 2**30,
        }
        if pl_module.device.type == "cuda":
            scalars["memory/cuda_peak_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        return scalars

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show how far the validation is."""
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        self._validation = validation_progress(trainer, data, self._enabled, self.display).start()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TextBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the sequences of all processes."""
        self._validation.advance(len(batch.input_ids) * trainer.world_size)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the KL at the depth percentiles; validation time is excluded from the training rate."""
        assert isinstance(pl_module, TuningModule)
        self._validation.stop()
        if self._enabled:
            self.display.console.print(validation_line(pl_module))
        self._begin_window()

    def _begin_window(self) -> None:
        self._tokens, self._window_start, self._read_at = 0, time.monotonic(), self.display.clock()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar before the report."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the terminal."""
        for progress in (self._validation, self._steps, self._setting_up):
            progress.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the terminal, since Lightning skips teardown after an error."""
        self.teardown(trainer, pl_module, "fit")


def validation_progress(
    trainer: Trainer, data: TrainingText, shown: bool | None = None, display: Display = DISPLAY
) -> Progress:
    """Progress of one validation, in sequences over all processes; shown by the first process."""
    total = int(data.settings.val_seqs)
    shown = trainer.is_global_zero if shown is None else shown
    return Progress("validation", total, "sequences", shown=shown, display=display)


def validation_line(module: TuningModule) -> str:
    """One line with the KL of the last validation at the depth percentiles."""
    assert module.lm is not None
    norm, tuned = (module.validation[name]["kl_from_final_bits"] for name in ("norm", "tuned"))
    rows = depth_percentile_rows(module.lm.num_blocks)
    depths = " · ".join(f"{percentile}% {norm[row]:.3f} → {tuned[row]:.3f}" for percentile, row in rows.items())
    return f"step {module.global_step} · held-out KL in bits, norm → tuned: {depths}"
