"""`logos-pl validate`: KL of each row on the validation text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MODELS, PROCESSES, SCHEDULE
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.result_folder import refuse_results
from logos_pl.kinds.registry import kinds
from logos_pl.modules.matrix_writer import FILES, OPTION, MatrixWriter
from logos_pl.modules.validation import ValidationModule
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder
from logos_pl.settings.text import TextSettings
from logos_pl.settings.validate import ValidateSettings


class Validate(Evaluation):
    """Prints the KL of each row for the fitted and the imported lenses."""

    name = "validate"
    groups: ClassVar = {
        "model": ModelSettings,
        "data": TextSettings,
        "validate": ValidateSettings,
        "lens": LensSources,
        "export": ExportSettings,
        "prism": PrismFolder,
        "jacobian": JacobianFolder,
    }
    options: ClassVar = {"schedule": SCHEDULE, "ckpt_path": CHECKPOINT, "models": MODELS}
    trainer_options = PROCESSES

    def prepare(self) -> None:
        """Plan the run and find the lens.

        Raises:
            InputError: The options are inconsistent, the lens does not exist, or the folder holds a matrix.
        """
        self.prepare_text()
        matrix = self.settings["validate"]
        if matrix.matrix is not None and matrix.matrix not in self._maps():
            raise InputError(
                f"--validate.matrix must be a lens with a map per row: {', '.join(self._maps())} (got {matrix.matrix})."
            )
        if matrix.out_dir is not None:
            refuse_results(Path(matrix.out_dir), FILES, OPTION)

    def _maps(self) -> list[str]:
        """Names of the lenses that a validation reads and that have maps."""
        return [kind.name for kind in kinds() if kind.validated and kind.first_row is not None]

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        module, model = ValidationModule(self.model, self.settings["validate"].matrix), self.model
        return module, ValidationText(self.text, model.model_id, model.revision, model.gguf)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        writer = MatrixWriter(self.root, self.settings["validate"].out_dir)
        callbacks = [*self.progress(given), *self.lens_callbacks(), writer]
        return {"callbacks": callbacks, "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run the validation, without Lightning's table."""
        trainer.validate(module, datamodule=data, verbose=False)


COMMAND = Validate
