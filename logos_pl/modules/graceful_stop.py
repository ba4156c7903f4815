"""Stops a fit on SIGINT or SIGTERM after the current micro-batch, with a checkpoint that resumes exactly."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.errors import InterruptedRunError
from logos_pl.io.terminal import say_at_once

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "Stopping after this micro-batch; a second signal ends the run at once, without a checkpoint."


class GracefulStop(Callback):
    """Saves a checkpoint and raises `InterruptedRunError` on SIGINT or SIGTERM; a second signal kills the process.

    Args:
        checkpoint: Path of the checkpoint.
        rewind: Resets the counts to the end of the last optimiser step, so that a resumed run repeats the current step
            from its first micro-batch.
    """

    def __init__(self, checkpoint: Path, rewind: Callable[[], None]) -> None:
        self.checkpoint, self.rewind = checkpoint, rewind
        self._received: int | None = None
        self._previous: dict[int, Any] = {}
        self._speaks = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for listened in SIGNALS:
            signal.signal(listened, signal.SIG_DFL)  # a second signal kills the process
        if self._speaks:
            say_at_once(STOPPING)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers."""
        self._speaks = trainer.is_global_zero
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def check(self, trainer: Trainer, during: str) -> None:
        """Stop outside the training loop; every process must call this.

        Args:
            trainer: The trainer.
            during: What is interrupted, for the message.

        Raises:
            InterruptedRunError: A signal was received. Nothing is saved: a new run has to start again; a resumed one
                still has its checkpoint.
        """
        if self._anyone_received(trainer):
            self._stop(trainer, f"during {during}", saved=trainer.ckpt_path is not None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a micro-batch: save and stop; an unfinished step is repeated on resuming.

        If a validation is due, the run stops when that begins: a run resumed from here would skip it.

        Raises:
            InterruptedRunError: A signal was received.
        """
        step_is_complete = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if (step_is_complete and trainer.is_last_batch) or not self._anyone_received(trainer):
            return
        if not step_is_complete:
            self.rewind()
        self._save_and_stop(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the first micro-batch of a validation: save and stop.

        Raises:
            InterruptedRunError: A signal was received.
        """
        if self._anyone_received(trainer):
            self._save_and_stop(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """After a micro-batch of a validation: save and stop; a resumed run repeats the validation.

        Raises:
            InterruptedRunError: A signal was received.
        """
        self.on_validation_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a validation, which has saved a checkpoint: stop.

        Raises:
            InterruptedRunError: A signal was received.
        """
        if trainer.global_step > 0 and self._anyone_received(trainer):
            self._stop(trainer, f"after step {trainer.global_step}", saved=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        self._restore_handlers()

    def _anyone_received(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _save_and_stop(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.checkpoint, weights_only=False)
        self._stop(trainer, f"after step {trainer.global_step}", saved=True)

    def _stop(self, trainer: Trainer, where: str, saved: bool) -> None:
        number = signal.SIGTERM if self._received is None else self._received
        what_now = "nothing was saved, start again."
        if saved:
            what_now = f"go on with --ckpt_path last (checkpoint: {os.path.relpath(self.checkpoint)})."
        stopped = InterruptedRunError(f"Stopped by {signal.Signals(number).name} {where}; {what_now}", number)
        stopped.everywhere = True
        raise stopped
