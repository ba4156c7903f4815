"""`logos-pl validate`: KL of each row on the validation text."""

from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import PROCESSES, SCHEDULE
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.modules.validation import ValidationModule
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder
from logos_pl.settings.text import TextSettings


class Validate(Evaluation):
    """Prints the KL of each row for the fitted and the imported lenses."""

    name = "validate"
    groups: ClassVar = {
        "model": ModelSettings,
        "data": TextSettings,
        "lens": LensSources,
        "export": ExportSettings,
        "prism": PrismFolder,
        "jacobian": JacobianFolder,
    }
    options: ClassVar = {"schedule": SCHEDULE, "ckpt_path": CHECKPOINT}
    trainer_options = PROCESSES

    def prepare(self) -> None:
        """Plan the run and find the lens.

        Raises:
            InputError: The options are inconsistent, or the lens does not exist.
        """
        self.prepare_text()

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        return ValidationModule(self.model), ValidationText(self.text, self.model.model_id, self.model.revision)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        callbacks = [*self.progress(given), *self.lens_callbacks()]
        return {"callbacks": callbacks, "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run the validation, without Lightning's table."""
        trainer.validate(module, datamodule=data, verbose=False)


COMMAND = Validate
