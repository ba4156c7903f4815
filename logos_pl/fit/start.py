"""Closed-form start: initialises the lenses from the run's opening text before the first step."""

import time
from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.training_text import TrainingText
from logos_pl.fit.closed_form import OpeningText, closed_form_start
from logos_pl.fit.module import TuningModule
from logos_pl.fit.progress import validation_line
from logos_pl.functional.budget import opening_sequences, sequences_set_aside
from logos_pl.io.terminal import say
from logos_pl.lm.devices import free_memory
from logos_pl.modules.all_sum import all_sum

SECONDS_BETWEEN_LINES = 5.0


class LensStart(Callback):
    """Initialises the translators by least squares and validates them; skipped when resuming.

    Args:
        after: Callbacks that treat the start as a validation: checkpointing and early stopping.
    """

    def __init__(self, after: Sequence[Callback] = ()) -> None:
        self.after = after

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the opening text and solve, unless initialisation is random or the run is resumed.

        Raises:
            RunError: The text cannot be read, or residuals are not finite.
        """
        assert isinstance(pl_module, TuningModule)
        if pl_module.settings.init != "closed_form" or trainer.ckpt_path is not None:
            return
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        total = opening_sequences(
            data.total_steps,
            int(data.settings.effective_batch_seqs),
            data.settings.lanes,
            data.settings.seq_len,
            pl_module.frozen.d_model,
        )
        set_aside = sequences_set_aside(total, data.settings.lanes)
        began = time.monotonic()
        start = closed_form_start(
            pl_module.frozen,
            pl_module.head,
            lambda: self._text(trainer, data, total, set_aside),
            pl_module.translators.rank,
            num_set_aside=set_aside,
            temperature=pl_module.settings.temperature,
            seed=pl_module.seed,
            rows_per_pass=self._rows_per_pass(trainer, pl_module),
            block_bytes=pl_module.settings.block_bytes,
            all_sum=lambda tensor: all_sum(trainer, tensor),
        )
        # All processes solve the same problem; if devices differ, the result of the first process is used.
        pl_module.begin_at(trainer.strategy.broadcast(start))
        self._say(
            trainer,
            f"closed-form start from {start.positions:,} positions of the first {start.tokens:,} tokens, in "
            f"{time.monotonic() - began:.1f} s",
        )
        figures = pl_module.read_validation(data.val_dataloader())
        self._say(trainer, validation_line(pl_module))
        if trainer.logger is not None:
            trainer.logger.log_metrics(figures, step=0)
        self._count_as_validation(trainer, pl_module, figures)

    def _rows_per_pass(self, trainer: Trainer, module: TuningModule) -> int:
        """Rows per pass that fit in memory in every process: the same number, as sums are taken after each pass."""
        own = rows_at_once(module.frozen.d_model, module.device, trainer.num_devices)
        return int(trainer.strategy.reduce(torch.tensor(own, device=trainer.strategy.root_device), reduce_op="min"))

    def _count_as_validation(self, trainer: Trainer, pl_module: TuningModule, figures: dict[str, float]) -> None:
        """Record the start as the best result so far and save it as a checkpoint."""
        trainer.callback_metrics.update({name: torch.tensor(figure) for name, figure in figures.items()})
        for callback in self.after:
            callback.on_validation_end(trainer, pl_module)

    def _text(self, trainer: Trainer, data: TrainingText, total: int, set_aside: int) -> Iterator[OpeningText]:
        """Yield this process's share of the opening text, printing progress from time to time."""
        began = last = time.monotonic()
        read = 0
        for batch, numbers in data.opening(total):
            yield OpeningText(batch.input_ids, [number >= total - set_aside for number in numbers])
            read += len(numbers) * trainer.world_size
            now = time.monotonic()
            if now - last >= SECONDS_BETWEEN_LINES:
                last = now
                rate = read * data.settings.seq_len / (now - began)
                left = (total - read) * data.settings.seq_len / rate
                self._say(
                    trainer, f"closed-form start: {read}/{total} sequences · {rate:,.0f} tokens/s · {left:.0f} s left"
                )

    def _say(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero:
            say(line)


def rows_at_once(d_model: int, device: torch.device, processes: int) -> int:
    """Number of rows whose moments fit in half of the free memory; results do not depend on it.

    Args:
        d_model: Width of the model.
        device: Device of this process.
        processes: Processes on this machine, which share its memory.
    """
    square = d_model * d_model
    # Two matrices per row: fp32 sums on the device, fp64 totals and as large a buffer on the host.
    host = free_memory(torch.device("cpu")) // processes
    fits = host // 2 // (2 * square * (16 if device.type != "cpu" else 20))
    if device.type != "cpu":
        fits = min(fits, free_memory(device) // 2 // (2 * square * 4))
    return max(1, fits)
