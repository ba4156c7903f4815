"""Runs one command through LightningCLI: parser, options and Trainer."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from jsonargparse import ActionConfigFile, DefaultHelpFormatter, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from torch import distributed

from logos_pl.bounds import MAX_SEED, check_number
from logos_pl.cli.command import Command, check_options
from logos_pl.cli.commands import COMMANDS, OWN_PARSERS
from logos_pl.cli.configuration import (
    as_yaml,
    check_arguments,
    check_settings,
    expand_home,
    guard_imports,
    guard_values,
    read_configuration,
)
from logos_pl.cli.error_messages import one_sentence
from logos_pl.cli.processes import (
    is_first_process,
    nodes_awaited,
    refuse_nodes_without_address,
    refuse_other_count,
)
from logos_pl.cli.several_models import hand_out
from logos_pl.cli.trainer_options import TAKES, TrainerSettings, check_trainer, import_paths
from logos_pl.errors import InputError, first_sentence
from logos_pl.fit.run_config import RunConfig
from logos_pl.io.terminal import say
from logos_pl.modules.same_weights import SameWeights

KINDS: dict[str, type[Command]] = {
    name: import_module(f"logos_pl.cli.{name}").COMMAND for name in COMMANDS if name not in OWN_PARSERS
}
"""Commands that use Lightning, by name."""

SECTIONS = ("trainer", *dict.fromkeys(section for kind in KINDS.values() for section in kind.groups))
"""Names of the option groups of all commands."""


class HelpFormatter(DefaultHelpFormatter):
    """Help without jsonargparse's lists of known subclasses; `trainer_options` lists the allowed ones."""

    def _expand_help(self, action: Any) -> str:
        return re.sub(r", known subclasses: [^)]*", "", super()._expand_help(action))


