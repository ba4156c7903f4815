"""Stops a fit on SIGINT or SIGTERM after the current optimiser step, with a checkpoint that resumes exactly."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.errors import InterruptedRunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GracefulStop(Callback):
    """Saves a checkpoint and raises `InterruptedRunError` on SIGINT or SIGTERM; a second signal kills the process.

    Args:
        checkpoint: Path of the checkpoint.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for listened in SIGNALS:
            signal.signal(listened, signal.SIG_DFL)  # a second signal kills the process

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers."""
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After an optimiser step: save and stop.

        If a validation is due, stop after it instead, as a checkpoint saved here would resume without that validation.

        Raises:
            InterruptedRunError: A signal was received.
        """
        step_is_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_is_complete and not trainer.is_last_batch and self._anyone_received(trainer):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a validation, which has saved a checkpoint: stop.

        Raises:
            InterruptedRunError: A signal was received.
        """
        if trainer.global_step > 0 and self._anyone_received(trainer):
            self._stop(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        self._restore_handlers()

    def _anyone_received(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _stop(self, trainer: Trainer) -> None:
        number = signal.SIGTERM if self._received is None else self._received
        stopped = InterruptedRunError(
            f"Stopped by {signal.Signals(number).name} after step {trainer.global_step}; "
            f"go on with --ckpt_path last (checkpoint: {os.path.relpath(self.checkpoint)}).",
            number,
        )
        stopped.everywhere = True
        raise stopped
