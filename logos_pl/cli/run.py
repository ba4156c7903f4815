"""The command line: `logos-pl fit | prism | validate | test | predict | selftest --config configs/<name>.yaml`.

Lenses are published, fetched and verified by `logos-pl hub`: see `logos-pl hub --help`.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.artifacts.checkpoint_file import check_checkpoint
from logos_pl.bounds import MAX_SEED, check_number
from logos_pl.cli.commands import COMMANDS
from logos_pl.cli.configuration import (
    FOLLOWING,
    check_arguments,
    check_settings,
    expand_home,
    guard_imports,
    guard_values,
    read_configuration,
)
from logos_pl.cli.error_messages import one_sentence
from logos_pl.cli.plan import plan_run, resolve_prism_budget
from logos_pl.cli.processes import is_first_process, refuse_other_count
from logos_pl.cli.run_folder import discard_run_folder, find_checkpoint, hold_run_folder, new_run_folder
from logos_pl.cli.selftest import run_selftest
from logos_pl.cli.trainer_options import TAKES, TRAINER_OPTIONS, check_trainer, import_paths
from logos_pl.data.datamodule import LensDataModule
from logos_pl.errors import InputError
from logos_pl.fit.checkpoint import AtomicCheckpointIO, Resuming, RunCheckpoint
from logos_pl.fit.depth_figure import DepthFigure
from logos_pl.fit.export import LensExport
from logos_pl.fit.ledger import Ledger
from logos_pl.fit.prism import PrismFit, PrismSettings
from logos_pl.fit.prism_export import PrismExport
from logos_pl.fit.progress import FitProgress
from logos_pl.fit.start import LensStart
from logos_pl.fit.stopping import PercentileStopping
from logos_pl.functional.schedules import ScheduleName
from logos_pl.gates.writer import GateWriter
from logos_pl.io.terminal import say
from logos_pl.lm.sources import clean_name, filed_under, first_sentence
from logos_pl.modules.graceful_stop import GracefulStop
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.lens_source import LensSource, lens_requests, refuse_unread_sources
from logos_pl.modules.same_run import SameRun
from logos_pl.modules.tuning import PERCENTILE_KL, LensTuning
from logos_pl.sweep.writer import SweepDestination, SweepWriter

SECTIONS = ("trainer", "model", "data", "early_stopping", "export", "sweep", "prism", "lens")
"""Groups of options."""

OF_NUMBERS = {
    LensTuning: "model",
    LensDataModule: "data",
    PercentileStopping: "early_stopping",
    SweepWriter: "sweep",
    PrismSettings: "prism",
}
"""What checks the bounds of its options when it is made, and the group that they stand in."""


class LogosParser(LightningArgumentParser):
    """A parser whose errors are one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Refuse what was given.

        Raises:
            InputError: always.
        """
        raise InputError(one_sentence(message, takes=TAKES)) from ex


class SeveralModelsAskedError(Exception):
    """The command names several models, and each is a run of its own; no failure, and never shown to a user."""

    def __init__(self, models: list[str]) -> None:
        super().__init__(*models)
        self.models = models


def file_name(model: str) -> str:
    """What a model's files are named after."""
    return clean_name(filed_under(model))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


