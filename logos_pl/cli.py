"""The command line: `logos-pl fit | prism | validate | test | predict | selftest --config configs/<name>.yaml`.

Lenses are published, fetched and verified by `logos-pl hub`: see `logos-pl hub --help`.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.artifacts.checkpoint_file import check_checkpoint
from logos_pl.callbacks.checkpoint_io import AtomicCheckpointIO, RunCheckpoint
from logos_pl.callbacks.depth_figure import DepthFigure
from logos_pl.callbacks.gate_writer import GateWriter
from logos_pl.callbacks.graceful_stop import GracefulStop
from logos_pl.callbacks.imported_lens import ImportedLens
from logos_pl.callbacks.ledger import Ledger
from logos_pl.callbacks.lens_export import LensExport
from logos_pl.callbacks.lens_import import LensImport
from logos_pl.callbacks.lens_source import LensSource
from logos_pl.callbacks.lens_start import LensStart
from logos_pl.callbacks.percentile_stopping import PercentileStopping
from logos_pl.callbacks.prism_export import PrismExport
from logos_pl.callbacks.prism_import import PrismImport
from logos_pl.callbacks.progress import FitProgress
from logos_pl.callbacks.sweep_writer import SweepDestination, SweepWriter
from logos_pl.data.datamodule import LensDataModule
from logos_pl.errors import InputError
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lm.sources import clean_name, locate
from logos_pl.modules.prism_fit import PrismFit, PrismSettings
from logos_pl.modules.tuning import PERCENTILE_KL, LensTuning
from logos_pl.plan import plan_run, settle_prism_budget
from logos_pl.run_folder import find_checkpoint, new_run_folder
from logos_pl.selftest import run_selftest
from logos_pl.sentences import one_sentence

TRAINER_OPTIONS = {
    "accelerator", "strategy", "devices", "num_nodes", "logger", "callbacks", "plugins", "profiler", "default_root_dir",
    "enable_progress_bar", "detect_anomaly", "deterministic", "benchmark",
}  # fmt: skip
"""What of Lightning's Trainer a user may set; steps, batches, validations and precision belong to the plan."""


class LogosParser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Refuse what was given.

        Raises:
            InputError: always.
        """
        raise InputError(one_sentence(message)) from ex


class SeveralModelsAskedError(Exception):
    """The command names several models, and each is a run of its own; no failure, and never shown to a user."""

    def __init__(self, models: list[str]) -> None:
        super().__init__(*models)
        self.models = models


def file_name(model: str) -> str:
    """What a model's files are named after; of one that cannot be found, what it would be."""
    try:
        return clean_name(locate(model).model_id)
    except InputError:
        return clean_name(model)


class LogosTrainer(Trainer):
    """Lightning's trainer, and the commands of this project's own."""

    def fit_prism(self, model: LensTuning, datamodule: LensDataModule, settings: PrismSettings) -> None:
        """Fit a Prism lens, one map for all rows, on the model and text of a fit, and write it.

        Raises:
            InputError: The model, the text or the settings cannot be used.
            RunError: A figure is not finite, or the disk refuses.
        """
        prism = PrismFit(
            settings, model.model_id, model.revision, model.dtype_name, model.decoding_norm, model.loss_block_bytes
        )
        self.fit(prism, datamodule=datamodule)

    # The command's name. A function of that name would claim the group of options that the settings are.
    prism = fit_prism

    def selftest(self, model: LensTuning, datamodule: LensDataModule) -> None:
        """Check the model's head, its norm and the sweep's arithmetic on the model at hand; writes nothing.

        Raises:
            RunError: A check failed.
        """
        run_selftest(model, datamodule, self.strategy.root_device)


