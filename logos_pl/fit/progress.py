"""Progress of a fit, on the terminal and in TensorBoard: steps, KL by row, tokens per second, memory."""

import time
from statistics import fmean
from typing import Any

import psutil
import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch import Tensor

from logos_pl.data.packed_text import TextBatch
from logos_pl.fit.module import StepReading, TuningModule
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.functional.divergence import NATS_TO_BITS
from logos_pl.io.terminal import Console

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between progress lines if the output is not a terminal."""


class FitProgress(ProgressBar):
    """A progress bar on a terminal, lines elsewhere, and one line per validation on both.

    Args:
        every_n_steps: Optimiser steps between readings, which are means over these steps; a reading synchronises the
            device.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.console = Console(soft_wrap=True, markup=False)
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._tokens = 0
        self._lr = 0.0
        self._start = self._window_start = self._last_line = 0.0
        self._first_step = 0
        self._readings: list[StepReading] = []  # of the micro-batches since the last output

    def disable(self) -> None:
        """Disable output, in processes other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Enable output again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar at the current step."""
        self._first_step = trainer.global_step
        self._start = self._window_start = self._last_line = time.monotonic()
        if self._enabled and self.console.is_terminal:
            columns = (TextColumn("fit"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[reading]}"))
            self._bar = Progress(*columns, TimeElapsedColumn(), console=self.console)
            self._task = self._bar.add_task(
                "fit", total=trainer.max_steps, completed=trainer.global_step, reading="starting"
            )
            self._bar.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Store the learning rate of this step, before the scheduler changes it."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TextBatch, batch_idx: int
    ) -> None:
        """Take a reading every few optimiser steps."""
        assert isinstance(pl_module, TuningModule)
        assert pl_module.reading is not None
        self._tokens += batch.input_ids.numel() * trainer.world_size
        self._readings.append(pl_module.reading)
        step = trainer.global_step
        complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if complete and self._bar is not None:
            self._bar.update(self._task, completed=step)
        if complete and (step % self.every_n_steps == 0 or step == trainer.max_steps):
            self._take_reading(trainer, pl_module)

    def _take_reading(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kl_nats = torch.stack([reading.kl_nats for reading in self._readings])
        kl_bits = kl_nats.cpu() * NATS_TO_BITS  # synchronises the device
        now = time.monotonic()
        tokens_per_second = self._tokens / max(now - self._window_start, 1e-9)
        steps_here = max(trainer.global_step - self._first_step, 1)
        left = (trainer.max_steps - trainer.global_step) * (now - self._start) / steps_here  # validations included
        reading = f"KL {float(kl_bits.mean()):.3f} bits · {tokens_per_second:,.0f} tokens/s · {clock(left)} left"
        self._show(trainer, reading)
        if trainer.logger is not None:
            trainer.logger.log_metrics(self._scalars(pl_module, kl_bits, tokens_per_second), trainer.global_step)
        self._readings.clear()
        self._tokens, self._window_start = 0, time.monotonic()

    def _show(self, trainer: Trainer, reading: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, reading=reading)
        elif self._enabled and (
            time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES or trainer.global_step == trainer.max_steps
        ):
            self._last_line = time.monotonic()
            self.console.print(f"step {trainer.global_step}/{trainer.max_steps} · {reading}")

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
        """Show that a validation is running."""
        if self._bar is not None:
            self._bar.update(self._task, reading="validating")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the KL at the depth percentiles; validation time is excluded from the training rate."""
        assert isinstance(pl_module, TuningModule)
        if self._enabled and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.console.print(validation_line(pl_module))
        if self._bar is not None:
            self._bar.update(self._task, reading="")
        self._tokens, self._window_start = 0, time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar before the report."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def validation_line(module: TuningModule) -> str:
    """One line with the KL of the last validation at the depth percentiles."""
    assert module.lm is not None
    norm, tuned = (module.validation[name]["kl_from_final_bits"] for name in ("norm", "tuned"))
    rows = depth_percentile_rows(module.lm.num_blocks)
    depths = " · ".join(f"{percentile}% {norm[row]:.3f} → {tuned[row]:.3f}" for percentile, row in rows.items())
    return f"step {module.global_step} · held-out KL in bits, norm → tuned: {depths}"


def clock(seconds: float) -> str:
    """Format a duration as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
