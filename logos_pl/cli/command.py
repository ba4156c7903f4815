"""Base class of commands: options, preparation before anything is loaded, and the run."""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.cli.configuration import read_configuration
from logos_pl.cli.plan import RunPlan
from logos_pl.errors import InputError
from logos_pl.functional.schedules import ScheduleName
from logos_pl.io.terminal import shortened

MAX_SHOWN = 60
"""Characters of a mistyped option that are quoted."""


class Option(NamedTuple):
    """An option outside the groups.

    Attributes:
        type: Type of the value.
        default: Default value.
        help: Help text, one line.
        nargs: As in argparse.
    """

    type: Any
    default: Any
    help: str
    nargs: str | None = None


SEED = Option(int, 316, "random seed")
MODELS = Option(
    str,
    None,
    "several models, processed one after the other, each with its own folders and files; give a revision on the Hub "
    "as id@revision",
    nargs="+",
)
SCHEDULE = Option(
    ScheduleName,
    "full",
    "training defaults that `auto` stands for: `full`, `quick` (few tokens) or `spec` (baseline that the others were "
    "measured against); see docs/schedules.md",
)
MACHINE = frozenset({"accelerator", "devices"})
"""Trainer options that choose the device."""

PROCESSES = MACHINE | {"strategy", "num_nodes", "plugins", "default_root_dir", "enable_progress_bar"}
"""Trainer options of commands that can run in several processes."""

WATCHING = frozenset({"callbacks", "profiler", "detect_anomaly", "deterministic", "benchmark"})
"""Trainer options for monitoring and determinism."""


class Command(ABC):
    """One command: it prepares, builds the Lightning modules and runs.

    Args:
        config: Parsed options, one namespace per section.

    Attributes:
        groups: Settings class by section; a new option is a new field there.
        options: Options outside sections.
        positionals: Arguments without dashes, in order.
        trainer_options: Options of Lightning's Trainer that the user may set.
        settings: Parsed settings by section.
        plan: Model, device and batches; set by `prepare`.
        writes_config: Whether the run saves its configuration.
        one_of_several: Whether this is the run of one of several models.
        seen: Fingerprints of the models already read, by name; None if this is the only model.
    """

    name: ClassVar[str]
    groups: ClassVar[Mapping[str, type]]
    options: ClassVar[Mapping[str, Option]] = {}
    positionals: ClassVar[Mapping[str, Option]] = {}
    trainer_options: ClassVar[frozenset[str]] = MACHINE
    writes_config: ClassVar[bool] = False

    one_of_several = False
    seen: dict[str, Fingerprint] | None = None
    plan: RunPlan
    run_folder: Path  # of a command that writes its configuration; set by `prepare`

    def __init__(self, config: Any) -> None:
        self.config = config
        self.settings: dict[str, Any] = {name: kind(**config[name]) for name, kind in self.groups.items()}

    @classmethod
    def accepts(cls) -> set[str]:
        """Names of all options as on the command line, without the dashes."""
        fields = {f"{group}.{part.name}" for group, kind in cls.groups.items() for part in dataclasses.fields(kind)}
        return fields | {f"trainer.{name}" for name in cls.trainer_options} | set(cls.options)

    @abstractmethod
    def prepare(self) -> None:
        """Plan the run and reserve its output folder, before anything is loaded.

        Raises:
            InputError: The options are inconsistent or do not fit the model or the machine.
        """

    @abstractmethod
    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Return the module and the data module of the run."""

    @abstractmethod
    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Trainer arguments that the command sets itself.

        Args:
            given: Trainer options of the user, with their classes instantiated.
        """

    @abstractmethod
    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Run the command on the Trainer."""

    def before_several(self, models: list[str]) -> None:  # noqa: B027 (most commands check nothing)
        """Check what concerns all of several models before the first is run.

        Args:
            models: The models.
        """

    def release(self, failed: bool) -> None:  # noqa: B027 (most commands claim nothing)
        """Release what `prepare` has reserved; called at the end of every run.

        Args:
            failed: Whether the run failed before it started.
        """

    @property
    def root(self) -> Path:
        """Root folder of the logs."""
        return Path(self.config.trainer.get("default_root_dir") or "lightning_logs")

    def other(self, name: str) -> str:
        """Command line of another command on the same model, for messages."""
        files = [str(path) for path in self.config.get("config") or []]
        command = " ".join([f"logos-pl {name}", *(f"--config {path}" for path in files)])
        named = None
        for path in files:
            named = read_configuration(path, ("model",)).get("model", {}).get("model_id", named)
        model = self.plan.model
        given = {"model_id": None if named == model.model_id else model.model_id}
        given |= {"gguf": model.gguf, "adapter": model.adapter}
        return command + "".join(f" --model.{key} {value}" for key, value in given.items() if value is not None)


def check_options(command: type[Command], others: Mapping[str, type[Command]], given: Sequence[str]) -> None:
    """Check that the command has all given options.

    Args:
        command: The command to run.
        others: All commands by name.
        given: Command-line arguments.

    Raises:
        InputError: It lacks an option; the message names the commands that have it, or a similar option.
    """
    own = command.accepts() | {"config", "help", "print_config"}
    for argument in given:
        if not argument.startswith("--") or argument == "--":
            continue
        option = argument.partition("=")[0].removeprefix("--").removesuffix("+")
        if option in own or any(option.startswith(f"{name}.") for name in own):  # argument of a class
            continue
        takers = [name for name, other in others.items() if option in other.accepts()]
        if takers:
            listed = ", ".join(takers[:-1]) + " and " * (len(takers) > 1) + takers[-1]
            raise InputError(f"--{option} is an option of {listed}, but not of {command.name}: leave it out.")
        near = difflib.get_close_matches(option[:MAX_SHOWN], own, n=1)
        hint = f"did you mean --{near[0]}?" if near else f"see `logos-pl {command.name} --help`."
        raise InputError(f"There is no option --{shortened(option, MAX_SHOWN)} of {command.name}: {hint}")
