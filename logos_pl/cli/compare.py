"""`logos-pl compare`: how far two lenses of a model differ on held-out text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from logos_pl.cli.command import MACHINE, MODELS, SCHEDULE, Option
from logos_pl.cli.evaluation import CHECKPOINT, Evaluation
from logos_pl.cli.lens_requests import lens_requests
from logos_pl.compare.lens_pair import LensGiven, PairLoader, parse_lens
from logos_pl.compare.module import CompareModule
from logos_pl.compare.revision_module import RevisionModule
from logos_pl.compare.revision_writer import FILES as SERIES_FILES
from logos_pl.compare.revision_writer import RevisionWriter, Series
from logos_pl.compare.writer import FILES, OPTION, CompareWriter
from logos_pl.data.evaluation_text import FactText, ValidationText
from logos_pl.errors import InputError
from logos_pl.io.result_folder import refuse_results
from logos_pl.settings.compare import CompareSettings
from logos_pl.settings.fit import ExportSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.sweep import JacobianFolder, LensSources, PrismFolder
from logos_pl.settings.text import TextSettings

_LENS = (
    "norm, tuned, bias, prism or another kind, from its default location; KIND=SOURCE for one from another location; "
    "or the folder, checkpoint or Hub repository of a tuned lens"
)


class Compare(Evaluation):
    """Prints and plots KL in both directions and top-1 overlap of two lenses, or one lens over revisions of a model."""

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
    options: ClassVar = {"schedule": SCHEDULE, "ckpt_path": CHECKPOINT, "models": MODELS}
    positionals: ClassVar = {
        "lens_a": Option(str | None, None, f"first lens: {_LENS}", nargs="?"),
        "lens_b": Option(str | None, None, "second lens, in the same form; leave it out with --models", nargs="?"),
    }
    trainer_options = MACHINE | {"default_root_dir", "enable_progress_bar"}

    given: tuple[LensGiven, ...]
    series: Series

    def before_several(self, models: list[str]) -> None:
        """Check what concerns all revisions before the first is read.

        Raises:
            InputError: There are two lenses or one revision, there is no such lens, or the folder holds a comparison.
        """
        if self.config.lens_a is None or self.config.lens_b is not None or len(models) < 2:
            raise InputError(
                "compare tracks one lens over two or more revisions, as in `logos-pl compare tuned --models A@step1000 "
                "A@step2000`, or compares two lenses of one model: give one lens with --models, two without."
            )
        lens, out_dir = parse_lens(self.config.lens_a), self.settings["compare"].out_dir
        if out_dir is not None:
            refuse_results(Path(out_dir), SERIES_FILES, OPTION)
        self.series.root, self.series.out_dir, self.series.lens = self.root, out_dir, lens.label

    def prepare(self) -> None:
        """Plan the run and read the names of both lenses.

        Raises:
            InputError: The options are inconsistent, there is no such lens, or the folder holds a comparison.
        """
        if self.one_of_several:
            self.prepare_text()
            self.given = (parse_lens(self.config.lens_a),)
            return
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
            refuse_results(Path(out_dir), FILES, OPTION)

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""
        model = self.model
        if self.one_of_several:
            suite = self.settings["compare"].suite
            return RevisionModule(model), FactText(self.text, model.model_id, model.revision, suite, model.gguf)
        return CompareModule(model), ValidationText(self.text, model.model_id, model.revision, model.gguf)

    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the callbacks of the run."""
        requests = lens_requests(
            self.name,
            self.config,
            model_id=self.plan.model.recorded_id,
            clean_model_name=self.plan.known.clean_name,
            typed=self.other,
        )
        callbacks: list[Callback] = [*self.progress(given), PairLoader(self.given, requests)]
        if self.one_of_several:
            callbacks.append(RevisionWriter(self.series))
        else:
            callbacks.append(CompareWriter(self.root, self.settings["compare"].out_dir))
        return {"callbacks": callbacks, "logger": False, "enable_progress_bar": False}

    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run over the validation text, without Lightning's table."""
        trainer.validate(module, datamodule=data, verbose=False)


COMMAND = Compare
