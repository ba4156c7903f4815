"""A command with its options parsed as on the command line; nothing is planned, made or run."""

from typing import Any

from logos_pl.cli.run import KINDS, LogosCLI


class _Parsed(LogosCLI):
    """Stops once the command has its options."""

    def before_instantiate_classes(self) -> None:
        """Make the command, and leave it at that."""
        self.command = self.kind(self.config)

    def instantiate_classes(self) -> None:
        """Make nothing."""


def command_of(name: str, *arguments: str) -> Any:
    """A command as it is before it prepares."""
    return _Parsed(KINDS[name], list(arguments)).command