class LogosTrainer(Trainer):
    """Lightning's trainer, and the commands of this project's own."""

    def fit_prism(self, model: LensTuning, datamodule: LensDataModule, settings: PrismSettings) -> None:
        """Fit a Prism lens, one map for all rows, on the model and text of a fit, and write it.

        Raises:
            InputError: The model, the text or the settings cannot be used.
            RunError: A figure is not finite, or the disk refuses.
        """
        prism = PrismFit(
            settings,
            model.model_id,
            model.revision,
            model.dtype_name,
            model.decoding_norm,
            model.loss_block_bytes,
            model.fp32_unembed,
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
        self.claimed: Path | None = None  # the folder that a fit has made
        self.held: int | None = None  # what keeps other fits out of the run's folder
        guard_values()
        guard_imports(import_paths())
        try:
            super().__init__(LensTuning, LensDataModule, trainer_class=LogosTrainer, **options)
        except BaseException:  # whatever it was, a folder without a checkpoint is of no use
            if self.claimed is not None:
                discard_run_folder(self.claimed)
            raise
        finally:
            if self.held is not None:
                os.close(self.held)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed, a number: the run is a function of it, and it is recorded."""
        parser.add_argument(
            "--seed_everything", type=int, default=self.seed_everything_default, help="seed of all that is drawn"
        )

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
        parser.add_class_arguments(LensSource, "lens")
        parser.add_argument("--models", nargs="+", type=str, help="models that `predict` reads one after the other")
        for option, leader in FOLLOWING.items():
            parser.link_arguments(leader, option)

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
            InputError: an option, a configuration or its value cannot be used, or the file is no whole checkpoint.
        """
        check_arguments(sys.argv[1:] if args is None else args, SECTIONS, tuple(self.subcommands()))
        for name, subparser in self._subcommand_parsers.items():
            subparser.description = COMMANDS[name]  # in place of the docstrings of Lightning's methods
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        defaults = self._subcommand_parsers[command].get_defaults()
        check_settings(self.config[command].items(), dict(defaults.items()))
        check_number("--seed_everything", self.config[command].seed_everything, at_least=0, at_most=MAX_SEED)
        expand_home(self.config[command])
        given = self.config[command].get("ckpt_path")
        if given is not None and Path(given).is_file():
            check_checkpoint(Path(given))

    def before_instantiate_classes(self) -> None:
        """Settle what `auto` stands for, where the run writes, and which checkpoint it goes on from.

        Raises:
            SeveralModelsAskedError: There are several models to read, one run each.
            InputError: Something does not fit, or there is nothing to go on from.
        """
        config = self.config[self.subcommand]
        check_trainer(config.trainer)
        for kind, section in OF_NUMBERS.items():
            kind(**config[section])  # refuses what is out of bounds, before it is planned with
        if config.models and not self.one_model:
            if self.subcommand != "predict":
                raise InputError(f"--models is for predict; {self.subcommand} takes one model, --model.model_id.")
            raise SeveralModelsAskedError(config.models)
        self._refuse_useless_source(config)
        root = Path(config.trainer.default_root_dir or "lightning_logs")
        if self.subcommand == "predict":
            models = config.models or [config.model.model_id]
            names = [file_name(model) for model in models]
            self.destination.settle(root, config.sweep.out_dir, names)
        if self.subcommand == "prism":
            resolve_prism_budget(config)
        self.plan = plan_run(config, reads_text=self.subcommand not in ("predict", "selftest"))
        if self.plan.batching.world_size > 1 and self.subcommand in ("predict", "selftest"):
            raise InputError(f"{self.subcommand} runs in one process: give --trainer.devices 1.")
        refuse_other_count(self.plan.batching.world_size)
        self.plan.settle(config)
        if is_first_process():
            say(self.plan.sentence())
        if config.get("ckpt_path") is not None:  # the self-test has none
            checkpoint = find_checkpoint(root, self.plan.clean_model_name, config.ckpt_path)
            config.ckpt_path = str(checkpoint)
            self.run_folder = checkpoint.parent
        elif self.subcommand == "fit":
            first = is_first_process()
            self.run_folder = new_run_folder(root, self.plan.clean_model_name, create=first)
            self.claimed = self.run_folder if first else None
        if self.subcommand == "fit" and is_first_process():
            self.held = hold_run_folder(self.run_folder)

    def _refuse_useless_source(self, config: Any) -> None:
        """Refuse a lens that is named and would not be read."""
        refuse_unread_sources(str(self.subcommand), config.lens.sources)
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

    def instantiate_classes(self) -> None:
        """Make the parts of the run.

        Raises:
            InputError: a class that the configuration names for the Trainer cannot be made.
        """
        values = vars(self.config[self.subcommand].trainer).values()
        named = any(isinstance(part, Namespace) for value in values for part in _listed(value))
        try:
            super().instantiate_classes()
        except (TypeError, ValueError, ImportError) as error:
            if not named:
                raise
            raise InputError(f"A class that --trainer names cannot be made: {first_sentence(error)}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with this project's logger, checkpoints and callbacks.

        Raises:
            InputError: the options do not fit together, or the machine.
        """
        makers = {"fit": self._fit_parts, "prism": self._prism_parts}
        parts = makers.get(str(self.subcommand), self._evaluation_parts)()
        if self.subcommand != "fit":
            self.save_config_callback = None  # an evaluation has no run folder, and leaves nothing where it is called
        given = self._get(self.config_init, "trainer")
        parts["callbacks"] += given.get("callbacks") or []
        try:
            trainer = super().instantiate_trainer(**parts, enable_model_summary=False, **kwargs)
        except (TypeError, ValueError, ImportError, RuntimeError) as error:  # Lightning's own checks of them and SLURM
            raise InputError(f"The --trainer options cannot be used: {first_sentence(error)}") from error
        if self.subcommand == "prism":  # these are the tuned lens's
            others = PercentileStopping | LensExport | SweepWriter
            trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, others)]  # type: ignore[attr-defined]
        return trainer

    def fit(self, **arguments: Any) -> None:
        """Fit; what Lightning meets in a checkpoint whose parts are none of a fit's is said of the checkpoint.

        Raises:
            InputError: a part of the checkpoint is not what a fit writes.
        """
        try:
            self.trainer.fit(**arguments)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if self.resuming.done or not self.checkpoint_io.has_loaded:
                raise
            raise InputError(
                f"{os.path.relpath(arguments['ckpt_path'])} holds a part that is not what a fit writes "
                f"({type(error).__name__}: {first_sentence(error)[:-1]}): give another checkpoint, or start anew."
            ) from error

    def prism(self, model: LensTuning, datamodule: LensDataModule) -> None:
        """Fit a prism with the settings of its own group of options."""
        assert isinstance(self.trainer, LogosTrainer)
        self.trainer.fit_prism(model, datamodule, self._get(self.config_init, "prism"))

    def validate(self, **arguments: Any) -> None:
        """Validate without Lightning's own table: `LensLoader` prints one per row."""
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
        self.resuming, self.checkpoint_io = Resuming(), AtomicCheckpointIO()
        callbacks: list[Callback] = [
            self.resuming,
            Ledger(),  # before those that save what it has counted
            SameRun(),
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
            "plugins": [self.checkpoint_io, *(given["plugins"] or [])],
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
            "callbacks": [SameRun(), PrismExport(self._prism_folder())],
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
        wanted = self._get(self.config_init, "trainer")["enable_progress_bar"] is not False
        bar = wanted and self.subcommand not in ("predict", "selftest") and sys.stdout.isatty()
        requests = lens_requests(
            str(self.subcommand),
            self.config[self.subcommand],
            model_id=filed_under(self.plan.model_id),
            clean_model_name=self.plan.clean_model_name,
            typed=self._command,
        )
        callbacks: list[Callback] = [SameRun(), LensLoader(requests)]
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
            given = read_configuration(path, SECTIONS)
            named = given.get("model", {}).get("model_id", named)
        return named

    def _config_files(self) -> list[str]:
        return [str(path) for path in self.config[self.subcommand].get("config") or []]