class CommandParser(LightningArgumentParser):
    """Parser of one command; an error is one sentence."""

    command: type[Command]

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise the parser's error in one sentence.

        Raises:
            InputError: Always.
        """
        raise InputError(one_sentence(message, f"`logos-pl {self.command.name} --help`", TAKES)) from ex


class ConfigFile(ActionConfigFile):
    """`--config FILE`: takes the options of this command from a file shared by all commands."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Read the file and apply its options.

        Raises:
            InputError: The file cannot be read as a configuration.
        """
        own, known = parser.command.accepts(), {name for kind in KINDS.values() for name in kind.accepts()}
        content: dict[str, Any] = {}
        for section, options in read_configuration(values, SECTIONS).items():
            grouped = section in SECTIONS
            for option, value in options.items() if grouped else [(section, options)]:
                name = f"{section}.{option}" if grouped else option
                if name.removesuffix("+") in known - own:
                    continue  # option of another command
                check_options(parser.command, KINDS, [f"--{name}"])
                if grouped:
                    content.setdefault(section, {})[option] = value
                else:
                    content[option] = value
        try:
            self.apply_config(parser, cfg, self.dest, as_yaml(content))
        except TypeError as error:
            if isinstance(error.__cause__, InputError):  # wrapped as an error of --config
                raise error.__cause__ from error
            raise
        cfg[self.dest][-1] = values


class LogosCLI(LightningCLI):
    """LightningCLI of one command: parses its arguments and builds its Trainer.

    Args:
        kind: Class of the command.
        args: Arguments of the command.
        configure: Called with the command after parsing, before `prepare`.
    """

    def __init__(
        self, kind: type[Command], args: list[str], configure: Callable[[Command], None] = lambda _: None
    ) -> None:
        self.kind, self.configure = kind, configure
        guard_values()
        guard_imports(import_paths())
        CommandParser.command = kind
        super().__init__(
            parser_class=CommandParser,
            parser_kwargs={
                "prog": f"logos-pl {kind.name}",
                "description": COMMANDS[kind.name],
                "allow_abbrev": False,
                "formatter_class": HelpFormatter,
            },
            save_config_callback=RunConfig if kind.writes_config else None,
            seed_everything_default=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
            run=False,
        )

    command: Command

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Create the parser, with `--config`."""
        parser = CommandParser(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help="file of options, such as configs/demo.yaml")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options outside sections."""
        for name, option in self.kind.positionals.items():
            parser.add_argument(name, **option._asdict())
        for name, option in self.kind.options.items():
            parser.add_argument(f"--{name}", **option._asdict())

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the Trainer options that the user may set, and the sections of the command."""
        others = {part.name for part in fields(TrainerSettings)} - self.kind.trainer_options
        for section, settings, left_out in (
            *((section, settings, set()) for section, settings in self.kind.groups.items()),
            ("trainer", TrainerSettings, others),
        ):
            group = parser.add_argument_group(_title(settings), name=section)
            group.add_class_arguments(settings, section, as_group=False, instantiate=False, skip=left_out)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments and check what the parser does not.

        Raises:
            InputError: An option, a configuration or its value cannot be used.
        """
        check_arguments(args, SECTIONS)
        check_options(self.kind, KINDS, args)
        self.config = parser.parse_args(args)
        check_settings(self.config.items(), dict(parser.get_defaults().items()))
        expand_home(self.config)
        if "seed_everything" in self.kind.options:
            check_number("--seed_everything", self.config.seed_everything, at_least=0, at_most=MAX_SEED)
        else:
            self.config.seed_everything = False  # no randomness

    def before_instantiate_classes(self) -> None:
        """Plan the run.

        Raises:
            InputError: The options are inconsistent or do not fit the model or the machine.
        """
        check_trainer(self.config.trainer)
        num_nodes = getattr(self.config.trainer, "num_nodes", 1)
        refuse_nodes_without_address(num_nodes)
        self.command = self.kind(self.config)
        self.configure(self.command)
        hand_out(self.command)
        self.command.prepare()
        refuse_other_count(self.command.plan.world_size)
        if is_first_process():
            say(self.command.plan.sentence())
            if (awaited := nodes_awaited(num_nodes)) is not None:
                say(awaited)

    def instantiate_classes(self) -> None:
        """Instantiate module, data module and Trainer.

        Raises:
            InputError: A class given in the Trainer options cannot be instantiated.
        """
        values = vars(self.config.trainer).values()
        named = any(isinstance(part, Namespace) for value in values for part in _listed(value))
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        except (TypeError, ValueError, ImportError) as error:
            if not named:
                raise
            raise InputError(f"A class of --trainer cannot be instantiated: {first_sentence(error)}") from error
        self.model, self.datamodule = self.command.make()
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the Trainer with the command's logger, checkpointing and callbacks.

        Raises:
            InputError: The options do not fit each other or the machine.
        """
        plan, given = self.command.plan, self.config_init.trainer
        parts = self.command.trainer_parts(given)
        parts["callbacks"] += _listed(given.get("callbacks") or [])
        if self.command.seen is not None:
            parts["callbacks"].append(SameWeights(self.command.seen))
        if self.kind.writes_config:
            self.save_config_kwargs = {"folder": self.command.run_folder}
        parts |= {"accelerator": plan.choice.device.type, "devices": plan.devices}
        try:
            return super().instantiate_trainer(**parts, enable_model_summary=False, **kwargs)
        except (TypeError, ValueError, ImportError, RuntimeError) as error:  # Lightning's checks
            raise InputError(f"The --trainer options cannot be used: {first_sentence(error)}") from error


def run_command(name: str, args: Sequence[str], configure: Callable[[Command], None] = lambda _: None) -> None:
    """Parse the arguments of a command and run it.

    Args:
        name: Name of the command.
        args: Arguments of the command.
        configure: Called with the command after parsing.

    Raises:
        InputError: The arguments cannot be used.
    """
    claimed: list[Command] = []

    def claim(command: Command) -> None:
        claimed.append(command)
        configure(command)

    failed = True
    try:
        cli = LogosCLI(KINDS[name], list(args), claim)
        (command,) = claimed
        command.run(cli.trainer, cli.model, cli.datamodule)
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()  # its threads may abort an interpreter that ends before them
        failed = False
    finally:
        for command in claimed:
            command.release(failed)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _title(settings: type) -> str:
    """First sentence of a settings docstring, without the full stop: the group's title in the help."""
    return (settings.__doc__ or "").strip().splitlines()[0].removesuffix(".")
