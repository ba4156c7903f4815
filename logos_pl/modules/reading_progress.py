"""Progress of commands that evaluate lenses: set-up, then the text and the prompts that are read."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.data.evaluation_text import TestText, ValidationText
from logos_pl.io.progress import DISPLAY, Display, Progress


class ReadingProgress(Callback):
    """Shows the progress of `validate` and `test` in the first process, counted over all processes.

    Args:
        display: Where it is shown.
    """

    def __init__(self, display: Display = DISPLAY) -> None:
        self.display = display
        self._stage: Progress | None = None
        self._loader = -1  # whose batches the stage counts

    def _begin(self, trainer: Trainer, what: str, total: int | None = None, unit: str = "") -> None:
        self._end()
        stage = Progress(what, total, unit, shown=trainer.is_global_zero, display=self.display)
        self._stage = stage.start()

    def _end(self) -> None:
        if self._stage is not None:
            self._stage.stop()
            self._stage = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show that the run is being set up, until the first text is read."""
        self._begin(trainer, "setting up")

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show how far the validation is."""
        data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
        self._begin(trainer, "validation", int(data.settings.val_seqs), "sequences")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the sequences of all processes."""
        self._count(trainer, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar before the table."""
        self._end()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Show how far the test text is, and after it each suite."""
        if dataloader_idx == self._loader:
            return
        self._loader = dataloader_idx
        data: TestText = trainer.datamodule  # type: ignore[attr-defined]
        of_loader = [("test text", data.settings.test_seqs, "sequences"), ("suite", len(data.prompts), "facts")]
        if data.unspoken is not None:
            of_loader.append(("unspoken intermediates", len(data.unspoken[1].items), "items"))
        self._begin(trainer, *of_loader[dataloader_idx])

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the sequences, facts or items of all processes."""
        self._count(trainer, batch)

    def _count(self, trainer: Trainer, batch: Any) -> None:
        """Count one batch per process; at the end of a suite, fewer processes may have one."""
        assert self._stage is not None
        assert self._stage.total is not None
        left = self._stage.total - self._stage.done
        self._stage.advance(min(left, len(batch.input_ids) * trainer.world_size))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show that the gates are computed."""
        self._begin(trainer, "computing the gates")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar before the report."""
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the terminal."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the terminal, since Lightning skips teardown after an error."""
        self._end()
