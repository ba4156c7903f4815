"""`logos-pl predict`: sweep prompts through every row and lens."""

import gc
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MACHINE, WATCHING, Option
from logos_pl.cli.command_line import command_line
from logos_pl.cli.error_messages import describe
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.cli.foreseen import FORESEEN
from logos_pl.cli.plan import plan_prompts
from logos_pl.data.prompt_data import PromptData
from logos_pl.errors import DISK_ERRORS, InputError, InterruptedRunError, RunError
from logos_pl.io.terminal import complain, say
from logos_pl.lm.sources import clean_name, filed_under, locate
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder, SweepSettings
from logos_pl.settings.text import PromptSettings
from logos_pl.sweeps.module import SweepModule
from logos_pl.sweeps.several_models import record_skips, write_cross_report
from logos_pl.sweeps.writer import SweepDestination, SweepWriter

OF_THIS_RUN = frozenset(
    {"data.prompts", "data.prompt", "data.token_ids", "data.answer", "sweep.out_dir", "sweep.open", "models"}
)
"""Options that say which prompts were read and where they went; the page's command names its own."""


class SeveralModelsError(Exception):
    """Control flow: several models were given, and each needs its own run. Never shown to a user."""

    def __init__(self, models: list[str]) -> None:
        super().__init__(*models)
        self.models = models


class Predict(Evaluation):
    """Reads prompts with every lens; writes tables, plots, a report and an HTML page."""

    name = "predict"
    groups: ClassVar = {
        "model": ModelSettings,
        "data": PromptSettings,
        "sweep": SweepSettings,
        "lens": LensSources,
        "export": ExportSettings,
        "prism": PrismFolder,
        "jacobian": JacobianFolder,
    }
    options: ClassVar = {
        "ckpt_path": CHECKPOINT,
        "models": Option(str, None, "sweep several models, one after the other", nargs="+"),
    }
    trainer_options = MACHINE | WATCHING | {"default_root_dir", "enable_progress_bar"}

    destination: SweepDestination
    one_of_several = False
    """Whether this run is one of several models."""

    def prepare(self) -> None:
        """Plan the run and find the lens.

        Raises:
            SeveralModelsError: Several models are given.
            InputError: The options are inconsistent, or the lens does not exist.
        """
        models = self.config.models or [self.settings["model"].model_id]
        if self.config.models and not self.one_of_several:
            raise SeveralModelsError(models)
        self.destination.resolve(self.root, self.settings["sweep"].out_dir, [file_name(model) for model in models])
        self.plan = plan_prompts(self.settings["model"], self.config.trainer)
        if self.plan.world_size > 1:
            raise InputError("predict runs in one process: give --trainer.devices 1.")
        self.check_lens()

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model, sweep = self.plan.model, self.settings["sweep"]
        module = SweepModule(model, attribution=sweep.attribution, keep_residuals=sweep.keep_residuals)
        return module, PromptData(self.settings["data"], model.model_id, model.revision)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        model = self.plan.model
        command = command_line(self, revision=locate(model.model_id, model.revision).commit, leave_out=OF_THIS_RUN)
        writer = SweepWriter(self.settings["sweep"], self.destination, command)
        return {"callbacks": [*self.lens_callbacks(), writer], "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Read the prompts; callbacks write each batch, so predictions are not collected."""
        trainer.predict(module, datamodule=data, return_predictions=False)


def file_name(model: str) -> str:
    """Base name of a model's files."""
    return clean_name(filed_under(model))


def each_model(models: list[str], destination: SweepDestination, read: Callable[[str], None]) -> int:
    """Sweep several models; one that fails is skipped and its reason recorded.

    Args:
        models: Model ids.
        destination: Output folder of the sweep.
        read: Sweeps one model.

    Returns:
        Exit status: 0 if all succeeded, 2 if some failed by bad input only, else 1.
    """
    statuses: list[int] = []
    skipped: list[tuple[str, str]] = []
    for number, model in enumerate(models, start=1):
        say(f"\nmodel {number} of {len(models)}: {model}")
        try:
            read(model)
        except InterruptedRunError:
            raise
        except Exception as error:  # of any kind: go on with the others
            disk = error.__cause__ if isinstance(error, RunError) else error
            if isinstance(disk, OSError) and disk.errno in DISK_ERRORS:
                raise  # the next model would fail likewise
            message, status = _reason(error)
            complain(f"{model} is skipped: {message}")
            skipped.append((model, message))
            statuses.append(status)
        if destination.reports:  # if every model failed by bad input, earlier results stay
            record_skips(destination.open(), skipped)
            skipped.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if len(destination.reports) > 1:
        written = write_cross_report(destination.open(), destination.reports)
        say(f"\nmodels side by side: {os.path.relpath(written)}")
    if statuses:
        say(f"\n{len(models) - len(statuses)} of {len(models)} models were read; the others are named above.")
    return 0 if not statuses else InputError.exit_status if set(statuses) == {InputError.exit_status} else 1


def _reason(error: Exception) -> tuple[str, int]:
    """Reason why a model is skipped, and the exit status."""
    if isinstance(error, FORESEEN):
        try:
            return describe(error)
        except FORESEEN:
            pass  # of a known class, but not a known cause
    return f"{type(error).__name__}: {' '.join(str(error).split())} (unexpected: please report it).", 1


def refuse_same_names(models: list[str]) -> None:
    """Check that no two models write to the same files.

    Raises:
        InputError: Two models have the same clean name.
    """
    seen: dict[str, str] = {}
    for model in models:
        name = file_name(model)
        if name in seen:
            raise InputError(f"{seen[name]} and {model} would write the same files: sweep them in two commands.")
        seen[name] = model


COMMAND = Predict