class LogosCLI(LightningCLI):
    """Trainer, lens module and data module from one configuration, with every `auto` settled before they are made.

    Args:
        destination: where a prediction writes; several models share it.
        one_model: this is one of several models that the command names.
        options: those of Lightning's own class.
    """

    def __init__(self, *, destination: SweepDestination, one_model: bool = False, **options: Any) -> None:
        self.destination = destination
        self.one_model = one_model
        super().__init__(LensTuning, LensDataModule, trainer_class=LogosTrainer, **options)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The Trainer's options that are the user's, the module's and the data's; the rest follows from the data."""
        others = set(inspect.signature(Trainer.__init__).parameters) - {"self"} - TRAINER_OPTIONS
        parser.add_class_arguments(Trainer, "trainer", skip=others, fail_untyped=False, instantiate=False)
        parser.add_lightning_class_args(LensTuning, "model")
        parser.add_lightning_class_args(LensDataModule, "data")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Say each thing once: the data follow the model and the seed."""
        parser.add_lightning_class_args(PercentileStopping, "early_stopping")
        parser.add_lightning_class_args(LensExport, "export")
        parser.add_lightning_class_args(SweepWriter, "sweep")
        parser.add_class_arguments(PrismSettings, "prism")
        parser.add_argument(
            "--schedule",
            type=ScheduleName,
            default="full",
            help="what `auto` stands for in the options of training: `full`, `quick` (few tokens), or `spec`, the plan "
            "that the measured ones are compared with (see docs/schedules.md)",
        )
        parser.link_arguments("schedule", "model.schedule")
        parser.link_arguments("schedule", "data.schedule")
        parser.add_class_arguments(LensSource, "lens")
        parser.add_argument("--models", nargs="+", type=str, help="models that `predict` reads one after the other")
        parser.link_arguments("model.model_id", "data.model_id")
        parser.link_arguments("model.revision", "data.model_revision")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands, and the Trainer arguments that are not the user's to give."""
        own = {"model", "datamodule", "verbose", "weights_only", "dataloaders", "return_predictions"}
        return {
            "selftest": own,
            "prism": own | {"settings"},
            "fit": own | {"train_dataloaders", "val_dataloaders"},
            "validate": own,
            "test": own,
            "predict": own,
        }

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and look at a checkpoint that is given as a file: Lightning opens it next, without asking what it is.

        Raises:
            InputError: it is no whole checkpoint.
        """
        super().parse_arguments(parser, args)
        given = self.config[self.config.subcommand].get("ckpt_path")
        if given is not None and Path(given).is_file():
            check_checkpoint(Path(given))

    def before_instantiate_classes(self) -> None:
        """Settle what `auto` stands for, where the run writes, and which checkpoint it goes on from.

        Raises:
            SeveralModelsAskedError: There are several models to read, one run each.
            InputError: Something does not fit, or there is nothing to go on from.
        """
        config = self.config[self.subcommand]
        if config.models and not self.one_model:
            if self.subcommand != "predict":
                raise InputError(f"--models is for predict; {self.subcommand} takes one model, --model.model_id.")
            raise SeveralModelsAskedError(config.models)
        self._refuse_useless_source(config)
        root = Path(config.trainer.default_root_dir or "lightning_logs")
        if self.subcommand == "predict":
            names = [file_name(model) for model in config.models or [config.model.model_id]]
            self.destination.settle(root, config.sweep.out_dir, names)
        if self.subcommand == "prism":
            settle_prism_budget(config)
        self.plan = plan_run(config, reads_text=self.subcommand not in ("predict", "selftest"))
        if self.plan.batching.world_size > 1 and self.subcommand in ("predict", "selftest"):
            raise InputError(f"{self.subcommand} runs in one process: give --trainer.devices 1.")
        self.plan.settle(config)
        self._settle_precond(config)
        if self.is_first_process:
            print(self.plan.sentence(), flush=True)
        if config.get("ckpt_path") is not None:  # the self-test has none
            checkpoint = find_checkpoint(root, self.plan.clean_model_name, config.ckpt_path)
            config.ckpt_path = str(checkpoint)
            self.run_folder = checkpoint.parent
        elif self.subcommand == "fit":
            self.run_folder = new_run_folder(root, self.plan.clean_model_name, create=self.is_first_process)

    def _refuse_useless_source(self, config: Any) -> None:
        """Refuse a lens that is named and would not be read."""
        if config.lens.imported is not None and self.subcommand not in ("predict", "test"):
            raise InputError(f"--lens.imported is for predict and test: {self.subcommand} reads no imported lens.")
        if config.lens.source is None:
            if config.lens.revision is not None:
                raise InputError("--lens.revision is of a repository on the Hub: name that with --lens.source.")
        elif self.subcommand not in ("validate", "test", "predict"):
            raise InputError(
                f"--lens.source is for validate, test and predict: {self.subcommand} reads no fitted lens."
            )
        elif config.get("ckpt_path") is not None:
            raise InputError("--lens.source and --ckpt_path both name a lens: give one of them.")

    def _settle_precond(self, config: Any) -> None:
        """Find the prism whose basis a fit trains in; a lens that is read from its artifact needs none."""
        if self.subcommand != "fit" and config.get("ckpt_path") is None:
            config.model.precond = "off"
        if config.model.precond == "auto":
            folder = Path(config.prism.folder) / self.plan.clean_model_name
            config.model.precond = str(folder) if folder.is_dir() else "off"
        if config.model.precond != "off" and self.is_first_process:
            print(f"U and V in the whitened basis of the prism of {os.path.relpath(config.model.precond)}", flush=True)

    @property
    def is_first_process(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return all(int(os.environ.get(name, "0")) == 0 for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this project's logger, checkpoints and callbacks."""
        makers = {"fit": self._fit_parts, "prism": self._prism_parts}
        parts = makers.get(str(self.subcommand), self._evaluation_parts)()
        if self.subcommand != "fit":
            self.save_config_callback = None  # an evaluation has no run folder, and leaves nothing where it is called
        given = self._get(self.config_init, "trainer")
        parts["callbacks"] += given.get("callbacks") or []
        trainer = super().instantiate_trainer(**parts, enable_model_summary=False, **kwargs)
        if self.subcommand == "prism":  # these are the tuned lens's
            others = PercentileStopping | LensExport | SweepWriter
            trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, others)]  # type: ignore[attr-defined]
        return trainer

    def prism(self, model: LensTuning, datamodule: LensDataModule) -> None:
        """Fit a prism with the settings of its own group of options."""
        assert isinstance(self.trainer, LogosTrainer)
        self.trainer.fit_prism(model, datamodule, self._get(self.config_init, "prism"))

    def validate(self, **arguments: Any) -> None:
        """Validate without Lightning's own table: `LensImport` prints one per row."""
        self.trainer.validate(**arguments, verbose=False)

    def test(self, **arguments: Any) -> None:
        """Test without Lightning's own table; a gate that is not passed ends the command with a status of its own."""
        self.trainer.test(**arguments, verbose=False)
        self.gates.raise_unless_passed()

    def predict(self, **arguments: Any) -> None:
        """Read the prompts; they are written as they come, so nothing has to be kept."""
        self.trainer.predict(**arguments, return_predictions=False)

    def _fit_parts(self) -> dict[str, Any]:
        folder = self.run_folder
        given = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = [
            Ledger(),  # first: the others save what it has counted
            GracefulStop(folder / "last.ckpt"),  # listens while the start is read, and stops after it
            LensStart(),
            DepthFigure(),
            RunCheckpoint(folder, "best", monitor=PERCENTILE_KL),
            RunCheckpoint(folder, "last"),
        ]
        if given["enable_progress_bar"] is not False:
            callbacks.append(FitProgress())
        parts: dict[str, Any] = {
            "callbacks": callbacks,
            "plugins": [AtomicCheckpointIO(), *(given["plugins"] or [])],
            "max_steps": self.plan.steps,
            "max_epochs": -1,
            "accumulate_grad_batches": self.plan.batching.grad_accum,
            "num_sanity_val_steps": 0,
        }
        if given["logger"] in (None, True):
            parts["logger"] = TensorBoardLogger(folder.parent.parent, name=folder.parent.name, version=folder.name)
        return parts

    def _prism_parts(self) -> dict[str, Any]:
        return {
            "callbacks": [PrismExport(self._prism_folder())],
            "max_epochs": 1,  # an epoch ends at the validation, and that is due when all positions are read
            "num_sanity_val_steps": 0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        }

    def _evaluation_parts(self) -> dict[str, Any]:
        export: LensExport = self._get(self.config_init, "export")
        writer: SweepWriter = self._get(self.config_init, "sweep")
        writer.destination = self.destination
        given = self.config[self.subcommand].get("ckpt_path") is not None
        source: LensSource = self._get(self.config_init, "lens")
        folder = None if given else export.destination(self.plan.clean_model_name)
        if source.source is not None:
            folder = source.folder(locate(self.plan.model_id).model_id)
        wanted = self._get(self.config_init, "trainer")["enable_progress_bar"] is not False
        bar = wanted and self.subcommand not in ("predict", "selftest") and sys.stdout.isatty()
        required = self.subcommand != "predict" or writer.tuned == "require"
        callbacks: list[Callback] = []
        if self.subcommand != "selftest":
            callbacks.append(LensImport(folder, self._command("fit"), required, source.name))
        use = {"validate": "auto", "predict": writer.prism}.get(str(self.subcommand), "off")
        if use != "off":
            callbacks.append(PrismImport(self._prism_folder(), self._command("prism"), required=use == "require"))
        if source.imported is not None:
            callbacks.append(ImportedLens(source.imported))
        logger: TensorBoardLogger | bool = False
        if self.subcommand == "test":
            root = Path(self._get(self.config_init, "trainer")["default_root_dir"] or "lightning_logs")
            logger = TensorBoardLogger(root, name=self.plan.clean_model_name, version="gates")
            if source.source is not None:  # a published lens is not written to; its verdict stays beside the logs
                self.gates = GateWriter(Path(logger.log_dir), is_artifact=False)
            else:
                self.gates = GateWriter(folder or self.run_folder, is_artifact=folder is not None)
            callbacks.append(self.gates)
        return {"callbacks": callbacks, "logger": logger, "enable_progress_bar": bar}

    def _prism_folder(self) -> Path:
        settings: PrismSettings = self._get(self.config_init, "prism")
        return Path(settings.folder) / self.plan.clean_model_name

    def _command(self, name: str) -> str:
        """A command on the same model, as the user would type it."""
        command = " ".join([f"logos-pl {name}", *(f"--config {path}" for path in self._config_files())])
        if self.plan.model_id != self._configured_model():
            command += f" --model.model_id {self.plan.model_id}"
        return command

    def _configured_model(self) -> str | None:
        """The model that the configuration files name, if any does."""
        named = None
        for path in self._config_files():
            given = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
            named = (given.get("model") or {}).get("model_id", named)
        return named

    def _config_files(self) -> list[str]:
        return [str(path) for path in self.config[self.subcommand].get("config") or []]
