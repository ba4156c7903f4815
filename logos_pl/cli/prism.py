"""`logos-pl prism`: fit a Prism lens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MODELS, PROCESSES, SCHEDULE, SEED, WATCHING, Command
from logos_pl.cli.plan import KnownModel, plan_text, prism_budget
from logos_pl.data.training_text import TrainingText
from logos_pl.fit.prism import PrismModule
from logos_pl.fit.prism_export import PrismExport
from logos_pl.modules.same_run import SameRun
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings
from logos_pl.settings.text import SampleTextSettings


class Prism(Command):
    """Fits a Prism lens and writes its artifact."""

    name = "prism"
    groups: ClassVar = {"model": ModelSettings, "data": SampleTextSettings, "prism": PrismSettings}
    options: ClassVar = {"schedule": SCHEDULE, "seed_everything": SEED, "models": MODELS}
    trainer_options = PROCESSES | WATCHING

    def prepare(self) -> None:
        """Plan the run.

        Raises:
            InputError: The options are inconsistent or do not fit the model or the machine.
        """
        model, schedule = self.settings["model"], self.config.schedule
        shape = KnownModel.read(model).shape
        text = prism_budget(
            self.settings["prism"], self.settings["data"], schedule, shape.vocab_size, self.config.trainer
        )
        self.plan, self.model, self.text = plan_text(model, text, schedule, self.config.trainer)

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model = self.model
        text = TrainingText(self.text, model.model_id, model.revision, self.config.seed_everything, model.gguf)
        return PrismModule(model, self.settings["prism"]), text

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks; the run is one epoch."""
        folder = Path(self.settings["prism"].folder) / self.plan.known.clean_name
        assert self.plan.batching is not None
        return {
            "callbacks": [SameRun(), PrismExport(folder)],
            "max_epochs": 1,  # validation ends the epoch, after all positions
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Fit the Prism lens."""
        trainer.fit(module, datamodule=data)


COMMAND = Prism
