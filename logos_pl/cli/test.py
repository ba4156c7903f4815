"""`logos-pl test`: evaluate a lens against the acceptance gates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.cli.command import MODELS, PROCESSES, SCHEDULE
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.cli.run_folder import make_log_folder
from logos_pl.data.evaluation_text import TestText
from logos_pl.gates.module import GateModule
from logos_pl.gates.writer import GateWriter
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.intermediates import IntermediatesSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder
from logos_pl.settings.text import TestTextSettings


class Test(Evaluation):
    """Evaluates the gates and writes the verdict to the folder of the lens."""

    __test__ = False  # not a pytest class

    name = "test"
    groups: ClassVar = {
        "model": ModelSettings,
        "data": TestTextSettings,
        "intermediates": IntermediatesSettings,
        "lens": LensSources,
        "export": ExportSettings,
        "prism": PrismFolder,
        "jacobian": JacobianFolder,
    }
    options: ClassVar = {"schedule": SCHEDULE, "ckpt_path": CHECKPOINT, "models": MODELS}
    trainer_options = PROCESSES

    text: TestTextSettings

    def prepare(self) -> None:
        """Plan the run and find the lens.

        Raises:
            InputError: The options are inconsistent, or the lens does not exist.
        """
        self.prepare_text()

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model = self.model
        data = TestText(self.text, model.model_id, model.revision, self.settings["intermediates"], model.gguf)
        return GateModule(model), data

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return callbacks and logger; the verdict of a published lens, which is read-only, is written to the logs."""
        logger = TensorBoardLogger(self.root, name=self.plan.known.clean_name, version="gates")
        lens = self.settings["lens"]
        if lens.source is not None:
            self.gates = GateWriter(Path(logger.log_dir), is_artifact=False)
        elif self.checkpoint is not None:
            self.gates = GateWriter(self.checkpoint.parent, is_artifact=False)
        else:
            folder = self.settings["export"].of(self.plan.known.clean_name)
            self.gates = GateWriter(folder, is_artifact=True)
        return {
            "callbacks": [*self.progress(given), *self.lens_callbacks(), self.gates],
            "logger": logger,
            "enable_progress_bar": False,
        }

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run the test, without Lightning's table.

        Raises:
            GatesNotPassedError: The lens failed a gate.
            RunError: The folder of the logs cannot be made.
        """
        make_log_folder(self.root, self.plan.known.clean_name)
        trainer.test(module, datamodule=data, verbose=False)
        self.gates.raise_unless_passed()


COMMAND = Test
