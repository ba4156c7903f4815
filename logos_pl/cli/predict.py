"""`logos-pl predict`: sweep prompts through every row and lens."""

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MACHINE, MODELS, WATCHING
from logos_pl.cli.command_line import command_line
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.cli.plan import plan_prompts
from logos_pl.data.prompt_data import PromptData
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.lm.sources import folder_name_of, locate
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
"""Options for the prompts and the output of this run, which the command shown on the page leaves out."""


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
        "models": MODELS,
    }
    trainer_options = MACHINE | WATCHING | {"default_root_dir", "enable_progress_bar"}

    destination: SweepDestination

    def prepare(self) -> None:
        """Plan the run and find the lens.

        Raises:
            InputError: The options are inconsistent, or the lens does not exist.
        """
        model, models = self.settings["model"], self.config.models
        names = [folder_name_of(each) for each in models] if models else [model.folder_name]
        self.destination.resolve(self.root, self.settings["sweep"].out_dir, names)
        self.plan = plan_prompts(self.settings["model"], self.config.trainer)
        if self.plan.world_size > 1:
            raise InputError("predict runs in one process: give --trainer.devices 1.")
        self.check_lens()

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model, sweep = self.plan.model, self.settings["sweep"]
        module = SweepModule(model, attribution=sweep.attribution, keep_residuals=sweep.keep_residuals)
        return module, PromptData(self.settings["data"], model.model_id, model.revision, model.gguf)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        model = self.plan.model
        source = locate(model.model_id, model.revision, model.gguf)
        commit = source.commit if source.named is None else None  # a revision in the name also selects the lens
        command = command_line(self, revision=commit, leave_out=OF_THIS_RUN)
        writer = SweepWriter(self.settings["sweep"], self.destination, command)
        return {"callbacks": [*self.lens_callbacks(), writer], "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Read the prompts; callbacks write each batch, so predictions are not collected."""
        trainer.predict(module, datamodule=data, return_predictions=False)


def with_cross_report(destination: SweepDestination) -> Callable[[list[tuple[str, str]]], None]:
    """Return the function to call after each of several models, which records the skipped ones.

    If all fail because of bad input, no folder is created, and earlier results are kept.

    Args:
        destination: Output folder of the sweeps.
    """

    def after(skipped: list[tuple[str, str]]) -> None:
        if destination.reports:
            record_skips(destination.open(), skipped)
            skipped.clear()

    return after


def compare_models(destination: SweepDestination) -> None:
    """Write the comparison of several models, if two or more were read."""
    if len(destination.reports) > 1:
        written = write_cross_report(destination.open(), destination.reports)
        say(f"\nmodels side by side: {os.path.relpath(written)}")


COMMAND = Predict
