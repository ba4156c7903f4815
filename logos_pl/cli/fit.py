"""`logos-pl fit`: train a tuned lens."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.cli.command import MODELS, PROCESSES, SCHEDULE, SEED, WATCHING, Command, Option
from logos_pl.cli.plan import plan_text
from logos_pl.cli.processes import is_first_process
from logos_pl.cli.run_folder import discard_run_folder, find_checkpoint, hold_run_folder, new_run_folder
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, first_sentence
from logos_pl.fit.checkpoint import AtomicCheckpointIO, Resuming, RunCheckpoint
from logos_pl.fit.depth_figure import DepthFigure
from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.fit.export import LensExport
from logos_pl.fit.ledger import Ledger
from logos_pl.fit.module import TuningModule
from logos_pl.fit.own_validation import OwnValidation
from logos_pl.fit.progress import FitProgress
from logos_pl.fit.start import LensStart
from logos_pl.fit.stopping import PercentileStopping
from logos_pl.modules.graceful_stop import GracefulStop
from logos_pl.modules.same_run import SameRun
from logos_pl.settings.fit import ExportSettings, StoppingSettings
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.text import TrainingTextSettings

OTHER_SHAPES = "Error(s) in loading state_dict"
"""Text of torch's RuntimeError when weights do not fit a module."""


class Fit(Command):
    """Trains a tuned lens, saves checkpoints and writes the artifact."""

    name = "fit"
    groups: ClassVar = {
        "model": TuningSettings,
        "data": TrainingTextSettings,
        "early_stopping": StoppingSettings,
        "export": ExportSettings,
    }
    options: ClassVar = {
        "schedule": SCHEDULE,
        "seed_everything": SEED,
        "ckpt_path": Option(str | None, None, "checkpoint to resume from: `last`, `best` or a path"),
        "models": MODELS,
    }
    trainer_options = PROCESSES | WATCHING | {"logger"}
    writes_config = True

    text: TrainingTextSettings
    _claimed: Path | None = None  # folder created by this fit
    _held: int | None = None  # descriptor of the lock on the run's folder

    def prepare(self) -> None:
        """Plan the run and reserve its folder.

        Raises:
            InputError: The options are inconsistent, or there is no checkpoint to resume from.
            RunError: The folder cannot be created.
        """
        config = self.config
        config.models = None  # the saved configuration is for resuming this model's fit
        self.plan, self.model, self.text = plan_text(
            self.settings["model"], self.settings["data"], config.schedule, config.trainer
        )
        self._record()
        name, first = self.plan.known.clean_name, is_first_process()
        if config.ckpt_path is not None:
            checkpoint = find_checkpoint(self.root, name, config.ckpt_path)
            config.ckpt_path = str(checkpoint)
            self.run_folder = checkpoint.parent
        else:
            self.run_folder = new_run_folder(self.root, name, create=first)
            self._claimed = self.run_folder if first else None
        if first:
            self._held = hold_run_folder(self.run_folder)

    def _record(self) -> None:
        """Write the resolved values into the configuration to be saved."""
        config = self.config
        config.trainer.accelerator, config.trainer.devices = self.plan.choice.device.type, self.plan.devices
        for option in ("dtype", "placement", "group_tokens"):
            config.model[option] = getattr(self.model, option)
        for option in ("tokens", "effective_batch_seqs", "micro_batch_seqs", "positions_per_seq", "val_seqs"):
            config.data[option] = getattr(self.text, option)

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        seed, model = self.config.seed_everything, self.model
        return (
            TuningModule(model, self.config.schedule, seed),
            TrainingText(self.text, model.model_id, model.revision, seed, model.gguf),
        )

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return checkpointing, callbacks and number of steps."""
        folder = self.run_folder
        self.resuming, self.checkpoint_io = Resuming(), AtomicCheckpointIO()
        best, last = RunCheckpoint(folder, "best", monitor=PERCENTILE_KL), RunCheckpoint(folder, "last")
        ledger, stopping = Ledger(), PercentileStopping(self.settings["early_stopping"])
        stop = GracefulStop(folder / "last.ckpt", ledger.rewind)
        validation = OwnValidation(stop, after=(stopping, best, last))
        callbacks: list[Callback] = [
            self.resuming,
            ledger,  # before the callbacks that save its counts
            SameRun(),
            validation,  # before the stop, whose checkpoint says that a validation is due
            stop,  # also catches signals during initialisation
            LensStart(stop, validation),
            DepthFigure(),
            best,
            last,
            stopping,
            LensExport(self.settings["export"].of(self.plan.known.clean_name), best, ledger, stopping),
        ]
        if given["enable_progress_bar"] is not False:
            callbacks.append(FitProgress())
        assert self.plan.batching is not None
        parts: dict[str, Any] = {
            "callbacks": callbacks,
            "plugins": [self.checkpoint_io, *(given["plugins"] or [])],
            "max_steps": self._total_steps(),
            "max_epochs": -1,
            "accumulate_grad_batches": self.plan.batching.grad_accum,
            "num_sanity_val_steps": 0,
        }
        if given["logger"] in (None, True):
            parts["logger"] = TensorBoardLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
        return parts

    def _total_steps(self) -> int:
        return TrainingText(self.text, self.model.model_id).total_steps

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Train; errors from a malformed checkpoint are reported as such.

        Raises:
            InputError: The checkpoint does not have the contents of a fit.
        """
        checkpoint = self.config.ckpt_path
        try:
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError, RuntimeError) as error:
            resumed = self.resuming.done or not self.checkpoint_io.has_loaded
            if resumed or (isinstance(error, RuntimeError) and OTHER_SHAPES not in str(error)):
                raise
            raise InputError(
                f"{os.path.relpath(checkpoint)} has an invalid part "
                f"({type(error).__name__}: {first_sentence(error)[:-1]}): give another checkpoint, or start again."
            ) from error

    def release(self, failed: bool) -> None:
        """Unlock the run's folder; after a failure, remove a folder without checkpoint."""
        if failed and self._claimed is not None:
            discard_run_folder(self._claimed)
        if self._held is not None:
            os.close(self._held)
            self._held = None


COMMAND = Fit
