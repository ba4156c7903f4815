"""`logos-pl compare`: how far two lenses of a model differ on held-out text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MACHINE, SCHEDULE, Option
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.cli.lens_requests import lens_requests
from logos_pl.compare.lens_pair import LensGiven, PairLoader, parse_lens
from logos_pl.compare.module import CompareModule
from logos_pl.compare.writer import CompareWriter, refuse_results
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.lm.sources import filed_under
from logos_pl.settings.compare import CompareSettings
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder
from logos_pl.settings.text import TextSettings

_LENS = (
    "norm, tuned, bias, prism or another kind, where it is looked for by default; KIND=SOURCE for one at another "
    "place; or the folder, checkpoint or Hub repository of a tuned lens"
)


class Compare(Evaluation):
    """Prints and plots KL in both directions and top-1 overlap of two lenses."""

    name = "compare"
    groups: ClassVar = {
        "model": ModelSettings,
        "data": TextSettings,
        "compare": CompareSettings,
        "lens": LensSources,
        "export": ExportSettings,
        "prism": PrismFolder,
        "jacobian": JacobianFolder,
    }
    options: ClassVar = {"schedule": SCHEDULE, "ckpt_path": CHECKPOINT}
    positionals: ClassVar = {
        "lens_a": Option(str | None, None, f"first lens: {_LENS}", nargs="?"),
        "lens_b": Option(str | None, None, "second lens, likewise", nargs="?"),
    }
    trainer_options = MACHINE | {"default_root_dir", "enable_progress_bar"}

    given: tuple[LensGiven, LensGiven]

    def prepare(self) -> None:
        """Plan the run and read the names of both lenses.

        Raises:
            InputError: The options are inconsistent, there is no such lens, or the folder holds a comparison.
        """
        if self.config.lens_a is None or self.config.lens_b is None:
            raise InputError(
                "compare needs two lenses, as in `logos-pl compare norm tuned --config configs/demo.yaml`."
            )
        self.prepare_text()
        if self.plan.world_size > 1:
            raise InputError("compare runs in one process: give --trainer.devices 1.")
        first, second = parse_lens(self.config.lens_a), parse_lens(self.config.lens_b)
        if first == second:
            raise InputError(f"Both lenses are {self.config.lens_a}: give two that differ.")
        self.given = first, second
        out_dir = self.settings["compare"].out_dir
        if out_dir is not None:
            refuse_results(Path(out_dir))

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        return CompareModule(self.model), ValidationText(self.text, self.model.model_id, self.model.revision)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        requests = lens_requests(
            self.name,
            self.config,
            model_id=filed_under(self.plan.model.model_id),
            clean_model_name=self.plan.known.clean_name,
            typed=self.other,
        )
        writer = CompareWriter(self.root, self.settings["compare"].out_dir)
        callbacks = [*self.progress(given), PairLoader(self.given, requests), writer]
        return {"callbacks": callbacks, "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run over the validation text, without Lightning's table."""
        trainer.validate(module, datamodule=data, verbose=False)


COMMAND = Compare
