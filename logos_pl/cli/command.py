"""What a command is: options of its own, what it makes of them before anything is loaded, and what it runs."""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from logos_pl.cli.configuration import read_configuration
from logos_pl.cli.plan import RunPlan
from logos_pl.errors import InputError
from logos_pl.functional.schedules import ScheduleName
from logos_pl.io.terminal import shortened

MAX_SHOWN = 60
"""Characters of a mistyped option that are quoted."""


class Option(NamedTuple):
    """An option that stands in no group.

    Attributes:
        type: Of its value.
        default: Its value where it is left out.
        help: What it means, in a line.
        nargs: As for argparse.
    """

    type: Any
    default: Any
    help: str
    nargs: str | None = None


SEED = Option(int, 316, "seed of all that is drawn")
SCHEDULE = Option(
    ScheduleName,
    "full",
    "what `auto` stands for: `full`, `quick` (few tokens), or `spec`, the plan that the measured ones are compared "
    "with (see docs/schedules.md)",
)
MACHINE = frozenset({"accelerator", "devices"})
"""The Trainer's options that say where a command runs."""

PROCESSES = MACHINE | {"strategy", "num_nodes", "plugins", "default_root_dir", "enable_progress_bar"}
"""Those of a command that several processes may share."""

WATCHING = frozenset({"callbacks", "profiler", "detect_anomaly", "deterministic", "benchmark"})
"""Those that watch a run, or how it computes."""


class Command(ABC):
    """One command, from its parsed options to its end.

    Args:
        config: The parsed options, every section a namespace.

    Attributes:
        groups: Options by section, as typed settings; one more option is one more field there.
        options: Options in no section.
        trainer_options: Those of Lightning's Trainer that are the user's.
        settings: What was given, by section.
        plan: Model, device and batches; there from `prepare` on.
        writes_config: Whether the run keeps its configuration.
    """

    name: ClassVar[str]
    groups: ClassVar[Mapping[str, type]]
    options: ClassVar[Mapping[str, Option]] = {}
    trainer_options: ClassVar[frozenset[str]] = MACHINE
    writes_config: ClassVar[bool] = False

    plan: RunPlan

    def __init__(self, config: Any) -> None:
        self.config = config
        self.settings: dict[str, Any] = {name: kind(**config[name]) for name, kind in self.groups.items()}

    @classmethod
    def accepts(cls) -> set[str]:
        """All options, as they are written on the command line, without the dashes."""
        fields = {f"{group}.{part.name}" for group, kind in cls.groups.items() for part in dataclasses.fields(kind)}
        return fields | {f"trainer.{name}" for name in cls.trainer_options} | set(cls.options)

    @abstractmethod
    def prepare(self) -> None:
        """Plan the run and claim what it writes to, before anything is loaded.

        Raises:
            InputError: Something does not fit.
        """

    @abstractmethod
    def make(self) -> tuple[LightningModule, LightningDataModule]:
        """Module and data module of the run."""

    @abstractmethod
    def trainer_parts(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the Trainer is made of beside what the user gives.

        Args:
            given: The user's options of the Trainer, classes among them made.
        """

    @abstractmethod
    def run(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> None:
        """Do it."""

    def release(self, failed: bool) -> None:  # noqa: B027 (most commands claim nothing)
        """Let go of what `prepare` has claimed; every run ends with it.

        Args:
            failed: Whether the run was never begun.
        """

    @property
    def root(self) -> Path:
        """The folder of all logs."""
        return Path(self.config.trainer.get("default_root_dir") or "lightning_logs")

    def other(self, name: str) -> str:
        """Another command on the same model, as the user would type it."""
        files = [str(path) for path in self.config.get("config") or []]
        command = " ".join([f"logos-pl {name}", *(f"--config {path}" for path in files)])
        named = None
        for path in files:
            named = read_configuration(path, ("model",)).get("model", {}).get("model_id", named)
        return (
            command if named == self.plan.model.model_id else f"{command} --model.model_id {self.plan.model.model_id}"
        )


def check_options(command: type[Command], others: Mapping[str, type[Command]], given: Sequence[str]) -> None:
    """Refuse options that the command does not have, with what was meant.

    Args:
        command: The command that was asked for.
        others: All commands by name.
        given: The command line.

    Raises:
        InputError: naming the option, and the commands that take it or the options that are alike.
    """
    own = command.accepts() | {"config", "help", "print_config"}
    for argument in given:
        if not argument.startswith("--") or argument == "--":
            continue
        option = argument.partition("=")[0].removeprefix("--").removesuffix("+")
        if option in own or any(option.startswith(f"{name}.") for name in own):  # of a class that an option names
            continue
        takers = [name for name, other in others.items() if option in other.accepts()]
        if takers:
            listed = ", ".join(takers[:-1]) + " and " * (len(takers) > 1) + takers[-1]
            raise InputError(f"--{option} is an option of {listed}, and {command.name} does not use it: leave it out.")
        near = difflib.get_close_matches(option[:MAX_SHOWN], own, n=1)
        hint = f"did you mean --{near[0]}?" if near else f"see `logos-pl {command.name} --help`."
        raise InputError(f"There is no option --{shortened(option, MAX_SHOWN)} of {command.name}: {hint}")
