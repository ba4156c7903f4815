"""Closed-form start: initialises the lenses from the run's opening text before the first step."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.training_text import TrainingText
from logos_pl.fit.closed_form import OpeningText, closed_form_start, num_solutions
from logos_pl.fit.module import TuningModule
from logos_pl.fit.own_validation import OwnValidation
from logos_pl.functional.budget import opening_sequences, sequences_set_aside
from logos_pl.io.progress import Progress
from logos_pl.io.terminal import say
from logos_pl.lm.devices import free_memory
from logos_pl.modules.all_sum import all_sum
from logos_pl.modules.graceful_stop import GracefulStop

WHAT = "the closed-form start"


class LensStart(Callback):
    """Initialises the translators by least squares and validates them.

    Args:
        stop: Callback that stops the run if a signal was received; checked after each micro-batch and row.
        validation: Validates the start.
    """

    def __init__(self, stop: GracefulStop, validation: OwnValidation) -> None:
        self.stop, self.validation = stop, validation

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the opening text and solve, unless initialisation is random; a resumed run only validates, if due.

        Raises:
            RunError: The text cannot be read, or residuals are not finite.
            InterruptedRunError: A signal was received.
        """
        assert isinstance(pl_module, TuningModule)
        if trainer.ckpt_path is not None:
            self.validation.run_if_due(trainer, pl_module)
            return
        if pl_module.settings.init != "closed_form":
            return
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        total = opening_sequences(
            data.total_steps // data.settings.passes,
            int(data.settings.effective_batch_seqs),
            data.settings.lanes,
            data.settings.seq_len,
            pl_module.frozen.d_model,
        )
        self._begin(trainer, pl_module, data, total)
        self.validation.run(trainer, pl_module)

    def _begin(self, trainer: Trainer, module: TuningModule, data: TrainingText, total: int) -> None:
        """Read `total` sequences and solve."""
        set_aside = sequences_set_aside(total, data.settings.lanes)
        inner = module.frozen.num_blocks - 1
        rows_per_pass = self._rows_per_pass(trainer, module)
        began = time.monotonic()
        first, tokens = trainer.is_global_zero, (data.settings.seq_len, "tokens")
        sequences = total * -(-inner // rows_per_pass)
        work = _Work(
            trainer,
            self.stop,
            Progress("closed-form start", sequences, "sequences", per_unit=tokens, shown=first),
            Progress("closed-form start", num_solutions(inner, module.translators.rank), "solutions", shown=first),
        )
        try:
            start = closed_form_start(
                module.frozen,
                module.head,
                lambda: work.text(data, total, set_aside),
                module.translators.rank,
                num_set_aside=set_aside,
                temperature=module.settings.temperature,
                seed=module.seed,
                rows_per_pass=rows_per_pass,
                block_bytes=module.settings.block_bytes,
                all_sum=lambda tensor: all_sum(trainer, tensor),
                solved=work.solved,
            )
        finally:
            work.end()
        # All processes solve the same problem; if devices differ, the result of the first process is used.
        module.begin_at(trainer.strategy.broadcast(start))
        if trainer.is_global_zero:
            say(
                f"closed-form start from {start.positions:,} positions of the first {start.tokens:,} tokens, in "
                f"{time.monotonic() - began:.1f} s"
            )

    def _rows_per_pass(self, trainer: Trainer, module: TuningModule) -> int:
        """Rows per pass that fit in memory in every process: the same number, as sums are taken after each pass."""
        own = rows_at_once(module.frozen.d_model, module.device, trainer.num_devices)
        return int(trainer.strategy.reduce(torch.tensor(own, device=trainer.strategy.root_device), reduce_op="min"))


class _Work(NamedTuple):
    """Progress of reading and of solving, which alternate if not all rows fit in memory."""

    trainer: Trainer
    stop: GracefulStop
    reading: Progress
    solving: Progress

    def text(self, data: TrainingText, total: int, set_aside: int) -> Iterator[OpeningText]:
        """Yield this process's share of the opening text.

        Raises:
            InterruptedRunError: A signal was received.
        """
        self.solving.stop()
        self.reading.start(self.reading.done)
        for batch, numbers in data.opening(total):
            yield OpeningText(batch.input_ids, [number >= total - set_aside for number in numbers])
            self.reading.advance(len(numbers) * self.trainer.world_size)
            self.stop.check(self.trainer, WHAT)
        self.reading.stop()
        self.solving.start(self.solving.done)

    def solved(self) -> None:
        """Count a solution.

        Raises:
            InterruptedRunError: A signal was received.
        """
        self.solving.advance()
        self.stop.check(self.trainer, WHAT)

    def end(self) -> None:
        """Remove both displays."""
        self.reading.stop()
        self.solving.stop()


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
