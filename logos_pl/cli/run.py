"""One command on Lightning's command line: its parser, its options, the Trainer it runs on."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from jsonargparse import ActionConfigFile, DefaultHelpFormatter, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from logos_pl.bounds import MAX_SEED, check_number
from logos_pl.cli.command import Command, check_options
from logos_pl.cli.commands import COMMANDS
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
from logos_pl.cli.fit import Fit
from logos_pl.cli.processes import is_first_process, refuse_other_count
from logos_pl.cli.trainer_options import TAKES, TrainerSettings, check_trainer, import_paths
from logos_pl.errors import InputError, first_sentence
from logos_pl.fit.run_config import RunConfig
from logos_pl.io.terminal import say

KINDS: dict[str, type[Command]] = {
    name: import_module(f"logos_pl.cli.{name}").COMMAND for name in COMMANDS if name != "hub"
}
"""The commands that run on Lightning, by name; `hub` is one of its own."""

SECTIONS = ("trainer", *dict.fromkeys(section for kind in KINDS.values() for section in kind.groups))
"""Sections of options of all commands."""


class HelpFormatter(DefaultHelpFormatter):
    """Help without the classes that a type knows: `trainer_options` says which may be named."""

    def _expand_help(self, action: Any) -> str:
        return re.sub(r", known subclasses: [^)]*", "", super()._expand_help(action))


class CommandParser(LightningArgumentParser):
    """A parser of one command's options, whose errors are one sentence."""

    command: type[Command]

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Refuse what was given.

        Raises:
            InputError: always.
        """
        raise InputError(one_sentence(message, f"`logos-pl {self.command.name} --help`", TAKES)) from ex


class ConfigFile(ActionConfigFile):
    """`--config FILE`: what of a configuration is this command's; one file serves all commands of a model."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Take the file in.

        Raises:
            InputError: It cannot be read as a configuration.
        """
        own, known = parser.command.accepts(), {name for kind in KINDS.values() for name in kind.accepts()}
        content: dict[str, Any] = {}
        for section, options in read_configuration(values, SECTIONS).items():
            grouped = section in SECTIONS
            for option, value in options.items() if grouped else [(section, options)]:
                name = f"{section}.{option}" if grouped else option
                if name.removesuffix("+") in known - own:
                    continue  # another command's
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
    """One command, from its arguments to a Trainer that is ready to run.

    Args:
        kind: Which command.
        args: Its arguments.
        configure: Called with the command once its options are parsed, before it prepares.
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
        """The parser, with `--config`."""
        parser = CommandParser(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigFile, help="file of options, such as configs/demo.yaml")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The command's options in no section."""
        for name, option in self.kind.options.items():
            parser.add_argument(f"--{name}", **option._asdict())

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The Trainer's options that are the user's, and the command's own sections."""
        others = {part.name for part in fields(TrainerSettings)} - self.kind.trainer_options
        for section, settings, left_out in (
            *((section, settings, set()) for section, settings in self.kind.groups.items()),
            ("trainer", TrainerSettings, others),
        ):
            group = parser.add_argument_group(_title(settings), name=section)
            group.add_class_arguments(settings, section, as_group=False, instantiate=False, skip=left_out)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and refuse what the parser lets through.

        Raises:
            InputError: an option, a configuration or its value cannot be used.
        """
        check_arguments(args, SECTIONS)
        check_options(self.kind, KINDS, args)
        self.config = parser.parse_args(args)
        check_settings(self.config.items(), dict(parser.get_defaults().items()))
        expand_home(self.config)
        if "seed_everything" in self.kind.options:
            check_number("--seed_everything", self.config.seed_everything, at_least=0, at_most=MAX_SEED)
        else:
            self.config.seed_everything = False  # nothing is drawn

    def before_instantiate_classes(self) -> None:
        """Plan the run.

        Raises:
            InputError: Something does not fit.
        """
        check_trainer(self.config.trainer)
        self.command = self.kind(self.config)
        self.configure(self.command)
        self.command.prepare()
        refuse_other_count(self.command.plan.world_size)
        if is_first_process():
            say(self.command.plan.sentence())

    def instantiate_classes(self) -> None:
        """Make module, data module and Trainer.

        Raises:
            InputError: a class that the configuration names for the Trainer cannot be made.
        """
        values = vars(self.config.trainer).values()
        named = any(isinstance(part, Namespace) for value in values for part in _listed(value))
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        except (TypeError, ValueError, ImportError) as error:
            if not named:
                raise
            raise InputError(f"A class that --trainer names cannot be made: {first_sentence(error)}") from error
        self.model, self.datamodule = self.command.make()
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with the command's logger, checkpoints and callbacks.

        Raises:
            InputError: the options do not fit together, or the machine.
        """
        plan, given = self.command.plan, self.config_init.trainer
        parts = self.command.trainer_parts(given)
        parts["callbacks"] += _listed(given.get("callbacks") or [])
        if isinstance(self.command, Fit):
            self.save_config_kwargs = {"folder": self.command.run_folder}
        parts |= {"accelerator": plan.choice.device.type, "devices": plan.devices}
        try:
            return super().instantiate_trainer(**parts, enable_model_summary=False, **kwargs)
        except (TypeError, ValueError, ImportError, RuntimeError) as error:  # Lightning's own checks of them and SLURM
            raise InputError(f"The --trainer options cannot be used: {first_sentence(error)}") from error


def run_command(name: str, args: Sequence[str], configure: Callable[[Command], None] = lambda _: None) -> None:
    """Parse a command's arguments and do what they say.

    Args:
        name: The command.
        args: Its arguments.
        configure: Called with the command once its options are parsed.

    Raises:
        InputError: What was given cannot be used.
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
        failed = False
    finally:
        for command in claimed:
            command.release(failed)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _title(settings: type) -> str:
    """The first sentence of a group's docstring, without its full stop."""
    return (settings.__doc__ or "").strip().splitlines()[0].removesuffix(".")
