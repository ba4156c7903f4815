"""Validations outside Lightning's loop: that of the start, and one that was interrupted."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.packed_text import TextBatch
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import state_of_a_checkpoint
from logos_pl.fit.depth_metrics import depth_metrics
from logos_pl.fit.module import TuningModule
from logos_pl.fit.progress import validation_line, validation_progress
from logos_pl.io.progress import Progress
from logos_pl.io.terminal import say
from logos_pl.modules.graceful_stop import GracefulStop


def _validate(module: TuningModule, batches: Iterable[TextBatch]) -> dict[str, float]:
    """Validate, each process on its share; returns the metrics to log.

    Raises:
        RunError: A lens gave non-finite values.
    """
    module.on_validation_epoch_start()
    with torch.no_grad():
        for index, batch in enumerate(batches):
            module.validation_step(batch, index)
    module.validation = module.take_readings()
    return depth_metrics(module.validation, module.frozen.num_blocks)


class OwnValidation(Callback):
    """Validates where Lightning does not.

    A checkpoint saved during a validation records that it is still due, as Lightning would resume after it.

    Args:
        stop: Callback that stops the run if a signal was received; checked after each micro-batch.
        after: Callbacks to run as after any validation: checkpointing and early stopping.
    """

    def __init__(self, stop: GracefulStop, after: Sequence[Callback] = ()) -> None:
        self.stop, self.after = stop, after
        self._due = False

    def run(self, trainer: Trainer, module: TuningModule) -> None:
        """Validate, print and log the results, and run the other callbacks as after any validation.

        Raises:
            InterruptedRunError: A signal was received.
            RunError: A lens gave non-finite values.
        """
        data: TrainingText = trainer.datamodule  # type: ignore[attr-defined]
        batches = data.val_dataloader()
        with validation_progress(trainer, data) as progress:
            figures = _validate(module, self._watched(trainer, batches, progress))
        if trainer.is_global_zero:
            say(validation_line(module))
        if trainer.logger is not None:
            trainer.logger.log_metrics(figures, step=trainer.global_step)
        trainer.callback_metrics.update({name: torch.tensor(figure) for name, figure in figures.items()})
        self._due = False
        for callback in self.after:
            callback.on_validation_end(trainer, module)

    def _watched(self, trainer: Trainer, batches: Iterable[TextBatch], progress: Progress) -> Iterator[TextBatch]:
        for batch in batches:
            yield batch
            progress.advance(len(batch.input_ids) * trainer.world_size)
            self.stop.check(trainer, f"the validation of step {trainer.global_step}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a checkpoint saved from here on has this validation still to do."""
        self._due = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the validation is done."""
        self._due = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate after the last step, where Lightning finds nothing to train when the run is resumed."""
        assert isinstance(pl_module, TuningModule)
        self.run_if_due(trainer, pl_module)

    def run_if_due(self, trainer: Trainer, module: TuningModule) -> None:
        """Validate if the resumed run was stopped during a validation."""
        if self._due:
            self.run(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        """Whether a validation is due."""
        return {"due": self._due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore whether a validation is due."""
        with state_of_a_checkpoint("record of validations"):
            self._due = bool(state_dict["due"])
